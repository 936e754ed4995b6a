"""From sentences in several languages to predictions, with a model of the XLM-R family."""

import json

import numpy as np
import pytest
import torch

pytest.importorskip("allennlp")

from allennlp.commands.train import train_model
from allennlp.common import Params
from allennlp.models.archival import load_archive
from allennlp.predictors import Predictor
from transformers import AutoModel, AutoTokenizer

from sledgehammer_allennlp import load_archived_classifier
from tests.engine.plain_computation import Case, plain_combined, plain_logits, plain_rule
from tests.languages import LANGUAGES, other_texts, save_tiny_xlm_roberta, training_texts
from tests.ngrams import ngram_reference
from tests.tiny import save_tiny_bert, tiny_experiment

WITHOUT_SPACES = ["ja", "th"]
ODD = ["", "\ud800", "今夜は\udfff雪", "\u200f\u0e33", "ｶﾚｰ", "😀😀", "雨が" * 60, "e\u0301 ﷽"]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("languages")
    lines = [f"{label}\t{text}\n" for label, text in training_texts()]
    for name in ("train", "dev"):
        (folder / f"{name}.tsv").write_text("".join(lines), encoding="utf-8")
    return {name: str(folder / f"{name}.tsv") for name in ("train", "dev")}


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory):
    return save_tiny_xlm_roberta(tmp_path_factory.mktemp("pretrained") / "xlm-r")


def train(pretrained, data, folder):
    config = tiny_experiment(str(pretrained), data, embedding_exit="ngrams")
    config["trainer"]["optimizer"]["lr"] = 3e-3
    calibration = {"type": "temperature_calibration", "combine_exits": True}
    config["trainer"]["callbacks"] = [calibration]
    train_model(Params(config), str(folder))
    return folder


@pytest.fixture(scope="module")
def run(pretrained, data, tmp_path_factory):
    return train(pretrained, data, tmp_path_factory.mktemp("run") / "run")


@pytest.fixture(scope="module")
def classifier(run):
    return load_archived_classifier(run / "model.tar.gz")


@pytest.mark.parametrize("language", LANGUAGES)
def test_sentences_exit_at_the_ngrams_with_the_right_label(classifier, language):
    """New sentences of known words, which n-grams of pieces find where no space divides them."""
    classifier.confidence_threshold = 0.0
    labels, texts = zip(*other_texts(language))
    answers = classifier.predict(texts)
    assert {answer["exit_layer"] for answer in answers} == {-1}
    assert [answer["label"] for answer in answers] == list(labels)
    if language in WITHOUT_SPACES:
        assert not any(" " in text for text in texts)
        assert min(classifier.tokenize(texts).lengths) > 4  # more than one piece, and two specials


@pytest.mark.parametrize("threshold", [0.0, 0.9, 0.95, 0.97, 1.0])
def test_predictions_equal_a_plain_computation(classifier, pretrained, run, threshold, monkeypatch):
    """The library's tokens and forward, and the formulas of n-grams, exits and rule written out."""
    monkeypatch.setattr(ngram_reference, "FIRST", 0)
    monkeypatch.setattr(classifier.exits.ngrams, "min_seen_share", 0.0)
    classifier.confidence_threshold = threshold
    texts = [text for language in LANGUAGES for _, text in other_texts(language)]
    texts += [text for _, text in training_texts()[::7]]
    library = AutoModel.from_pretrained(pretrained).eval()
    state = classifier.encoder.transformer.state_dict()
    wrong_keys = library.load_state_dict(state, strict=False)
    # Old versions of the library keep their numbers of positions among the weights.
    others = [key for keys in wrong_keys for key in keys if "position_ids" not in key]
    assert all("pooler" in key for key in others)
    encoded = AutoTokenizer.from_pretrained(pretrained)(texts, padding=True, return_tensors="pt")
    ids, mask = encoded["input_ids"], encoded["attention_mask"].bool()
    case = Case(classifier.encoder, classifier.exits, library)
    logits = plain_logits(case, ids, mask, torch.zeros_like(ids))
    logits = plain_combined(logits, classifier.combination.weights)
    probs, exits = plain_rule(logits, np.ones(len(logits)), threshold)
    for i, answer in enumerate(classifier.predict(texts)):
        if np.abs(probs[:, i].max(-1) - threshold).min() > 1e-4 or threshold in (0, 1):
            assert answer["exit_layer"] == classifier.exits.exit_layers[exits[i]]
            np.testing.assert_allclose(answer["probs"], probs[exits[i], i], atol=1e-5)


def test_text_that_is_none_is_answered_alike_with_allennlp_and_without(classifier, run):
    classifier.confidence_threshold = 1.0
    answers = classifier.predict(ODD)
    predictor = Predictor.from_archive(load_archive(run / "model.tar.gz"))
    predictor._model.confidence_threshold = 1.0
    lines = [predictor.load_line(json.dumps({"sentence": text})) for text in ODD]
    for text, answer, other in zip(ODD, answers, predictor.predict_batch_json(lines)):
        assert answer["probs"] == pytest.approx(other["probs"], abs=1e-5)
        assert sum(answer["probs"]) == pytest.approx(1)
        readable = text.encode("utf-8", "surrogatepass").decode("utf-8", "replace")
        (alone,) = classifier.predict([readable])
        assert answer["probs"] == pytest.approx(alone["probs"], abs=1e-5)


def test_a_vocabulary_of_another_language_is_warned_of_and_a_fitting_one_is_not(
    run, data, tmp_path
):
    assert "unknown to the tokenizer" not in (run / "out.log").read_text(encoding="utf-8")
    english = save_tiny_bert(tmp_path / "english")
    log = (train(english, data, tmp_path / "run") / "out.log").read_text(encoding="utf-8")
    for name in ("train.tsv", "dev.tsv", "Of the texts that the n-gram exit is fitted to"):
        (line,) = [line for line in log.splitlines() if name in line and "[UNK]" in line]
        assert "multilingual" in line
