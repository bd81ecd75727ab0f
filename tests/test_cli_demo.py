"""``plausible demo spikes``: without a terminal, the same for the same seed, and an animation that is whole or not."""

import io

import pytest
import torch
from PIL import Image
from rich.console import Console
from typer.testing import CliRunner

from plausible.cli import app, spikes
from plausible.report import animation
from plausible.train import online


@pytest.fixture
def demo(monkeypatch, tmp_path):
    """Call the command in this process, in an empty directory."""
    monkeypatch.chdir(tmp_path)
    return lambda *words: CliRunner().invoke(app, ["demo", *words])


def test_a_second_without_a_terminal_is_a_few_lines_and_the_same_for_the_same_seed(demo):
    one, again, other = (demo("spikes", "--seconds", "1", "--seed", seed) for seed in "001")
    assert one.exit_code == 0, one.stderr
    assert "\x1b" not in one.stdout and one.stdout == again.stdout != other.stdout
    first, second, last = one.stdout.splitlines()
    assert first == "nef-dfa on digits, seed 0"
    assert "error at linear1" in second and "1.04 s" in second
    assert last.startswith("nef-dfa on digits, seed 0: 1.0 s simulated, accuracy of late ")


def test_a_picture_can_be_drawn_for_every_terminal(demo):
    result = demo("spikes", "--seconds", "0.2", "--live", "--rule", "nef-6")
    assert result.exit_code == 0, result.stderr
    assert "▀" in result.stdout and "error at readout" in result.stdout and "0.24 s simulated" in result.stdout


@pytest.mark.parametrize("width", [80, 132])
def test_the_picture_fits_the_terminal(width):
    screen = spikes.Screen("title", width)
    console = Console(file=io.StringIO(), width=width, height=24, record=True)
    screen.add(next(online.learning(online.settings("nef-dfa", 0))))
    console.print(screen)
    drawn = console.export_text().rstrip("\n").splitlines()
    assert len(drawn) <= 24 and max(map(len, drawn)) <= width
    assert sum("error at" in line for line in drawn) == 3


def test_braille_has_a_dot_for_each_spike():
    assert spikes.braille(torch.zeros(3, 5).bool()) == "⠀⠀\n⠀⠀"
    dots = {(0, 0): "⠁", (0, 1): "⠂", (0, 2): "⠄", (0, 3): "⡀", (1, 0): "⠈", (1, 1): "⠐", (1, 2): "⠠", (1, 3): "⢀"}
    for place, sign in dots.items():
        fired = torch.zeros(2, 4).bool()
        fired[place] = True
        assert spikes.braille(fired) == sign
    assert spikes.braille(torch.ones(4, 8).bool()) == "⣿⣿\n⣿⣿"


def test_the_animation_has_a_frame_for_each_image_and_runs_in_real_time(demo, tmp_path):
    result = demo("spikes", "--seconds", "0.5", "--out", "net.gif")
    assert result.exit_code == 0, result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["net.gif"]
    with Image.open(tmp_path / "net.gif") as gif:
        assert gif.n_frames == 7 - animation.WINDOW + 1 and gif.info["duration"] == 80


def test_a_full_disk_leaves_no_part_of_an_animation(demo, tmp_path, monkeypatch):
    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    result = demo("spikes", "--seconds", "0.4", "--out", "net.gif")
    assert result.exit_code == 1 and "disk is full" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_ends_it_with_a_summary(demo, monkeypatch):
    def stopped(run):
        yield next(plain(run))
        raise KeyboardInterrupt

    plain = online.learning
    monkeypatch.setattr(online, "learning", stopped)
    result = demo("spikes")
    assert result.exit_code == 0 and "0.1 s simulated" in result.stdout.splitlines()[-1]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["spike"], "Did you mean 'spikes'?"),
        (["spikes", "--out", "net.mp4"], "ends in .gif"),
        (["spikes", "--out", "nowhere/net.gif"], "nowhere"),
        (["spikes", "--rule", "nef-dfaa"], "Did you mean 'nef-dfa'?"),
        (["spikes", "--rule", "eprop"], "--model rsnn"),
        (["spikes", "--seconds", "0.1", "--out", "net.gif"], "needs 5 images"),
    ],
)
def test_a_mistake_is_one_paragraph(demo, words, said):
    result = demo(*words)
    assert result.exit_code == 1 and said in result.stderr and "Traceback" not in result.stderr
