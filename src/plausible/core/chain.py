"""A model as a chain of blocks, for rules that give every block an activity of its own.

A block is one weight layer with what stands before it since the last block's end (flattening, at the front) and what
follows it up to the next weight layer: normalisation, nonlinearity, pooling, dropout, flattening. The blocks consist of
the model's own modules, and running them one after the other is the model.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor, nn

from plausible.core.attach import EXACT, layer_type
from plausible.core.errors import CoverageError
from plausible.core.rule import Rule


@dataclass(frozen=True)
class Block:
    """One link of the chain.

    Attributes:
        name: of its weight layer.
        layer: the weight layer.
        before: modules that run before the layer.
        after: modules that run after it.
    """

    name: str
    layer: nn.Module
    before: tuple[nn.Module, ...]
    after: tuple[nn.Module, ...]

    def drive(self, h: Tensor) -> Tensor:
        """What the layer answers to the activity ``h`` of the block before: a = W h + b."""
        for module in self.before:
            h = module(h)
        return self.layer(h)

    def activate(self, a: Tensor) -> Tensor:
        """What follows the layer, such as φ(a)."""
        for module in self.after:
            a = module(a)
        return a

    def __call__(self, h: Tensor) -> Tensor:
        """The block's activity, given that of the block before: φ(W h + b)."""
        return self.activate(self.drive(h))


def chain(model: nn.Module, rule: Rule) -> tuple[Block, ...]:
    """The blocks of ``model``, first to last.

    Raises:
        CoverageError: the model is not a chain, a module has parameters that the rule cannot teach, or there is no
            weight layer.
    """
    blocks: list[Block] = []
    before: list[nn.Module] = []
    for name, module in _links(model, "", rule):
        if layer_type(module):
            blocks.append(Block(name, module, tuple(before), ()))
            before = []
            continue
        if not isinstance(module, EXACT) and any(p.requires_grad for p in module.parameters()):
            raise CoverageError(
                f"{rule.name} cannot teach module {name!r}, a {type(module).__name__}: it knows Linear, Conv1d/2d/3d "
                "and, within a block, normalisation. Freeze it with requires_grad_(False)."
            )
        if blocks:
            last = blocks.pop()
            blocks.append(Block(last.name, last.layer, last.before, (*last.after, module)))
        else:
            before.append(module)
    if not blocks:
        raise CoverageError(
            f"{rule.name}: the model has no linear or convolutional layer, so there is nothing to teach."
        )
    return tuple(blocks)


def _links(module: nn.Module, name: str, rule: Rule) -> Iterator[tuple[str, nn.Module]]:
    """The modules that run one after the other."""
    if type(module) is nn.Sequential:
        for key, child in module._modules.items():  # named_children() leaves out what comes twice
            assert child is not None
            yield from _links(child, f"{name}.{key}" if name else key, rule)
    elif layer_type(module) or not any(True for _ in module.children()):
        yield name, module
    else:
        raise CoverageError(
            f"{rule.name} needs a chain of layers, and {f'module {name!r}' if name else 'the model'} is a "
            f"{type(module).__name__} with parts of its own, whose order it cannot know. Write the model as "
            "nn.Sequential (of nn.Sequential), or take a rule that follows any graph, such as fa or dfa."
        )
