"""A comparison that never ran: files of the right form, with SYNTHETIC numbers that only look like learning.

The curves are drawn from formulas and a seeded generator so that tests know the answers; nothing here is a result.
"""

import hashlib
import json
import math
import random
from pathlib import Path
from typing import Any

LAYERS = ("net.1", "net.3", "net.5", "net.7")
STEPS = 23  # per epoch

# rule: final test accuracy, time constant in epochs, final angle of the update in the first and in the last layer
_SHAPE: dict[str, tuple[float, float, float, float]] = {
    "backprop": (0.974, 1.1, 0.0, 0.0),
    "sham": (0.974, 1.1, 0.0, 0.0),
    "usf": (0.971, 1.2, 31.0, 18.0),
    "kolen-pollack": (0.973, 1.3, 8.0, 5.0),
    "fa": (0.962, 1.7, 66.0, 41.0),
    "dfa": (0.958, 1.6, 71.0, 44.0),
    "frozen": (0.915, 1.5, 90.0, 90.0),
    "frsf": (0.969, 1.3, 37.0, 25.0),
    "brsf": (0.968, 1.3, 38.0, 26.0),
    "ifa": (0.951, 1.7, 74.0, 50.0),
    "drtp": (0.938, 1.4, 79.0, 60.0),
    "weight-mirror": (0.970, 1.4, 24.0, 15.0),
}
_NAMES = {
    "backprop": ("Back-propagation", "BP"),
    "sham": ("Sham feedback", "Sham"),
    "fa": ("Feedback alignment", "FA"),
    "usf": ("Sign symmetry", "uSF"),
    "frsf": ("Sign symmetry, fixed magnitudes", "frSF"),
    "brsf": ("Sign symmetry, redrawn magnitudes", "brSF"),
    "signed-init": ("Signed initialisation", "Signed initialisation"),
    "kolen-pollack": ("Kolen–Pollack", "Kolen–Pollack"),
    "weight-mirror": ("Weight mirror", "Weight mirror"),
    "dfa": ("Direct feedback alignment", "DFA"),
    "ifa": ("Indirect feedback alignment", "IFA"),
    "drtp": ("Direct random target projection", "DRTP"),
    "frozen": ("Frozen hidden layers", "Frozen"),
}
_CONTROLS = {"sham": "must equal back-propagation", "frozen": "only the output layer learns"}
_CLAIMS = {
    "backprop": ("full", True),
    "sham": ("full", True),
    "usf": ("signs", True),
    "kolen-pollack": ("none", True),
    "fa": ("none", True),
    "dfa": ("none", True),
    "frozen": ("none", False),
}
# rule: verdicts on the problems of _PROBLEMS, in that order
_FOUND = {
    "backprop": "N N N N N N Y N", "sham": "N N N N N N Y N", "frozen": "– – – – – N – N", "usf": "~ N N N N N Y N",
    "frsf": "~ N N N N N Y N", "brsf": "~ N N N N N Y N", "kolen-pollack": "Y N N N N N Y N", "fa": "Y N N N N N Y N",
    "weight-mirror": "Y N N N N N Y N", "dfa": "Y Y N N ~ N Y N", "ifa": "Y Y N N N N Y N", "drtp": "Y Y N N ~ N Y ?",
}  # fmt: skip
_PROBLEMS = ("weight transport", "derivative transport", "linear feedback", "spiking", "timing", "target", "BPTT",
             "locality")  # fmt: skip
_VERDICTS = {"Y": "solved", "~": "partly", "N": "violated", "–": "does not apply", "?": "could not be measured"}
_VALUES = {"Y": 3e-17, "~": 0.25, "N": 1.43, "–": None, "?": None}
RULES = ("backprop", "sham", "usf", "kolen-pollack", "fa", "dfa", "frozen")
ALL = tuple(_SHAPE)


def accuracy_of(rule: str, seed: int) -> float:
    """The accuracy this generator gives a finished run: known to the tests in closed form, a count of 360 images."""
    final = _SHAPE[rule][0]
    shared = 0.004 * math.sin(2.1 * seed + 0.4)
    own = 0.0 if rule in ("backprop", "sham") else 0.004 * math.cos(3.7 * seed + len(rule))
    return round(360 * (final + shared + own)) / 360


