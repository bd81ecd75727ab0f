"""Configurations and checkpoints that are damaged, foreign or meant to harm: refused, and nothing is lost by it."""

import json
import pickle
import random
import shutil
import signal
import zipfile
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from plausible.cli import main
from plausible.compare.comparison import Comparison, Contender
from plausible.compare.settings import Tuned
from plausible.core.errors import CheckpointError, ConfigurationError, PlausibleError
from plausible.train import Home, Interrupted, Run, train
from plausible.train import checkpoint as checkpoints
from plausible.train import loop as loop_module
from plausible.train.result import Result

# ------------------------------------------------------------------------------------------- configurations

NAMES = st.sampled_from([*Run().to_dict(), "constraints", "compile", "format", "junk", ""]) | st.text(max_size=8)
ODD = st.sampled_from(
    [None, True, -1, 0, 2, 10**400, -(10**30), 1e308, 1e-320, float("nan"), float("inf"), "", "fa", "step", "cuda:-1",
     "cuda:99999999999999999999", "\ud800", "日本\0", [], {}, [{"noisy": {}}], [{"quantised": {"bits": float("nan")}}],
     {"milestones": [float("nan")]}, {"seed": 10**400}, {"scale": float("inf")}, {"betas": 1}]
)  # fmt: skip
VALUES = st.recursive(
    ODD | st.text(max_size=5) | st.integers() | st.floats(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


def nested(depth: int, kind: str) -> str:
    return "[" * depth + "]" * depth if kind == "list" else '{"a":' * depth + "1" + "}" * depth


@given(st.dictionaries(NAMES, VALUES, max_size=3), st.sampled_from(["backprop", "fa", "dtp", "nef-dfa", "eprop"]))
@settings(max_examples=4 * settings().max_examples)
def test_a_configuration_is_a_run_or_refused(values: dict, rule: str):
    """Every run that is accepted can be written, and is the same when it is read again."""
    try:
        run = Run.from_dict({"rule": rule, **values})
    except PlausibleError as error:
        assert str(error)
        return
    again = Run.from_json(run.to_json())
    assert again == run and again.id == run.id


@given(st.data())
def test_a_comparison_is_one_or_refused(data: st.DataObject):
    entries = (Contender.parse("fa"), Contender.parse("usf:scale=2"))
    values = Comparison(base=Run(), contenders=entries, seeds=(0, 1)).to_dict()
    places: list[tuple] = [("title",), ("base",), ("contenders",), ("seeds",), ("seeds", 0), ("base", "lr")]
    places += [("contenders", 1), *[("contenders", 1, key) for key in ("label", "rule", "overrides")]]
    *way, last = data.draw(st.sampled_from([*places, ("contenders", 1, "overrides", "rule_options")]))
    owner = values
    for key in way:
        owner = owner[key]
    owner[last] = data.draw(VALUES)
    try:
        found = Comparison.from_dict(values)
    except PlausibleError:
        return
    assert Comparison.from_dict(json.loads(json.dumps(found.to_dict()))).id == found.id


@pytest.mark.parametrize("kind", ["list", "mapping"])
@pytest.mark.parametrize("depth", [40, 200, 300, 900, 100_000])
def test_deep_nesting_is_refused_wherever_it_stands(depth: int, kind: str):
    deep = nested(depth, kind)
    for document in (deep, f'{{"model_options": {{"a": {deep}}}}}', f'{{"data": {deep}}}', f'{{"format": {deep}}}'):
        with pytest.raises(ConfigurationError):
            Run.from_json(document)
        with pytest.raises(CheckpointError):
            Result.from_json(document)
    if kind == "list":
        for read in (Run.from_toml, Tuned.from_toml):
            with pytest.raises(ConfigurationError):
                read(f"model_options.a = {deep}")


@pytest.mark.parametrize("digits", [400, 5000])
def test_numbers_that_are_too_long_are_refused(digits: int):
    with pytest.raises(ConfigurationError):
        Run.from_json(f'{{"epochs": -{"9" * digits}}}')
    for read in (Run.from_toml, Tuned.from_toml):
        with pytest.raises(ConfigurationError):
            read(f"epochs = -{'9' * digits}")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.json", '{"format": 99, "from_the_future": true}'),
        ("a.json", '{"model_options": ' + "[" * 100_000),
        ("a.json", '{"seed": ' + "9" * 5000 + "}"),
        ("a.toml", "lr = nan"),
        ("a.toml", 'rule = "fa"\nrule_options = 3'),
        ("a.toml", "epochs = 99999999999999999999\nlr = true"),
    ],
)
def test_the_command_line_refuses_in_a_paragraph_and_leaves_no_folder(tmp_path, monkeypatch, capsys, name, content):
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).write_text(content)
    monkeypatch.setattr("sys.argv", ["plausible", "train", "--config", name, "--out", "here"])
    with pytest.raises(SystemExit) as end:
        main()
    said = capsys.readouterr().err
    assert end.value.code not in (0, None) and "Error" in said and name in said
    assert "Traceback" not in said and "should not happen" not in said
    assert [path.name for path in tmp_path.iterdir()] == [name]


