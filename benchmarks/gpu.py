"""What a training step costs on a CUDA GPU, beside plain back-propagation: bfloat16, channels last, eager or compiled.

    python benchmarks/gpu.py --json results/gpu.json --markdown results/gpu.md

A step is the gradients set to None, forward and backward under autocast, and SGD with momentum. Two contenders take
turns in one process (see ``turns.py``); what is given is the median of the ratios of neighbouring turns, with the
interval that holds 90 % of the medians of resamples, and the peak of allocated memory over a step.
"""

import argparse
import copy
import json
import platform
import shlex
import sys
from collections.abc import Callable
from pathlib import Path

import torch
import torchvision
from contenders import AGAIN, PLAIN, Contender, versions
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import SGD
from turns import Duel, warm_up

import plausible

MODELS: dict[str, tuple[Callable[[], nn.Module], int, bool]] = {
    "resnet18, compiled": (torchvision.models.resnet18, 256, True),
    "resnet18": (torchvision.models.resnet18, 256, False),
    "resnet50": (torchvision.models.resnet50, 128, False),
    "vit_b_16": (torchvision.models.vit_b_16, 64, False),
    "resnet50, compiled": (torchvision.models.resnet50, 128, True),
}
"""By name: how the model is made, the batch of 224 × 224 images, and whether it is compiled."""
RULES = ("backprop", "fa", "usf", "brsf", "kolen-pollack", "dfa")


def contender(original: nn.Module, rule: str, x: Tensor, y: Tensor, compiled: bool) -> Contender:
    """A step by a rule, or plain back-propagation."""
    model = copy.deepcopy(original)
    optimizer = SGD(model.parameters(), lr=1e-4, momentum=0.9, weight_decay=1e-4)
    learner = None
    if rule not in (PLAIN, AGAIN):
        learner = plausible.bind(model, rule, F.cross_entropy, example=x[:2].float(), optimizer=optimizer)
    if compiled:
        model.compile()

    def learn() -> None:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cuda", torch.bfloat16):
            if learner is not None:
                learner.learn(x, y)
                return
            loss = F.cross_entropy(model(x), y)
        loss.backward()

    return Contender(learn, optimizer, [])


def peak(entrant: Contender) -> float:
    """GiB at the peak of a step."""
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    entrant.learn()
    entrant.optimizer.step()
    torch.cuda.synchronize()
    return (torch.cuda.max_memory_allocated() - before) / 2**30


def measure(name: str, rules: list[str], repeats: int) -> dict[str, dict[str, object]]:
    """Ratios and memory by rule; a rule that cannot be measured says why."""
    make, batch, compiled = MODELS[name]
    torch.manual_seed(0)
    original = make().cuda().to(memory_format=torch.channels_last)
    x = torch.randn(batch, 3, 224, 224, device="cuda").to(memory_format=torch.channels_last)
    y = torch.randint(1000, (batch,), device="cuda")
    plain = contender(original, PLAIN, x, y, compiled)
    count = warm_up(plain)
    found: dict[str, dict[str, object]] = {}
    for rule in (AGAIN, *rules):
        torch.compiler.reset()
        try:
            duel = Duel(contender(original, rule, x, y, compiled), plain)
            warm_up(plain)
            warm_up(duel.mine)
            for _ in range(repeats):
                duel.meet(count)
            found[rule] = {**duel.result(), "gibibytes": peak(duel.mine), "plain gibibytes": peak(plain)}
        except Exception as error:
            found[rule] = {"failed": f"{type(error).__name__}: {str(error).splitlines()[0]}"}
        print(name, rule, found[rule], flush=True)
    return found


def page(results: dict[str, dict[str, dict[str, object]]], setting: dict[str, object]) -> str:
    """Everything in Markdown."""
    lines = ["# What a step costs on a GPU", "", f"`{setting['command']}`", ""]
    lines += [f"- {key}: {value}" for key, value in setting.items() if key != "command"]
    for name, rules in results.items():
        lines += ["", f"## {name}", "", "| | time / back-propagation | peak memory, GiB |", "|:--|--:|--:|"]
        for rule, row in rules.items():
            wall = row.get("wall")
            if isinstance(wall, dict):
                time = f"{wall['median']:.3f} ({wall['low']:.3f} to {wall['high']:.3f})"
                lines.append(f"| {rule} | {time} | {row['gibibytes']:.2f} (plain {row['plain gibibytes']:.2f}) |")
            else:
                lines.append(f"| {rule} | {row['failed']} | |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure, print, save."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS), metavar="MODEL")
    parser.add_argument("--rules", nargs="+", default=list(RULES), metavar="RULE")
    parser.add_argument("--repeats", type=int, default=20, help="pairs of turns per comparison (default 20)")
    parser.add_argument("--json", type=Path, metavar="OUT")
    parser.add_argument("--markdown", type=Path, metavar="OUT")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        parser.error("there is no CUDA GPU here; benchmarks/step.py measures on the CPU.")
    setting: dict[str, object] = {
        "command": shlex.join(["python", "benchmarks/gpu.py", *sys.argv[1:]]),
        "GPU": torch.cuda.get_device_name(),
        "python": platform.python_version(),
        **versions(),
        "CUDA": torch.version.cuda,
        "pairs of turns": options.repeats,
    }
    results: dict[str, dict[str, dict[str, object]]] = {}
    for name in options.models:
        results[name] = measure(name, options.rules, options.repeats)
        if options.json:
            options.json.write_text(json.dumps({"setting": setting, "models": results}, indent=1) + "\n")
        if options.markdown:
            options.markdown.write_text(page(results, setting))
    print(page(results, setting))


if __name__ == "__main__":
    main()
