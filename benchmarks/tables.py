"""The measurements as Markdown, and beside the bounds that the package wants to keep."""

from collections.abc import Iterator, Mapping
from typing import Any

Costs = Mapping[str, Mapping[str, Any]]
"""By model and contender, as ``step.measure`` gives them."""

BOUNDS = {"fa": (1.02, {"mlp-64": 1.05}), "usf": (1.03, {"mlp-64": 1.10}), "dfa": (0.87, {})}
"""By rule: the most that a step may take, relative to plain back-propagation, and the exceptions by model."""


def costs(results: Costs) -> Iterator[str]:
    """Every contender relative to plain back-propagation."""
    yield "| model | contender | ms a step | time | 90 % | without optimiser | processor time | memory | more MB |"
    yield "| --- | --- | --: | --: | --: | --: | --: | --: | --: |"
    for model, table in results.items():
        for name, cost in table.items():
            yield (
                f"| {model} | {name} | {1000 * cost['seconds']:.2f} | {_ratio(cost['wall'])} "
                f"| {cost['learn']['median']:.3f} | {cost['cpu']['median']:.3f} "
                f"| {cost['memory']['ratio']:.3f} | {cost['memory']['more'] / 1e6:+.2f} |"
            )


def against_peer(results: Costs) -> Iterator[str]:
    """Our rules relative to biotorch's, timed directly against each other."""
    yield "| model | rule | time | 90 % | without optimiser | processor time |"
    yield "| --- | --- | --: | --: | --: | --: |"
    for model, table in results.items():
        for name, cost in table.items():
            if peer := cost.get("peer"):
                yield (
                    f"| {model} | {name} | {_ratio(peer['wall'])} "
                    f"| {peer['learn']['median']:.3f} | {peer['cpu']['median']:.3f} |"
                )


def bounds(results: Costs) -> Iterator[str]:
    """What was wanted, and what came out."""
    yield "| model | rule | against | bound | time | 90 % | outcome |"
    yield "| --- | --- | --- | --: | --: | --: | --- |"
    for model, table in results.items():
        for rule, (bound, exceptions) in BOUNDS.items():
            if rule in table:
                yield _held(model, rule, "back-propagation", exceptions.get(model, bound), table[rule]["wall"])
        for rule, cost in table.items():
            if peer := cost.get("peer"):
                yield _held(model, rule, "biotorch", 1.0, peer["wall"])


def _held(model: str, rule: str, against: str, bound: float, wall: Mapping[str, float]) -> str:
    noise = "within the noise" if wall["low"] <= bound else "**missed**"
    outcome = "kept" if wall["median"] <= bound else noise
    return f"| {model} | {rule} | {against} | {bound:.2f} | {_ratio(wall)} | {outcome} |"


def _ratio(wall: Mapping[str, float]) -> str:
    return f"**{wall['median']:.3f}** | {wall['low']:.3f}–{wall['high']:.3f}"
