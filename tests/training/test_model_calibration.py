"""Calibrating a model whose exits say what cannot be calibrated."""

import json
import logging
import re

import numpy as np
import pytest
import torch
from allennlp.data.data_loaders import SimpleDataLoader
from allennlp.models import load_archive

from sledgehammer_allennlp.calibration import TEMPERATURE_BOUNDS
from sledgehammer_allennlp.training import model_calibration
from sledgehammer_allennlp.training.full_depth import FullDepth, run_at_full_depth
from sledgehammer_allennlp.training.model_calibration import calibrate_model


def strict(text: str):
    """What a reader of JSON that knows no NaN and no Infinity reads."""

    def refuse(literal):
        raise AssertionError(f"{literal} is no JSON")

    return json.loads(text, parse_constant=refuse)


@pytest.fixture
def model(trained):
    return load_archive(trained["archive"]).model.eval()


@pytest.fixture
def warnings():
    """The messages of warnings of calibration, whatever training has done to pytest's handlers."""
    messages = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: messages.append(record.getMessage())
    model_calibration.logger.addHandler(handler)
    yield messages
    model_calibration.logger.removeHandler(handler)


def test_each_undetermined_temperature_has_one_warning_that_says_why(model, warnings):
    labels = np.array([0, 1, 0, 1, 1])
    right = np.eye(2)[labels]
    exits = [3e38 * right, 1e10 * (1 - right), np.zeros((5, 2)), right + 0.6 * np.eye(2)[0]]
    exits[3][0] = [0.4, 0.6]  # one is wrong
    logits = np.stack(exits).astype(np.float32)
    calibration = calibrate_model(model, FullDepth(logits, [None] * 4, labels))
    wanted = ["always right, so that the best would be 0. It is set to 1,"]
    wanted += ["no better than chance, .* infinite. It is set to 2.20265e\\+14,"]
    wanted += ["equal for all labels, .*. It is set to 1,"]
    assert len(warnings) == 3
    for layer, message, why in zip(model.exit_layers, warnings, wanted):
        assert re.search(f"of exit layer {layer}, whose accuracy on it is .*{why}", message)
    report = strict(calibration.report())
    assert [e["is_determined"] for e in report["exits"]] == [False, False, False, True]
    assert report["exits"][3]["why_undetermined"] is None
    assert model.temperatures.tolist() == [e["temperature"] for e in report["exits"]]
    # An exit that is worse than chance lets nobody leave for being sure, the others do.
    confidences = [
        answer.confidence
        for answer in model.predictions_at_exits(FullDepth(logits, [None] * 4, labels).scores())
    ]
    np.testing.assert_allclose(confidences[0], 1)
    np.testing.assert_allclose(confidences[1], 0.5, atol=1e-4)


def test_each_undetermined_combination_has_one_warning_that_says_why(model, warnings):
    labels = np.array([0, 1, 0, 1, 1])
    right = np.eye(2)[labels]
    logits = np.stack([1 - right, right, 2 * right, 1 - right]).astype(np.float32)
    full_depth = FullDepth(logits, [None] * 4, labels)
    calibrate_model(model, full_depth, combine_exits=True)
    found = [message for message in warnings if "combination of exit layer" in message]
    assert len(found) == len(warnings) == 4
    assert re.search("exit layer -1, .* is 0.000: it is no better than chance", found[0])
    assert re.search("exit layer 2, .* is 1.000: it is always right, so that the best", found[2])
    assert re.search("exit layer 3, .* is 1.000: it is always right, so that only", found[3])
    assert len(model.combination.weights) == 4
    calibrate_model(model, full_depth)
    assert model.combination.weights is None


@pytest.mark.parametrize("last_is_useless", [True, False])
def test_a_last_exit_without_weight_in_its_combination_is_warned_of(
    model, warnings, last_is_useless
):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 200)
    noise = rng.normal(size=(4, 200, 2))
    right = np.eye(2)[labels]
    logits = noise + right
    logits[3] = noise[3] - right if last_is_useless else noise[3] + right
    full_depth = FullDepth(logits.astype(np.float32), [None] * 4, labels)
    exits = calibrate_model(model, full_depth, combine_exits=True).exits
    assert (exits[3].combination.weights[3] == 0) == last_is_useless
    if not last_is_useless:
        assert not warnings
        return
    (warning,) = warnings
    assert "after layer 3, has weight 0" in warning and "at layers -1, 0, 2." in warning
    alone, combined = exits[3].accuracy, exits[3].combination.accuracy
    assert f"Alone its accuracy is {alone:.4f}, combined {combined:.4f}" in warning


@pytest.mark.parametrize("scale", [1e-30, 1e30, 1e36])
def test_a_model_with_logits_of_any_magnitude_is_calibrated_and_answers(trained, model, scale):
    """As for a model whose exits say the same, in other units."""
    archive = load_archive(trained["archive"])
    instances = list(archive.dataset_reader.read(trained["config"]["validation_data_path"]))
    loader = SimpleDataLoader(instances, 49, vocab=model.vocab)
    calibrate_model(model, run_at_full_depth(model, loader, -1))
    usual = model.temperatures.clone()
    with torch.no_grad():
        for classifier in model.exits.classifiers:
            classifier.linear.weight.mul_(scale)
            classifier.linear.bias.mul_(scale)
    (batch,) = list(loader)
    model.confidence_threshold = 0.8
    with torch.no_grad():
        before = model(**batch)  # with temperatures that do not go with it
    calibration = calibrate_model(model, run_at_full_depth(model, loader, -1))
    report = strict(calibration.report())
    lowest, highest = TEMPERATURE_BOUNDS
    assert all(lowest <= e["temperature"] <= highest for e in report["exits"])
    if scale != 1e36:
        torch.testing.assert_close(model.temperatures / scale, usual, rtol=1e-3, atol=0)
    model.get_metrics(reset=True)
    with torch.no_grad():
        output = model.make_output_human_readable(model(**batch))
    for answers in (before, output):
        assert answers["loss"].isfinite() and answers["logits"].isfinite().all()
        torch.testing.assert_close(answers["probs"].sum(-1), torch.ones(49))
        strict(json.dumps({name: answers[name].tolist() for name in ("probs", "logits", "loss")}))
    strict(json.dumps(model.get_metrics()))
    names = model.label_names()
    assert output["label"] == [names[index] for index in output["logits"].argmax(-1)]


def test_the_label_does_not_depend_on_the_temperature(trained, model):
    archive = load_archive(trained["archive"])
    instances = list(archive.dataset_reader.read(trained["config"]["validation_data_path"]))
    labels = set()
    for temperature in (*TEMPERATURE_BOUNDS, 1.0):
        model.temperatures.fill_(temperature)
        output = model.forward_on_instances(instances)
        labels.add(tuple(answer["label"] for answer in output))
    assert len(labels) == 1 and len(set(*labels)) == 2
