"""The card that training writes, beside what the run knows."""

import json
import tarfile
from pathlib import Path

import pytest
from allennlp.commands.train import train_model
from allennlp.common import Params
from allennlp.models import load_archive

from sledgehammer_allennlp.archives import load_archived_classifier
from sledgehammer_allennlp.training.card_of_model import is_hub_name, look_like_pairs
from tests.archives.test_model_card import front_matter, rows_of
from tests.tiny import SENTENCES, tiny_experiment, write_tsv


def card_in(archive) -> str:
    with tarfile.open(archive) as tar:
        return tar.extractfile("model_card.md").read().decode("utf-8")


def test_the_card_has_the_numbers_of_the_report(trained):
    card = (trained["run"] / "model_card.md").read_text()
    assert card_in(trained["archive"]) == card
    report = json.loads((trained["run"] / "calibration.json").read_text())
    rows = rows_of(card)
    costs = trained["model"].exit_costs
    for exit_, cost in zip(report["exits"], costs):
        row = [str(exit_["exit_layer"]), f"{cost:.2f}", f"{exit_['accuracy']:.4f}"]
        assert [*row, f"{exit_['ece_after']:.4f}", f"{exit_['temperature']:.3f}"] in rows
    last = report["exits"][-1]["accuracy"]
    assert ["1 (default)", f"{last:.4f}", f"{costs[-1]:.2f}", "1x"] in rows


def test_the_card_has_the_datas_sizes_and_the_names_of_files_alone(trained):
    card = card_in(trained["archive"])
    rows = rows_of(card)
    num_good = sum("good" in text for text in SENTENCES)
    assert ["texts", "98", "49"] in rows
    assert ["label `pos`", str(2 * num_good), str(num_good)] in rows
    train = Path(trained["config"]["train_data_path"])
    assert f"`{train.parent.name}/train.tsv`" in card and str(train.parent) not in card
    assert "base_model" not in front_matter(card)  # which was a folder
    assert ["family", "BERT"] in rows and "pairs of texts mean nothing" in card
    assert "no more than 64 word pieces" in card


def test_the_card_of_combined_exits_has_their_weights(trained_with_heads):
    folder = Path(trained_with_heads).parent
    report = json.loads((folder / "calibration.json").read_text())
    rows = {row[0]: row for row in rows_of(card_in(trained_with_heads)) if len(row) == 5}
    layers = [exit_["exit_layer"] for exit_ in report["exits"]]
    for exit_ in report["exits"]:
        weights = zip(layers, exit_["combination"]["weights"])
        wanted = ", ".join(f"{layer}: {weight:.3g}" for layer, weight in weights if weight)
        assert rows[str(exit_["exit_layer"])][-1] == wanted
    assert f"{100 * report['min_seen_share']:.0f} %" in card_in(trained_with_heads)


@pytest.fixture
def train(tiny_bert, tsv, tmp_path):
    """Trains for an epoch, and gives the run's folder."""

    def run(callback="temperature_calibration", **settings):
        config = {**tiny_experiment(str(tiny_bert), tsv), **settings}
        config["trainer"].update(num_epochs=1, callbacks=[callback])
        train_model(Params(config), str(tmp_path / "run"))
        return tmp_path / "run"

    return run


def test_it_says_how_the_default_threshold_was_chosen(train):
    folder = train({"type": "temperature_calibration", "max_accuracy_drop": 0.02})
    card = (folder / "model_card.md").read_text()
    threshold = json.loads((folder / "calibration.json").read_text())["recommended_threshold"]
    (row,) = [row for row in rows_of(card) if row[0] == "default threshold"]
    shown = repr(threshold).removesuffix(".0")
    assert row[1].startswith(f"{shown}, the fastest on the texts that it was calibrated on")
    assert "2 points of accuracy lost" in row[1]
    assert [row for row in rows_of(card) if row[0] == f"{shown} (default)"]


def test_pairs_are_told_from_single_texts(train, tmp_path):
    pairs = write_tsv(tmp_path)["pairs"]
    folder = train(train_data_path=pairs, validation_data_path=pairs)
    assert "single texts mean nothing" in (folder / "model_card.md").read_text()


def test_data_that_is_read_lazily_is_not_read_once_more(train):
    loader = {"batch_size": 16, "max_instances_in_memory": 16}
    folder = train(data_loader=loader, validation_data_loader=loader)
    rows = rows_of((folder / "model_card.md").read_text())
    assert ["texts", "not known", "49"] in rows


def test_archives_without_a_card_load_as_ever(train):
    folder = train(include_in_archive=["calibration.json"])
    assert (folder / "model_card.md").exists()
    with tarfile.open(folder / "model.tar.gz") as tar:
        assert "model_card.md" not in tar.getnames()
    assert load_archive(folder / "model.tar.gz").model is not None
    classifier = load_archived_classifier(folder / "model.tar.gz")
    assert classifier.predict(["a day"])[0]["label"] in ("pos", "neg")


@pytest.mark.parametrize(
    "name, is_one",
    [
        ("bert-base-uncased", True),
        ("microsoft/MiniLM-L12", True),
        ("./models/mine", False),
        ("/models/mine", False),
        ("a/b/c", False),
        ("C:\\mine", False),
        ("here", False),
        (None, False),
    ],
)
def test_a_name_is_of_the_hub_if_no_folder_has_it(tmp_path, monkeypatch, name, is_one):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path)
    assert is_hub_name(name) is is_one


def test_no_instances_say_nothing_of_pairs():
    assert look_like_pairs([]) is None
