"""What a call of rules that learn in time costs with compiled steps, beside the same call eager.

    python benchmarks/compiled.py --json results/compiled.json

Every rule made for ``lif-mlp``, on 784-200-10 with on cells as sensors: one call shows 64 images of noise for 80 ms at
steps of 2 ms, and learns. Two learners take turns in one process (see ``turns.py``); below 1 compiled is faster.
"""

from importlib.metadata import version

import torch
from contenders import Contender
from lif import Still
from torch.nn.functional import cross_entropy
from turns import Duel, alone, keep, warm_up

from plausible.core import bind, registry
from plausible.models import build

STREAMS = 64


def call(rule: str, *, compiled: bool) -> Contender:
    """A call of the rule."""
    torch.manual_seed(0)
    model = build("lif-mlp", shape=(1, 28, 28), classes=10, width=200, depth=1, sensors="on", bias=True)
    learner = bind(model, rule, cross_entropy)
    if compiled:
        learner.compile()
    x, y = torch.randn(STREAMS, 1, 28, 28), torch.arange(STREAMS) % 10

    def run() -> None:
        learner.learn(x, learner.rule.teacher(y))
        model.zero_grad()

    return Contender(run, Still(), [])  # type: ignore[arg-type]


def main() -> None:
    """Measure, print, save."""
    repeats, out = alone(__doc__ or "")
    found: dict[str, object] = {"torch": version("torch")}
    for rule in (name for name in registry.names() if registry.get(name).model == "lif-mlp"):
        torch.compiler.reset()
        duel = Duel(call(rule, compiled=True), call(rule, compiled=False))
        warm_up(duel.mine)
        count = warm_up(duel.theirs)
        for _ in range(repeats):
            duel.meet(count)
        found[rule] = result = duel.result()
        wall = result["wall"]
        assert isinstance(wall, dict)
        print(f"{rule:8} {wall['median']:.2f} ({wall['low']:.2f} to {wall['high']:.2f}), {result['seconds']:.3f} s")
    keep(found, out)


if __name__ == "__main__":
    main()
