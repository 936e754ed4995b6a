"""A trained archive used without AllenNLP answers as it does with it."""

import io
import json
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
import torch

from sledgehammer_allennlp.archives import load_archived_classifier
from sledgehammer_allennlp.encoders import TokenBatch
from tests.tiny import SENTENCES, WITH_POSITIONS, needs_layout, tiny_experiment
from tests.tiny_runs import train_family

pytest.importorskip("allennlp")  # which makes the archives

TEXTS = ["the film was good", "", "this book was very bad indeed and long , all in all"]
PAIRS = [("the film was good", "it was a day"), ("a day", "her song was bad")]


@pytest.mark.parametrize("threshold", [0.0, 0.7, 1.0])
def test_it_answers_as_the_predictor(trained, threshold):
    from allennlp.predictors import Predictor

    predictor = Predictor.from_path(
        trained["archive"], overrides={"model.confidence_threshold": threshold}
    )
    for archive in (trained["archive"], trained["run"]):
        classifier = load_archived_classifier(archive, confidence_threshold=threshold)
        assert classifier.predict(TEXTS) == predictor.predict_batch_json(
            [{"sentence": text} for text in TEXTS]
        )
        assert classifier.predict(PAIRS) == predictor.predict_batch_json(
            [{"premise": premise, "hypothesis": hypothesis} for premise, hypothesis in PAIRS]
        )
    assert classifier.predict([]) == []


@pytest.mark.parametrize("confidence", ["learned", "patience", "max_probability"])
def test_with_heads_alignment_previous_logits_and_an_ensemble_it_answers_as_the_predictor(
    trained_with_heads, tmp_path, confidence
):
    from allennlp.predictors import Predictor

    overrides = {
        "model.confidence": confidence,
        "model.confidence_threshold": 0.6,
        "model.ensemble": "reached",
    }
    predictor = Predictor.from_path(trained_with_heads, overrides=overrides)
    with tarfile.open(trained_with_heads) as tar:
        tar.extractall(tmp_path, filter="data")
    given = {name.split(".")[1]: value for name, value in overrides.items()}
    wanted = predictor.predict_batch_json([{"sentence": text} for text in TEXTS])
    classifier = load_archived_classifier(trained_with_heads, **given)
    assert classifier.predict(TEXTS) == wanted
    assert classifier.exits.pair_texts.special_tokens.tolist() == [2, 3, 1, 1]  # [CLS], [SEP]
    assert classifier.predict(PAIRS) == predictor.predict_batch_json(
        [{"premise": premise, "hypothesis": hypothesis} for premise, hypothesis in PAIRS]
    )
    config = json.loads((tmp_path / "config.json").read_text())
    config["model"].update(given)
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert load_archived_classifier(tmp_path).predict(TEXTS) == wanted


def _with_combination(run: Path, weights) -> Path:
    state = torch.load(run / "best.th")
    state["combination._extra_state"] = torch.tensor(weights, dtype=torch.float64)
    torch.save(state, run / "best.th")
    return run


@pytest.mark.parametrize("threshold", [0.0, 0.7, 1.0])
def test_a_combined_archive_answers_as_the_predictor(trained, tmp_path, threshold):
    from allennlp.predictors import Predictor

    weights = [[2.0, 0, 0, 0], [1, 1, 0, 0], [0, 0.5, 2, 0], [1, 0, 1, 1]]
    run = _with_combination(_copy(trained, tmp_path, confidence_threshold=threshold), weights)
    classifier = load_archived_classifier(run)
    assert classifier.combination.weights == weights
    wanted = Predictor.from_path(run).predict_batch_json([{"sentence": text} for text in TEXTS])
    assert classifier.predict(TEXTS) == wanted
    alone = load_archived_classifier(trained["archive"], confidence_threshold=threshold)
    assert alone.combination.weights is None
    assert alone.predict(TEXTS)[0]["probs"] != wanted[0]["probs"]
    for answer in wanted:
        probs = torch.tensor(answer["logits"]).softmax(-1)  # of calibrated logits
        torch.testing.assert_close(probs, torch.tensor(answer["probs"]))


@pytest.mark.parametrize("weights", [[[1.0, 0], [0, 1]], (-torch.eye(4)).tolist()])
def test_a_combination_that_cannot_be_is_refused(trained, tmp_path, weights):
    from allennlp.models import load_archive

    run = _with_combination(_copy(trained, tmp_path), weights)
    for load in (load_archived_classifier, load_archive):
        with pytest.raises(ValueError, match="the combination of exits has .*: wanted"):
            load(run)


def test_an_archive_from_before_there_were_combinations_is_loaded(trained, tmp_path):
    run = _copy(trained, tmp_path)
    state = torch.load(run / "best.th")
    del state["combination._extra_state"]
    torch.save(state, run / "best.th")
    wanted = load_archived_classifier(trained["archive"]).predict(TEXTS)
    assert load_archived_classifier(run).predict(TEXTS) == wanted


