"""`allennlp train` in processes of their own, in which something goes wrong at a chosen point."""

import json
import multiprocessing
import os
import signal
import sys
import tarfile
from functools import partial
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Tuple

import torch
import torch.distributed as dist
import torch.multiprocessing
from allennlp.commands import train
from allennlp.common.util import find_open_port
from allennlp.data import Vocabulary
from allennlp.training import GradientDescentTrainer, gradient_descent_trainer

import sledgehammer_allennlp  # noqa: F401  (registers the classes)
from sledgehammer_allennlp.training import ngram_fitting, temperature_calibration

# They are forked from a process that has imported this and done nothing else: quick, and with none
# of the threads of the tests' process.
_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload([__name__])
_TIMEOUT = 240

Fault = Callable[[], None]
"""Patches its process so that something goes wrong in it."""


def train_in_process(
    config: Dict[str, Any],
    folder: Path,
    *arguments: str,
    fault: Optional[Fault] = None,
    must_end_well: bool = True,
) -> int:
    """
    Runs `allennlp train`; what it prints goes to `<folder>.txt`.

    # Returns

    `int`
        Its exit status, negative if a signal ended it.
    """
    process, ended = begin_training(config, folder, *arguments, fault=fault)
    process.join(_TIMEOUT)
    has_ended = process.exitcode is not None
    if not has_ended:
        process.kill()
        process.join()
    assert has_ended, f"still running after {_TIMEOUT} seconds: {printed(folder)}"
    assert process.exitcode == 0 or not must_end_well, printed(folder)
    # They have the other end of the pipe.
    assert ended.poll(60), f"the command has ended, but not its workers: {printed(folder)}"
    return process.exitcode


def begin_training(
    config: Dict[str, Any], folder: Path, *arguments: str, fault: Optional[Fault] = None
) -> Tuple[BaseProcess, Connection]:
    """Starts it: its process, and a pipe that ends with the last of its processes."""
    file = Path(f"{folder}.json")
    file.write_text(json.dumps(config))
    Path(f"{folder}.txt").write_text("")
    command = ["train", str(file), "-s", str(folder), *arguments]
    ended, running = _CONTEXT.Pipe(duplex=False)
    process = _CONTEXT.Process(target=_run, args=(command, f"{folder}.txt", fault, running))
    process.start()
    running.close()
    return process, ended


def in_two_workers(work: Callable[..., None], *arguments: Any) -> None:
    """Calls `work(rank, port, *arguments)` in two processes; raises if one of them does."""
    torch.multiprocessing.start_processes(
        work, (find_open_port(), *arguments), nprocs=2, start_method="forkserver"
    )


def printed(folder: Path) -> str:
    return Path(f"{folder}.txt").read_text(encoding="utf-8", errors="replace")


def _run(command: List[str], output: str, fault: Optional[Fault], running: Connection) -> None:
    from allennlp.__main__ import run

    os.setpgrp()
    with open(output, "ab") as file:  # which another may write to at the same time
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    torch.set_num_threads(1)
    # Workers are forked, too: they need not import everything anew, and have the fault.
    train.mp.spawn = partial(torch.multiprocessing.start_processes, start_method="fork")
    if fault is not None:
        fault()
    sys.argv = ["allennlp", *command, "--include-package", "sledgehammer_allennlp"]
    run()


