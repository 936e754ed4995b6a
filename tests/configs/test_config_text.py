import json
import shutil

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sledgehammer_allennlp.configs import SETTINGS_FILE
from sledgehammer_allennlp.configs.choices import Choice, choose_data
from sledgehammer_allennlp.configs.config_text import comment, config_text

names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(names, names, names, st.lists(names, max_size=3))
def test_a_config_evaluates_to_what_was_chosen(tmp_path, train, dev, model, facts):
    _jsonnet = pytest.importorskip("_jsonnet")
    shutil.copy(SETTINGS_FILE, tmp_path)
    choices = [
        *choose_data(train, dev, None),
        Choice("transformer_model", model, f"It is {model}."),
        Choice("exit_layers", [0, 2], "Two."),
        Choice("max_length", 48, train),
        Choice("batch_size", 3, ""),
        Choice("num_epochs", 4, ""),
    ]
    (tmp_path / "mine.jsonnet").write_bytes(config_text(facts, choices).encode("utf-8"))
    config = json.loads(_jsonnet.evaluate_file(str(tmp_path / "mine.jsonnet")))
    assert (config["train_data_path"], config["validation_data_path"]) == (train, dev)
    assert config["model"]["transformer_model"] == model
    assert config["dataset_reader"]["tokenizer"]["model_name"] == model
    assert config["dataset_reader"]["tokenizer"]["max_length"] == 48
    assert config["model"]["exit_layers"] == [0, 2]
    assert config["data_loader"]["batch_sampler"]["batch_size"] == 3
    assert config["trainer"]["num_epochs"] == 4


@given(st.text(max_size=200))
def test_whatever_stands_in_a_comment_stays_in_it(text):
    for line in comment(text):
        assert line.startswith("//")
        assert line.isprintable()
