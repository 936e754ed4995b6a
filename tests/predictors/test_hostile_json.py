"""Any line is answered, or refused in words of ours."""

import json

import pytest
from allennlp.predictors import Predictor
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from sledgehammer_allennlp.archives import load_archived_classifier


@pytest.fixture(scope="module")
def predictor(trained):
    return Predictor.from_path(trained["archive"], overrides={"model.confidence_threshold": 0.6})


@pytest.fixture(scope="module")
def classifier(trained):
    return load_archived_classifier(trained["archive"], confidence_threshold=0.6)


def answer_to(predictor, line):
    return predictor.predict_json(predictor.load_line(line))


@pytest.mark.parametrize(
    "line, message",
    [
        ('{"sentence": "a", "sentence": "b"}', r"line \d+, .*the key 'sentence' twice: wanted"),
        ('{"premise": "a", "hypothesis": "b", "premise": "c"}', "the key 'premise' twice"),
        ('{"sentence": "a", "sentenc\\u0065": "b"}', "the key 'sentence' twice"),
        ("[" * 100_000, "not JSON: '\\[\\[.*wanted.*recursion"),
        ('{"sentence": "a", "id": ' + "[" * 100_000, "not JSON: .*wanted.*recursion"),
        ('{"sentence": ' + "[" * 500 + "]" * 500 + "}", r"'sentence' is \[\[\[+\.\.\..*wanted"),
        ('{"sentence": NaN}', "'sentence' is nan: wanted"),
        ('{"sentence": -Infinity}', "'sentence' is -inf: wanted"),
        ('{"sentence": 1' + "0" * 4000 + "}", r"'sentence' is 10*\.\.\.0*: wanted"),
        ('\ufeff{"sentence": "a"}', "not JSON: .*BOM"),
        ("\x1f\x8b\x08\x00\x00", "not JSON: .*wanted"),
        ('{"sentence": "a\x00"}', "not JSON: .*Invalid control character"),
        ("", "not JSON"),
        ("null", "the input is None: wanted"),
        ('"sentence"', "the input is 'sentence': wanted"),
        ('[{"sentence": "a", "sentence": "b"}]', r"the input is \[\{'sentence': 'b'\}\]: wanted"),
    ],
    ids=lambda value: value[:30],
)
def test_a_hostile_line_is_refused_in_our_words(predictor, line, message):
    with pytest.raises(ValueError, match=message) as raised:
        answer_to(predictor, line)
    assert len(str(raised.value)) < 1000


@pytest.mark.parametrize(
    "more",
    ['"id": 1, "id": 2', '"id": {"sentence": 1, "sentence": 2}', '"id": NaN', '"id": 1e999'],
)
def test_keys_that_are_ignored_may_be_anything(predictor, more):
    alone = predictor.predict("the film was good")
    assert answer_to(predictor, f'{{{more}, "sentence": "the film was good"}}') == alone
    assert answer_to(predictor, f'{{"sentence": "the film was good", {more}}}') == alone


def test_very_many_keys_and_very_large_values_make_a_short_message(predictor):
    wide = {str(number): number for number in range(10_000)}
    for given_ in (
        wide,
        {"sentence": wide},
        {"sentence": 10**10_000},
        {"sentence": b"\xff" * 10**6},
    ):
        with pytest.raises(ValueError, match="wanted") as raised:
            predictor.predict_json(given_)
        assert len(str(raised.value)) < 1000


anything = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=6,
)
texts = st.text(st.characters(), max_size=40)  # lone surrogates, NUL and line ends too
objects = st.fixed_dictionaries(
    {},
    optional={key: texts | anything for key in ("sentence", "premise", "hypothesis", "id")},
)


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.one_of(st.text(), anything.map(json.dumps), objects.map(json.dumps)))
def test_any_line_is_answered_or_refused(predictor, line):
    try:
        answer = answer_to(predictor, line)
    except ValueError as error:
        assert "wanted" in str(error)
        return
    assert answer["label"] in ("pos", "neg")
    json.loads(predictor.dump_line(answer))


SPECIAL = ["[PAD] " * 20, "[SEP] good [SEP]", "[CLS] bad", "[UNK][MASK]", "\ud800", "a\udcff", "\0"]


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(texts | st.sampled_from(SPECIAL), min_size=2, max_size=6), st.booleans())
@example(SPECIAL, False)
@example(SPECIAL, True)
def test_hostile_texts_are_answered_in_a_batch_as_alone(predictor, classifier, some, in_pairs):
    inputs = [{"sentence": text} for text in some]
    plain = list(some)
    if in_pairs:
        plain = list(zip(some, reversed(some)))
        inputs = [{"premise": first, "hypothesis": second} for first, second in plain]
    answers = predictor.predict_batch_json(inputs)
    assert classifier.predict(plain) == answers
    for given_, answer in zip(inputs, answers):
        alone = predictor.predict_json(given_)
        assert alone["logits"] == pytest.approx(answer["logits"], abs=1e-4)


@pytest.mark.parametrize("given_", [None, 3, b"good", {"sentence": "good"}, [b"good"], [("a",)]])
def test_what_is_no_list_of_texts_is_refused(classifier, given_):
    with pytest.raises(ValueError, match="wanted a list of texts, or of pairs of texts"):
        classifier.predict(given_)


@pytest.mark.parametrize("text", ["[PAD] " * 30, "good [PAD]", "[SEP] [SEP] bad"])
def test_special_tokens_in_a_text_move_no_boundary_of_a_pair(predictor, text):
    batch = predictor._dataset_reader.token_batch([text], ["a day"])
    # [CLS] and [SEP] around the first text; " a day [SEP]" is the second.
    assert batch.type_ids.tolist() == [0] * (len(text.split()) + 2) + [1] * 3
