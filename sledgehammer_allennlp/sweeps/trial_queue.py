"""Which trial comes next, when several workers share a study and any of them may be killed.

A trial is one configuration with one seed. Its user attributes say which (`configuration`, `seed`);
Optuna's parameters are the configuration alone, so that its samplers and pictures see no seed.
Workers agree by locks on files in the folder that they share: one while a trial is chosen, and one
for each trial as long as its worker lives, which the system gives up when the worker dies.
"""

import random
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional

import optuna
from allennlp.common.checks import ConfigurationError
from filelock import BaseFileLock, FileLock, Timeout
from optuna.trial import FrozenTrial, TrialState

from sledgehammer_allennlp.sweeps.search_space import SearchSpace, Value, key_of

try:
    import fcntl
except ImportError:  # Windows has none.
    fcntl = None  # type: ignore[assignment]

LOCKS_FOLDER = ".locks"


def check_locks(folder: Path) -> None:
    """
    Workers would wait for ever where nothing can be locked, as on some network file systems.

    # Raises

    ConfigurationError
        If files in the folder cannot be locked.
    """
    if fcntl is None:
        return
    path = _workers_lock(folder)
    with open(path, "a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pass  # Another worker has it.
        except OSError as error:
            raise ConfigurationError(
                f"cannot lock '{path}', by which workers agree: wanted a --serialization-dir on a "
                f"file system with locks. {error}"
            ) from error


@contextmanager
def exclusively(folder: Path) -> Iterator[None]:
    """While this lasts, no other worker is in here for the same folder."""
    with FileLock(str(_workers_lock(folder))):
        yield


def _workers_lock(folder: Path) -> Path:
    (folder / LOCKS_FOLDER).mkdir(parents=True, exist_ok=True)
    return folder / LOCKS_FOLDER / "workers.lock"


class TrialQueue:
    """
    # Parameters

    study : `optuna.Study`
    space : `SearchSpace`
    folder : `Path`
        That all workers share.
    num_trials : `int`
        How many the study shall have in all, whoever runs them: complete, pruned, failed, running.
    sampler : `str`
        "random", "tpe" or "grid".
    """

    def __init__(
        self, study: optuna.Study, space: SearchSpace, folder: Path, num_trials: int, sampler: str
    ) -> None:
        self.study = study
        self.space = space
        self.folder = folder
        self.num_trials = num_trials
        self.sampler = sampler
        self._held: Dict[int, BaseFileLock] = {}

    def next(self) -> Optional[optuna.Trial]:
        """
        A trial of this worker's own, whose `finish` or `give_back` must follow; `None` if there are
        enough, or no configuration is left that was not tried.
        """
        with exclusively(self.folder):
            self._give_back_those_of_dead_workers()
            if self.num_counted() >= self.num_trials:
                return None
            trial = self._ask()
            if trial is not None:
                self._hold(trial.number)
                self._queue_other_seeds(trial.user_attrs["configuration"])
            return trial

    def num_counted(self) -> int:
        """How many trials there are: complete, pruned, failed and running ones."""
        return sum(
            trial.state != TrialState.WAITING and not is_given_back(trial) for trial in self._all()
        )

    def finish(self, trial: optuna.Trial, state: TrialState, value: Optional[float] = None) -> None:
        """Notes how a trial ended."""
        self.study.tell(trial.number, value, state, skip_if_finished=True)
        self._let_go(trial.number)

    def give_back(self, trial: optuna.Trial) -> None:
        """Notes that a trial was not run to its end, and queues it again."""
        with exclusively(self.folder):
            self._queue_again(self._all()[trial.number])
        self._let_go(trial.number)

    def _all(self) -> List[FrozenTrial]:
        return self.study.get_trials(deepcopy=False)

    def _ask(self) -> Optional[optuna.Trial]:
        """A queued trial if there is one, or else one with a new configuration."""
        if not self._has_queued() and self.space.configurations() is not None:
            if not self._untried():
                return None
            if self.sampler != "tpe":
                self._queue_untried()
        trial = self._ask_optuna()
        if "configuration" in trial.user_attrs:
            return trial
        if key_of(trial.params) in self._tried():
            # It would give the same results once more. One that is new takes its place.
            trial.set_user_attr("given_back", "was a repetition")
            self.study.tell(trial.number, state=TrialState.FAIL)
            self._queue_untried()
            return self._ask_optuna()
        trial.set_user_attr("seed", self.space.seed_values()[0])
        trial.set_user_attr("configuration", trial.params)
        return trial

    def _untried(self) -> List[Dict[str, Value]]:
        """Of configurations that can be listed, those that were not tried."""
        tried = self._tried()
        return [c for c in self.space.configurations() or [] if key_of(c) not in tried]

    def _queue_untried(self) -> None:
        untried = self._untried()
        configuration = untried[0] if self.sampler == "grid" else random.choice(untried)
        self._queue(configuration, self.space.seed_values()[0])

    def _ask_optuna(self) -> optuna.Trial:
        return self.study.ask(fixed_distributions=dict(self.space.distributions))

    def _has_queued(self) -> bool:
        return any(trial.state == TrialState.WAITING for trial in self._all())

    def _tried(self) -> Dict[str, List[Any]]:
        """The seeds of each configuration, by its key, that were run or will be."""
        tried: Dict[str, List[Any]] = {}
        for trial in self._all():
            if "configuration" in trial.user_attrs and not is_given_back(trial):
                key = key_of(trial.user_attrs["configuration"])
                tried.setdefault(key, []).append(trial.user_attrs["seed"])
        return tried

    def _queue(self, configuration: Dict[str, Value], seed: Optional[int]) -> None:
        attributes = {"configuration": configuration, "seed": seed}
        self.study.enqueue_trial(configuration, user_attrs=attributes)

    def _queue_other_seeds(self, configuration: Dict[str, Value]) -> None:
        there = self._tried()[key_of(configuration)]
        for seed in self.space.seed_values():
            if seed not in there:
                self._queue(configuration, seed)

    def _give_back_those_of_dead_workers(self) -> None:
        for trial in self._all():
            if trial.state == TrialState.RUNNING and trial.number not in self._held:
                lock = FileLock(str(self._lock_file(trial.number)))
                try:
                    lock.acquire(timeout=0)
                except Timeout:
                    continue
                # It may have ended since it was listed.
                self._queue_again(self._all()[trial.number])
                lock.release()
                self._lock_file(trial.number).unlink(missing_ok=True)

    def _queue_again(self, trial: FrozenTrial) -> None:
        """Queued before it is marked, so that a worker killed in between loses nothing."""
        if trial.state != TrialState.RUNNING:
            return
        attributes = trial.user_attrs
        if "configuration" in attributes:
            configuration, seed = attributes["configuration"], attributes["seed"]
            if self._tried()[key_of(configuration)].count(seed) == 1:
                self._queue(configuration, seed)
        self.study._storage.set_trial_user_attr(
            trial._trial_id, "given_back", "its worker was interrupted"
        )
        self.study.tell(trial.number, state=TrialState.FAIL, skip_if_finished=True)

    def _lock_file(self, number: int) -> Path:
        return self.folder / LOCKS_FOLDER / f"trial_{number}.lock"

    def _hold(self, number: int) -> None:
        lock = FileLock(str(self._lock_file(number)))
        lock.acquire()
        self._held[number] = lock

    def _let_go(self, number: int) -> None:
        """May be interrupted anywhere, and is then called again."""
        if number in self._held:
            self._held[number].release()
        self._lock_file(number).unlink(missing_ok=True)
        self._held.pop(number, None)


def is_given_back(trial: FrozenTrial) -> bool:
    """Whether a trial was not run to its end; it counts for nothing, another takes its place."""
    return "given_back" in trial.user_attrs
