import json

import pytest
from allennlp.common.checks import ConfigurationError
from allennlp.predictors import Predictor

from sledgehammer_allennlp.predictors.multi_exit_classifier import MultiExitClassifierPredictor

TEXTS = ["the film was good", "", "this book was very bad indeed", "naïve 😀 \u0000"]


@pytest.fixture(scope="module")
def predictor(trained):
    return Predictor.from_path(trained["archive"])


def test_it_is_the_default_predictor_and_answers_by_the_contract(predictor):
    answer = predictor.predict_json({"sentence": "the film was good", "id": 7})
    assert set(answer) == {"label", "probs", "confidence", "exit_layer", "logits"}
    assert answer["label"] in ("pos", "neg")
    assert answer["exit_layer"] == 3
    assert sum(answer["probs"]) == pytest.approx(1, abs=1e-6)
    assert answer["confidence"] == pytest.approx(max(answer["probs"]))
    json.loads(predictor.dump_line(answer))


def test_a_batch_is_answered_as_its_members_are(predictor):
    predictor._model.confidence_threshold = 0.6
    answers = predictor.predict_batch_json([{"sentence": text} for text in TEXTS])
    for text, answer in zip(TEXTS, answers):
        alone = predictor.predict(text)
        assert alone["exit_layer"] == answer["exit_layer"]
        assert alone["probs"] == pytest.approx(answer["probs"], abs=1e-5)
    predictor._model.confidence_threshold = 1.0


def test_a_pair_is_both_texts(predictor):
    pair = predictor.predict_pair("the film was good", "it was bad")
    keys = {"premise": "the film was good", "hypothesis": "it was bad"}
    assert predictor.predict_json(keys) == pair
    assert pair["logits"] != predictor.predict("the film was good")["logits"]


def test_a_very_long_text_is_answered(predictor):
    assert predictor.predict("good " * 10_000)["label"] in ("pos", "neg")


@pytest.mark.parametrize(
    "given, message",
    [
        ({"text": "good"}, r"has the keys 'text': wanted \{\"sentence\""),
        ({}, "has the keys none: wanted"),
        ({"premise": "good"}, "has the keys 'premise': wanted"),
        ({"sentence": None}, "the value of 'sentence' is None: wanted"),
        ({"sentence": ["good"]}, r"the value of 'sentence' is \['good'\]: wanted"),
        ({"premise": "good", "hypothesis": 3}, "the value of 'hypothesis' is 3: wanted"),
        (["good"], r"the input is \['good'\]: wanted"),
    ],
)
def test_bad_input_is_refused(predictor, given, message):
    with pytest.raises(ValueError, match=message):
        predictor.predict_json(given)


def test_a_line_that_is_not_json_is_refused(predictor):
    with pytest.raises(ValueError, match="line .*: the line is not JSON: 'good film': wanted"):
        predictor.load_line("good film")
    with pytest.raises(ValueError, match="line .*: the line is not JSON: .*wanted"):
        predictor.load_line("[" * 100_000)


def test_a_batch_of_nothing_has_no_answers(predictor):
    assert predictor.predict_batch_json([]) == []


@pytest.mark.parametrize("threshold", [0.0, 0.7, 1.0])
@pytest.mark.parametrize("pairs", [True, False])
def test_one_call_of_the_tokenizer_answers_as_instances_do(predictor, threshold, pairs):
    inputs = [
        {"premise": text, "hypothesis": TEXTS[i - 1]} if pairs else {"sentence": text}
        for i, text in enumerate([*TEXTS, "good " * 90])
    ]
    predictor._model.confidence_threshold = threshold
    found = predictor.predict_batch_json(inputs)
    wanted = Predictor.predict_batch_json(predictor, inputs)
    predictor._model.confidence_threshold = 1.0
    assert predictor._token_batch(inputs) is not None
    for answer, by_instance in zip(found, wanted):
        assert list(answer) == list(by_instance)
        assert [type(value) for value in answer.values()] == [
            type(value) for value in by_instance.values()
        ]
        for key in ("label", "exit_layer"):
            assert answer[key] == by_instance[key]
        for key in ("logits", "probs", "confidence"):
            assert answer[key] == pytest.approx(by_instance[key], abs=1e-5)


def test_instances_are_made_where_only_they_know_the_tokens(trained):
    predictor = Predictor.from_path(trained["archive"])
    mixed = [{"sentence": "good"}, {"premise": "good", "hypothesis": "bad"}]
    assert predictor._token_batch(mixed) is None
    assert len(predictor.predict_batch_json(mixed)) == 2
    assert predictor._token_batch(mixed[:1]) is not None
    indexers = predictor._dataset_reader._token_indexers
    indexers["tokens"]._max_length = 8
    assert predictor._token_batch(mixed[:1]) is None
    indexers["tokens"]._max_length = None
    indexers["more"] = indexers["tokens"]
    assert predictor._token_batch(mixed[:1]) is None


def test_what_a_subclass_does_otherwise_is_done(trained, predictor):
    class Mine(MultiExitClassifierPredictor):
        def _json_to_instance(self, json_dict):
            return super()._json_to_instance({"sentence": json_dict["text"]})

    mine = Mine(predictor._model, predictor._dataset_reader)
    assert mine.predict_json({"text": "good"}) == predictor.predict_json({"sentence": "good"})
    with predictor.capture_model_internals(r".*layer.*dense") as internals:
        predictor.predict("good")
    assert len(internals) > 0


def test_keys_that_are_kept_stand_beside_the_answer(trained, predictor):
    keeping = Predictor.from_path(trained["archive"], keep=["id", "label", "none"])
    inputs = [{"sentence": text, "id": n, "label": "x"} for n, text in enumerate(TEXTS)]
    answers = predictor.predict_batch_json(inputs)
    for n, (found, answer) in enumerate(zip(keeping.predict_batch_json(inputs), answers)):
        assert found == {"id": n, "input_label": "x", "none": None, **answer}
    line = keeping.load_line('{"sentence": "it was good", "id": [1]}')
    assert keeping.predict_json(line)["id"] == [1]


@pytest.mark.parametrize("number", [1, 2, 5])
def test_only_so_many_labels_the_most_probable_first(trained, predictor, number):
    some = Predictor.from_path(trained["archive"], top_labels=number)
    labels = predictor._model.label_names()
    for text in TEXTS:
        found, answer = some.predict(text), predictor.predict(text)
        assert set(found) == {"label", "confidence", "exit_layer", "top_labels", "top_probs"}
        assert found["top_labels"][0] == found["label"] == answer["label"]
        wanted = sorted(answer["probs"], reverse=True)[:number]
        assert found["top_probs"] == wanted
        assert found["top_labels"] == [labels[answer["probs"].index(prob)] for prob in wanted]


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"keep": "id"}, "keep is 'id': wanted a list"),
        ({"top_labels": 0}, "top_labels is 0: wanted"),
    ],
)
def test_settings_that_cannot_be_are_refused(trained, settings, message):
    with pytest.raises(ConfigurationError, match=message):
        Predictor.from_path(trained["archive"], **settings)
