"""How long a job will take, and how much it will compute, by a sample of its rows."""

import time
from typing import List, NamedTuple, Optional, Sequence, Tuple

import torch
from torch.nn.functional import one_hot

from sledgehammer_allennlp.archives import ArchivedClassifier
from sledgehammer_allennlp.bulk.columns import Columns
from sledgehammer_allennlp.bulk.inputs import InputFile
from sledgehammer_allennlp.bulk.part_worker import PredictionSettings, load_classifier
from sledgehammer_allennlp.bulk.parts import Part
from sledgehammer_allennlp.bulk.tables import OpenTables, plan_parts
from sledgehammer_allennlp.encoders import TokenBatch
from sledgehammer_allennlp.engine import EarlyExitOutput
from sledgehammer_allennlp.engine.costs import cost_of_exits

THRESHOLDS = (0.0, 0.8, 0.9, 0.95, 0.99, 1.0)
NUM_SAMPLED = 10_000
_MAX_PLACES = 50
_ROWS_TO_WARM_UP = 64


class Estimate(NamedTuple):
    """At a threshold: seconds and layer-equivalents, the mean of a row."""

    threshold: float
    seconds_per_row: float
    layer_equivalents: float


def estimate(
    archive: str,
    inputs: Sequence[InputFile],
    columns: Columns,
    settings: PredictionSettings,
    device: str,
    rows_per_part: int,
    num_sampled: Optional[int] = None,
) -> str:
    """
    Runs rows from all over the inputs at some thresholds, the settings' among them.

    # Returns

    A table, as it is printed.

    # Raises

    ValueError
        If there are no rows that can be answered.
    """
    classifier = load_classifier(archive, settings, device)
    plan = plan_parts(inputs, rows_per_part)
    parts = [
        Part(input_index, part_index, range_)
        for input_index, ranges in enumerate(plan)
        for part_index, range_ in enumerate(ranges)
    ]
    num_rows = sum(part.range.num_rows for part in parts)
    texts, second_texts = _sample(inputs, parts, columns, num_sampled or NUM_SAMPLED)
    if not texts:
        raise ValueError("found no rows that can be answered: wanted some")
    thresholds = {*THRESHOLDS, classifier.confidence_threshold}
    batches, seconds = _tokenized(classifier, texts, second_texts, settings.batch_size)
    found = [
        _run(classifier, batches, threshold, seconds / len(texts))
        for threshold in sorted(thresholds)
    ]
    return _as_text(found, num_rows, len(texts), device)


def _sample(
    inputs: Sequence[InputFile], parts: Sequence[Part], columns: Columns, num_rows: int
) -> Tuple[List[str], Optional[List[str]]]:
    """Texts of the first rows of some parts, which are evenly spread."""
    num_places = min(len(parts), _MAX_PLACES)
    chosen = [parts[i * len(parts) // num_places] for i in range(num_places)]
    texts: List[str] = []
    second_texts: List[str] = []
    tables = OpenTables(inputs)
    for place, part in enumerate(chosen):
        wanted = -(-(num_rows - len(texts)) // (num_places - place))
        for rows in tables.get(part.input_index).read(part.range, columns, max(wanted, 1)):
            texts += rows.texts
            second_texts += rows.second_texts or []
            break
    tables.close()
    return texts, None if columns.second_text is None else second_texts


def _tokenized(
    classifier: ArchivedClassifier,
    texts: Sequence[str],
    second_texts: Optional[Sequence[str]],
    batch_size: int,
) -> Tuple[List[TokenBatch], float]:
    """The batches of tokens, and how many seconds making them took."""
    start = time.perf_counter()
    batches = [
        classifier.tokenize(
            texts[first : first + batch_size],
            second_texts and second_texts[first : first + batch_size],
        )
        for first in range(0, len(texts), batch_size)
    ]
    return batches, time.perf_counter() - start


def _run(
    classifier: ArchivedClassifier,
    batches: Sequence[TokenBatch],
    threshold: float,
    tokenizing_seconds: float,
) -> Estimate:
    classifier.confidence_threshold = threshold
    costs = torch.tensor(cost_of_exits(classifier.encoder, classifier.exits))
    few = torch.arange(min(_ROWS_TO_WARM_UP, len(batches[0])))
    with torch.no_grad():
        classifier(batches[0].select(few))
        start = time.perf_counter()
        # Copying the result to the CPU waits for a GPU.
        exits = torch.cat([_exits(classifier(batch), len(costs)) for batch in batches])
        seconds = time.perf_counter() - start
    spent = (exits * costs).sum(1).mean().item()
    return Estimate(threshold, tokenizing_seconds + seconds / len(exits), spent)


def _exits(output: EarlyExitOutput, num_exits: int) -> torch.Tensor:
    """How often each text exited at each exit, of all its windows, `(num_texts, num_exits)`."""
    if output.windows is not None:
        return output.windows.exits.cpu()
    return one_hot(output.exit_index.cpu(), num_exits)


def _as_text(found: Sequence[Estimate], num_rows: int, num_sampled: int, device: str) -> str:
    lines = [
        f"{num_rows:,} rows; a sample of {num_sampled:,} of them ran on one {device}:",
        "threshold  rows a second  layer-equivalents  time for all",
    ]
    for one in found:
        rate = 1 / max(one.seconds_per_row, 1e-9)
        time_ = duration(one.seconds_per_row * num_rows)
        lines.append(
            f"{one.threshold:>9g}  {rate:>13,.0f}  {one.layer_equivalents:>17.3f}  {time_:>12}"
        )
    return "\n".join(lines)


def duration(seconds: float) -> str:
    """A time in the two largest of its units, `3 h 20 min`."""
    for size, unit, smaller_size, smaller in (
        (86400, "d", 3600, "h"),
        (3600, "h", 60, "min"),
        (60, "min", 1, "s"),
    ):
        if seconds >= size:
            rest = int(seconds % size // smaller_size)
            return f"{int(seconds // size):,} {unit} {rest} {smaller}"
    return f"{seconds:.1f} s"
