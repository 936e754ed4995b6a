"""What is wrong with training and dev data, and what their owner should know of them."""

from typing import Iterable, List

from sledgehammer_allennlp.configs.data_summary import DataSummary
from sledgehammer_allennlp.values import short_repr

FEW_TEXTS_OF_A_LABEL = 10
"""Fewer training texts than this are named: a label needs some to be learned."""
FEW_DEV_TEXTS = 200
"""Fewer dev texts than this are too few to calibrate: at 200, an accuracy is within 7 points."""
STRONG_IMBALANCE = 10
"""From this ratio of the largest label to the smallest on, accuracy says little of the smallest."""
_MOST_NAMED = 5


def check(train: DataSummary, dev: DataSummary) -> None:
    """
    Refuses data on which no model can be trained and evaluated.

    # Raises

    ValueError
        With file and line, if the training data have one label only, one file has pairs and the
        other single texts, or dev has a label that the training data lack.
    """
    if len(train.first_lines) == 1:
        raise ValueError(
            f"{train.path}: found one label only, {short_repr(next(iter(train.first_lines)))}, in "
            f"{_texts(train.num_texts)}: wanted two labels at least"
        )
    if train.is_pairs != dev.is_pairs:
        wanted = "label<TAB>text<TAB>second text" if train.is_pairs else "label<TAB>text"
        raise ValueError(
            f"{dev.path}, {dev.file.unit} {dev.numbers[0]}: found {kind(dev)}, but {kind(train)} "
            f"in {train.path}: wanted {wanted} in both"
        )
    unseen = [label for label in dev.first_lines if label not in train.first_lines]
    if unseen:
        others = f" (and {len(unseen) - 1:,} other labels of it)" if len(unseen) > 1 else ""
        raise ValueError(
            f"{dev.path}, {dev.file.unit} {dev.first_lines[unseen[0]]}: the label "
            f"{short_repr(unseen[0])}{others} does not stand in {train.path}: wanted one of "
            f"{_some(sorted(train.first_lines))}"
        )


def warnings(train: DataSummary, dev: DataSummary) -> List[str]:
    """What can be trained on, but is likely to be a mistake or to disappoint. A sentence each."""
    return [
        *_conflicts(train),
        *_conflicts(dev),
        *_leakage(train, dev),
        *_rare_labels(train),
        *_labels_without_dev_texts(train, dev),
        *_imbalance(train, dev),
        *_small_dev(dev),
        *_large_dev(train, dev),
    ]


def _large_dev(train: DataSummary, dev: DataSummary) -> Iterable[str]:
    if dev.num_texts > train.num_texts:
        yield (
            f"{dev.path} has more texts ({dev.num_texts:,}) than {train.path} "
            f"({train.num_texts:,}): are they swapped?"
        )


def kind(data: DataSummary) -> str:
    """Of which kind its texts are."""
    return "pairs" if data.is_pairs else "single texts"


def _conflicts(data: DataSummary) -> Iterable[str]:
    conflict = data.conflict()
    if conflict is not None:
        several, unit = conflict.num_texts > 1, f"{data.file.unit}s"
        yield (
            f"{data.path}: {_texts(conflict.num_texts)} {'have' if several else 'has'} different "
            f"labels in different {unit}, as in {unit} {conflict.lines[0]:,} and "
            f"{conflict.lines[1]:,}."
        )


def _leakage(train: DataSummary, dev: DataSummary) -> Iterable[str]:
    lines = dev.lines_also_in(train)
    if len(lines):
        yield (
            f"{dev.path}: {len(lines):,} of {_texts(dev.num_texts)} "
            f"{'stand' if len(lines) > 1 else 'stands'} in {train.path}, too, the first in "
            f"{dev.file.unit} {lines[0]:,}. Accuracy and confidences on dev are then better than "
            "on new texts: remove them from one of the files."
        )


def _rare_labels(train: DataSummary) -> Iterable[str]:
    rare = [label for label, count in train.counts.items() if count < FEW_TEXTS_OF_A_LABEL]
    if rare:
        yield (
            f"{train.path}: fewer than {FEW_TEXTS_OF_A_LABEL} texts of {_labels(len(rare))}: "
            f"{_some(reversed(rare))}. That is hardly enough to learn them."
        )


def _labels_without_dev_texts(train: DataSummary, dev: DataSummary) -> Iterable[str]:
    missing = [label for label in train.first_lines if label not in dev.first_lines]
    if missing:
        yield (
            f"{dev.path}: no text of {_labels(len(missing))} of {train.path}: {_some(missing)}. "
            "How well those are predicted is not measured."
        )


def _imbalance(train: DataSummary, dev: DataSummary) -> Iterable[str]:
    (largest, most), *_, (smallest, fewest) = train.counts.items()
    if most >= STRONG_IMBALANCE * fewest:
        share = dev.counts.get(largest, 0) / dev.num_texts
        yield (
            f"{train.path}: {most / fewest:,.0f} times as many texts of {short_repr(largest)} as "
            f"of {short_repr(smallest)}. Compare accuracies with {share:.3f}, what "
            f"{short_repr(largest)} for every text has on dev."
        )


def _small_dev(dev: DataSummary) -> Iterable[str]:
    if dev.num_texts < FEW_DEV_TEXTS:
        yield (
            f"{dev.path}: {_texts(dev.num_texts)} are few to calibrate and to choose a threshold "
            f"with: wanted some hundred, {FEW_DEV_TEXTS} at least."
        )


def _some(labels: Iterable[str]) -> str:
    named = [short_repr(label) for label in labels]
    more = ", …" if len(named) > _MOST_NAMED else ""
    return ", ".join(named[:_MOST_NAMED]) + more


def _texts(number: int) -> str:
    return f"{number:,} text{'s' * (number != 1)}"


def _labels(number: int) -> str:
    return f"{number:,} label{'s' * (number != 1)}"