class Kill:
    """
    Sends itself a signal when it comes to a point.

    # Parameters

    point : `str`
        The name of one of its methods.
    signal_name : `str`
        Such as "SIGKILL".
    """

    def __init__(self, point: str, signal_name: str) -> None:
        self.point = point
        self.signal_name = signal_name

    def __call__(self) -> None:
        getattr(self, self.point)()

    def now(self, *_: Any, **__: Any) -> None:
        os.kill(os.getpid(), getattr(signal, self.signal_name))

    def writing_the_vocabulary(self) -> None:
        def save_half(vocabulary: Vocabulary, directory: str) -> None:
            Path(directory).mkdir(exist_ok=True)
            (Path(directory) / "labels.txt").write_text("ne")
            self.now()

        Vocabulary.save_to_files = save_half

    def moving_the_tokenizer(self) -> None:
        self._before_rename("tokenizer_config.json")

    def fitting_ngrams(self) -> None:
        ngram_fitting.fit_ngram_classifier = self.now

    def in_the_first_epoch(self) -> None:
        self._at_batch(3)

    def in_the_second_epoch(self) -> None:
        self._at_batch(12)

    def writing_a_checkpoint(self) -> None:
        self._saving_half(".model_state_e1_b0.th")

    def between_checkpoint_and_best_weights(self) -> None:
        gradient_descent_trainer.hardlink_or_copy = self.now

    def before_calibration(self) -> None:
        temperature_calibration.run_at_full_depth = self.now

    def writing_calibrated_weights(self) -> None:
        self._saving_half(".best.th")

    def before_renaming_calibrated_weights(self) -> None:
        self._before_rename("best.th")

    def between_weights_and_report(self) -> None:
        self._before_rename("calibration.json")

    def between_report_and_card(self) -> None:
        self._before_rename("model_card.md")

    def archiving(self) -> None:
        add = tarfile.TarFile.add

        def add_and_kill(archive: Any, name: Any, arcname: Any = None, *others: Any) -> None:
            add(archive, name, arcname, *others)
            if arcname == "weights.th":
                self.now()

        tarfile.TarFile.add = add_and_kill

    def _at_batch(self, number: int) -> None:
        step, seen = GradientDescentTrainer.rescale_gradients, []

        def step_or_kill(trainer: GradientDescentTrainer) -> Any:
            seen.append(1)
            if len(seen) == number:
                self.now()
            return step(trainer)

        GradientDescentTrainer.rescale_gradients = step_or_kill

    def _before_rename(self, name: str) -> None:
        replace = os.replace

        def replace_or_kill(source: Any, target: Any) -> None:
            if Path(target).name == name:
                self.now()
            replace(source, target)

        os.replace = replace_or_kill

    def _saving_half(self, name: str) -> None:
        save = torch.save

        def save_half(state: Any, path: Any, *others: Any, **settings: Any) -> None:
            save(state, path, *others, **settings)
            if Path(path).name.startswith(name):
                os.truncate(path, os.path.getsize(path) // 2)
                self.now()

        torch.save = save_half


class Pause:
    """Waits in its third batch, until it may go on."""

    def __init__(self) -> None:
        self.is_training = _CONTEXT.Event()
        self.may_go_on = _CONTEXT.Event()

    def __call__(self) -> None:
        step, seen = GradientDescentTrainer.rescale_gradients, []

        def step_or_wait(trainer: GradientDescentTrainer) -> Any:
            seen.append(1)
            if len(seen) == 3:
                self.is_training.set()
                assert self.may_go_on.wait(_TIMEOUT)
            return step(trainer)

        GradientDescentTrainer.rescale_gradients = step_or_wait


class WorkerFault:
    """
    Fails, or is killed, when one of several workers comes to a point.

    # Parameters

    point : `str`
        The name of one of its methods.
    rank : `int`
        Of the worker; or for "notes_what_it_writes" the folder for `written.txt`.
    is_killed : `bool`, optional (default = `False`)
    """

    def __init__(self, point: str, rank: Any, is_killed: bool = False) -> None:
        self.point = point
        self.rank = rank
        self.is_killed = is_killed

    def __call__(self) -> None:
        getattr(self, self.point)()

    def _unless_other(self, function: Callable[..., Any], after: int = 0) -> Callable[..., Any]:
        seen = []

        def call_or_fail(*arguments: Any, **settings: Any) -> Any:
            seen.append(1)
            if dist.get_rank() == self.rank and len(seen) > after:
                if self.is_killed:
                    os.kill(os.getpid(), signal.SIGKILL)
                raise RuntimeError(f"worker {self.rank} failed on purpose")
            return function(*arguments, **settings)

        return call_or_fail

    def reading_ngrams(self) -> None:
        ngram_fitting._training_texts = self._unless_other(ngram_fitting._training_texts)

    def fitting_ngrams(self) -> None:
        ngram_fitting.fit_ngram_classifier = self._unless_other(ngram_fitting.fit_ngram_classifier)

    def training(self) -> None:
        # 4 batches an epoch for each of two workers: in the second.
        step = GradientDescentTrainer.rescale_gradients
        GradientDescentTrainer.rescale_gradients = self._unless_other(step, after=5)

    def training_and_the_command_is_ended(self) -> None:
        """The command's own process, and nothing else; by SIGTERM, if it is not to be killed."""
        signal_number = signal.SIGKILL if self.is_killed else signal.SIGTERM
        step, seen = GradientDescentTrainer.rescale_gradients, []

        def step_after_the_end(trainer: GradientDescentTrainer) -> Any:
            seen.append(1)
            if dist.get_rank() == self.rank and len(seen) == 6:
                os.kill(os.getppid(), signal_number)
            return step(trainer)

        GradientDescentTrainer.rescale_gradients = step_after_the_end

    def calibrating(self) -> None:
        run = temperature_calibration.run_at_full_depth
        temperature_calibration.run_at_full_depth = self._unless_other(run)

    def notes_what_it_writes(self) -> None:
        replace = os.replace

        def replace_and_note(source: Any, target: Any) -> None:
            replace(source, target)
            rank = dist.get_rank() if dist.is_initialized() else 0
            with open(Path(self.rank) / "written.txt", "a") as file:
                file.write(f"{rank}\t{target}\n")

        os.replace = replace_and_note
