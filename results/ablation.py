"""Xiao's ablation: what it brings a rule when the error leaves the output layer through its own weight.

python results/ablation.py results/fashion-mnist-small-conv
"""

import csv
import sys
from collections import defaultdict
from pathlib import Path

from plausible.compare.statistics import paired_difference

accuracy: dict[str, dict[int, float]] = defaultdict(dict)
with (Path(sys.argv[1]) / "results.csv").open() as rows:
    for row in csv.DictReader(rows):
        accuracy[row["label"]][int(row["seed"])] = 100 * float(row["test_accuracy"])


def show(what: str, a: dict[int, float], b: dict[int, float]) -> None:
    """Print a − b in points, paired by seed."""
    d = paired_difference(a, b)
    assert d is not None
    print(f"{what:44} {d.mean:+.2f} points, 95 % CI {d.low:+.2f} to {d.high:+.2f}, p = {d.p:.2g}, n = {d.n}")


gain = {}
for rule in ("fa", "usf"):
    other = accuracy[f"{rule}:last_layer=backprop"]
    gain[rule] = {seed: other[seed] - accuracy[rule][seed] for seed in other}
    show(f"{rule}: last layer by backprop − by the rule", other, accuracy[rule])
show("what it brings fa more than usf", gain["fa"], gain["usf"])
for rule in ("fa", "dfa", "ifa", "drtp"):
    show(f"{rule} − frozen hidden layers", accuracy[rule], accuracy["frozen"])
