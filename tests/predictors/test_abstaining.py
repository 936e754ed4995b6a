"""Answers that are "none of these": the same with AllenNLP and without."""

import json

import numpy as np
import pytest
import torch
from allennlp.commands.evaluate import evaluate_from_archive
from allennlp.common.checks import ConfigurationError
from allennlp.models import load_archive
from allennlp.predictors import Predictor

from sledgehammer_allennlp.archives import load_archived_classifier
from sledgehammer_allennlp.predictors.instance_serializer import InstanceSerializer
from tests.tiny import SENTENCES

TEXTS = SENTENCES[:12]


@pytest.fixture(scope="module")
def plain(trained):
    """What is answered without it, and a confidence in the middle."""
    answers = load_archived_classifier(trained["archive"]).predict(TEXTS)
    return answers, float(np.median([one["confidence"] for one in answers]))


def test_below_the_confidence_the_label_is_null_and_the_best_guess_beside_it(trained, plain):
    answers, middle = plain
    found = load_archived_classifier(trained["archive"], abstain_below=middle).predict(TEXTS)
    for one, without in zip(found, answers):
        is_none = without["confidence"] < middle
        assert one["label"] == (None if is_none else without["label"])
        assert one["best_label"] == without["label"]
        assert {**one, "label": without["label"]} == {**without, "best_label": without["label"]}
    assert {one["label"] is None for one in found} == {True, False}
    assert all("best_label" not in one for one in answers)


def test_the_predictor_and_instances_give_the_same(trained, plain):
    _, middle = plain
    wanted = load_archived_classifier(trained["archive"], abstain_below=middle).predict(TEXTS)
    overrides = json.dumps({"model.abstain_below": middle})
    predictor = Predictor.from_path(trained["archive"], overrides=overrides)
    found = predictor.predict_batch_json([{"sentence": text} for text in TEXTS])
    one_by_one = [
        predictor.predict_instance(predictor._dataset_reader.text_to_instance(text))
        for text in TEXTS
    ]
    for key in ("label", "best_label", "exit_layer"):
        names = [one[key] for one in wanted]
        assert [one[key] for one in found] == names == [one[key] for one in one_by_one]
    assert json.loads(predictor.dump_line(found[0])) == found[0]


def test_metrics_count_them(trained):
    data = trained["config"]["validation_data_path"]
    rates = []
    for abstain_below in (0.0, 0.9, 1.0):
        overrides = json.dumps({"model.abstain_below": abstain_below})
        metrics = evaluate_from_archive(trained["archive"], data, cmd_overrides=overrides)
        rates.append(metrics["abstain_rate"])
    assert rates[0] == 0 and rates == sorted(rates)
    assert load_archive(trained["archive"]).model.abstain_below is None


def test_lines_of_evaluate_have_null():
    outputs = {
        "confidence": torch.tensor([0.9, 0.2]),
        "exit_layer": torch.tensor([0, 3]),
        "label": ["pos", None],
        "best_label": ["pos", "neg"],
    }
    lines = InstanceSerializer()({}, outputs, None).split("\n")
    assert [json.loads(line)["label"] for line in lines] == ["pos", None]
    assert json.loads(lines[1])["best_label"] == "neg"


@pytest.mark.parametrize("value", [-0.1, 1.5, "0.5", True])
def test_another_value_is_refused(trained, value):
    overrides = json.dumps({"model.abstain_below": value})
    message = "abstain_below is .*: wanted a number from 0 to 1, or null"
    with pytest.raises(ConfigurationError, match=message):
        load_archive(trained["archive"], overrides=overrides)
    with pytest.raises(ValueError, match=message):
        load_archived_classifier(trained["archive"], abstain_below=value)
