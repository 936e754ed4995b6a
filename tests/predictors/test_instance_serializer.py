import json

import pytest
import torch

from sledgehammer_allennlp.predictors import InstanceSerializer
from tests.models.test_multi_exit_classifier import LABELS, LENGTHS, make_model, tokens_of


@pytest.fixture
def model(tiny_bert):
    return make_model(tiny_bert).eval()


def serialized(model, batch):
    with torch.no_grad():
        output = model(**batch)
    lines = InstanceSerializer()(
        batch, dict(output), None, model.make_output_human_readable
    ).splitlines()
    return output, [json.loads(line) for line in lines]


@pytest.mark.parametrize("size", [1, 3, 6])  # 3 is the number of labels, too
def test_there_is_a_line_for_each_instance_with_its_own_answer(model, size):
    about = [{"line": 10 + i, "gold_label": "neg"} for i in range(size)]
    batch = {"tokens": tokens_of(LENGTHS[:size]), "label": LABELS[:size], "metadata": about}
    output, records = serialized(model, batch)
    assert [record["line"] for record in records] == list(range(10, 10 + size))
    assert all(record["gold_label"] == "neg" and "loss" not in record for record in records)
    for i, record in enumerate(records):
        assert record["probs"] == output["probs"][i].tolist()
        assert record["logits"] == output["logits"][i].tolist()
        assert record["confidence"] == output["confidence"][i].item()
        assert record["exit_layer"] == output["exit_layer"][i].item()
        assert record["label"] == ["neg", "pos", "so-so"][output["probs"][i].argmax()]


def test_metadata_may_be_missing_or_of_another_kind(model):
    for metadata in ({}, {"metadata": ["a", "b"]}):
        _, records = serialized(model, {"tokens": tokens_of([3, 4]), **metadata})
        assert [set(record) for record in records] == [
            {"label", "logits", "probs", "confidence", "exit_layer"}
        ] * 2


def test_without_labels_made_readable_there_are_the_models_own_outputs(model):
    batch = {"tokens": tokens_of([3, 4])}
    with torch.no_grad():
        output = model(**batch)
    lines = InstanceSerializer()(batch, output, None).splitlines()
    assert ["label" in json.loads(line) for line in lines] == [False, False]
