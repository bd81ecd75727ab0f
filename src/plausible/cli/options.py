"""Options that several commands share, and how what is given becomes a run."""

import json
import shlex
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from plausible.compare.comparison import Contender
    from plausible.compare.settings import Tuned
    from plausible.train import Run

EXPERIMENT, WHERE, OUTPUT = "What is trained", "Where and how", "What is printed"

DATA = typer.Option(
    help="digits, mnist, fashion-mnist, cifar10, cifar100, imagenet, folder:PATH, stream:PATH or "
    "package.module:callable.",
    rich_help_panel=EXPERIMENT,
)
MODEL = typer.Option(
    help="mlp, lenet, small-conv, avg-conv, alexnet, resnet20, resnet56, resnet18, rsnn, lif-mlp or "
    "package.module:callable.",
    show_default="mlp, or what the rules are made for",
    rich_help_panel=EXPERIMENT,
)
Epochs = Annotated[int | None, typer.Option(help="Passes over the training split.", rich_help_panel=EXPERIMENT)]
BatchSize = Annotated[int | None, typer.Option(help="Examples per step.", rich_help_panel=EXPERIMENT)]
Optimizer = Annotated[str | None, typer.Option(help="A class in torch.optim, such as SGD.", rich_help_panel=EXPERIMENT)]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="NAME=VALUE",
        help="Any other setting: a field of the run (weight_decay=0.01, compile=true, model_options.width=512) or an "
        "option of one rule (fa.scale=2). Repeatable.",
        rich_help_panel=EXPERIMENT,
    ),
]
Constraints = Annotated[
    list[str] | None,
    typer.Option(
        "--constraint",
        metavar="NAME[:OPTION=VALUE]",
        help="What the medium does to the weights: quantised:bits=4, noisy:read=0.2:on=feedback, … Repeatable.",
        rich_help_panel=EXPERIMENT,
    ),
]
Root = Annotated[
    Path | None,
    typer.Option(
        "--root",
        "--data-dir",
        help="Where the image sets lie, or imagenet itself; else $PLAUSIBLE_DATA or ~/.cache/plausible.",
        rich_help_panel=WHERE,
    ),
]
Download = Annotated[bool, typer.Option("--download", help="Fetch a missing data set.", rich_help_panel=WHERE)]
Device = Annotated[str | None, typer.Option(help="cpu, cuda or cuda:N.", rich_help_panel=WHERE)]
Jobs = Annotated[
    int | None,
    typer.Option(min=1, help="Worker processes; by default one per processor, on a GPU one.", rich_help_panel=WHERE),
]
Quiet = Annotated[
    bool, typer.Option("--quiet", "-q", help="Print only where the result is, and errors.", rich_help_panel=OUTPUT)
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.", rich_help_panel=OUTPUT)]


def _read_config(context: typer.Context, path: Path | None) -> Path | None:
    """Make the file's values the defaults of the command's other options."""
    if path is None:
        return None
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise typer.BadParameter(f"{path} cannot be read as TOML: {error}") from None
    # By their long names, as they are typed: `--json` belongs to a parameter that has another name.
    known = {name[2:]: p.name for p in context.command.params for name in p.opts if name.startswith("--")}
    defaults: dict[str, Any] = {}
    for name, value in values.items():
        option = name.replace("_", "-")
        if option not in known or option in ("config", "help"):
            allowed = ", ".join(sorted(known.keys() - {"config", "help"}))
            raise typer.BadParameter(f"{path}: this command has no option {name!r}. It has: {allowed}.")
        if option == "set" and isinstance(value, dict):
            value = [f"{name}={json.dumps(item)}" for name, item in _flat(value)]
        elif option == "rules" and isinstance(value, str):
            value = [value]
        defaults[str(known[option])] = value
    context.default_map = {**(context.default_map or {}), **defaults}
    return path


Config = Annotated[
    Path | None,
    typer.Option(
        "--config",
        callback=_read_config,
        is_eager=True,
        metavar="FILE",
        help="A TOML file with values for these options, by their long names; the command line wins.",
        rich_help_panel=WHERE,
    ),
]


def _flat(table: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    pairs: list[tuple[str, Any]] = []
    for name, value in table.items():
        pairs += _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else [(prefix + name, value)]
    return pairs


def command_line(context: typer.Context) -> str:
    """The command as it would be typed, with what was given on the command line and nothing else."""
    words = ["plausible", str(context.info_name)]
    for parameter in context.command.params:
        value = context.params.get(parameter.name or "")
        name = next((each for each in parameter.opts if each.startswith("--")), parameter.opts[0])
        source = context.get_parameter_source(parameter.name or "")
        if source is None or source.name != "COMMANDLINE" or name in ("--quiet", "--json", "--debug", "--jobs"):
            continue
        if isinstance(value, bool):
            words.append(name)
        else:
            for item in value if isinstance(value, list | tuple) else [value]:
                words += [name, str(item)]
    return shlex.join(words)


def listed(entries: Sequence[str]) -> list[str]:
    """The entries of an option that is repeatable and may hold several, with commas between."""
    return [part.strip() for entry in entries for part in entry.split(",") if part.strip()]


def constraints_of(entries: Sequence[str] | None) -> list[dict[str, dict[str, Any]]] | None:
    """The ``--constraint`` entries as a run has them; None if there are none.

    Raises:
        ConfigurationError: an entry is not of the form ``name:option=value``.
    """
    from plausible.compare.comparison import parse

    parsed = [parse(entry, "constraint") for entry in entries or []]
    return [{name: dict(options)} for name, options in parsed] or None


def assignments(entries: Sequence[str] | None) -> list[tuple[str, Any]]:
    """(name, value) of each ``--set name=value``.

    Raises:
        ConfigurationError: an entry is not of that form.
    """
    from plausible.compare.comparison import literal
    from plausible.core.errors import ConfigurationError

    pairs: list[tuple[str, Any]] = []
    for entry in entries or []:
        name, equals, value = entry.partition("=")
        if not (name.strip() and equals):
            raise ConfigurationError(f"--set {entry!r} is not of the form NAME=VALUE, such as --set weight_decay=0.01.")
        pairs.append((name.strip(), literal(value.strip())))
    return pairs


def assign(
    base: "Run", contenders: Sequence["Contender"], pairs: Sequence[tuple[str, Any]]
) -> "tuple[Run, tuple[Contender, ...]]":
    """The base and the contenders with ``--set`` applied.

    ``field`` and ``field_options.name`` change the base; ``rule.name`` changes the contenders with that rule or label.

    Raises:
        ConfigurationError: a name that is none of these, or a value that is not allowed.
    """
    from plausible.compare.comparison import RUN_FIELDS
    from plausible.core.errors import unknown

    entered = list(contenders)
    for name, value in pairs:
        owner, dot, option = name.partition(".")
        if owner in RUN_FIELDS:
            base = base.replace(**{owner: {**getattr(base, owner), option: value} if dot else value})
            continue
        meant = [i for i, contender in enumerate(entered) if owner in (contender.rule, contender.label)]
        if not (dot and meant):
            known = {f"{contender.rule}.…" for contender in entered} | RUN_FIELDS
            raise unknown("setting", name, known)
        for i in meant:
            entered[i] = entered[i].having(option, value)
    return base, tuple(entered)


def model_for(rules: Sequence[str]) -> str:
    """The model where none was given: an mlp, or what those of the rules are made for that are made for another.

    Raises:
        UnknownName: there is no such rule.
    """
    from plausible.core import registry

    made_for = dict.fromkeys(registry.get(rule).model for rule in rules)
    made_for.pop("mlp", None)
    return made_for.popitem()[0] if len(made_for) == 1 else "mlp"


def shipped_base(data: str, model: str, **flags: Any) -> "Run":
    """The run that a pair of data and model is meant for, with the options that were given on top of it."""
    from plausible.compare.settings import tuned

    return base_of(tuned(data, model), data=data, model=model, **flags)


def recipe(name: str) -> Path:
    """The file of a recipe that comes with the package.

    Raises:
        UnknownName: there is none of that name.
    """
    from plausible.core.errors import unknown

    known = {path.stem: path for path in (Path(__file__).parent / "recipes").glob("*.toml")}
    if name not in known:
        raise unknown("recipe", name, known)
    return known[name]


def base_of(found: "Tuned | None", **flags: Any) -> "Run":
    """The run that tuned settings are for, with the options that were given on top of it."""
    from plausible.train import Run

    given = {name: value for name, value in flags.items() if value is not None}
    return Run.from_dict({**(found.base if found else {}), **given})


def seeds_of(text: str) -> tuple[int, ...]:
    """``5`` → 0 … 4; ``0,3,7`` or ``[0, 3, 7]`` → those.

    Raises:
        ConfigurationError: it is neither.
    """
    from plausible.compare.comparison import literal
    from plausible.core.errors import ConfigurationError

    value = literal(text if text.startswith("[") or "," not in text else f"[{text}]")
    if type(value) is int and value > 0:
        return tuple(range(value))
    if isinstance(value, list) and value and all(type(seed) is int for seed in value):
        return tuple(value)
    raise ConfigurationError(f"--seeds {text}: give a number of seeds, such as 5, or the seeds, such as 0,1,2.")
