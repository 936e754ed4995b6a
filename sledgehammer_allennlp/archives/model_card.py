"""
The model card: what a reader must know of an archive before using it, in Markdown.

Its head is YAML, as the cards of the Hugging Face hub have it, so that a copy named README.md is
one. Names of labels, files and models are others' texts: they stand as code, which Markdown does
not look into.
"""

import json
import posixpath
import re
import unicodedata
from dataclasses import dataclass
from typing import Dict, List, Mapping, Optional, Sequence

from sledgehammer_allennlp.calibration import ExitCalibration
from sledgehammer_allennlp.tradeoff.curve import TradeoffCurve
from sledgehammer_allennlp.tradeoff.recommendation import operating_point
from sledgehammer_allennlp.tradeoff.results import shortest, times

MODEL_CARD_FILE = "model_card.md"

SHOWN_THRESHOLDS = (0.0, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 1.0)
MOST_LABELS = 50
"""Rows of the table of labels; of more the first are shown."""

_LONGEST = 100
"""Characters that are shown of a name."""

_PAPER = (
    "Schwartz et al. 2020, [The Right Tool for the Job: Matching Model and Instance Complexities]"
    "(https://aclanthology.org/2020.acl-main.593/), ACL 2020."
)


@dataclass(frozen=True)
class CardData:
    """
    Labelled texts.

    # Parameters

    path : `str`, optional (default = `None`)
    label_counts : `Sequence[int]`, optional (default = `None`)
        How many texts have each label of the model, in its order. `None` if it is not known.
    """

    path: Optional[str] = None
    label_counts: Optional[Sequence[int]] = None


@dataclass(frozen=True)
class CardFacts:
    """
    What a card says. What is `None` is not known.

    # Parameters

    labels : `Sequence[str]`
    pretrained_model : `str`
        The name in the config.
    is_on_hub : `bool`
        Whether that is a name of the hub's.
    family : `str`
        Of the pretrained model.
    confidence : `str`
        The measure of confidence.
    trained_on, calibrated_on : `CardData`
    exits : `Sequence[ExitCalibration]`
        On the data that the model is calibrated on.
    curve : `TradeoffCurve`
        On the same data.
    threshold : `float`
        The default threshold.
    why_threshold : `str`
        How it was chosen, as the rest of a sentence.
    max_tokens : `int`
        Word pieces of a text that are read at most.
    window : `int`, optional
        Word pieces of a window, of a model that reads in windows.
    are_pairs : `bool`, optional
        Whether the texts are pairs of texts.
    min_seen_share : `float`, optional
        Of a model with an exit over n-grams.
    versions : `Mapping[str, str]`
        Of the packages that made the archive.
    overrides : `str`, optional
        Of the config, with which the model was calibrated, and which the archive has not.
    """

    labels: Sequence[str]
    pretrained_model: str
    is_on_hub: bool
    family: str
    confidence: str
    trained_on: CardData
    calibrated_on: CardData
    exits: Sequence[ExitCalibration]
    curve: TradeoffCurve
    threshold: float
    why_threshold: str
    max_tokens: int
    window: Optional[int]
    are_pairs: Optional[bool]
    min_seen_share: Optional[float]
    versions: Mapping[str, str]
    overrides: Optional[str] = None


def model_card(facts: CardFacts) -> str:
    """The card, in Markdown."""
    sections = [
        _head(facts),
        _introduction(facts),
        _data(facts),
        _exits(facts),
        _tradeoff(facts),
        _limits(facts),
        _origin(facts),
    ]
    return "\n\n".join(sections) + "\n"


def base_model_line(name: str) -> str:
    """The line of a card's head that says that a pretrained model is the hub's."""
    return f"base_model: {json.dumps(name)}"


def as_code(text: str) -> str:
    """
    A text as a code span that stands in one cell of a table, whatever is in the text. What is no
    printable character is replaced, and what is long is cut.
    """
    shown = "".join(" " if c.isspace() else c if _is_printable(c) else "\ufffd" for c in text)
    shown = re.sub(" +", " ", shown).strip()
    if len(shown) > _LONGEST:
        shown = shown[:_LONGEST] + "…"
    longest_run = max(map(len, re.findall("`+", shown)), default=0)
    fence = "`" * (longest_run + 1)
    # A space beside the fence is no part of the text, which may begin or end with a backtick.
    inside = f" {shown} " if longest_run else shown or " "
    # In a table a bar ends a cell, also in code, unless there is a backslash before it.
    return f"{fence}{inside}{fence}".replace("|", "\\|")


