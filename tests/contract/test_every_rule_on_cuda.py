"""What a rule does, on CUDA as on the CPU, in float64.

What is drawn on a device is drawn by the device's own generator, so there the numbers differ by design; then it is held
that the same parameters are taught, with finite numbers."""

import pytest
import torch

from conftest import Case
from plausible.core.world import Quiz

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA GPU here")


def on_cuda(teacher):
    return Quiz(teacher.answers.cuda()) if isinstance(teacher, Quiz) else teacher.cuda()


@pytest.fixture
def drawn_on(monkeypatch):
    """The types of devices on which generators were made."""
    found, made = set(), torch.Generator

    def generator(device="cpu"):
        found.add(torch.device(device).type)
        return made(device)

    monkeypatch.setattr(torch, "Generator", generator)
    return found


@pytest.mark.parametrize("moved", [False, True], ids=["bound there", "moved there"])
def test_it_learns_the_same(case: Case, moved, drawn_on):
    models = case.model(), case.model() if moved else case.model().cuda()
    optimizers = [case.optimizer(model) for model in models]
    here, there = (case.bind(*pair) for pair in zip(models, optimizers, strict=True))
    there.cuda()
    for k in range(2):
        x, teacher = case.batch(k)
        here.zero_grad()
        there.zero_grad()
        expected, found = here.learn(x, teacher), there.learn(x.cuda(), on_cuda(teacher))
        assert found.output.is_cuda and all(p.grad is None or p.grad.is_cuda for p in there.model.parameters())
        grads = {name: p.grad for name, p in here.model.named_parameters()}
        for name, p in there.model.named_parameters():
            assert (p.grad is None) == (grads[name] is None), name
            if p.grad is not None and "cuda" in drawn_on:
                assert p.grad.isfinite().all(), name
            elif p.grad is not None:
                torch.testing.assert_close(p.grad.cpu(), grads[name], rtol=1e-7, atol=1e-12, msg=name)
        if "cuda" not in drawn_on:
            torch.testing.assert_close(found.output.cpu(), expected.output, rtol=1e-7, atol=1e-12)
        for optimizer in optimizers:
            optimizer.step()


def test_a_state_of_one_is_read_by_the_other(case: Case):
    here, there = case.bind(seed=1), case.bind(case.model(seed=2).cuda(), seed=3)
    for learner, batch in ((here, case.batch()), (there, case.batch(1))):
        x, teacher = batch
        learner.learn(x, teacher) if learner is here else learner.learn(x.cuda(), on_cuda(teacher))
    state = here.state_dict()
    there.load_state_dict(state)
    for name, value in there.state_dict().items():
        if isinstance(value, torch.Tensor):
            assert value.is_cuda or not value.dim()
            torch.testing.assert_close(value.cpu(), state[name].cpu(), rtol=0, atol=0)
    case.bind().load_state_dict(there.state_dict())
