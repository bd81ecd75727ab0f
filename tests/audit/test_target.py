"""What is told of the right answer: all of it, a bit, nothing; and a label that leaks."""

import pytest
import torch
from torch import Tensor, nn
from toys import SHAPES, Hebb, LearnerSubject, Reward, examples, subject

from plausible.audit import Batch
from plausible.audit.criteria.target import clusters, distances, target


@pytest.mark.parametrize("net", SHAPES)
@pytest.mark.parametrize("rule", ["backprop", "fa", "kolen-pollack", "dfa", "drtp", "frozen"])
def test_the_label_is_told(rule, net):
    batch = examples(*SHAPES[net])
    found = target(subject(rule, net(), batch.x), batch)
    assert (found.verdict, found.value, found.also["bits"]) == ("violated", 4.0, 2.0)
    assert found.unit == "distinct updates of 4" and found.samples == 4


@pytest.mark.parametrize("seed", range(4))
def test_a_reward_is_one_bit(seed):
    found = target(subject(Reward(seed=seed)), examples(10))
    assert (found.verdict, found.value, found.also["bits"]) == ("solved", 2.0, 1.0)


def test_without_a_teacher_nothing_is_told():
    found = target(subject(Hebb()), examples(10))
    assert (found.verdict, found.value, found.also["bits"]) == ("solved", 1.0, 0.0)
    assert "nothing is told" in found.sentence


def test_a_reward_that_says_how_wrong_the_action_was_tells_more_than_a_bit():
    found = target(subject(Reward(graded=True)), examples(10))
    assert found.verdict == "violated" and found.value is not None and found.value > 2


@pytest.mark.parametrize("leak", [1.0, 1e-4])
def test_a_label_that_leaks_into_a_self_supervised_update_is_caught(leak):
    found = target(subject(Hebb(leak=leak)), examples(10))
    assert (found.verdict, found.value) == ("violated", 4.0)


def test_of_two_labels_a_bit_tells_all():
    assert target(subject("backprop"), examples(10, classes=2)).verdict == "does not apply"


def test_it_holds_the_other_labels_and_asks_a_fresh_copy_each_time():
    asked: list[tuple[int, Tensor]] = []

    class Asked:
        dtype = torch.float64

        def copy(self):
            return self

        def update(self, x: Tensor, y: Tensor) -> dict[str, Tensor]:
            asked.append((len(x), y))
            return {"w": torch.zeros(2, dtype=torch.float64)}

    batch = examples(10, n=9)
    found = target(Asked(), batch)  # pyright: ignore[reportArgumentType]
    assert found.value == 1.0 and [int(y[0]) for _, y in asked] == [0, 1, 2, 3]
    assert all(torch.equal(y[1:], batch.y[1:n]) for n, y in asked)


def test_the_subject_is_left_as_it_was():
    learner = subject("fa", nn.Sequential(nn.Linear(10, 8), nn.Dropout(), nn.ReLU(), nn.Linear(8, 4))).copy().learner
    before = {k: v.clone() for k, v in learner.state_dict().items() if isinstance(v, Tensor)}
    random_state, batch = torch.get_rng_state(), examples(10)
    y = batch.y.clone()
    target(LearnerSubject(learner), batch)
    assert all(torch.equal(v, learner.state_dict()[k]) for k, v in before.items())
    assert torch.equal(random_state, torch.get_rng_state()) and torch.equal(y, batch.y)
    assert all(p.grad is None for p in learner.parameters())


def test_distances_and_clusters_against_a_count_by_hand():
    one = {"a": torch.tensor([3.0, 0.0]), "b": torch.tensor([[4.0]])}
    two = {"a": torch.tensor([3.0, 0.0])}  # b is not taught: it counts as zero
    apart = distances([one, two, one])
    torch.testing.assert_close(apart, torch.tensor([[0, 0.8, 0], [0.8, 0, 0.8], [0, 0.8, 0]]))
    assert clusters(apart, 0.1) == 2 and clusters(apart, 0.9) == 1
    line = (torch.arange(6.0)[:, None] - torch.arange(6.0)).abs()  # each is near the next alone
    assert clusters(line, 1.5) == 1 and clusters(line, 0.5) == 6
    assert not distances([{}, {}]).any() and clusters(distances([{}, {}, {}]), 1e-6) == 1


def test_batches_of_three_labels_can_be_solved_or_not():
    batch = examples(10, classes=3)
    model = nn.Sequential(nn.Linear(10, 6), nn.Tanh(), nn.Linear(6, 3))
    assert target(subject("backprop", model), Batch(batch.x, batch.y, 3)).value == 3.0
