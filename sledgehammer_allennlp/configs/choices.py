"""Which settings fit data and a pretrained model, and why."""

import math
import re
from dataclasses import dataclass
from typing import Any, List, Optional, Tuple, Union

import numpy as np

from sledgehammer_allennlp.configs.data_summary import DataSummary, TableColumns
from sledgehammer_allennlp.configs.pretrained_model import PretrainedModel

PAPERS_EXITS = [0, 3, 5, 11]
"""Of Schwartz et al. 2020, for 12 layers."""
PAIR_ALIGNMENT = 128
"""Of the shipped configs of pairs."""
MOST_TRUNCATED = 0.01
"""At most this share of the training texts is truncated, if the model takes so many tokens."""
USUAL_LENGTH = 128
"""Of the shipped configs, but for IMDB."""
MIN_LENGTH = USUAL_LENGTH
"""Short texts are as fast with a larger limit, and later ones may be longer."""
LENGTH_STEP = 16
MIN_EPOCHS = 2
MAX_EPOCHS = 20
SMALL_BATCH = 32
LARGE_BATCH = 72
"""That of Schwartz et al. 2020."""
MIN_STEPS = 400
"""
Training goes on for so many steps, if `MAX_EPOCHS` allow it. That is twice as many as were seen to
be too few: with 92 steps on BBC News (1,467 articles, 5 topics) and 196 on 3,100 texts of an intent
data set, the last exit was 1 to 6 points less accurate than the exit over n-grams. With 414 steps
on BBC News (one seed, 456 test articles) the exits after layers 0 to 4 were 4, 1, 2, 1 and 1 points
more accurate than with 92, and the last exit was as accurate as before.

Other data need fewer. The 6-layer MiniLM on the first 2,000 training texts, batches of 32, other
settings those of `multi_exit.libsonnet`; the best epoch chosen by 300 dev texts; the accuracy of
the last exit, then the mean over exits, on 1,200 others, where one standard error is about 1.2
points. One seed, so that differences of a point mean nothing. With 504 steps on AG News the first
epoch was the best of the last exit, and its other exits were not ready then:

    steps   SST-2        AG News
    126     .792 .763    .870 .854
    252     .779 .764
    504     .781 .759    .870 .840
"""


@dataclass(frozen=True)
class Choice:
    """A setting of `multi_exit.libsonnet`, or with `is_setting` false a key of the config."""

    name: str
    value: Any
    """As JSON has it."""
    reason: str
    """Sentences, for a comment."""
    is_setting: bool = True


def all_choices(
    train: DataSummary, dev: DataSummary, model: PretrainedModel, lengths: np.ndarray
) -> List[Choice]:
    """
    Every setting that depends on data or model.

    # Parameters

    train, dev : `DataSummary`
    model : `PretrainedModel`
    lengths : `np.ndarray`
        Of training texts, see `tokenize_sample`.
    """
    exit_layers, why_exits = choose_exits(model.num_layers)
    max_length, why_length = choose_max_length(lengths, model.max_tokens, train.num_texts)
    batch_size, num_epochs, why_training = choose_training(train.num_texts)
    about_model = f"{model.family}, {model.num_layers} layers, up to {model.max_tokens} tokens."
    return [
        *choose_data(train.path, dev.path, train.file.columns),
        Choice("transformer_model", model.name, about_model),
        Choice("exit_layers", exit_layers, why_exits),
        *choose_alignment(train.is_pairs),
        Choice("max_length", max_length, why_length),
        Choice("batch_size", batch_size, why_training),
        Choice("num_epochs", num_epochs, ""),
    ]


def choose_data(train: str, dev: str, columns: Optional[TableColumns]) -> List[Choice]:
    """Where the data are, by the paths as they were given, and of tables the columns."""
    found = re.fullmatch(r"data/([^/]+)/train\.tsv", train)
    if found and dev == f"data/{found.group(1)}/dev.tsv" and columns is None:
        return [Choice("dataset", found.group(1), f"Reads {train} and {dev}.")]
    paths = [
        Choice("train_data_path", train, "The data.", is_setting=False),
        Choice("validation_data_path", dev, "", is_setting=False),
    ]
    if columns is None:
        return paths
    reader = {"type": "labeled_table", "text_column": columns.text, "label_column": columns.label}
    if columns.second_text is not None:
        reader["second_text_column"] = columns.second_text
    return [
        *paths,
        Choice("dataset_reader+", reader, "Tables with these columns.", is_setting=False),
    ]


