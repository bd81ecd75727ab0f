"""Whatever a reader may copy from the README, CONTRIBUTING and the docs works."""

import os
import re
import shlex
import subprocess
import sys
from functools import partial
from pathlib import Path

import matplotlib
import pytest
import typer.main
from blocks import ROOT, blocks, pages

from plausible.cli import app


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def examples(path: Path) -> list:
    """Python that runs on the reader's own, in order; blocks with a title are files, see CONTRIBUTING."""
    return [block for block in blocks(path, "python") if not block.title]


@pytest.mark.parametrize("path", [p for p in pages() if examples(p)], ids=name)
def test_python_runs(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The blocks of a page share their names, as they would in a reader's session.
    monkeypatch.chdir(tmp_path)
    matplotlib.use("Agg")
    namespace: dict[str, object] = {"__name__": "example"}
    for block in examples(path):
        # Leading newlines, so that a traceback shows the page's own line numbers.
        exec(compile("\n" * block.line + block.code, str(path), "exec"), namespace)
    assert len(namespace) > 2, "the examples define nothing: are they empty?"


def test_readme_and_quickstart_have_examples() -> None:
    for page in ("README.md", "docs/quickstart.md"):
        assert examples(ROOT / page), page


def commands() -> list:
    """Every ``plausible …`` line of a shell block, with continuation lines joined."""
    found = []
    for path in pages():
        for block in blocks(path, "sh"):
            lines = re.sub(r"\\\n\s*", " ", block.code).splitlines()
            for line in lines:
                for part in line.split("&&"):
                    words = shlex.split(part, comments=True)
                    if words[:1] == ["plausible"]:
                        found.append(pytest.param(words[1:], id=f"{name(path)}: {shlex.join(words)}"))
    return found


def parse(args: list[str]) -> str:
    """Parse as the program would, down to types and choices, but run nothing; returns the command's name."""
    program, called = typer.main.get_command(app), []
    for command in program.commands.values():
        command.callback = partial(_note, called, command.name)
    program.main(args=args, prog_name="plausible", standalone_mode=False)
    (only,) = called
    return only


def _note(called: list[str], command: str, /, **_: object) -> None:
    called.append(command)


@pytest.mark.parametrize("args", commands())
def test_command_line_is_one_that_the_program_takes(args: list[str]) -> None:
    assert parse(args) == args[0]


def test_an_option_that_does_not_exist_is_found_out() -> None:
    with pytest.raises(Exception, match="No such option: --no-such-option"):
        parse(["compare", "--no-such-option"])


def test_every_command_is_documented() -> None:
    shown = {param.values[0][0] for param in commands()}
    assert shown >= set(typer.main.get_command(app).commands)


def test_the_rule_in_contributing_works_as_another_package_would_offer_it(tmp_path: Path) -> None:
    files = {Path(block.title).name: block.code for block in blocks(ROOT / "CONTRIBUTING.md", "python")}
    rule, test = files
    package = tmp_path / "my_package"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / rule).write_text(files[rule], encoding="utf-8")
    (tmp_path / test).write_text(files[test], encoding="utf-8")
    # What pip would leave behind: the metadata, with the entry point as CONTRIBUTING shows it.
    metadata = tmp_path / "my_package-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: my-package\nVersion: 1.0\n")
    (entry,) = blocks(ROOT / "CONTRIBUTING.md", "toml")
    (metadata / "entry_points.txt").write_text(entry.code.replace("project.entry-points.", "").replace('"', ""))

    registered = re.search(r'name = "(.*)"', files[rule])
    assert registered
    # Its own test, and every contract test: those ask the registry for names, and so meet this one.
    contract = ROOT / "tests" / "contract"
    either = f"{registered[1]} or {Path(test).stem}"
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", tmp_path / test, contract, "-k", either],
        env={
            **os.environ,
            "PYTEST_ADDOPTS": "",
            "PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]),
        },
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    passed = re.search(r"(\d+) passed", run.stdout)
    assert passed and int(passed[1]) > 10, "the contract tests did not meet the rule:\n" + run.stdout


def test_the_program_for_several_ranks_runs_on_two(tmp_path: Path) -> None:
    (program,) = (block for block in blocks(ROOT / "docs/distributed.md", "python") if block.title)
    (tmp_path / program.title).write_text(program.code)
    words = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", program.title]
    ran = subprocess.run([sys.executable, *words], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    said = re.fullmatch(r"2 ranks: (0\.\d\d)", ran.stdout.strip())
    assert said is not None and float(said[1]) > 0.7, ran.stdout
