"""What the docs site makes of the package: a page for each rule, the notebook, formulas, references."""

import dataclasses
import importlib.util
import json
import re
from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree

import pytest
from blocks import ROOT

from plausible.audit import criteria
from plausible.core import registry


def hook(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"hook_{name}", ROOT / "docs" / "hooks" / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", registry.names())
def test_every_rule_has_a_page_with_all_that_its_file_says(name: str) -> None:
    page = hook("rules").page(name)
    assert page.split() and registry.summary(name) in page
    assert registry.citation(name) in page
    header = registry.header(name)
    for title in ("What travels", "Departures"):
        section = re.search(rf"^{title}:\n(.*?)\n\n", header, re.M | re.S)
        assert section and " ".join(section[1].split()) in page
    for line in re.findall(r"^Equation:\n(.*?)\n\n", header, re.M | re.S)[0].splitlines():
        for piece in re.split(r" {4,}", line.strip()):
            assert piece in page
    for field in dataclasses.fields(registry.get(name)):
        meaning = re.search(rf"^\| `{field.name}` \|.*\| (.+) \|$", page, re.M)
        assert meaning and len(meaning[1].split()) > 2, f"the option {field.name} is not explained"


def test_the_table_and_the_readme_have_every_rule_and_no_other() -> None:
    table = re.findall(r"^\| \[`([\w-]+)`\]\(rules/\1\.md\)", hook("rules").table(), re.M)
    assert sorted(table) == registry.names()
    rules = (ROOT / "README.md").read_text(encoding="utf-8").partition("## Rules")[2].partition("\n## ")[0]
    rows = "".join(row.split("|")[1] for row in rules.splitlines() if row.startswith("| `"))
    assert sorted(re.findall(r"`([\w-]+)`", rows)) == registry.names()


@pytest.mark.parametrize("criterion", criteria(), ids=lambda each: each.name)
def test_every_criterion_has_a_page_with_a_drawing(criterion) -> None:
    page = hook("criteria").page(criterion)
    assert criterion.summary in page and "## What is done" in page
    drawing = page[page.index("<svg") : page.index("</svg>")]
    assert "var(--md-accent-fg-color" in drawing, "what the intervention touches is drawn in the accent"
    ElementTree.fromstring(drawing + "</svg>")
    assert f"criteria/{hook('criteria').slug(criterion.name)}.md" in hook("criteria").table()


@pytest.mark.parametrize("path", sorted((ROOT / "docs").glob("*.ipynb")), ids=lambda each: each.stem)
def test_a_notebook_s_page_has_its_text_its_code_and_its_figures(path: Path) -> None:
    markdown, figures = hook("notebook").page(path)
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        assert "".join(cell["source"]).replace(".ipynb)", ".md)") in markdown
    assert f": {path.stem}.md\n" in (ROOT / "mkdocs.yml").read_text(encoding="utf-8"), "no link leads to the page"
    assert len(figures) >= 2
    for path, content in figures.items():
        assert f"]({path})" in markdown and content.startswith(b"\x89PNG")


def test_formulas_become_mathml() -> None:
    pytest.importorskip("latex2mathml", reason="pip install '.[docs]'")
    shown = hook("mathml").on_page_content(
        r'<p><span class="arithmatex">\(a &lt; b\)</span></p><div class="arithmatex">\[x \tag{7}\]</div>'
    )
    assert "arithmatex" not in shown and "\\" not in shown
    assert shown.count("<math") == 2 and 'display="block"' in shown
    assert re.search(r"<mi>a</mi><mo>&(lt|#x0003C);</mo><mi>b</mi>", shown) and "(7)" in shown


def test_roles_become_names_and_links_to_what_is_on_the_page() -> None:
    shown = hook("roles").on_page_content(
        '<h3 id="plausible.core.rule.Rule"></h3>:class:<code>Rule</code> :func:<code>~os.path.join</code>'
        " :meth:<code>elsewhere.Thing.go</code>"
    )
    assert '<a href="#plausible.core.rule.Rule"><code>Rule</code></a>' in shown
    assert shown.endswith("<code>join</code> <code>elsewhere.Thing.go</code>")


def test_the_command_line_s_reference_has_every_option() -> None:
    reference = hook("commands").reference()
    for command in ("compare", "train", "rules", "report", "cite", "tune"):
        assert f"### plausible {command}" in reference
    assert "--last-layer" in reference and "\x1b" not in reference