def test_with_exits_as_recommended_it_answers_as_the_predictor(tiny_bert, tsv, tmp_path):
    from allennlp.commands.train import train_model
    from allennlp.common import Params
    from allennlp.predictors import Predictor

    exits = {"embedding_exit": "ngrams", "token_features": 8, "last_exit": "first_token"}
    train_model(Params(tiny_experiment(str(tiny_bert), tsv, **exits)), str(tmp_path / "run"))
    layers = set()
    for threshold in (0.0, 0.8, 0.99, 1.0):
        overrides = {"model.confidence_threshold": threshold}
        predictor = Predictor.from_path(str(tmp_path / "run" / "model.tar.gz"), overrides=overrides)
        classifier = load_archived_classifier(tmp_path / "run" / "model.tar.gz", threshold)
        assert classifier.exits.token_features == 8
        wanted = predictor.predict_batch_json([{"sentence": text} for text in SENTENCES])
        assert classifier.predict(SENTENCES) == wanted
        layers |= {answer["exit_layer"] for answer in wanted}
    assert {-1, 3} <= layers


@pytest.mark.parametrize("family", WITH_POSITIONS)
def test_every_family_with_positions_in_attention_answers_as_the_predictor(family, tmp_path, tsv):
    from allennlp.predictors import Predictor

    archive = train_family(tmp_path, family, tsv)
    layers = set()
    for threshold in (0.0, 0.8, 0.99, 1.0):
        overrides = {"model.confidence_threshold": threshold}
        predictor = Predictor.from_path(archive, overrides=overrides)
        classifier = load_archived_classifier(archive, confidence_threshold=threshold)
        wanted = predictor.predict_batch_json(
            [{"premise": premise, "hypothesis": hypothesis} for premise, hypothesis in PAIRS]
        )
        assert classifier.predict(PAIRS) == wanted
        layers |= {answer["exit_layer"] for answer in wanted}
    assert {-1, 3} <= layers


def test_it_needs_no_allennlp(trained):
    program = """
import sys
sys.modules["allennlp"] = None
from sledgehammer_allennlp import load_archived_classifier
classifier = load_archived_classifier(sys.argv[1], confidence_threshold=0.7)
print([answer["label"] for answer in classifier.predict(["the film was good", "it was bad"])])
assert not any(name.startswith("allennlp.") for name in sys.modules)
"""
    found = subprocess.run(
        [sys.executable, "-c", program, trained["archive"]], capture_output=True, text=True
    )
    assert found.returncode == 0, found.stderr
    wanted = load_archived_classifier(trained["archive"], confidence_threshold=0.7)
    labels = [answer["label"] for answer in wanted.predict(["the film was good", "it was bad"])]
    assert found.stdout.strip() == str(labels)


def test_settings_of_the_archive_hold_unless_others_are_given(trained, tmp_path):
    run = _copy(trained, tmp_path, confidence_threshold=0.25, precision="bfloat16", num_labels=2)
    classifier = load_archived_classifier(run)
    assert classifier.confidence_threshold == 0.25
    assert classifier.encoder.precision == "bfloat16"
    classifier = load_archived_classifier(run, confidence_threshold=0.0, precision="float32")
    assert classifier.confidence_threshold == 0.0
    assert classifier.encoder.precision == "float32"
    with pytest.raises(ValueError, match="confidence_threshold is 2: wanted"):
        load_archived_classifier(run, confidence_threshold=2)


def test_what_is_no_archive_of_ours_is_refused(trained, tmp_path):
    with pytest.raises(ValueError, match="there is no archive"):
        load_archived_classifier(tmp_path / "nothing.tar.gz")
    (tmp_path / "text.tar.gz").write_text("text")
    with pytest.raises(ValueError, match="cannot read the archive"):
        load_archived_classifier(tmp_path / "text.tar.gz")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="has no config.json"):
        load_archived_classifier(tmp_path / "empty")
    with pytest.raises(ValueError, match="of type 'basic_classifier': wanted 'multi_exit"):
        load_archived_classifier(_copy(trained, tmp_path / "a", type="basic_classifier"))
    with pytest.raises(ValueError, match="weights are not those of its config"):
        load_archived_classifier(_copy(trained, tmp_path / "b", exit_layers=[0]))
    without = _copy(trained, tmp_path / "c")
    (without / "best.th").unlink()
    with pytest.raises(ValueError, match="found no weights"):
        load_archived_classifier(without)


def test_a_member_outside_the_archive_is_refused(tmp_path):
    with tarfile.open(tmp_path / "evil.tar.gz", "w:gz") as tar:
        member = tarfile.TarInfo("../escaped")
        member.size = 4
        tar.addfile(member, io.BytesIO(b"evil"))
    with pytest.raises(ValueError, match="its member '../escaped' would be elsewhere"):
        load_archived_classifier(tmp_path / "evil.tar.gz")
    assert not (tmp_path.parent / "escaped").exists()


