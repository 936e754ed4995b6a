import logging
import random
from types import SimpleNamespace

import pytest
import torch
from allennlp.models import BasicClassifier
from allennlp.training.learning_rate_schedulers import SlantedTriangular

from sledgehammer_allennlp.models import MultiExitClassifier
from sledgehammer_allennlp.training import enough_steps
from sledgehammer_allennlp.training.enough_steps import EnoughSteps, train_longer


class Loader:
    """Counts its batches by chance, as a sampler may, or not at all."""

    def __init__(self, num_batches):
        self.num_batches = num_batches

    def __len__(self):
        random.random()
        if self.num_batches is None:
            raise TypeError("read anew in each epoch")
        return self.num_batches


def trainer(num_batches, num_epochs, together=1, done=0, kind=MultiExitClassifier, scheduler=None):
    return SimpleNamespace(
        model=kind.__new__(kind),
        data_loader=Loader(num_batches),
        _num_epochs=num_epochs,
        _num_gradient_accumulation_steps=together,
        _total_batches_completed=done,
        _learning_rate_scheduler=scheduler,
    )


@pytest.fixture
def warnings():
    messages = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: messages.append(record.getMessage())
    enough_steps.logger.addHandler(handler)
    yield messages
    enough_steps.logger.removeHandler(handler)


def test_a_short_training_is_warned_of_when_it_starts(warnings):
    EnoughSteps("").on_start(trainer(46, 2))
    (message,) = warnings
    assert message.startswith("Training will have 92 steps, 46 an epoch. Fewer than 400 ")
    assert message.endswith('With "num_epochs": 9 it has 414.')


def test_batches_that_are_accumulated_are_one_step(warnings):
    EnoughSteps("").on_start(trainer(91, 2, together=2))
    assert warnings[0].startswith("Training will have 92 steps, 46 an epoch.")


@pytest.mark.parametrize(
    "made",
    [
        trainer(46, 9),  # 414 steps
        trainer(400, 1),
        trainer(2, 20),  # so few texts that 20 epochs are all there is to advise
        trainer(None, 1),
        trainer(0, 1),
        trainer(46, 2, kind=BasicClassifier),
    ],
)
def test_other_trainings_are_not(warnings, made):
    EnoughSteps("").on_start(made)
    assert warnings == []


@pytest.mark.parametrize("num_steps, num_warnings", [(None, 1), (400, 0)])
def test_a_schedule_that_lacks_the_steps_of_an_epoch_is_warned_of(
    warnings, num_steps, num_warnings
):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = SlantedTriangular(optimizer, num_epochs=1, num_steps_per_epoch=num_steps)
    scheduler.step_batch(40)  # With 400 steps, the highest learning rate.
    assert optimizer.param_groups[0]["lr"] == pytest.approx(1 if num_steps else 1 / 32)
    EnoughSteps("").on_start(trainer(num_steps, 1, scheduler=scheduler))
    assert len(warnings) == num_warnings
    assert all('wanted "batches_per_epoch" in data_loader' in message for message in warnings)


def test_one_of_several_workers_warns(warnings):
    EnoughSteps("").on_start(trainer(46, 2), is_primary=False)
    assert warnings == []


def test_random_numbers_stay_as_they_were():
    random.seed(1)
    wanted = random.random()
    random.seed(1)
    EnoughSteps("").on_start(trainer(46, 2))
    assert random.random() == wanted


def test_it_is_there_without_being_listed(trained):
    log = (trained["run"] / "out.log").read_text()
    # Tests that come after the training may write to its log, too.
    assert log.count('With "num_epochs": 20 it has') == 1


@pytest.mark.parametrize(
    "made, wanted",
    [
        (trainer(46, 2, done=92), 'Train longer than these 92 steps, with "num_epochs": 9'),
        (trainer(2, 20, done=40), 'Train longer than these 40 steps, with "num_epochs": 21'),
        (trainer(700, 2, done=1400), "Train longer than these 1,400 steps"),
        (trainer(None, 2, done=92), "Train longer than these 92 steps"),
    ],
)
def test_a_model_that_needs_more_is_told_how_long(made, wanted):
    assert train_longer(made) == wanted
