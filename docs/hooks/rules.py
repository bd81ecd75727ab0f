"""Gives every registered rule a page, from the header of its file, and a table row."""

import dataclasses
import inspect
import re
import sys
from typing import Any

from plausible.core import Rule, registry
from plausible.core.rule import Claims

MARK = "<!-- the table of rules -->"

CLAIMS = {
    "reads": "teaching signal it reads",
    "forward_weights": "of the forward weights, the feedback path knows",
    "derivatives_travel": "derivatives travel beyond their own synapses",
    "phases": "phases of one learning step",
    "online": "could learn while the stimulus lasts",
    "additive": "a batch's update is the sum over its examples",
    "feedback": "what carries the teaching messages",
    "events": "what travels as spikes",
    "tolerates_delay": "still learns with a slightly late teacher",
    "told": "what it is told of the right answer",
    "local": "a synapse's change depends on its two cells and what reaches them",
}

PAGE = """
# {name}

{parts}

## What it claims

{claims}

## Options

{options}

## Use it

```python
learner = plausible.bind(model, "{name}", loss, example=x, optimizer=optimizer)
```

```sh
plausible compare --rules {compared}
```

## Cite

```bibtex
{citation}
```
"""


def on_files(files: Any, *, config: Any) -> None:
    """Add a page for each rule."""
    from mkdocs.structure.files import File

    for name in registry.names():
        files.append(File.generated(config, f"rules/{name}.md", content=page(name)))


def on_nav(nav: Any, *, config: Any, files: Any) -> None:
    """List the pages in the navigation; a new rule needs no line in mkdocs.yml."""
    from mkdocs.structure.nav import Section
    from mkdocs.structure.pages import Page

    names = registry.names()
    pages = [
        Page(name, files.get_file_from_path(f"rules/{name}.md"), config)
        for name in names
    ]
    nav.items.append(Section("Every rule", pages))
    nav.pages.extend(pages)


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Put the table where a page asks for it."""
    return markdown.replace(MARK, table()) if MARK in markdown else markdown


def page(name: str) -> str:
    """The page of one rule: its header, its claims, its options, its paper."""
    rule = registry.get(name)
    entry = re.compile(r"\n+@\w+\{.*?^\}", re.M | re.S)
    sentence, *sections = entry.sub("", registry.header(name)).split("\n\n")
    parts = [" ".join(sentence.split())]
    for section in sections:
        title, _, text = section.partition(":")
        if title == "Equation":
            # The header sets a reference far to the right, where a page has no room.
            text = re.sub(
                r" {4,}(\(.*\))$", r"\n    \1", inspect.cleandoc(text), flags=re.M
            )
            parts.append(f"```text\n{text}\n```")
        elif title != "Reference":
            parts.append(f"**{title}.** {' '.join(text.split())}")
    return PAGE.format(
        name=name,
        parts="\n\n".join(parts),
        claims=_table(("claim", ""), _claims(rule.claims)),
        options=_table(
            ("option", "default", "tuned within", "meaning"), _options(rule)
        ),
        compared=",".join(dict.fromkeys(["backprop", name])),
        citation=registry.citation(name),
    )


def table() -> str:
    """All rules, grouped as their files are."""
    groups: dict[str, list[tuple[str, ...]]] = {}
    for name in registry.names():
        rule = registry.get(name)
        travel = "yes" if rule.claims.derivatives_travel else "no"
        row = (
            f"[`{name}`](rules/{name}.md)",
            registry.summary(name),
            rule.claims.forward_weights,
            travel,
        )
        groups.setdefault(rule.__module__.rpartition(".")[0], []).append(row)
    head = (
        "rule",
        "what it does",
        "forward weights in the feedback",
        "derivatives travel",
    )
    return "\n\n".join(
        f"{sys.modules[package].__doc__ or package}\n\n{_table(head, rows)}"
        for package, rows in groups.items()
    )


def _claims(claims: Claims) -> list[tuple[str, ...]]:
    values = ((meaning, getattr(claims, name)) for name, meaning in CLAIMS.items())
    says = {True: "yes", False: "no"}
    return [
        (what, says[value] if isinstance(value, bool) else str(value))
        for what, value in values
    ]


def _options(rule: type[Rule]) -> list[tuple[str, ...]]:
    meanings: dict[str, str] = {}
    for base in reversed(rule.__mro__):
        attributes = (inspect.getdoc(base) or "").partition("Attributes:\n")[2]
        for names, text in re.findall(
            r"^    (\w+(?:, \w+)*): (.*(?:\n {8}.*)*)", attributes, re.M
        ):
            meanings |= dict.fromkeys(names.split(", "), " ".join(text.split()))
    rows = []
    for field in dataclasses.fields(rule):
        tunable = rule.tunables().get(field.name)
        span = f"{tunable.low:g} … {tunable.high:g}" if tunable else ""
        rows.append(
            (f"`{field.name}`", f"`{field.default!r}`", span, meanings[field.name])
        )
    return rows


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
