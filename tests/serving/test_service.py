"""The service in a process of its own, by its addresses."""

import argparse
import json
import os
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from sledgehammer_allennlp.serving.command import add_arguments
from sledgehammer_allennlp.serving.interfaces import read_v2
from tests.serving.archives import LABELS
from tests.tiny import SENTENCES


def assert_same(answer, wanted, threshold):
    """A threshold that fell within rounding of a confidence is not looked for: none does."""
    assert answer["threshold"] == threshold
    assert set(answer) == {*wanted, "threshold"}
    assert (answer["label"], answer["exit_layer"]) == (wanted["label"], wanted["exit_layer"])
    for key in ("logits", "probs", "confidence"):
        assert answer[key] == pytest.approx(wanted[key], abs=1e-5)


def test_a_sentence_is_answered_as_predict_does_at_the_services_threshold(service, alone):
    status, answer = service.send("/answer", {"sentence": SENTENCES[0]})
    assert status == 200
    assert_same(answer, alone(SENTENCES[:1], 0.7)[0], 0.7)


def test_a_list_of_sentences_and_pairs_with_thresholds_is_answered_in_order(service, alone):
    given = [
        {"sentence": SENTENCES[0], "threshold": 0},
        {"premise": SENTENCES[1], "hypothesis": SENTENCES[2], "threshold": 1},
        {"sentence": SENTENCES[3]},
        {"sentence": ""},
    ]
    status, answers = service.send("/answer", given)
    assert status == 200
    texts = [SENTENCES[0], (SENTENCES[1], SENTENCES[2]), SENTENCES[3], ""]
    assert len(answers) == 4
    for answer, text, threshold in zip(answers, texts, [0.0, 1.0, 0.7, 0.7]):
        assert_same(answer, alone([text], threshold)[0], threshold)
    assert service.send("/answer", []) == (200, [])


def test_keys_are_kept_and_only_some_labels_are_given(service, alone):
    asked = {"sentence": SENTENCES[0], "id": {"a": [1]}, "b": None, "keep": ["id", "b"]}
    status, answer = service.send("/answer", {**asked, "top_labels": 2, "threshold": 1})
    (wanted,) = alone(SENTENCES[:1], 1.0)
    best = sorted(zip(wanted["probs"], LABELS), reverse=True)[:2]
    assert status == 200
    assert answer["id"] == {"a": [1]} and answer["b"] is None
    assert [one["label"] for one in answer["top_labels"]] == [label for _, label in best]
    assert [one["probability"] for one in answer["top_labels"]] == pytest.approx(
        [probability for probability, _ in best], abs=1e-5
    )
    assert "probs" not in answer and "logits" not in answer


BAD_ANSWERS = {
    "3": "the input is 3: wanted",
    '{"text": "good"}': "the input has the keys 'text': wanted",
    '{"sentence": 3}': "the value of 'sentence' is 3: wanted",
    '{"sentence": "a", "threshold": "high"}': "'threshold' is 'high': wanted a number from 0 to 1",
    '{"sentence": "a", "threshold": -0.1}': "'threshold' is -0.1: wanted",
    '{"sentence": "a", "threshold": 1.1}': "'threshold' is 1.1: wanted",
    '{"sentence": "a", "threshold": true}': "'threshold' is True: wanted",
    '{"sentence": "a", "threshold": 1e999}': "'threshold' is inf: wanted",
    '[{"sentence": "a"}, {"sentence": "b", "threshold": 2}]': "[1]: 'threshold' is 2: wanted",
    '{"sentence": "a", "keep": "id"}': "'keep' is 'id': wanted a list",
    '{"sentence": "a", "keep": ["id"]}': "'keep' has 'id', which is no key",
    '{"sentence": "a", "label": 1, "keep": ["label"]}': "'label', which is a key of the answer",
    '{"sentence": "a", "best_label": 1, "keep": ["best_label"]}': "is a key of the answer",
    '{"sentence": "a", "top_labels": 0}': "'top_labels' is 0: wanted a positive integer",
}


@pytest.mark.parametrize("body", BAD_ANSWERS)
def test_what_cannot_be_answered_is_refused_by_the_field_its_value_and_what_was_wanted(
    service, body
):
    status, answer = service.send("/answer", raw=body.encode())
    assert status == 422
    assert BAD_ANSWERS[body] in answer["error"]


BAD_BODIES = {
    b"": "the body is empty",
    b"{": "the body is not JSON",
    b'{"sentence": "a", "threshold": NaN}': "NaN, which is no number",
    b"\xff\xfe": "the body is not JSON",
    b"[" * 100_000: "nested too deeply",
}