def write(
    directory: Path,
    *,
    rules: tuple[str, ...] = RULES,
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4),
    epochs: int = 10,
    layers: tuple[str, ...] = LAYERS,
    probes: bool = True,
    cost: bool = True,
    audit: bool = True,
) -> Path:
    """Write a synthetic comparison into ``directory`` and return it."""
    base = {
        "data": "digits", "data_options": {}, "model": "mlp", "model_options": {"hidden": [256, 256, 256]},
        "rule": "backprop", "rule_options": {}, "optimizer": "AdamW", "lr": 0.001, "weight_decay": 0.01,
        "schedule": "cosine", "epochs": epochs, "batch_size": 64, "augment": "none", "seed": 0, "device": "cpu",
        "threads": 1, "precision": "float32", "probe_every": 0, "probe_size": 64,
    }  # fmt: skip
    environment = {
        "python": "3.12.4", "torch": "2.15.0", "torchvision": "0.30.0", "plausible": "0.1.0",
        "cpu": "SYNTHETIC processor", "cores": 2, "threads": 1, "cuda": None, "platform": "Linux x86_64",
    }  # fmt: skip
    runs = {
        rule: {str(seed): hashlib.sha256(f"synthetic {rule} {seed}".encode()).hexdigest()[:12] for seed in seeds}
        for rule in rules
    }
    contenders = []
    for rule in rules:
        travel, derivatives = _CLAIMS.get(rule, ("none", True))
        contenders.append(
            {
                "label": rule,
                "rule": rule,
                "full": _NAMES.get(rule, (rule, rule))[0],
                "short": _NAMES.get(rule, (rule, rule))[1],
                "control": _CONTROLS.get(rule, ""),
                "overrides": {"lr": 0.002} if rule in ("fa", "dfa") else {},
                "summary": f"A synthetic stand-in for the rule {rule}, which carries the error backwards.",
                "claims": {
                    "reads": "the output error", "forward_weights": travel, "derivatives_travel": derivatives,
                    "phases": 1, "online": True, "additive": True, "paper": f"{rule}-paper",
                },
                "reference": "Nobody et al. (2000)",
            }
        )  # fmt: skip
        for seed in seeds:
            _write_run(
                directory / "runs" / runs[rule][str(seed)], rule, seed, base, epochs, layers, probes, environment
            )
    comparison = {
        "title": "Synthetic comparison (no network was trained)",
        "command": "plausible compare --data digits --model mlp --seeds 5",
        "base": base, "contenders": contenders, "seeds": list(seeds), "runs": runs, "environment": environment,
        "created": "2025-07-21T10:00:00+00:00", "tuning": {"trials": 24, "study": "digits-mlp"},
    }  # fmt: skip
    write_json(directory / "comparison.json", comparison)
    if cost:
        write_json(directory / "cost.json", {rule: _cost(rule) for rule in rules})
    if audit:
        write_json(directory / "audit.json", {rule: {"run": "of seed 0", "scorecard": card(rule)} for rule in rules})
    return directory


def verdicts(rule: str) -> dict[str, str]:
    """Problem → verdict, as this generator gives it to a rule."""
    return {p: _VERDICTS[mark] for p, mark in zip(_PROBLEMS, _FOUND[rule].split(), strict=True)}


def card(rule: str) -> dict[str, Any]:
    """A scorecard in its written form; nobody was audited."""
    findings = {
        problem: {
            "criterion": problem, "verdict": _VERDICTS[mark], "value": _VALUES[mark],
            "unit": "" if _VALUES[mark] is None else "relative change", "samples": 1, "spread": None,
            "sentence": f"A synthetic sentence on {problem} of {rule}.", "layers": {}, "thresholds": {}, "also": {},
        }
        for problem, mark in zip(_PROBLEMS, _FOUND[rule].split(), strict=True)
    }  # fmt: skip
    return {
        "format": 1, "subject": rule, "model": "Sequential, 4 weight layers, 150794 parameters", "examples": 64,
        "dtype": "float64", "findings": findings, "times": {}, "date": "2025-07-21T10:05:00+00:00",
        "versions": {"plausible": "0.1.0", "torch": "2.15.0", "python": "3.12.4"},
    }  # fmt: skip


def _cost(rule: str) -> dict[str, Any]:
    ratio = {
        "backprop": 1.0, "sham": 1.01, "usf": 1.06, "kolen-pollack": 1.12, "fa": 1.02, "dfa": 0.86, "frozen": 0.55,
    }.get(rule, 1.1)  # fmt: skip
    feedback = 0 if rule in ("backprop", "sham", "usf", "brsf", "frozen") else 599_040
    return {
        "time_ratio": ratio, "time_low": ratio * 0.97, "time_high": ratio * 1.05, "seconds_per_step": 0.0011 * ratio,
        "memory_ratio": 1 + feedback / 9e6, "memory_bytes": 9_000_000 + feedback, "feedback_bytes": feedback,
        "resting_bytes": 2_000_000 + feedback, "hardware": _hardware(rule),
    }  # fmt: skip


