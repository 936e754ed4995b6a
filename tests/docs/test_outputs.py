"""The keys of answers and metrics that the reference lists are those that come out."""

import re
from pathlib import Path
from typing import Any, Dict, Set

from allennlp.commands.evaluate import evaluate_from_archive
from allennlp.predictors import Predictor

from sledgehammer_allennlp import load_archived_classifier
from sledgehammer_allennlp.models.exit_metrics import ExitMetrics

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "answers.md"
ALWAYS = {"label", "confidence", "exit_layer", "probs", "logits"}


def keys_of_answers() -> Set[str]:
    text = PAGE.read_text(encoding="utf-8").partition("## What others add")[0]
    terms = re.findall(r"^(`.*`)\n: ", text, re.MULTILINE)
    return {key for term in terms for key in re.findall(r"`(\w+)`", term)}


def test_answers_have_the_keys_that_the_page_lists(trained: Dict[str, Any]) -> None:
    found: Set[str] = set()
    for overrides, keys in [
        ({}, ALWAYS),
        ({"model.abstain_below": 0.5}, {*ALWAYS, "best_label"}),
        ({"model.windows": {"size": 4, "stride": 2}}, {*ALWAYS, "windows", "windows_read"}),
    ]:
        predictor = Predictor.from_path(trained["archive"], overrides=overrides)
        answer = predictor.predict_json({"sentence": "the film was good and long , all in all"})
        assert set(answer) == keys
        found |= keys
    predictor = Predictor.from_path(trained["archive"], top_labels=1)
    answer = predictor.predict_json({"sentence": "the film was good"})
    assert set(answer) == {*ALWAYS, "top_labels", "top_probs"} - {"probs", "logits"}
    assert keys_of_answers() == found | set(answer)
    (without_allennlp,) = load_archived_classifier(trained["archive"]).predict(["a day was bad"])
    assert set(without_allennlp) == ALWAYS


def metrics_listed() -> Set[str]:
    """With `<i>` where a layer stands."""
    items = re.findall(r"^    - (`.*?`):", ExitMetrics.__doc__ or "", re.MULTILINE)
    return {name for item in items for name in re.findall(r"`([\w<>]+)`", item)}


def test_evaluation_has_the_metrics_that_the_page_lists(
    trained: Dict[str, Any], tsv: Dict[str, str]
) -> None:
    found: Set[str] = set()
    for overrides in (
        {"model.confidence_threshold": 0.0},
        {"model.abstain_below": 0.0},
        {"model.windows": {"size": 4, "stride": 2}},
    ):
        metrics = evaluate_from_archive(trained["archive"], tsv["dev"], cmd_overrides=overrides)
        found |= {re.sub(r"_layer_-?\d+$", "_layer_<i>", name) for name in metrics}
    assert found - {"loss"} == metrics_listed()
