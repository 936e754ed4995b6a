import pytest
import torch
import torch.distributed as dist

from sledgehammer_allennlp.engine import EarlyExitOutput, ExitRecord
from sledgehammer_allennlp.exits import ExitScores
from sledgehammer_allennlp.models.exit_metrics import ExitMetrics
from tests.training.processes import in_two_workers

LOGITS = torch.tensor([[2.0, 0.0], [0.0, 2.0], [2.0, 0.0], [2.0, 0.0]])
LABELS = torch.tensor([0, 0, 0, 1])


def _output(rows):
    """Rows exit at exits 0, 1, 0, 1, …: those at exit 1 have reached both."""
    logits = LOGITS[rows]
    exit_index = torch.tensor(rows) % 2
    active = exit_index.nonzero().squeeze(1)
    records = [
        ExitRecord(torch.arange(len(rows)), ExitScores(logits)),
        ExitRecord(active, ExitScores(logits[active])),
    ]
    return EarlyExitOutput(logits, logits.softmax(-1), logits.max(-1).values, exit_index, records)


WANTED = {
    "accuracy": 0.5,
    # Of labels 0 and 1: 2 right of 3 instances and 3 predictions; 0 of 1 and 1. Label 2 has none.
    "macro_f1": (4 / 6 + 0) / 2,
    "accuracy_layer_2": 0.5,  # of all; not every row reached the exit at layer 5
    "average_exit_layer": 3.5,
    "exit_rate_layer_2": 0.5,
    "exit_rate_layer_5": 0.5,
    "layer_equivalents": 4.0,
}


def test_what_left_where_is_counted():
    metrics = ExitMetrics([2, 5], [2.5, 5.5], 3)
    metrics.add_early_exit(_output([0, 1, 2, 3]), LABELS)
    assert metrics.get_metric(reset=True) == pytest.approx(WANTED)
    assert metrics.get_metric() == {}


def test_where_every_exit_is_known_there_is_the_mean_of_their_accuracies():
    metrics = ExitMetrics([2, 5], [2.5, 5.5], 3)
    metrics(torch.stack([LOGITS, -LOGITS]), LABELS)
    found = {"accuracy": 0.5, "accuracy_layer_2": 0.5, "accuracy_layer_5": 0.5}
    # Of the last exit, -LOGITS: 1 right of 3 instances of label 0 and 1 prediction; 1 of 1 and 3.
    found["macro_f1"] = 0.5
    assert metrics.get_metric() == {**found, "mean_exit_accuracy": 0.5}
    metrics.add_exits({0: LOGITS[:2]}, LABELS[:2])  # of the exit at layer 2 alone
    assert metrics.get_metric() == {"accuracy": 0.5, "macro_f1": 0.5, "accuracy_layer_2": 0.5}


def _each_worker_has_a_share(rank, port):
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", world_size=2, rank=rank)
    rows = [[0], [1, 2, 3]][rank]
    metrics = ExitMetrics([2, 5], [2.5, 5.5], 3)
    metrics.add_early_exit(_output(rows), LABELS[rows])
    found = metrics.get_metric()
    dist.destroy_process_group()
    assert found == pytest.approx(WANTED), found


def test_workers_give_the_metrics_of_all_their_data():
    in_two_workers(_each_worker_has_a_share)


def test_macro_f1_is_scikit_learns():
    f1_score = pytest.importorskip("sklearn.metrics").f1_score
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(5, (60,), generator=generator)
    logits = torch.randn(2, 60, 7, generator=generator)
    metrics = ExitMetrics([2, 5], [2.5, 5.5], 7)
    for part in (slice(0, 10), slice(10, 60)):
        metrics(logits[:, part], labels[part])
    wanted = f1_score(labels, logits[-1].argmax(-1), average="macro")
    assert metrics.get_metric()["macro_f1"] == pytest.approx(wanted)


def test_answers_that_are_none_of_these_are_counted():
    metrics = ExitMetrics([2, 5], [2.5, 5.5], 3)
    abstains = torch.tensor([False, True, True, False])
    metrics.add_early_exit(_output([0, 1, 2, 3]), LABELS, abstains=abstains)
    found = metrics.get_metric(reset=True)
    assert found["abstain_rate"] == 0.5
    assert found["accuracy_answered"] == 0.5 and found["accuracy"] == 0.5  # row 0 is, row 3 is not
    metrics.add_early_exit(_output([0, 1]), LABELS[:2], abstains=torch.tensor([True, True]))
    found = metrics.get_metric()
    assert found["abstain_rate"] == 1 and "accuracy_answered" not in found
