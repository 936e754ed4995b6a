"""`allennlp tradeoff`: speed against accuracy of a trained model, and which threshold to take."""

import argparse
import shlex
import sys
import time
from datetime import datetime, timezone
from pathlib import Path
from statistics import median
from typing import Any, Dict, List, Tuple

import numpy as np
import torch
from allennlp.commands.subcommand import Subcommand
from allennlp.common.checks import ConfigurationError
from allennlp.common.tqdm import Tqdm
from allennlp.data import Instance
from allennlp.data.data_loaders import SimpleDataLoader
from allennlp.nn.util import move_to_device
from scipy.special import log_softmax

from sledgehammer_allennlp.calibration import (
    apply_combination,
    calibrated_logits,
    compare_temperatures,
    with_combination,
)
from sledgehammer_allennlp.commands.error_line import ending_in_a_line
from sledgehammer_allennlp.commands.labelled_data import (
    add_arguments,
    load,
    overrides_in,
    read_labelled,
    run_all_exits_on,
    text_of,
    writing,
)
from sledgehammer_allennlp.commands.wishes import (
    add_wish_arguments,
    check_wishes,
    is_timed,
    recommendations,
    timed_recommendations,
)
from sledgehammer_allennlp.engine import most_probable
from sledgehammer_allennlp.engine.exit_rule import check_threshold
from sledgehammer_allennlp.models import MultiExitClassifier
from sledgehammer_allennlp.models.multi_exit_classifier import texts_in
from sledgehammer_allennlp.tradeoff import operating_point
from sledgehammer_allennlp.tradeoff.class_losses import losses_sentence
from sledgehammer_allennlp.tradeoff.results import (
    CSV_FILE,
    JSON_FILE,
    Example,
    Measurement,
    TradeoffResults,
    reliability,
    shortest,
    table,
    times,
    write_csv,
    write_json,
)
from sledgehammer_allennlp.training.card_of_model import package_versions
from sledgehammer_allennlp.training.full_depth import (
    FullDepth,
    better_exit_of,
    class_curve_of,
    curve_of,
    predictions_at_exits,
)
from sledgehammer_allennlp.training.output_folder import check_writable

SHOWN_THRESHOLDS = (0.0, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0)


@Subcommand.register("tradeoff")
class Tradeoff(Subcommand):
    """
    Runs a `multi_exit_classifier` once at full depth over labelled data and says what every
    threshold gives, and which to take.

    Registered as a `Subcommand` with name "tradeoff".
    """

    def add_subparser(self, parser: argparse._SubParsersAction) -> argparse.ArgumentParser:
        description = (
            "Run a multi_exit_classifier once at full depth over labelled data, and say for every "
            "confidence threshold how accurate and how fast it is, and which to take. Writes "
            "tables, pictures and a report."
        )
        subparser = parser.add_parser(
            self.name, description=description, help="Choose a confidence threshold."
        )
        add_arguments(subparser)
        subparser.add_argument(
            "--output-dir", required=True, type=Path, help="folder to write the results to"
        )
        add_wish_arguments(subparser)
        subparser.add_argument(
            "--measure",
            type=float,
            nargs="*",
            metavar="THRESHOLD",
            help="also time the engine, at these thresholds and the recommended ones, or if none "
            "are given at all of the table",
        )
        subparser.add_argument("--rounds", type=int, default=3, help="how often each is timed")
        subparser.add_argument(
            "--num-examples",
            type=int,
            default=10,
            help="how many of the easiest and of the hardest texts the report shows",
        )
        subparser.set_defaults(func=ending_in_a_line(self.name, tradeoff_from_args))
        return subparser