@pytest.mark.parametrize("body", BAD_BODIES, ids=range(len(BAD_BODIES)))
@pytest.mark.parametrize("path", ["/answer", "/predict", "/exits"])
def test_what_is_not_json_is_refused(service, path, body):
    status, answer = service.send(path, raw=body)
    assert status == 400
    assert BAD_BODIES[body] in answer["error"]


def test_lone_surrogates_are_answered(service, alone):
    status, answer = service.send("/answer", raw=b'{"sentence": "\\ud800 good", "threshold": 1}')
    assert status == 200
    assert_same(answer, alone(["\ufffd good"], 1.0)[0], 1.0)


def test_answers_can_be_read_as_they_come_in_any_alphabet(service):
    body = b'{"sentence": "good", "keep": ["id"], "id": "\\u00e9\\ud800"}'
    with urllib.request.urlopen(f"{service.address}/answer", body, timeout=60) as response:
        answer = response.read()
    assert '"é\\ud800"' in answer.decode("utf-8")
    assert json.loads(answer)["id"] == "é\ud800"


def test_unknown_addresses_and_methods_are_refused_in_json(service):
    assert service.send("/nothing")[0] == 404
    status, answer = service.send("/answer")
    assert status == 405
    assert answer == {"error": "found the method GET, which this address does not take: see /docs"}


def test_info_has_no_path_and_no_version(service, served):
    status, info = service.send("/info")
    assert status == 200
    assert info["labels"] == LABELS
    assert info["exit_layers"] == [-1, 0, 2, 3]
    assert (info["threshold"], info["lowest_threshold"]) == (0.7, 0.7)
    assert info["max_tokens"] == 64
    assert str(served.parent) not in str(info)


def test_the_schema_of_every_interface_is_given(service):
    status, schema = service.send("/openapi.json")
    assert status == 200
    for path in ("/answer", "/predict", "/v2/models/{name}/infer"):
        body = schema["paths"][path]["post"]["requestBody"]
        example = body["content"]["application/json"]["example"]
        status, _ = service.send(path.replace("{name}", "run"), example)
        assert status == 200
    assert service.send("/docs")[0] == 200


def test_answers_are_as_the_schema_says(service):
    jsonschema = pytest.importorskip("jsonschema", reason="comes with AllenNLP")
    paths = service.send("/openapi.json")[1]["paths"]
    one = {"sentence": SENTENCES[0]}
    for path, bodies in {
        "/answer": [one, {**one, "top_labels": 2}, [one, one]],
        "/predict": [{"inputs": SENTENCES[0]}, {"inputs": [[SENTENCES[0]]]}],
        "/exits": [one],
        "/v2/models/{name}/infer": [
            {"inputs": [{"name": "text", "datatype": "BYTES", "shape": [1], "data": ["good"]}]}
        ],
    }.items():
        responses = paths[path]["post"]["responses"]
        schema = responses["200"]["content"]["application/json"]["schema"]
        for body in bodies:
            status, answer = service.send(path.replace("{name}", "run"), body)
            assert status == 200
            jsonschema.validate(answer, _without_other_keys(schema))
        status, error = service.send(path.replace("{name}", "run"), {})
        assert status == 422
        jsonschema.validate(error, responses["422"]["content"]["application/json"]["schema"])


