"""Top-1 and top-5 against scikit-learn's."""

import pytest
import torch
import torch.nn.functional as F
from sklearn.metrics import top_k_accuracy_score

from plausible.train import Run, train
from plausible.train.runtime import device_of
from plausible.train.session import among_first, assemble, correct


@pytest.mark.parametrize("classes", [6, 10, 100])
def test_top_1_and_top_5_are_scikit_learns(classes):
    torch.manual_seed(0)
    output, y = torch.randn(200, classes), torch.randint(classes, (200,))
    for k, count in ((1, correct), (5, among_first)):
        expected = top_k_accuracy_score(y, output, k=k, labels=range(classes), normalize=False)
        assert float(count(output, y)) == expected


def test_an_evaluation_counts_over_all_batches_and_a_run_tells(tmp_path):
    run = Run(epochs=1, model_options={"width": 8, "depth": 1}, lr=1e-2)
    session = assemble(run, device_of(run))
    score = session.evaluate(session.test)
    x, y = (torch.cat(parts) for parts in zip(*session.test.epoch(), strict=True))
    with torch.no_grad():
        output = session.learner.eval()(x)
    assert score.loss == pytest.approx(float(F.cross_entropy(output, y)))
    assert score.accuracy == pytest.approx(top_k_accuracy_score(y, output, k=1))
    assert score.top5 == pytest.approx(top_k_accuracy_score(y, output, k=5))
    result = train(run, tmp_path)
    assert result.test_accuracy <= result.test_top5 <= 1 and result.validation_top5 >= result.validation_accuracy


def test_with_no_more_than_five_classes_there_is_no_top_5(tmp_path, monkeypatch):
    (tmp_path / "five_classes.py").write_text(
        "import torch\n\ndef make():\n    x, y = torch.rand(80, 3), torch.arange(80) % 5\n"
        "    return (x, y), (x[:10].clone(), y[:10])\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    run = Run(data="five_classes:make", data_options={"validation": 10}, epochs=1, batch_size=8, probe_size=0)
    result = train(run, tmp_path / "run")
    assert result.test_accuracy is not None and result.test_top5 is None and result.validation_top5 is None
    assert "top5" not in (tmp_path / "run" / "metrics.jsonl").read_text()
