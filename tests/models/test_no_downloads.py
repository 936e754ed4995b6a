"""Loading an archive fetches and installs nothing, also where AllenNLP's defaults would."""

import logging
import socket
import subprocess

import pytest

pytest.importorskip("allennlp")

from allennlp.common import util
from allennlp.common.checks import ConfigurationError
from allennlp.data import DatasetReader
from allennlp.data.dataset_readers import TextClassificationJsonReader

from sledgehammer_allennlp.archives import load_archived_classifier
from sledgehammer_allennlp.models.checked_archive import check_archive, load_checked_archive


@DatasetReader.register("own_json_reader")
class OwnJsonReader(TextClassificationJsonReader):
    pass


@pytest.fixture
def fetched(monkeypatch):
    """What is fetched or started, none of which happens."""
    asked = []

    def refuse(what):
        def ask(*args, **kwargs):
            asked.append(what)
            raise OSError(f"{what} is closed here")

        return ask

    monkeypatch.setattr(util.spacy, "load", refuse("spacy.load"))
    monkeypatch.setattr(util, "spacy_download", refuse("spacy_download"))
    monkeypatch.setattr(socket.socket, "connect", refuse("connect"))
    monkeypatch.setattr(socket, "getaddrinfo", refuse("getaddrinfo"))
    monkeypatch.setattr(subprocess.Popen, "__init__", refuse("Popen"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("transformers.utils.hub._is_offline_mode", False, raising=False)
    return asked


SPACY = "config key dataset_reader.tokenizer.type is 'spacy', of AllenNLP, which may"


@pytest.mark.parametrize(
    "reader, message",
    [
        ({"type": "text_classification_json"}, SPACY),
        ({"type": "text_classification_json", "tokenizer": None}, SPACY),
        ({"type": "text_classification_json", "tokenizer": {}}, SPACY),
        ({"type": "snli"}, SPACY),
        ({"type": "own_json_reader"}, SPACY),
        (
            {
                "type": "text_classification_json",
                "tokenizer": "whitespace",
                "segment_sentences": True,
            },
            "config key dataset_reader.segment_sentences is True, for which AllenNLP downloads",
        ),
    ],
)
def test_a_reader_that_would_install_a_spacy_model_is_refused(hostile, fetched, reader, message):
    pytest.importorskip("allennlp_models.pair_classification")
    hostile.change("dataset_reader", reader)
    assert [message in problem for problem in check_archive(hostile.folder).problems] == [True]
    with pytest.raises(ConfigurationError) as refused:
        load_checked_archive(hostile.folder)
    assert message in str(refused.value)
    assert fetched == []


def test_with_trust_it_is_said_before_it_is_done(hostile, fetched, caplog):
    hostile.change("dataset_reader", {"type": "text_classification_json"})
    with pytest.raises(ConfigurationError, match="OSError: spacy_download is closed here"):
        load_checked_archive(hostile.folder, trust=True)
    assert fetched == ["spacy.load", "spacy_download"]
    said = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert SPACY in said[0].getMessage()


def test_without_allennlp_too_what_is_read_elsewhere_is_said(hostile, fetched, caplog, tmp_path):
    hostile.change("model", "transformer_model", str(tmp_path / "other"))
    with pytest.raises(ValueError, match="it has no config.json of .*other', which would be read"):
        load_archived_classifier(hostile.folder)
    assert not caplog.records
    with pytest.raises(ValueError, match="cannot read the configuration of transformer_model"):
        load_archived_classifier(hostile.folder, trust=True)
    assert "the archive is trusted, although it has no config.json" in caplog.text


@pytest.mark.parametrize("load", [load_checked_archive, load_archived_classifier])
def test_what_was_trained_is_loaded_without_a_network(trained, trained_with_heads, fetched, load):
    for archive in (trained["archive"], trained_with_heads):
        load(archive)
    assert fetched == []


@pytest.mark.parametrize("load", [load_checked_archive, load_archived_classifier])
def test_plugins_that_an_archive_names_are_not_imported(hostile, tmp_path, monkeypatch, load):
    (hostile.folder / ".allennlp_plugins").write_text("evil_plugin\n")
    (hostile.folder / "evil_plugin.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    monkeypatch.syspath_prepend(str(hostile.folder))
    load(hostile.folder)
    assert not (tmp_path / "ran").exists()
