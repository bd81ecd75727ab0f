"""Which layers of a model a rule teaches, which keep an exact gradient, and which it cannot teach."""

from dataclasses import dataclass
from typing import Literal

from torch import nn

from plausible.core.attach import EXACT, SITE, Site, layer_type, trainable_layers
from plausible.core.errors import CoverageError
from plausible.core.rule import Rule


@dataclass(frozen=True)
class Coverage:
    """Names of a model's trainable modules, sorted by what the rule can do with them.

    Attributes:
        layers: weight layers, in order of registration; the last of them is the output layer.
        exact: normalisation layers and embeddings, whose own gradient is exact.
        passed: everything else: taught by the ordinary backward within its surroundings.
    """

    layers: dict[str, nn.Module]
    exact: list[str]
    passed: list[str]


def survey(model: nn.Module, rule: Rule, uncovered: Literal["error", "backprop"]) -> Coverage:
    """Sort the trainable modules of ``model``.

    Raises:
        CoverageError: there is a module that the rule cannot teach, and ``uncovered`` is "error"; or
            there is nothing to teach.
    """
    layers: dict[str, nn.Module] = {}
    exact, passed = [], []
    for name, module in trainable_layers(model):
        if layer_type(module):
            layers[name] = module
        else:
            (exact if isinstance(module, EXACT) else passed).append(name)
    if passed and uncovered == "error":
        raise CoverageError(_uncovered(model, rule, passed))
    if not layers:
        raise CoverageError(
            f"{rule.name}: the model has no trainable linear or convolutional layer, so there is nothing to teach. "
            "Layers whose weights have requires_grad=False are left alone."
        )
    return Coverage(layers, exact, passed)


def check_reached(coverage: Coverage, rule: Rule) -> None:
    """After the first backward pass: was every attached layer called, whose weight got a gradient?

    Raises:
        CoverageError: a weight is used behind its layer's back, where the rule does not see it.
    """
    for name, layer in coverage.layers.items():
        site: Site | None = layer.__dict__.get(SITE)
        if site is not None and not site.called and layer.get_parameter("weight").grad is not None:
            raise CoverageError(
                f"{rule.name}: the weight of {name!r} got a gradient, but the layer's forward was never "
                "called: the model uses the weight in a function of its own, which the rule does not see. "
                f"Call the layer instead, or leave {name!r} out with requires_grad_(False)."
            )


def _uncovered(model: nn.Module, rule: Rule, passed: list[str]) -> str:
    name = passed[0]
    module = model.get_submodule(name)
    own = ", ".join(n for n, p in module.named_parameters(recurse=False) if p.requires_grad)
    more = f" (and {len(passed) - 1} more: {', '.join(passed[1:4])}{', …' if len(passed) > 4 else ''})"
    return (
        f"{rule.name} cannot teach {f'module {name!r}' if name else 'the model itself'}, a {type(module).__name__} "
        f"with the trainable {own}{more if len(passed) > 1 else ''}: it knows Linear and Conv1d/2d/3d, and leaves "
        "normalisation layers and embeddings their exact gradient. Freeze it with requires_grad_(False), or pass "
        'uncovered="backprop" to let the ordinary gradient through it; the report then says so.'
    )
