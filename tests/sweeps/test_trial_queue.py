import errno
import fcntl
from pathlib import Path

import optuna
import pytest
from allennlp.common.checks import ConfigurationError
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.trial import TrialState

from sledgehammer_allennlp.sweeps.search_space import SearchSpace, Seeds
from sledgehammer_allennlp.sweeps.summary import summarise
from sledgehammer_allennlp.sweeps.trial_queue import (
    TrialQueue,
    check_locks,
    exclusively,
    is_given_back,
)

SPACE = SearchSpace({"A": FloatDistribution(0, 1)}, {"B": 3}, Seeds("SEED", [1, 2, 3]))


@pytest.fixture
def queue(tmp_path):
    """Makes the queue of one more worker."""
    study = optuna.create_study(direction="maximize")

    def make(num_trials=9, space=SPACE, sampler="random"):
        return TrialQueue(study, space, tmp_path, num_trials, sampler)

    return make


def what(trial):
    return trial.user_attrs["configuration"]["A"], trial.user_attrs["seed"]


def test_a_configuration_meets_all_seeds_before_the_next_one(queue):
    workers = [queue(), queue()]
    found = [what(workers[turn % 2].next()) for turn in range(9)]
    assert [seed for _, seed in found] == [1, 2, 3] * 3
    assert len({rate for rate, _ in found}) == 3
    assert all(len({rate for rate, _ in found[i : i + 3]}) == 1 for i in (0, 3, 6))
    assert workers[0].next() is None


def test_no_more_trials_than_wanted_run_at_once(queue):
    one, two = queue(2), queue(2)
    first, second = one.next(), two.next()
    assert one.next() is None and two.next() is None
    one.finish(first, TrialState.FAIL)
    assert one.next() is None  # it failed of itself: it would again
    two.give_back(second)
    assert what(one.next())[0] == what(second)[0]  # the seed may be one that waited longer
    assert two.next() is None


def test_what_a_dead_worker_ran_is_queued_again_and_counts_once(queue):
    dead = queue(3)
    trials = [dead.next(), dead.next()]
    for lock in dead._held.values():
        lock.release()  # as the system does
    alive = queue(3)
    again = [alive.next(), alive.next(), alive.next()]
    assert sorted(map(what, again)) == sorted([*map(what, trials), (what(trials[0])[0], 3)])
    assert alive.next() is None
    given_back = [is_given_back(t) for t in alive.study.get_trials()]
    assert given_back[:2] == [True, True] and sum(given_back) == 2


def test_a_worker_that_died_while_it_chose_loses_no_seed(queue):
    study = queue().study
    study.ask({"A": SPACE.distributions["A"]})  # it died before it said what this was
    worker = queue(3)
    assert [what(worker.next())[1] for _ in range(3)] == [1, 2, 3]
    assert worker.next() is None


def test_what_was_queued_again_before_the_worker_died_is_not_queued_twice(queue, monkeypatch):
    worker = queue(3)
    trial = worker.next()
    monkeypatch.setattr(worker.study, "tell", lambda *_, **__: 1 / 0)
    monkeypatch.setattr(worker.study._storage, "set_trial_user_attr", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        worker.give_back(trial)
    monkeypatch.undo()
    worker._held.pop(trial.number).release()
    alive = queue(3)
    assert sorted(what(alive.next())[1] for _ in range(3)) == [1, 2, 3]
    assert all(t.state != TrialState.WAITING for t in alive.study.get_trials())


def test_seeds_that_were_not_queued_yet_are(queue):
    worker = queue(3)
    worker.study.enqueue_trial({"A": 0.5}, user_attrs={"configuration": {"A": 0.5}, "seed": 2})
    assert [what(worker.next()) for _ in range(3)] == [(0.5, 2), (0.5, 1), (0.5, 3)]


def test_a_repetition_of_the_sampler_is_replaced(queue):
    space = SearchSpace({"A": CategoricalDistribution([0.1, 0.2, 0.3])}, {}, None)
    worker = queue(10, space, sampler="tpe")
    found = []
    while (trial := worker.next()) is not None:
        found.append(what(trial))
        worker.finish(trial, TrialState.COMPLETE, 1.0)
    assert sorted(found) == [(0.1, None), (0.2, None), (0.3, None)]
    assert worker.num_counted() == 3


def test_mean_and_deviation_are_over_complete_trials_alone(queue, tmp_path):
    worker = queue(6)
    values = [0.5, 0.7, None, 0.9, None, None]
    for value in values:
        state = TrialState.COMPLETE if value is not None else TrialState.FAIL
        worker.finish(worker.next(), state, value)
    first, second = summarise(worker.study, "accuracy", {}, tmp_path).configurations
    assert first.values == [0.9] and first.mean == 0.9 and first.standard_deviation is None
    assert second.mean == pytest.approx(0.6)
    assert second.standard_deviation == pytest.approx(0.02**0.5)
    assert [t.number for t in second.of_state(TrialState.FAIL)] == [2]


def test_a_worker_interrupted_while_it_lets_a_trial_go_keeps_its_end(queue, monkeypatch):
    worker = queue(1)
    trial = worker.next()

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    for place in ("release", "unlink"):
        with monkeypatch.context() as interruption:
            owner = worker._held[trial.number] if place == "release" else Path
            interruption.setattr(owner, place, interrupted)
            with pytest.raises(KeyboardInterrupt):
                worker.finish(trial, TrialState.COMPLETE, 0.5)
    worker.give_back(trial)
    kept = worker.study.get_trials()[trial.number]
    assert kept.state == TrialState.COMPLETE and not is_given_back(kept)
    assert queue(1).next() is None


def test_a_folder_without_locks_is_refused_where_workers_would_wait_for_ever(tmp_path, monkeypatch):
    check_locks(tmp_path)
    with exclusively(tmp_path):
        check_locks(tmp_path)  # Another worker has it: there are locks.

    def no_locks(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    with pytest.raises(ConfigurationError, match="wanted a --serialization-dir on .* with locks"):
        check_locks(tmp_path)