def _is_printable(character: str) -> bool:
    """Not what controls, or turns the direction of writing."""
    return unicodedata.category(character) not in ("Cc", "Cf", "Cs", "Co", "Cn")


def last_parts(path: str) -> str:
    """The last two parts of a path of any system: no one else needs the folders before."""
    parts = [part for part in re.split(r"[/\\]+", path) if part]
    return posixpath.join(*parts[-2:]) if parts else path


def _head(facts: CardFacts) -> str:
    lines = [
        "---",
        "library_name: sledgehammer_allennlp",
        "pipeline_tag: text-classification",
        "tags:",
        "- text-classification",
        "- early-exit",
        "- allennlp",
    ]
    if facts.is_on_hub:
        lines.append(base_model_line(facts.pretrained_model))
    return "\n".join([*lines, "---"])


def _introduction(facts: CardFacts) -> str:
    what = {True: "pair of texts", False: "text", None: "text, or pair of texts,"}[facts.are_pairs]
    first, last = facts.exits[0].exit_layer, facts.exits[-1].exit_layer
    start = "before the first layer" if first < 0 else f"after layer {first}"
    rows = [
        ["pretrained model", as_code(last_parts(facts.pretrained_model))],
        ["family", facts.family],
        ["layers", str(last + 1)],
        ["confidence", as_code(facts.confidence)],
        ["default threshold", f"{shortest(facts.threshold)}, {facts.why_threshold}"],
    ]
    if facts.overrides is not None:
        rows.append(["calibrated with overrides, which are not kept", as_code(facts.overrides)])
    return "\n".join(
        [
            "# A text classifier with early exit",
            "",
            f"Gives each {what} one of {len(facts.labels):,} labels, and a confidence. Classifiers "
            f"stand between the layers of a pretrained transformer, from {start} on, counted from "
            "0; a text exits at the first whose confidence is at least a threshold, which is set "
            "when the model is used: one model for every point between speed and accuracy.",
            "",
            _table(["", ""], rows),
            "",
            "```python",
            "from sledgehammer_allennlp import load_archived_classifier",
            "",
            'classifier = load_archived_classifier("model.tar.gz", confidence_threshold=0.9)',
            'classifier.predict(["a text"])'
            if facts.are_pairs is not True
            else 'classifier.predict([("a text", "another")])',
            "```",
        ]
    )


def _data(facts: CardFacts) -> str:
    counts = [facts.trained_on.label_counts, facts.calibrated_on.label_counts]
    names = [
        "not known" if data.path is None else as_code(last_parts(data.path))
        for data in (facts.trained_on, facts.calibrated_on)
    ]
    rows = [
        ["file", *names],
        ["texts", *("not known" if one is None else f"{sum(one):,}" for one in counts)],
    ]
    for number, label in enumerate(facts.labels[:MOST_LABELS]):
        cells = ["not known" if one is None else f"{one[number]:,}" for one in counts]
        rows.append([f"label {as_code(label)}", *cells])
    lines = ["## Data", "", _table(["", "trained on", "calibrated on"], rows, "lrr")]
    if len(facts.labels) > MOST_LABELS:
        lines += ["", f"And {len(facts.labels) - MOST_LABELS:,} more labels."]
    return "\n".join(lines)


def _exits(facts: CardFacts) -> str:
    is_combined = facts.exits[0].combination is not None
    header = ["exit after layer", "layer-equivalents", "accuracy", "calibration error"]
    header.append("weights of the exits' logits" if is_combined else "temperature")
    rows = []
    for exit_, cost in zip(facts.exits, facts.curve.costs):
        row = [str(exit_.exit_layer), f"{cost:.2f}", f"{exit_.calibrated_accuracy:.4f}"]
        rows.append([*row, f"{exit_.calibrated_ece:.4f}", _calibrated_by(facts.exits, exit_)])
    lines = ["## Exits", "", _table(header, rows, "rrrrl"), ""]
    lines += [
        "A layer-equivalent is the computation of one layer; an exit after layer -1 is before the "
        "transformer. Calibration error: the expected calibration error over 15 bins, of the "
        "largest probability. All on the texts that the model was calibrated on."
    ]
    why = [
        f"The texts do not determine the calibration of the exit after layer {exit_.exit_layer}, "
        "whose confidences mean little."
        for exit_ in facts.exits
        if not _is_determined(exit_)
    ]
    return "\n".join([*lines, *(line for sentence in why for line in ("", sentence))])