# ------------------------------------------------------------------------------------------- checkpoints

SMALL = Run(rule="kolen-pollack", epochs=1, model_options={"width": 4}, probe_size=0, lr=0.01)


class Harmful:
    """Unpickled, it makes a file."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self):
        return open, (str(self.target), "w")


def stopped(run: Run, directory: Path, step: int) -> Path:
    """A run that was asked to stop in the middle, and its checkpoint."""
    learn, patch = loop_module.Loop._learn, pytest.MonkeyPatch()

    def until(self, x, y):
        learn(self, x, y)
        if self.step == step:
            signal.raise_signal(signal.SIGINT)

    patch.setattr(loop_module.Loop, "_learn", until)
    try:
        with pytest.raises(Interrupted):
            train(run, directory)
    finally:
        patch.undo()
    return directory


@pytest.fixture(scope="module")
def begun(tmp_path_factory) -> Path:
    return stopped(SMALL, tmp_path_factory.mktemp("begun"), 7)


@pytest.fixture(scope="module")
def others(tmp_path_factory) -> dict[str, bytes]:
    """Checkpoints that are whole, and of something else."""
    found = {}
    for name, changes in {"model": {"model_options": {"width": 5}}, "rule": {"rule": "fa"}}.items():
        run = SMALL.replace(**changes)
        found[name] = (stopped(run, tmp_path_factory.mktemp(name), 7) / "checkpoint.pt").read_bytes()
    return found


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir() if path.is_file()}


def assert_refused(begun: Path, tmp_path: Path, checkpoint: bytes, words: str) -> None:
    home = tmp_path / "run"
    shutil.rmtree(home, ignore_errors=True)
    shutil.copytree(begun, home)
    (home / "checkpoint.pt").write_bytes(checkpoint)
    before = contents(home)
    with pytest.raises(CheckpointError, match=words):
        train(SMALL, home)
    assert contents(home) == before, "what was refused took something with it"


def rewritten(checkpoint: bytes, tmp_path: Path, **changes: object) -> bytes:
    """With valid checksums, as somebody would who knows the format."""
    (tmp_path / "other.pt").write_bytes(checkpoint)
    saved = torch.load(tmp_path / "other.pt", weights_only=True)
    torch.save({**saved, **changes}, tmp_path / "other.pt")
    return (tmp_path / "other.pt").read_bytes()


def test_refusing_loses_nothing_and_the_true_checkpoint_goes_on_to_the_same_bits(begun, tmp_path):
    checkpoint = (begun / "checkpoint.pt").read_bytes()
    assert_refused(begun, tmp_path, checkpoint[:-100], "damaged")
    home = tmp_path / "run"
    (home / "checkpoint.pt").write_bytes(checkpoint)
    train(SMALL, home)
    train(SMALL, tmp_path / "whole")
    for name in ("metrics.jsonl", "result.json"):
        assert (home / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_truncated_or_grown_anywhere(begun, tmp_path):
    checkpoint, draw = (begun / "checkpoint.pt").read_bytes(), random.Random(0)
    for kept in (0, 1, len(checkpoint) - 1, *(draw.randrange(len(checkpoint)) for _ in range(20))):
        assert_refused(begun, tmp_path, checkpoint[:kept], "damaged")


def flat(value: object) -> list:
    """Every leaf; tensors as their type, shape and bytes."""
    if isinstance(value, dict):
        return [leaf for key, item in value.items() for leaf in (key, *flat(item))]
    if isinstance(value, list | tuple):
        return [leaf for item in value for leaf in flat(item)]
    if isinstance(value, torch.Tensor):
        return [(value.dtype, value.shape, value.contiguous().flatten().view(torch.uint8).numpy().tobytes())]
    return [value]


def test_a_flipped_bit_is_found_or_changes_nothing(begun, tmp_path):
    """Some bits of a zip file mean nothing, such as padding and dates; no others may go by."""
    path = begun / "checkpoint.pt"
    whole, original = path.read_bytes(), flat(checkpoints.load(path, SMALL.id))
    draw, found = random.Random(2), 0
    for at in [draw.randrange(len(whole)) for _ in range(400)]:
        damaged = bytearray(whole)
        damaged[at] ^= 1 << draw.randrange(8)
        (tmp_path / "flipped.pt").write_bytes(damaged)
        try:
            state = checkpoints.load(tmp_path / "flipped.pt", SMALL.id)
        except CheckpointError:
            found += 1
        else:
            assert flat(state) == original, at
    assert found > 100
    with zipfile.ZipFile(path) as archive:  # the data of every entry, without exception
        for entry in archive.infolist():
            header = whole[entry.header_offset + 26 : entry.header_offset + 30]
            start = (
                entry.header_offset + 30 + int.from_bytes(header[:2], "little") + int.from_bytes(header[2:], "little")
            )
            for at in {start, start + entry.file_size // 2, start + entry.file_size - 1}:
                damaged = bytearray(whole)
                damaged[at] ^= 1 << draw.randrange(8)
                (tmp_path / "flipped.pt").write_bytes(damaged)
                with pytest.raises(CheckpointError, match="damaged"):
                    checkpoints.load(tmp_path / "flipped.pt", SMALL.id)


@pytest.mark.parametrize("other", ["model", "rule"])
def test_of_something_else(begun, others, tmp_path, other):
    assert_refused(begun, tmp_path, others[other], "belongs to run")
    # Even if it says that it is of this run.
    assert_refused(begun, tmp_path, rewritten(others[other], tmp_path, run=SMALL.id), "does not fit")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"format": 2}, "newer version"),
        ({"format": "2"}, "no checkpoint of plausible"),
        ({"format": None}, "no checkpoint of plausible"),
        ({"run": 3}, "belongs to run 3"),
        ({"state": []}, "no checkpoint of plausible"),
        ({"state": {}}, "does not fit"),
        ({"state": {"learner": [], "optimizer": 3}}, "does not fit"),
    ],
)
def test_whole_and_of_another_form(begun, tmp_path, changes, words):
    assert_refused(begun, tmp_path, rewritten((begun / "checkpoint.pt").read_bytes(), tmp_path, **changes), words)


@pytest.mark.parametrize("lacking", ["random", "step", "totals", "seconds", "metrics", "timing"])
def test_without_what_training_goes_on_with(begun, tmp_path, lacking):
    whole = (begun / "checkpoint.pt").read_bytes()
    state = torch.load(begun / "checkpoint.pt", weights_only=True)["state"]
    del state[lacking]
    assert_refused(begun, tmp_path, rewritten(whole, tmp_path, state=state), lacking)


@pytest.mark.parametrize("form", ["torch", "torch, old", "pickle", "in a zip"])
def test_code_is_not_run(begun, tmp_path, form):
    harm = {"format": 1, "run": SMALL.id, "state": Harmful(tmp_path / "harm")}
    path = tmp_path / "harmful.pt"
    if form == "pickle":
        path.write_bytes(pickle.dumps(harm))
    elif form == "in a zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("archive/data.pkl", pickle.dumps(harm, 2))
            archive.writestr("archive/version", "3\n")
    else:
        torch.save(harm, path, _use_new_zipfile_serialization=form == "torch")
    assert_refused(begun, tmp_path, path.read_bytes(), "damaged")
    assert not (tmp_path / "harm").exists()
    pickle.loads(pickle.dumps(harm))["state"].close()  # whoever loads it otherwise is harmed
    assert (tmp_path / "harm").exists()


def test_a_result_that_is_damaged_or_of_another_run_is_refused(tmp_path):
    home, other = tmp_path / "one", tmp_path / "other"
    train(SMALL, home)
    train(SMALL.replace(seed=1), other)
    document = (home / "result.json").read_text()
    wrong = [
        ((other / "result.json").read_text(), "belongs to run"),
        (document.replace(SMALL.id, SMALL.replace(seed=1).id), "its id is not"),
        (document.replace('"seed": 0', '"seed": 2', 1), "its id is not"),
        (document[:-30], "damaged"), ("", "damaged"), ("[]", "damaged"), ("[" * 100_000, "damaged"),
        (document.replace('"status"', '"from_the_future"'), "damaged"),
        (document.replace('"AdamW"', '"Adamw"'), "damaged"),
    ]  # fmt: skip
    for content, words in wrong:
        (home / "result.json").write_text(content)
        before = contents(home)
        with pytest.raises(CheckpointError, match=words):
            train(SMALL, home)
        assert contents(home) == before
    (home / "result.json").write_text(document)
    assert Home(home).read_result(SMALL) == train(SMALL, home)
