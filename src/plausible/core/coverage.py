"""Which layers of a model a rule teaches, which keep an exact gradient, and which it cannot teach."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from plausible.core.attach import EXACT, SITE, Site, evaluating, full_name, layer_type, trainable_layers
from plausible.core.errors import ConfigurationError, CoverageError
from plausible.core.ranks import sharded
from plausible.core.recurrent import FUSED, recurrent_type, recurrent_weights
from plausible.core.rule import Inputs, Rule
from plausible.core.uses import Uses, Within, find_uses, parameters_of


@dataclass(frozen=True)
class Coverage:
    """Names of a model's trainable modules, sorted by what the rule can do with them.

    Attributes:
        layers: weight layers, in order of registration; the last of them is the output layer.
        exact: modules whose own gradient is exact: normalisation, embeddings, and what scales or shifts.
        passed: everything else: taught by the ordinary backward within its surroundings.
        recurrent: recurrent layers and cells of torch.
        uses: by name of a module, what it does with weights in functions of its own.
    """

    layers: dict[str, nn.Module]
    exact: list[str]
    passed: list[str]
    recurrent: dict[str, nn.Module] = field(default_factory=dict)
    uses: Mapping[str, Within] = field(default_factory=dict)

    @property
    def covered(self) -> list[str]:
        """Names of the layers, and of the Parameters that are in none."""
        weights = [full_name(name, key) for name, net in self.recurrent.items() for key in recurrent_weights(net)]
        own = {full_name(name, "weight") for name in self.layers}
        return [*self.layers, *weights, *sorted(parameters_of(self.uses) - own)]


def survey(
    model: nn.Module,
    rule: Rule,
    uncovered: Literal["error", "backprop"],
    example: Inputs | None = None,
    *,
    anywhere: bool = False,
) -> Coverage:
    """Sort the trainable modules of ``model``.

    Args:
        model: it.
        rule: for messages.
        uncovered: whether a module that the rule cannot teach is an error, or left to the ordinary backward.
        example: inputs that show, in one forward pass, what a module does with weights that are in no layer.
        anywhere: whether the rule can teach a weight wherever it meets activity, rather than in layers alone.

    Raises:
        CoverageError: there is a module that the rule cannot teach, and ``uncovered`` is "error"; or
            there is nothing to teach.
    """
    if sharded(model):  # its forward exchanges the Parameters for others, so that nobody could follow them
        example = None
    uses = Uses() if example is None else find_uses(model, lambda: _shown(model, example))
    used = parameters_of(uses.within)
    layers: dict[str, nn.Module] = {}
    recurrent: dict[str, nn.Module] = {}
    exact, passed = [], []
    for name, module in _trainable(model):
        own = {full_name(name, key) for key, p in module.named_parameters(recurse=False) if p.requires_grad}
        if layer_type(module) and not module.get_parameter("weight").is_complex():
            layers[name] = module
        elif anywhere and recurrent_type(module):
            recurrent[name] = module
        elif isinstance(module, EXACT):
            exact.append(name)  # embeddings whose weight is used again, at the output, are among them
        elif isinstance(module, FUSED) or example is None or own & set(uses.mixed):
            passed.append(name)
        elif not own & used:
            exact.append(name)
        elif not anywhere:
            passed.append(name)
    if passed and uncovered == "error":
        raise CoverageError(_uncovered(model, rule, passed, uses, shown=example is not None, anywhere=anywhere))
    within = uses.within if anywhere else {}
    if not (layers or recurrent or within):
        raise CoverageError(
            f"{rule.name}: the model has no trainable linear or convolutional layer, so there is nothing to teach. "
            "Layers whose weights have requires_grad=False are left alone."
        )
    return Coverage(layers, exact, passed, recurrent, within)


def _trainable(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Modules with trainable parameters of their own, and fused ones whose weights other modules compute."""
    yield from trainable_layers(model)
    for name, module in model.named_modules():
        own = any(p.requires_grad for p in module.parameters(recurse=False))
        if isinstance(module, FUSED) and not own and any(p.requires_grad for p in module.parameters()):
            yield name, module


def materialise(model: nn.Module, example: Inputs | None) -> None:
    """Let lazy modules take their shapes from the example.

    Raises:
        ConfigurationError: there is none.
    """
    lazy = [name for name, p in model.named_parameters() if is_lazy(p)]
    if lazy and example is None:
        raise ConfigurationError(
            f"{lazy[0]!r} has no shape yet. Pass one batch of inputs, as plausible.bind(..., example=x), or call the "
            "model once before."
        )
    if lazy and example is not None:
        with torch.no_grad():
            _shown(model, example)


def _shown(model: nn.Module, example: Inputs) -> Any:
    """The model's response to an example, with gradients, which keep torch off its short cuts."""
    with evaluating(model), torch.enable_grad():
        if isinstance(example, Mapping):
            return model(**example)
        return model(*example) if isinstance(example, tuple) else model(example)


def check_reached(coverage: Coverage, rule: Rule) -> None:
    """After the first backward pass: was every attached layer called, whose weight got a gradient?

    Raises:
        CoverageError: a weight is used behind its layer's back, where the rule does not see it.
    """
    used = parameters_of(coverage.uses)  # perhaps only to compute a weight, for which another site answers
    for name, layer in coverage.layers.items():
        if full_name(name, "weight") in used:
            continue
        site: Site | None = layer.__dict__.get(SITE)
        if site is not None and not site.called and layer.get_parameter("weight").grad is not None:
            raise CoverageError(
                f"{rule.name}: the weight of {name!r} got a gradient, but the layer's forward was never "
                "called: the model uses the weight in a function of its own, which the rule does not see. "
                "Show the rule one batch of inputs, as plausible.bind(..., example=x), call the layer instead, or "
                f"leave {name!r} out with requires_grad_(False)."
            )


def _uncovered(model: nn.Module, rule: Rule, passed: list[str], uses: Uses, *, shown: bool, anywhere: bool) -> str:
    name = passed[0]
    module = model.get_submodule(name)
    own = [n for n, p in module.named_parameters(recurse=False) if p.requires_grad]
    more = f" (and {len(passed) - 1} more: {', '.join(passed[1:4])}{', …' if len(passed) > 4 else ''})"
    mixed = next((uses.mixed[n] for n in (full_name(name, o) for o in own) if n in uses.mixed), None)
    if any(module.get_parameter(n).is_complex() for n in own):
        why = "its weights are complex, and feedback here is real"
    elif mixed is not None:
        why = f"its forward calls {mixed}, which the rule does not know how to answer for"
    elif anywhere and isinstance(module, FUSED):
        why = "it knows torch's recurrent nets if their weights are their own, and their forward is torch's"
    elif anywhere and sharded(model):
        why = "what a sharded model does with such weights cannot be followed: call plausible.bind before fully_shard"
    elif anywhere and not shown:
        why = (
            "what such a module does with its weights only an example can show: pass one batch of inputs, as "
            "plausible.bind(..., example=x)"
        )
    else:
        why = "it knows Linear and Conv1d/2d/3d, and leaves normalisation layers and embeddings their exact gradient"
    return (
        f"{rule.name} cannot teach {f'module {name!r}' if name else 'the model itself'}, a {type(module).__name__} "
        f"with the trainable {', '.join(own)}{more if len(passed) > 1 else ''}: {why}. "
        'Or freeze it with requires_grad_(False), or pass uncovered="backprop" to let the ordinary gradient through '
        "it; the report then says so."
    )