def _calibrated_by(exits: Sequence[ExitCalibration], exit_: ExitCalibration) -> str:
    if exit_.combination is None:
        return f"{exit_.temperature:.3f}"
    weights = zip((one.exit_layer for one in exits), exit_.combination.weights)
    return ", ".join(f"{layer}: {weight:.3g}" for layer, weight in weights if weight != 0)


def _is_determined(exit_: ExitCalibration) -> bool:
    if exit_.combination is None:
        return exit_.is_determined
    return exit_.combination.why_undetermined is None


def _tradeoff(facts: CardFacts) -> str:
    thresholds = sorted({*SHOWN_THRESHOLDS, facts.threshold})
    rows = []
    for threshold in thresholds:
        point = operating_point(facts.curve, threshold)
        mark = " (default)" if threshold == facts.threshold else ""
        row = [f"{shortest(threshold)}{mark}", f"{point.accuracy:.4f}"]
        rows.append([*row, f"{point.layer_equivalents:.2f}", times(point.speed_up)])
    header = ["threshold", "accuracy", "layer-equivalents", "speed-up"]
    return "\n".join(
        [
            "## Accuracy against speed",
            "",
            _table(header, rows, "rrrr"),
            "",
            f"Of the {facts.curve.num_instances:,} texts that the model was calibrated on: "
            "**on new texts accuracy is likely to be a little lower.** Training may have chosen "
            "its best epoch by them, too. The speed-up is in layer-equivalents, against all "
            "layers; `allennlp tradeoff --measure` measures both on other texts.",
        ]
    )


def _limits(facts: CardFacts) -> str:
    if facts.window is None:
        read = (
            f"- Of a text no more than {facts.max_tokens:,} word pieces are read, the special ones "
            "included; what follows is cut off."
        )
    else:
        read = (
            f"- Longer texts are read in windows of {facts.window:,} word pieces until the model "
            f"is sure, no more than {facts.max_tokens:,} in all. The numbers here are of first "
            "windows."
        )
    kind = {
        True: "It answers pairs of texts, such as it was trained on; single texts mean nothing "
        "to it.",
        False: "It answers single texts, such as it was trained on; pairs of texts mean nothing "
        "to it.",
        None: "It answers what it was trained on, single texts or pairs of texts.",
    }[facts.are_pairs]
    lines = [
        "## Limits",
        "",
        read,
        f"- {kind}",
        "- Confidences are calibrated for texts of the kind of those above. For texts of another "
        "kind, topic or language they may be far too high, and so may the accuracy that a "
        "threshold promises: calibrate with such texts (`allennlp calibrate`), or do not exit "
        "early.",
        "- It knows the labels above alone, and gives one of them to any text.",
    ]
    if facts.min_seen_share is not None:
        lines.append(
            f"- Texts of whose n-grams training had less than {100 * facts.min_seen_share:.0f} % "
            "do not exit before the transformer (`min_seen_share`). That finds texts of another "
            "language or kind, not all of them."
        )
    return "\n".join(lines)


def _origin(facts: CardFacts) -> str:
    rows = [[name, as_code(version)] for name, version in facts.versions.items()]
    return "\n".join(
        ["## Made with", "", _table(["package", "version"], rows), "", f"The method is of {_PAPER}"]
    )


_RULES: Dict[str, str] = {"l": "---", "r": "---:"}


def _table(header: Sequence[str], rows: Sequence[Sequence[str]], sides: str = "") -> str:
    """A table; `sides` has an l or an r for each column, at which its cells stand."""
    rules = [_RULES[side] for side in sides or "l" * len(header)]
    lines: List[Sequence[str]] = [header, rules, *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