def tradeoff_from_args(args: argparse.Namespace) -> TradeoffResults:
    """
    Computes, prints and writes the results.

    # Raises

    ConfigurationError
        If an argument or the data cannot be used.
    """
    # All that can be wrong with the arguments comes before the work.
    _check(args)
    check_writable(args.output_dir, "--output-dir")
    archive, model = load(args)
    if model.exit_rule.never_early_by_ensemble:
        raise ConfigurationError(
            'the model answers by an ensemble over "all" exits, with which no instance exits '
            'early: wanted "reached", or none'
        )
    instances = read_labelled(archive, model, args.input_file)
    full_depth = run_all_exits_on(model, instances, args.batch_size)
    logits, labels = full_depth.logits, full_depth.labels
    curve = curve_of(model, full_depth)
    classes = class_curve_of(model, full_depth, curve)
    recommended = recommendations(curve, classes, model.label_names(), args)
    shown = sorted({*SHOWN_THRESHOLDS, *(r.point.threshold for r in recommended)})
    measurements: Dict[float, Measurement] = {}
    if args.measure is not None or is_timed(args):
        shown = sorted({*shown, *(args.measure or [])})
        measured = shown
        if args.measure:
            measured = [*args.measure, *(r.point.threshold for r in recommended)]
        measurements = measure(model, instances, measured, args.rounds, args.batch_size)
        seconds = {one.threshold: one.seconds / len(instances) for one in measurements.values()}
        recommended += timed_recommendations(curve, classes, model, seconds, args)
    temperatures = model.temperatures.tolist()
    ones = [1.0] * len(temperatures)
    combination = model.combination.weights
    exits = compare_temperatures(logits, labels, model.exit_layers, ones, temperatures)
    if combination is not None:
        exits = with_combination(exits, apply_combination(logits, labels, combination))
    easiest, hardest = _examples(model, instances, full_depth, args.num_examples)
    results = TradeoffResults(
        origin=_origin(args, archive.config, model),
        overrides=overrides_in(args),
        curve=curve,
        classes=classes,
        exits=exits,
        bins_before=reliability(logits, labels, ones),
        bins_after=reliability(logits, labels, temperatures, combination),
        points=[operating_point(curve, threshold) for threshold in shown],
        recommendations=recommended,
        measurements=measurements,
        easiest=easiest,
        hardest=hardest,
        better_exit=better_exit_of(model, full_depth),
    )
    with writing("--output-dir"):
        write(results, args.output_dir)
    print(summary(results, args.output_dir))
    return results


def _check(args: argparse.Namespace) -> None:
    for name, least in (("rounds", 1), ("num_examples", 0)):
        if getattr(args, name) < least:
            raise ConfigurationError(
                f"--{name.replace('_', '-')} is {getattr(args, name)}: wanted at least {least}"
            )
    try:
        for threshold in args.measure or []:
            check_threshold(threshold)
    except ValueError as error:
        raise ConfigurationError(str(error)) from error
    check_wishes(args)


def measure(
    model: MultiExitClassifier,
    instances: List[Instance],
    thresholds: List[float],
    rounds: int,
    batch_size: int,
) -> Dict[float, Measurement]:
    """
    Times early exit over batches that are made before; the thresholds, and 1, take turns, and the
    median of the rounds counts.
    """
    device = model.encoder.device
    batches = []
    for batch in SimpleDataLoader(instances, batch_size, vocab=model.vocab):
        batch = move_to_device(batch, device)
        batches.append((texts_in(batch["tokens"]), batch["label"]))
    thresholds = sorted({*thresholds, 1.0})
    seconds: Dict[float, List[float]] = {threshold: [] for threshold in thresholds}
    accuracy: Dict[float, float] = {}
    before = model.configured_threshold
    turns = [threshold for _ in range(rounds) for threshold in thresholds]
    try:
        with torch.inference_mode():
            model.run_early_exit(batches[0][0])  # what is prepared once is not counted
            for threshold in Tqdm.tqdm(turns, desc="measuring"):
                model.confidence_threshold = threshold
                start = time.perf_counter()
                outputs = [model.run_early_exit(texts) for texts, _ in batches]
                answers = [most_probable(output.logits, output.probs) for output in outputs]
                if device.type == "cuda":
                    torch.cuda.synchronize(device)
                seconds[threshold].append(time.perf_counter() - start)
                right = sum(
                    int((answer == labels).sum()) for answer, (_, labels) in zip(answers, batches)
                )
                accuracy[threshold] = right / len(instances)
    finally:
        model.confidence_threshold = before
    full = median(seconds[1.0])
    return {
        threshold: Measurement(
            threshold=threshold,
            seconds=median(taken),
            texts_per_second=len(instances) / median(taken),
            speed_up=full / median(taken),
            accuracy=accuracy[threshold],
        )
        for threshold, taken in seconds.items()
    }


