"""`allennlp sweep`: many training runs over a search space, by one worker or several."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from allennlp.commands.subcommand import Subcommand
from allennlp.common.checks import ConfigurationError

from sledgehammer_allennlp.commands.error_line import ending_in_a_line
from sledgehammer_allennlp.commands.labelled_data import writing
from sledgehammer_allennlp.sweeps.interruption import Interrupted, Interruption
from sledgehammer_allennlp.training.output_folder import check_writable

if TYPE_CHECKING:
    import optuna

    from sledgehammer_allennlp.sweeps.search_space import SearchSpace
    from sledgehammer_allennlp.sweeps.summary import SweepSummary
    from sledgehammer_allennlp.sweeps.trial_queue import TrialQueue

# Optuna, and what uses it, is imported by functions: `allennlp train` starts without it.

SAMPLERS = ("random", "tpe", "grid")
PRUNERS = ("none", "median", "successive_halving")


@Subcommand.register("sweep")
class Sweep(Subcommand):
    """
    Trains a config with values of a search space, each in an `allennlp train` of its own, until a
    study of Optuna's has so many trials, and says which are best.

    Registered as a `Subcommand` with name "sweep".
    """

    def add_subparser(self, parser: argparse._SubParsersAction) -> argparse.ArgumentParser:
        description = (
            "Train a config with values of a search space, each in an allennlp train of its own. "
            "Several workers share the trials of a study: run the same command more than once. "
            "After an interruption, the same command goes on."
        )
        subparser = parser.add_parser(
            self.name, description=description, help="Search training settings."
        )
        subparser.add_argument("config", type=Path, help="what `allennlp train` takes")
        subparser.add_argument(
            "space", type=Path, help="JSON or Jsonnet file of the parameters and seeds"
        )
        subparser.add_argument(
            "--trials", type=int, metavar="N", help="how many trials the study shall have in all"
        )
        subparser.add_argument(
            "--study-name", help="name of the study; by default the config's file name"
        )
        subparser.add_argument(
            "-s",
            "--serialization-dir",
            type=Path,
            metavar="DIR",
            help="folder of the runs, which all workers share; by default runs/STUDY_NAME",
        )
        subparser.add_argument(
            "--storage",
            metavar="URL",
            help="the study's database, or a journal file; by default sqlite:///DIR/study.db",
        )
        subparser.add_argument(
            "--metric", default="best_validation_accuracy", help="a key of the runs' metrics.json"
        )
        subparser.add_argument(
            "--direction",
            choices=["maximize", "minimize"],
            default="maximize",
            help="which way the metric is better",
        )
        subparser.add_argument(
            "--sampler", choices=SAMPLERS, default="random", help="how configurations are chosen"
        )
        subparser.add_argument(
            "--pruner",
            choices=PRUNERS,
            default="none",
            help="ends runs that promise too little, by Optuna's rule of this name",
        )
        subparser.add_argument(
            "--pruner-startup-trials",
            type=int,
            default=5,
            metavar="N",
            help="the median pruner ends none before so many are complete",
        )
        subparser.add_argument(
            "--seeds", type=int, nargs="+", help="instead of the search space's own"
        )
        subparser.add_argument(
            "-o", "--overrides", default="", help="for each `allennlp train`, as that takes them"
        )
        subparser.add_argument(
            "--keep-checkpoints",
            action="store_true",
            help="keep each epoch's weights and optimizer state, which fill the disk",
        )
        subparser.add_argument(
            "--summary-only", action="store_true", help="train nothing; say what there is"
        )
        subparser.set_defaults(func=ending_in_a_line(self.name, sweep_from_args))
        return subparser


def sweep_from_args(args: argparse.Namespace) -> "SweepSummary":
    """
    Runs trials until there are enough, then prints and writes the summary.

    # Raises

    ConfigurationError
        If an argument, the config or the search space cannot be used.
    SystemExit
        If every trial failed, or the sweep was interrupted.
    """
    try:
        with Interruption() as interruption:
            return _sweep(args, interruption)
    except Interrupted as signal:
        print("\nInterrupted. The same command goes on.", flush=True)
        sys.exit(128 + signal.number)


def _sweep(args: argparse.Namespace, interruption: Interruption) -> "SweepSummary":
    _check(args)
    from sledgehammer_allennlp.sweeps.config_check import check_config
    from sledgehammer_allennlp.sweeps.search_space import read_search_space
    from sledgehammer_allennlp.sweeps.study import (
        check_study_exists,
        claim,
        open_storage,
        open_study,
        storage_in_our_words,
    )
    from sledgehammer_allennlp.sweeps.trial_queue import TrialQueue, check_locks, exclusively

    space = read_search_space(args.space, args.seeds)
    if args.sampler == "grid" and space.configurations() is None:
        raise ConfigurationError(
            f"--sampler is grid, and '{args.space}' has a range without steps, or too many "
            "configurations: wanted choices, or ranges with step"
        )
    name = args.study_name or args.config.stem
    folder = args.serialization_dir or Path("runs") / name
    config_digest = check_config(args.config, space, args.overrides)
    check_writable(folder, "--serialization-dir")
    url = args.storage or f"sqlite:///{folder / 'study.db'}"
    with writing("--serialization-dir"), storage_in_our_words(url):
        check_locks(folder)
        with exclusively(folder):
            storage = open_storage(url)
            if args.summary_only:
                check_study_exists(storage, name, url)
            study = open_study(
                storage, name, args.direction, args.sampler, args.pruner, args.pruner_startup_trials
            )
            digests = {"config": config_digest, "space": space.digest(), "metric": args.metric}
            claim(study, folder, config=args.config, space=args.space, digests=digests)
        if not args.summary_only:
            queue = TrialQueue(study, space, folder, args.trials, args.sampler)
            _run_trials(queue, args, interruption)
        return _finish(study, space, args.metric, folder)


def _check(args: argparse.Namespace) -> None:
    try:
        import optuna  # noqa: F401
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"allennlp sweep needs Optuna: wanted it installed, as by pip install optuna. {error}"
        ) from error
    if args.trials is None and not args.summary_only:
        raise ConfigurationError("--trials is missing: wanted it, or --summary-only")
    for argument, least in (("trials", 1), ("pruner_startup_trials", 0)):
        found = getattr(args, argument)
        if found is not None and found < least:
            raise ConfigurationError(
                f"--{argument.replace('_', '-')} is {found}: wanted at least {least}"
            )


def _run_trials(queue: "TrialQueue", args: argparse.Namespace, interruption: Interruption) -> None:
    interruption.raise_if_it_came()
    while (trial := queue.next()) is not None:
        try:
            _run_trial(queue, trial, args, interruption)
        except BaseException:
            # Whatever came between, it was not the training's fault.
            queue.give_back(trial)
            raise
        interruption.raise_if_it_came()
    num_trials = queue.num_counted()
    if num_trials < args.trials:
        print(f"\nAll configurations of the search space are tried, in {num_trials} trials.")


def _run_trial(
    queue: "TrialQueue",
    trial: "optuna.Trial",
    args: argparse.Namespace,
    interruption: Interruption,
) -> None:
    from optuna.trial import TrialState

    from sledgehammer_allennlp.sweeps import training_run
    from sledgehammer_allennlp.sweeps.search_space import as_printed
    from sledgehammer_allennlp.sweeps.summary import run_folder

    configuration, seed = trial.user_attrs["configuration"], trial.user_attrs["seed"]
    folder = run_folder(queue.folder, trial.number)
    values = [f"{name}={value}" for name, value in as_printed(configuration).items()]
    if queue.space.seeds is not None:
        values.append(f"{queue.space.seeds.name}={seed}")
    title = f"trial {trial.number}"
    print(f"\n{title}, {queue.num_counted()} of {queue.num_trials}: {' '.join(values)}")
    print(f"  in {folder}", flush=True)

    def on_epoch(epoch: int, value: float) -> bool:
        print(f"  epoch {epoch}: {args.metric} {value:.4f}", flush=True)
        trial.report(value, epoch)
        return trial.should_prune()

    try:
        value = training_run.run_training(
            training_run.train_command(
                args.config, folder, args.overrides, getattr(args, "include_package", None) or []
            ),
            queue.space.variables(configuration, seed),
            folder,
            args.metric,
            on_epoch,
            interruption.raise_if_it_came,
        )
    except training_run.TrainingError as error:
        print(f"{title} failed: {error}", flush=True)
        trial.set_user_attr("error", str(error))
        queue.finish(trial, TrialState.FAIL)
    except training_run.Pruned as reason:
        print(f"{title} was pruned {reason}", flush=True)
        queue.finish(trial, TrialState.PRUNED)
    else:
        print(f"{title}: {args.metric} {value:.4f}", flush=True)
        queue.finish(trial, TrialState.COMPLETE, value)
    finally:
        if not args.keep_checkpoints:
            training_run.remove_checkpoints(folder)


def _finish(
    study: "optuna.Study", space: "SearchSpace", metric: str, folder: Path
) -> "SweepSummary":
    from optuna.trial import TrialState

    from sledgehammer_allennlp.sweeps.plots import write_plots
    from sledgehammer_allennlp.sweeps.summary import summarise, write_summary
    from sledgehammer_allennlp.sweeps.trial_queue import exclusively

    # Of workers that finish together, the later one writes what the earlier one had not yet seen.
    with exclusively(folder):
        summary = summarise(study, metric, space.fixed, folder)
        write_summary(summary)
        notes = write_plots(study, metric, folder)
    print(_printed(summary, notes), flush=True)
    if summary.count(TrialState.FAIL) and not any(
        summary.count(state)
        for state in (TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING)
    ):
        print("No trial succeeded.", flush=True)
        sys.exit(1)
    return summary


def _printed(summary: "SweepSummary", notes: "list[str]") -> str:
    from optuna.trial import TrialState

    from sledgehammer_allennlp.sweeps.summary import table

    lines = [
        "",
        f"Study {summary.study_name}, {summary.metric}: "
        f"{summary.count(TrialState.COMPLETE)} trials complete, "
        f"{summary.count(TrialState.PRUNED)} pruned, {summary.count(TrialState.FAIL)} failed, "
        f"{summary.count(TrialState.RUNNING)} running with other workers",
        "",
        table(summary),
        "",
    ]
    best = summary.best_trial()
    if best is not None:
        archive = summary.archive_of(best)
        if tied := len(summary.tied_with_best()):
            lines += [
                f"{tied} other {'configuration has' if tied == 1 else 'configurations have'} the "
                "same mean as the best: a tie, of which the first was tried first.",
            ]
        lines += [
            f"The best run of the best configuration: {archive}",
            "It was chosen by its metric, which is therefore a little too good. Next, on data that",
            "was not used here:",
            f"  allennlp tradeoff {archive} DATA --output-dir DIR",
            "",
        ]
    lines.append(f"Written to {summary.folder}: summary.csv, summary.json, and Optuna's pictures")
    return "\n".join([*lines, *(f"  {note}" for note in notes)])
