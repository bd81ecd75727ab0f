from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from plausible import data, models
from plausible.cli import options
from plausible.compare.comparison import Contender
from plausible.core.errors import ConfigurationError, UnknownName
from plausible.train import Run


def test_the_help_names_every_model_and_data_set():
    """It is written out there, so that help is there at once and torch need not be loaded for it."""
    for option, known in ((options.MODEL, models.names()), (options.DATA, data.names())):
        listed = option.help.partition(" or ")[0].split(", ")
        assert sorted(each for each in listed if ":" not in each) == sorted(known)


@pytest.mark.parametrize(
    ("text", "seeds"), [("3", (0, 1, 2)), ("1", (0,)), ("4,2", (4, 2)), ("[7]", (7,)), ("[0, 3]", (0, 3))]
)
def test_seeds(text, seeds):
    assert options.seeds_of(text) == seeds


@pytest.mark.parametrize("text", ["", "0", "-1", "a", "1,a", "1.5", "true", "[]"])
def test_what_is_no_seeds(text):
    with pytest.raises(ConfigurationError, match="--seeds"):
        options.seeds_of(text)


def test_a_list_may_be_repeated_or_have_commas():
    assert options.listed(["a, b", "c:x=1", ",d,"]) == ["a", "b", "c:x=1", "d"]


def test_set_reaches_runs_options_and_rules():
    base, entered = options.assign(
        Run(model_options={"depth": 3}),
        [Contender.parse("fa"), Contender.parse("fa:scale=3"), Contender.parse("usf")],
        options.assignments(
            ["weight_decay=0", "model_options.width=9", "fa.per_layer=false", "usf.lr=0.5", "fa.scale=2"]
        ),
    )
    assert base == Run(model_options={"depth": 3, "width": 9}, weight_decay=0.0)
    assert [contender.overrides for contender in entered] == [
        {"rule_options": {"per_layer": False, "scale": 2}},
        {"rule_options": {"scale": 2, "per_layer": False}},
        {"lr": 0.5},
    ]


def test_constraints_become_what_a_run_holds():
    entries = ["quantised:bits=4:stochastic=false", "noisy", "noisy:on=feedback:read=0.5"]
    found = options.constraints_of(entries)
    assert found == [
        {"quantised": {"bits": 4, "stochastic": False}},
        {"noisy": {}},
        {"noisy": {"on": "feedback", "read": 0.5}},
    ]
    assert Run(constraints=found).constraints == found
    assert options.constraints_of([]) is None and options.constraints_of(None) is None
    with pytest.raises(ConfigurationError, match=r"constraint entry 'quantised:4'.*quantised:bits=4"):
        options.constraints_of(["quantised:4"])
    with pytest.raises(UnknownName, match=r"no constraint named 'quantized'.*'quantised'"):
        Run(constraints=options.constraints_of(["quantized"]))


@pytest.mark.parametrize("name", ["nonsense", "dfa.scale", "fa", "nonsense.width"])
def test_set_refuses_what_is_nowhere(name):
    with pytest.raises(UnknownName, match=name.replace(".", r"\.")):
        options.assign(Run(), [Contender.parse("fa")], [(name, 1)])


def application():
    app = typer.Typer()

    @app.command("work")
    def work(
        context: typer.Context,
        rules: Annotated[list[str] | None, typer.Option()] = None,
        batch_size: options.BatchSize = None,
        settings: options.Set = None,
        config: options.Config = None,
        quiet: options.Quiet = False,
        as_json: options.Json = False,
        download: options.Download = False,
    ):
        print(rules, batch_size, settings, as_json, download)
        print(options.command_line(context))

    @app.command()
    def other(): ...

    return lambda *words: CliRunner().invoke(app, ["work", *words])


def test_a_file_gives_defaults_and_the_command_line_wins(tmp_path):
    file = tmp_path / "settings.toml"
    file.write_text(
        'rules = ["fa", "usf"]\nbatch-size = 8\njson = true\n[set]\nweight_decay = 0.1\nfa.scale = 2\nfa.name = "x"\n'
    )
    run = application()
    values, line = run("--config", str(file), "--batch-size", "16").stdout.splitlines()
    assert values == """['fa', 'usf'] 16 ['weight_decay=0.1', 'fa.scale=2', 'fa.name="x"'] True False"""
    assert line == f"plausible work --batch-size 16 --config {file}"


@pytest.mark.parametrize("content", ["epochz = 3", "config = 'x'", "= 3", "help = true"])
def test_a_file_with_something_else_is_refused(tmp_path, content):
    file = tmp_path / "settings.toml"
    file.write_text(content)
    result = application()("--config", str(file))
    assert result.exit_code == 2 and "settings.toml" in result.stderr.replace("\n", "").replace("│", "").replace(
        " ", ""
    )


def test_the_command_line_is_what_was_typed():
    given = ["--rules", "fa", "--rules", "usf:scale=2", "--set", "fa.name='a b'", "--download", "--quiet", "--json"]
    line = application()(*given).stdout.splitlines()[-1]
    assert line == """plausible work --rules fa --rules usf:scale=2 --set 'fa.name='"'"'a b'"'"'' --download"""


@pytest.mark.parametrize(
    ("rules", "model"),
    [
        (["backprop", "fa"], "mlp"),
        (["backprop", "nef-dfa", "nef-6"], "lif-mlp"),
        (["eprop"], "rsnn"),
        (["eprop", "nef-6"], "mlp"),  # no model is right for both: each says what it is made for
        ([], "mlp"),
    ],
)
def test_without_a_model_it_is_the_one_that_the_rules_are_made_for(rules, model):
    assert options.model_for(rules) == model


def test_a_rule_that_is_none_has_no_model():
    with pytest.raises(UnknownName, match="nef-dfa"):
        options.model_for(["nef-dfaa"])