def _hardware(rule: str) -> dict[str, float]:
    """Of FA, that which spikes, so that every kind of cell is on the page; of the others, numbers."""
    spiking = rule == "fa"
    return {
        "examples": 64, "inference_steps": 8 if spiking else 1, "inference_macs": 150_528.0,
        "inference_synaptic_operations": 96_512.0, "inference_accumulates": 72_384.0 if spiking else 0.0,
        "inference_spikes": 294.125 if spiking else 0.0, "inference_bits": 2_352.0 if spiking else 24_576.0,
        "learning_steps": 8 if spiking else 1, "learning_macs": 432_128.0, "learning_synaptic_operations": 250_112.0,
        "learning_accumulates": 62_528.0 if spiking else 0.0, "learning_spikes": 294.125 if spiking else 0.0,
        "learning_bits": 2_352.0 if spiking else 24_576.0, "learning_elementwise": 1_536.0,
        "feedback_bits": 0.0 if rule == "frozen" else 24_576.0, "teacher_bits": 320.0, "synapses_changed": 149_760,
        "state_bytes": 2_949_120 if spiking else 0,
    }  # fmt: skip


def _write_run(
    home: Path,
    rule: str,
    seed: int,
    base: dict[str, Any],
    epochs: int,
    layers: tuple[str, ...],
    probes: bool,
    environment: dict[str, Any],
) -> None:
    home.mkdir(parents=True)
    rng = random.Random(f"{rule}{seed}")
    final, tau, first, last = _SHAPE[rule]
    rows: list[dict[str, Any]] = []

    def probe(epoch: int) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for depth, layer in enumerate(layers):
            share = depth / max(1, len(layers) - 1)
            top, exact = depth == len(layers) - 1, rule in ("backprop", "sham")
            untaught = rule == "frozen" and not top
            end = first + (last - first) * share
            start = 0.0 if exact else (end + 4 if rule in ("usf", "frsf", "brsf") else 89.0)
            angle = end + (start - end) * math.exp(-epoch / (1.5 * tau)) + (0 if exact else rng.gauss(0, 2.0))
            feedback = None if depth == 0 or rule in ("dfa", "ifa", "drtp", "frozen") else max(0.0, angle)
            values[layer] = {
                "update_angle": None if untaught else 0.0 if exact or top else max(0.0, angle),
                "feedback_angle": feedback,
                "norm_ratio": None if untaught else 1.0 if exact or top else 0.9 + 0.1 * rng.random(),
                "sign_concordance": None if feedback is None else 1 - feedback / 180,
            }
        return {"kind": "probe", "epoch": epoch, "step": epoch * STEPS, "layers": values}

    if probes:
        rows.append(probe(0))
    for epoch in range(1, epochs + 1):
        gap = 0.45 * math.exp(-epoch / tau) + 0.004 * rng.random() + 0.004
        accuracy = final - gap + 0.004 * math.sin(2.1 * seed + 0.4)
        rows.append(
            {
                "kind": "epoch", "epoch": epoch, "step": epoch * STEPS, "lr": 0.001, "train_loss": 0.02 + 3 * gap,
                "train_accuracy": min(1.0, accuracy + 0.02), "validation_loss": 0.08 + 3 * gap,
                "validation_accuracy": accuracy,
            }
        )  # fmt: skip
        if probes:
            rows.append(probe(epoch))
    accuracy = accuracy_of(rule, seed)
    rows.append({"kind": "test", "epoch": epochs, "step": epochs * STEPS, "test_loss": 0.1, "test_accuracy": accuracy})
    lines(home / "metrics.jsonl", rows)
    lines(
        home / "timing.jsonl",
        [{"epoch": e, "train_seconds": 0.025, "evaluate_seconds": 0.002, "steps": STEPS} for e in range(1, epochs + 1)],
    )
    config = {**base, "rule": rule, "seed": seed}
    write_json(home / "run.json", config)
    write_json(home / "environment.json", environment)
    write_json(
        home / "result.json",
        {
            "run": config, "id": home.name, "status": "finished", "test_accuracy": accuracy, "test_loss": 0.1,
            "validation_accuracy": accuracy, "epochs": epochs, "steps": epochs * STEPS, "parameters": 150_794,
            "report": {
                "covered": list(layers), "exact": ["net.2"], "backprop": [],
                "note": "All four linear layers follow the rule.",
            },
            "alignment": probe(epochs)["layers"] if probes else {},
        },
    )  # fmt: skip


def lines(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write rows as .jsonl."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def edit(path: Path, **changes: Any) -> None:
    """Change some values of a JSON file in place."""
    write_json(path, {**json.loads(path.read_text(encoding="utf-8")), **changes})


def run_home(directory: Path, rule: str, seed: int) -> Path:
    """Where the run of ``rule`` with ``seed`` lies."""
    runs = json.loads((directory / "comparison.json").read_text(encoding="utf-8"))["runs"]
    return directory / "runs" / runs[rule][str(seed)]


def write_json(path: Path, value: Any) -> None:
    """Write one value as JSON."""
    path.write_text(json.dumps(value, indent=2), encoding="utf-8")