def _examples(
    model: MultiExitClassifier,
    instances: List[Instance],
    full_depth: FullDepth,
    number: int,
) -> Tuple[List[Example], List[Example]]:
    """The easiest and the hardest instances, easiest and hardest first."""
    names = model.label_names()
    logits, labels = full_depth.logits, full_depth.labels
    answers, confidences = predictions_at_exits(model, full_depth)
    calibrated = calibrated_logits(logits, model.temperatures.tolist(), model.combination.weights)
    log_probs = log_softmax(calibrated, axis=-1)
    difficulty = -log_probs[:, np.arange(len(labels)), labels].mean(axis=0)
    order = difficulty.argsort(kind="stable")
    number = min(number, len(order))

    def example(which: int) -> Example:
        return Example(
            number=which + 1,
            text=text_of(instances[which]),
            label=names[labels[which]],
            answers=[names[answer] for answer in answers[:, which]],
            confidences=confidences[:, which].tolist(),
            difficulty=float(difficulty[which]),
        )

    return [example(i) for i in order[:number]], [example(i) for i in order[::-1][:number]]


def _origin(args: argparse.Namespace, config: Any, model: MultiExitClassifier) -> Dict[str, Any]:
    return {
        "archive": args.archive_file,
        "data": args.input_file,
        "command": shlex.join(["allennlp", *sys.argv[1:]]),
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "transformer_model": str(config["model"].get("transformer_model", "")),
        "labels": model.label_names(),
        "num_layers": model.exit_layers[-1] + 1,
        "precision": model.encoder.precision,
        "device": str(model.encoder.device),
        "versions": package_versions(),
    }


def write(results: TradeoffResults, folder: Path) -> None:
    """
    Writes all files of the results, the report last. Those of an earlier run go first: whenever
    this is interrupted, all files of the folder are of one run, and without the report not all.
    """
    # Imported here: `allennlp` starts without the plotting libraries.
    from sledgehammer_allennlp.tradeoff.plots import CURVE_FILE, RELIABILITY_FILE, write_pictures
    from sledgehammer_allennlp.tradeoff.report import REPORT_FILE, write_report

    for name in (REPORT_FILE, RELIABILITY_FILE, CURVE_FILE, JSON_FILE, CSV_FILE):
        (folder / name).unlink(missing_ok=True)
    write_csv(results, folder / CSV_FILE)
    write_json(results, folder / JSON_FILE)
    write_pictures(results, folder)
    write_report(results, folder)


def summary(results: TradeoffResults, folder: Path) -> str:
    """What is printed at the end."""
    curve = results.curve
    lines = [
        "",
        f"{curve.num_instances:,} instances; {len(curve):,} thresholds differ. Speed-ups are over "
        "threshold 1, in layer-equivalents"
        + (", and measured on the clock:" if results.measurements else ":"),
        "",
        table(results),
        "",
    ]
    if results.better_exit is not None:
        lines += [f"WARNING. {results.better_exit.warning()}", ""]
    for recommendation in results.recommendations:
        point = recommendation.point
        verdict = "take" if recommendation.is_satisfied else "not to be had; nearest is"
        measured = results.measurements.get(point.threshold)
        lines.append(
            f"For {recommendation.described()}: {verdict} threshold {shortest(point.threshold)}, "
            f"accuracy {point.accuracy:.4f} (95 % interval {point.accuracy_low:.4f} to "
            f"{point.accuracy_high:.4f}), {times(point.speed_up)}"
            + (f", measured {times(measured.speed_up)}" if measured is not None else "")
        )
        losses = losses_sentence(results.class_losses(point.threshold), shortest(point.threshold))
        if losses:
            lines.append(f"  {losses}.")
        if recommendation.note:
            lines.append(f"  {recommendation.note}.")
        lines.append(f"  --overrides {results.pasted_overrides(point.threshold)}")
        lines.append(f"  of serve and predict-files: --threshold {shortest(point.threshold)}")
    lines += ["", f"Written to {folder}: report.html, to be opened in a browser; tradeoff.csv,"]
    lines += ["  tradeoff.json, tradeoff.png, reliability.png"]
    return "\n".join(lines)