def choose_exits(num_layers: int) -> Tuple[Union[str, List[int]], str]:
    """
    The layers that get exits: in a model of 12 layers those of the paper, in a shallower one of up
    to 6 all, else 4 to 6, evenly spread from the first layer to the last.

    # Returns

    `exit_layers` as a config has it, and the reason.
    """
    if num_layers <= 6:
        return "all", f"An exit after each of the model's {num_layers} layers."
    if num_layers == 12:
        return PAPERS_EXITS, "Those of Schwartz et al. 2020 for 12 layers, counted from 0."
    number = min(4 + (num_layers - 1) // 12, 6)
    layers = [round(i * (num_layers - 1) / (number - 1)) for i in range(number)]
    reason = f"{number} of {num_layers} layers, counted from 0: the first, the last, evenly spread."
    return layers, reason


def choose_alignment(is_pairs: bool) -> List[Choice]:
    """For pairs, the size of the alignment of their texts in the exits."""
    if not is_pairs:
        return []
    reason = (
        "The data are pairs: each exit compares every word with what it matches in the other text "
        "(Parikh et al. 2016), without which early exits see little of how two texts relate. "
        "128 numbers a word; null for none."
    )
    return [Choice("alignment", PAIR_ALIGNMENT, reason)]


def choose_max_length(lengths: np.ndarray, max_tokens: int, num_texts: int) -> Tuple[int, str]:
    """
    The smallest multiple of 16 that truncates at most 1 % of texts, at least 128, and at most what
    the model takes.

    # Parameters

    lengths : `np.ndarray`
        Shape `(num_sampled,)`: in tokens.
    max_tokens : `int`
        The longest text that the model takes.
    num_texts : `int`
        How many texts there are, of which `lengths` may be a sample.

    # Returns

    `max_length`, and the reason.
    """
    # So many texts may be longer; the next one must fit.
    num_longer = math.floor(MOST_TRUNCATED * len(lengths))
    must_fit = int(np.sort(lengths)[len(lengths) - num_longer - 1])
    wanted = max(MIN_LENGTH, LENGTH_STEP * math.ceil(must_fit / LENGTH_STEP))
    chosen = min(wanted, max_tokens)
    return chosen, _why_length(lengths, chosen, wanted, max_tokens, num_texts)


def _why_length(
    lengths: np.ndarray, chosen: int, wanted: int, max_tokens: int, num_texts: int
) -> str:
    is_sample = len(lengths) < num_texts
    texts = f"texts, drawn from {num_texts:,}" if is_sample else "training texts"
    is_truncated = lengths > chosen
    longest = int(lengths.max())
    reason = (
        "In word pieces, special ones included. Truncates "
        f"{int(is_truncated.sum()):,} ({_percent(is_truncated)}) of {len(lengths):,} {texts}; half "
        f"of them have at most {int(np.median(lengths))}, the longest "
        f"{f'more than {max_tokens}' if longest > max_tokens else longest}."
    )
    if chosen < wanted:
        reason += f" The model takes no more than {max_tokens}."
    elif chosen - LENGTH_STEP >= longest:
        reason += f" Later texts may be longer: {MIN_LENGTH} at least is chosen."
    if chosen > USUAL_LENGTH:
        reason += " Fewer are faster."
    return reason


def choose_training(num_texts: int) -> Tuple[int, int, str]:
    """
    Batches and epochs by the number of training texts: batches of 32, or of 72, the paper's, where
    2 epochs of those have `MIN_STEPS` steps; then as many epochs as it takes to have `MIN_STEPS`,
    2 at least and 20 at most.

    # Returns

    `batch_size`, `num_epochs`, and the reason.
    """
    is_large = MIN_EPOCHS * math.ceil(num_texts / LARGE_BATCH) >= MIN_STEPS
    batch_size = LARGE_BATCH if is_large else SMALL_BATCH
    steps = math.ceil(num_texts / batch_size)
    num_epochs = enough_epochs(steps)
    total = num_epochs * steps
    reason = f"{described_steps(num_texts, batch_size, num_epochs)} "
    if total < MIN_STEPS:
        reason += f"{MIN_STEPS} may be better, but {MAX_EPOCHS} epochs are the most that is chosen."
    elif num_epochs > MIN_EPOCHS:
        reason += f"Fewer than {MIN_STEPS} can leave exits less accurate than they could be."
    else:
        reason += f"{MIN_EPOCHS} epochs, as in Schwartz et al. 2020, have enough steps."
    return batch_size, num_epochs, reason


def described_steps(num_texts: int, batch_size: int, num_epochs: int) -> str:
    """How many steps training has, in a sentence."""
    steps = math.ceil(num_texts / batch_size)
    return f"{num_epochs * steps:,} training steps, {steps:,} an epoch."


def enough_epochs(steps: int) -> int:
    """
    How many epochs of so many steps have `MIN_STEPS`, 2 at least and 20 at most.

    # Raises

    ValueError
        If an epoch has no steps.
    """
    if steps < 1:
        raise ValueError(f"an epoch has {steps} steps: wanted at least 1")
    return min(max(math.ceil(MIN_STEPS / steps), MIN_EPOCHS), MAX_EPOCHS)


def _percent(truncated: np.ndarray) -> str:
    share = 100 * truncated.mean()
    return "0 %" if share == 0 else f"{share:.1f} %" if share >= 0.1 else "less than 0.1 %"