def test_learned_confidence_needs_heads_in_the_archive(trained):
    with pytest.raises(ValueError, match="confidence is 'learned', which takes heads, and the arc"):
        load_archived_classifier(trained["archive"], confidence="learned")


@needs_layout
def test_for_inference_only_it_answers_alike(trained):
    whole = load_archived_classifier(trained["archive"], confidence_threshold=0.7)
    small = load_archived_classifier(
        trained["archive"], confidence_threshold=0.7, inference_only=True
    )
    many = 4 * TEXTS
    assert small.predict(many) == whole.predict(many)
    # Few run in ONNX Runtime, for which weights that are given up are not kept.
    for found, wanted in zip(small.predict(TEXTS), whole.predict(TEXTS)):
        assert found["probs"] == pytest.approx(wanted["probs"], abs=1e-5)
        assert found["exit_layer"] == wanted["exit_layer"]
    assert sum(p.numel() for p in small.parameters()) < sum(p.numel() for p in whole.parameters())


@pytest.mark.parametrize(
    "texts, message",
    [
        ([TEXTS[0], PAIRS[0]], "found texts and pairs of texts: wanted .* one kind in a call"),
        ("the film was good", "found a text, 'the film was good': wanted a list"),
        ([("a", "b", "c")], r"found \('a', 'b', 'c'\): wanted"),
        ([3], "found 3: wanted"),
    ],
)
def test_what_is_neither_texts_nor_pairs_is_refused(trained, texts, message):
    with pytest.raises(ValueError, match=message):
        load_archived_classifier(trained["archive"]).predict(texts)


def test_code_in_an_archive_is_not_run(trained, tmp_path):
    def trust(config):
        config["dataset_reader"]["tokenizer"]["tokenizer_kwargs"] = {"trust_remote_code": True}

    run = _copy(trained, tmp_path, trust)
    (folder,) = (run / "vocabulary" / ".transformers").iterdir()
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    settings.update({"auto_map": {"AutoTokenizer": [None, "evil.Evil"]}, "tokenizer_class": "Evil"})
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    (folder / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Evil: pass\n")
    with pytest.raises(ValueError):
        load_archived_classifier(run)
    assert not (tmp_path / "ran").exists()


def test_weights_that_are_a_program_are_not_run(trained, tmp_path):
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    run = _copy(trained, tmp_path)
    torch.save({"weights": Evil()}, run / "best.th")
    with pytest.raises(ValueError, match="cannot read the weights .*best.th"):
        load_archived_classifier(run)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "change",
    [
        lambda config: config["dataset_reader"].update(tokenizer=None),
        lambda config: config["dataset_reader"].update(type="text_classification_json", rest=1),
        lambda config: config.update(validation_dataset_reader={"type": "mine"}),
        lambda config: config["dataset_reader"].update(
            type="snli",
            tokenizer={**config["dataset_reader"]["tokenizer"], "max_length": 5},
        ),
    ],
)
def test_readers_that_do_more_than_tokenise_are_not_imitated(trained, tmp_path, change):
    classifier = load_archived_classifier(_copy(trained, tmp_path, change))
    with pytest.raises(ValueError, match="how the archive's reader makes tokens is not known"):
        classifier.predict(TEXTS)
    output = classifier(TokenBatch.from_lists([[2, 5, 3]]))
    assert output.probs.shape == (1, 2)


def test_the_validation_reader_comes_first_as_in_predictors(trained, tmp_path):
    def shorten(config):
        reader = json.loads(json.dumps(config["dataset_reader"]))
        reader["tokenizer"]["max_length"] = 4
        config["validation_dataset_reader"] = reader

    classifier = load_archived_classifier(_copy(trained, tmp_path, shorten))
    assert classifier.max_length == 4


def test_labels_are_those_of_the_vocabulary_or_numbers(trained, tmp_path):
    run = _copy(trained, tmp_path / "a")
    (run / "vocabulary" / "labels.txt").write_bytes(b"p\ros\nne@@NEWLINE@@g")
    assert load_archived_classifier(run).labels == ["p\ros", "ne\ng"]
    run = _copy(trained, tmp_path / "b", num_labels=2)
    (run / "vocabulary" / "labels.txt").unlink()
    assert load_archived_classifier(run).labels == ["0", "1"]


def _copy(trained, folder: Path, change=lambda config: None, **settings) -> Path:
    """The run with a changed config, or other settings of its model."""
    shutil.copytree(trained["run"], folder / "run", ignore=shutil.ignore_patterns("*.tar.gz"))
    config = json.loads((folder / "run" / "config.json").read_text())
    config["model"].update(settings)
    change(config)
    (folder / "run" / "config.json").write_text(json.dumps(config))
    return folder / "run"
