"""What a training step costs, in time and memory, beside plain back-propagation and the ``biotorch`` package.

    python benchmarks/step.py --json results/step.json --markdown results/step.md

A step is the gradients set to None, forward, backward and SGD with momentum; everything in one process and, unless
told otherwise, on one thread. See README.md beside this file.
"""

import argparse
import datetime
import json
import platform
import shlex
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import tables
import torch
from contenders import AGAIN, MODELS, PEER, PEER_MODES, PLAIN, Contender, Stable, versions
from turns import Duel, memory, warm_up

from plausible.compare.cost import keep_memory
from plausible.core import registry


def measure(model: str, rules: list[str], repeats: int, peer: bool) -> dict[str, Any]:
    """Time and memory of all contenders on one model.

    Returns:
        By contender: the ratios to plain back-propagation and, under ``"peer"``, to biotorch's version of the rule.
    """
    stable = Stable(model)
    plain = stable.plain()
    count = warm_up(plain)
    entrants: dict[str, Contender] = {AGAIN: stable.plain(), **{rule: stable.ours(rule) for rule in rules}}
    duels = {(name, PLAIN): Duel(entrant, plain) for name, entrant in entrants.items()}
    for rule in (r for r in rules if peer and r in PEER_MODES):
        name = f"{PEER} {rule}"
        entrants[name] = stable.peer(rule)
        duels[name, PLAIN] = Duel(entrants[name], plain)
        duels[rule, name] = Duel(entrants[rule], entrants[name])
    for entrant in entrants.values():
        warm_up(entrant)
    for _ in range(repeats):
        for duel in duels.values():
            duel.meet(count)
    used = {name: memory(entrant) for name, entrant in {PLAIN: plain, **entrants}.items()}
    table: dict[str, Any] = {}
    for name in entrants:
        more, ratio = used[name]["peak"] - used[PLAIN]["peak"], used[name]["peak"] / used[PLAIN]["peak"]
        table[name] = {**duels[name, PLAIN].result(), "memory": {**used[name], "ratio": ratio, "more": more}}
        if (name, f"{PEER} {name}") in duels:
            table[name]["peer"] = duels[name, f"{PEER} {name}"].result()
    return table


def processor() -> str:
    """The processor's name, where the system tells it."""
    info = Path("/proc/cpuinfo")
    names = [line for line in info.read_text().splitlines() if line.startswith("model name")] if info.exists() else []
    return names[0].partition(":")[2].strip() if names else platform.processor()


def document(results: dict[str, Any], setting: dict[str, Any], peer: bool) -> str:
    """Everything as one Markdown page."""
    lines = ["# The cost of a step", "", f"`{setting['command']}`", ""]
    lines += [f"- {key}: {value}" for key, value in setting.items() if key != "command"]
    lines += ["", "## Bounds", "", *tables.bounds(results), "", "## Relative to plain back-propagation", ""]
    lines += tables.costs(results)
    if peer:
        lines += ["", "## Relative to biotorch", "", *tables.against_peer(results)]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure, print, save."""
    known = registry.names()
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--rules", nargs="+", choices=known, default=known, metavar="RULE", help="default: all")
    parser.add_argument(
        "--models", nargs="+", choices=MODELS, default=list(MODELS), metavar="MODEL", help="default: all"
    )
    parser.add_argument("--repeats", type=int, default=40, help="pairs of turns per comparison (default 40)")
    parser.add_argument("--threads", type=int, default=1, help="threads of torch (default 1)")
    parser.add_argument("--json", type=Path, metavar="OUT", help="write the numbers here")
    parser.add_argument("--markdown", type=Path, metavar="OUT", help="write the page here that is printed")
    parser.add_argument("--no-biotorch", dest="peer", action="store_false", help="leave the peer out")
    parser.add_argument("--flush", action="store_true", help="take numbers below 1.2e-38 for 0, in all contenders")
    options = parser.parse_args()
    if options.repeats < 2:
        parser.error("--repeats: an interval of a median needs at least 2.")
    if options.peer and find_spec(PEER) is None:
        parser.error(f"{PEER} is not installed: `pip install --no-deps {PEER}`, or pass --no-biotorch.")
    torch.set_num_threads(options.threads)
    setting = {
        "command": shlex.join(["python", "benchmarks/step.py", *sys.argv[1:]]),
        "date": datetime.date.today().isoformat(),
        "processor": processor(),
        "threads": options.threads,
        "python": platform.python_version(),
        **versions(),
        "optimizer": "SGD, momentum 0.9, weight decay 1e-4",
        "pairs of turns": options.repeats,
        "freed memory kept": keep_memory(),
        "numbers below 1.2e-38": "taken for 0" if options.flush and torch.set_flush_denormal(True) else "kept",
    }
    results = {}
    for model in options.models:
        print(f"{model} …", file=sys.stderr, flush=True)
        results[model] = measure(model, options.rules, options.repeats, options.peer)
        if options.json:
            options.json.write_text(json.dumps({"setting": setting, "models": results}, indent=1) + "\n")
        if options.markdown:
            options.markdown.write_text(document(results, setting, options.peer))
    print(document(results, setting, options.peer))


if __name__ == "__main__":
    main()
