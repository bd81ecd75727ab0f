"""What a call of rules that learn in time costs with compiled steps, beside the same call eager.

    python benchmarks/compiled.py --json results/compiled.json

Every rule made for ``lif-mlp``, on 784-200-10 with on cells as sensors: one call shows 64 images of noise for 80 ms at
steps of 2 ms, and learns. Two learners take turns in one process (see ``turns.py``); below 1 compiled is faster.
"""

import argparse
import json
from importlib.metadata import version
from pathlib import Path

import torch
from contenders import Contender
from lif import Still
from torch.nn.functional import cross_entropy
from turns import Duel, warm_up

from plausible.compare.cost import keep_memory
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
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--repeats", type=int, default=16)
    parser.add_argument("--json", type=Path, metavar="OUT")
    options = parser.parse_args()
    torch.set_num_threads(1)
    keep_memory()
    found: dict[str, object] = {"torch": version("torch")}
    for rule in (name for name in registry.names() if registry.get(name).model == "lif-mlp"):
        torch.compiler.reset()
        duel = Duel(call(rule, compiled=True), call(rule, compiled=False))
        warm_up(duel.mine)
        count = warm_up(duel.theirs)
        for _ in range(options.repeats):
            duel.meet(count)
        found[rule] = result = duel.result()
        wall = result["wall"]
        assert isinstance(wall, dict)
        print(f"{rule:8} {wall['median']:.2f} ({wall['low']:.2f} to {wall['high']:.2f}), {result['seconds']:.3f} s")
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