def _without_other_keys(schema):
    """A schema of which objects may have no keys but those that it names."""
    if isinstance(schema, list):
        return [_without_other_keys(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    strict = {key: _without_other_keys(value) for key, value in schema.items()}
    return {**strict, "additionalProperties": False} if "properties" in schema else strict


def test_metrics_count_texts_where_they_exit_and_what_they_cost(service):
    def numbers():
        _, written = service.send("/metrics")
        lines = [line.rsplit(" ", 1) for line in written.splitlines() if line[0] != "#"]
        return {name: float(number) for name, number in lines}

    before = numbers()
    asked = [{"sentence": text, "threshold": 1} for text in SENTENCES[:3]]
    service.send("/answer", [*asked, {"sentence": "a" + " a" * 62, "threshold": 0}])
    service.send("/answer", 3)
    after = numbers()

    def increase(name):
        return after[name] - before.get(name, 0)

    assert increase("sledgehammer_texts_total") == 4
    assert increase("sledgehammer_texts_cut_total") == 1
    assert increase('sledgehammer_exits_total{exit_layer="3"}') == 3
    assert increase('sledgehammer_exits_total{exit_layer="-1"}') == 1
    per_text = 3 + 2 * 32 / (4 * 32 + 2 * 64)
    assert increase("sledgehammer_layer_equivalents_total") == pytest.approx(3 * per_text)
    assert increase('sledgehammer_requests_total{interface="answer",status="200"}') == 1
    assert increase('sledgehammer_requests_total{interface="answer",status="422"}') == 1
    assert increase('sledgehammer_seconds_count{stage="total"}') == 1
    assert after["sledgehammer_threshold"] == 0.7
    assert after["sledgehammer_queued_tokens"] == 0


def test_what_each_exit_would_answer(service, alone):
    status, found = service.send("/exits", {"sentence": SENTENCES[0]})
    assert status == 200
    assert [one["exit_layer"] for one in found] == [-1, 0, 2, 3]
    for threshold in (0.0, 0.7, 1.0):
        (wanted,) = alone(SENTENCES[:1], threshold)
        (at_exit,) = [one for one in found if one["exit_layer"] == wanted["exit_layer"]]
        assert at_exit["label"] == wanted["label"]
        assert at_exit["probs"] == pytest.approx(wanted["probs"], abs=1e-5)
        assert at_exit["confidence"] == pytest.approx(wanted["confidence"], abs=1e-5)
    costs = [one["layer_equivalents"] for one in found]
    assert costs == sorted(costs) and costs[0] == 0


class TestEmbeddingsInference:
    def test_a_text_is_answered_by_descending_score(self, service, alone):
        status, found = service.send("/predict", {"inputs": SENTENCES[0]})
        assert status == 200
        (wanted,) = alone(SENTENCES[:1], 0.7)
        assert found[0]["label"] == wanted["label"]
        scores = [one["score"] for one in found]
        assert scores == sorted(scores, reverse=True)
        assert {one["label"]: one["score"] for one in found} == pytest.approx(
            dict(zip(LABELS, wanted["probs"])), abs=1e-5
        )

    def test_two_texts_in_one_list_are_a_pair(self, service, alone):
        pair = SENTENCES[:2]
        _, found = service.send("/predict", {"inputs": pair, "threshold": 1})
        _, in_batch = service.send("/predict", {"inputs": [pair], "threshold": 1})
        (wanted,) = alone([tuple(pair)], 1.0)
        assert in_batch == [found]
        assert found[0]["score"] == pytest.approx(max(wanted["probs"]), abs=1e-5)

    def test_a_batch_is_a_list_of_lists(self, service, alone):
        batch = [[SENTENCES[0]], SENTENCES[1:3], [SENTENCES[3]]]
        status, found = service.send("/predict", {"inputs": batch})
        assert status == 200
        texts = [SENTENCES[0], tuple(SENTENCES[1:3]), SENTENCES[3]]
        wanted = [alone([text], 0.7)[0]["label"] for text in texts]
        assert [one[0]["label"] for one in found] == wanted

    def test_raw_scores_are_logits(self, service, alone):
        _, found = service.send("/predict", {"inputs": SENTENCES[0], "raw_scores": True})
        (wanted,) = alone(SENTENCES[:1], 0.7)
        assert [one["score"] for one in found] == pytest.approx(
            sorted(wanted["logits"], reverse=True), abs=1e-4
        )

    def test_a_text_that_is_too_long_is_truncated_or_refused(self, service):
        long = "good " * 100
        assert service.send("/predict", {"inputs": long})[0] == 200
        status, found = service.send("/predict", {"inputs": long, "truncate": False})
        assert status == 413
        assert "more than 64 tokens" in found["error"]

    @pytest.mark.parametrize(
        "body, wanted",
        [
            ({}, "wanted an object with 'inputs'"),
            ({"inputs": 3}, "'inputs' is 3: wanted"),
            ({"inputs": []}, "'inputs' is []: wanted"),
            ({"inputs": ["a", "b", "c"]}, "'inputs' is ['a', 'b', 'c']: wanted"),
            ({"inputs": [["a"], "b", ["c", 3]]}, "'inputs'[2] is ['c', 3]: wanted"),
            ({"inputs": "a", "raw_scores": 1}, "'raw_scores' is 1: wanted true or false"),
            ({"inputs": "a", "parameters": 3}, "'parameters' is 3: wanted an object"),
        ],
    )
    def test_other_inputs_are_refused(self, service, body, wanted):
        status, found = service.send("/predict", body)
        assert status == 422
        assert wanted in found["error"]

    def test_the_client_of_the_hub_is_answered(self, service, alone):
        hub = pytest.importorskip("huggingface_hub")
        if not hasattr(hub, "InferenceClient"):
            pytest.skip("this huggingface_hub has no InferenceClient")
        program = (
            "import sys, json; from huggingface_hub import InferenceClient; "
            "found = InferenceClient(model=sys.argv[1]).text_classification(sys.argv[2]); "
            "print(json.dumps([[one.label, one.score] for one in found]))"
        )
        found = subprocess.run(
            [sys.executable, "-c", program, service.address, SENTENCES[0]],
            env={**os.environ, "HF_HUB_OFFLINE": "0"},  # else it refuses this machine, too
            stdout=subprocess.PIPE,
            check=True,
        )
        labels, scores = zip(*json.loads(found.stdout))
        (wanted,) = alone(SENTENCES[:1], 0.7)
        assert labels[0] == wanted["label"]
        assert list(scores) == pytest.approx(sorted(wanted["probs"], reverse=True), abs=1e-5)


class TestV2:
    def tensor(self, name, texts):
        return {"name": name, "datatype": "BYTES", "shape": [len(texts)], "data": texts}

    def test_texts_are_answered(self, service, alone):
        asked = {
            "id": "x",
            "inputs": [self.tensor("text", SENTENCES[:3])],
            "parameters": {"threshold": 1},
        }
        status, found = service.send("/v2/models/run/infer", asked)
        assert status == 200
        assert (found["model_name"], found["id"]) == ("run", "x")
        outputs = {one["name"]: one for one in found["outputs"]}
        wanted = alone(SENTENCES[:3], 1.0)
        assert outputs["label"]["data"] == [one["label"] for one in wanted]
        assert outputs["exit_layer"]["data"] == [3, 3, 3]
        assert outputs["probs"]["shape"] == [3, 3]
        assert outputs["probs"]["data"] == pytest.approx(
            [p for one in wanted for p in one["probs"]], abs=1e-5
        )

    def test_a_label_that_is_none_is_written_as_an_empty_text(self):
        asked = {"inputs": [self.tensor("text", SENTENCES[:2])], "outputs": [{"name": "label"}]}
        written = read_v2(asked, "run", 3).write([{"label": None}, {"label": "pos"}])
        assert written["outputs"][0]["data"] == ["", "pos"]

    def test_pairs_are_answered_and_only_some_outputs_given(self, service, alone):
        asked = {
            "inputs": [
                self.tensor("text", SENTENCES[:2]),
                self.tensor("text_pair", SENTENCES[2:4]),
            ],
            "outputs": [{"name": "label"}],
        }
        status, found = service.send("/v2/models/run/infer", asked)
        wanted = alone(list(zip(SENTENCES[:2], SENTENCES[2:4])), 0.7)
        assert status == 200
        assert found["outputs"] == [
            {
                "name": "label",
                "datatype": "BYTES",
                "shape": [2],
                "data": [one["label"] for one in wanted],
            }
        ]

    def test_health_server_and_model_are_described(self, service):
        assert service.send("/v2/health/live") == (200, {"live": True})
        assert service.send("/v2/health/ready") == (200, {"ready": True})
        assert service.send("/v2/models/run/ready") == (200, {"ready": True})
        assert service.send("/v2")[1]["name"] == "sledgehammer_allennlp"
        status, model = service.send("/v2/models/run")
        assert status == 200
        assert [one["name"] for one in model["inputs"]] == ["text", "text_pair"]
        for path in ("/v2/models/other", "/v2/models/other/ready"):
            status, found = service.send(path)
            assert status == 404
            assert found["error"] == "the model is 'other': wanted 'run'"

    @pytest.mark.parametrize(
        "change, wanted",
        [
            ({"name": "input"}, "'inputs'[0].name is 'input': wanted 'text' or 'text_pair'"),
            ({"datatype": "FP32"}, "'inputs'[0].datatype is 'FP32': wanted 'BYTES'"),
            ({"shape": [3]}, "'inputs'[0].shape is [3]: wanted [2]"),
            ({"data": None}, "'inputs'[0] has no 'data'"),
            ({"data": ["a", 3]}, "'inputs'[0].data is ['a', 3]: wanted a list of texts"),
            ({"name": "text_pair"}, "wanted 'text'"),
        ],
    )
    def test_other_tensors_are_refused(self, service, change, wanted):
        asked = {"inputs": [{**self.tensor("text", ["a", "b"]), **change}]}
        status, found = service.send("/v2/models/run/infer", asked)
        assert status == 422
        assert wanted in found["error"]


def test_the_image_copies_what_there_is_and_starts_the_service():
    root = Path(__file__).parents[2]
    instructions = [
        line.split(" ", 1)
        for line in (root / "Dockerfile").read_text().splitlines()
        if line and line[0] != "#"
    ]
    kept = (root / ".dockerignore").read_text().splitlines()
    copied = [name for what, rest in instructions if what == "COPY" for name in rest.split()[:-1]]
    assert "sledgehammer_allennlp" in copied and "setup.py" in copied
    assert all((root / name).exists() and f"!{name}" in kept for name in copied)
    (entrypoint,) = [json.loads(rest) for what, rest in instructions if what == "ENTRYPOINT"]
    assert entrypoint[:4] == ["python", "-m", "sledgehammer_allennlp", "serve"]
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    args = parser.parse_args([*entrypoint[4:], "--threshold", "0.9"])
    assert (args.archive_file, args.host) == ("/model.tar.gz", "0.0.0.0")
    assert ["USER", "service"] in instructions
