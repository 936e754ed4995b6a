"""Loading an archive runs nothing of it, where AllenNLP alone would."""

import json
import os
import pickle
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
import torch
import transformers

pytest.importorskip("allennlp")

from allennlp.common import Params
from allennlp.common.checks import ConfigurationError
from allennlp.data import DatasetReader
from allennlp.models import Model, load_archive

from sledgehammer_allennlp.archives import load_archived_classifier
from sledgehammer_allennlp.data import LabeledTsvReader
from sledgehammer_allennlp.models import MultiExitClassifier
from sledgehammer_allennlp.models.checked_archive import check_archive, load_checked_archive
from sledgehammer_allennlp.models.config_class_check import check_config
from tests.hostile import Hostile
from tests.test_weights_file import Touch

ROOT = Path(__file__).parents[2]


def unpickled_tokenizer(hostile: Hostile, marker: Path) -> None:
    """A tokenizer class of the transformers library that unpickles its vocabulary."""
    hostile.change_pretrained("tokenizer_config.json", tokenizer_class="TransfoXLTokenizer")
    for file in ("tokenizer.json", "vocab.txt"):
        (hostile.transformers / file).unlink()
    (hostile.transformers / "vocab.pkl").write_bytes(pickle.dumps(Touch(marker)))


def program_as_tokenizer(hostile: Hostile, marker: Path) -> None:
    hostile.change("dataset_reader", "tokenizer", "tokenizer_kwargs", {"trust_remote_code": True})
    auto_map = {"AutoTokenizer": [None, "evil.Evil"]}
    hostile.change_pretrained("tokenizer_config.json", auto_map=auto_map, tokenizer_class="Evil")
    program = f"import os\nos.mkdir({str(marker)!r})\nclass Evil: pass\n"
    (hostile.transformers / "evil.py").write_text(program)


def module_as_vocabulary(hostile: Hostile, marker: Path) -> None:
    (marker.parent / "evil_module.py").write_text(f"import os\nos.mkdir({str(marker)!r})\n")
    hostile.change("vocabulary", {"type": "evil_module.Vocabulary"})


def another_archive(hostile: Hostile, marker: Path) -> None:
    other = Hostile(hostile.folder, marker.parent / "other")
    other.change("dataset_reader", {"type": "os.mkdir", "path": str(marker)})
    pretrained = {"archive_file": other.pack(), "module_path": "encoder"}
    hostile.change("model", "exit_layers", {"_pretrained": pretrained})


def _changing(*keys, **settings):
    def change(hostile: Hostile, marker: Path) -> None:
        made = json.loads(json.dumps(settings).replace("MARKER", str(marker)))
        hostile.change(*keys, made)

    return change


MKDIR = {"type": "os.mkdir", "path": "MARKER"}
ATTACKS = {
    "reader": (_changing("dataset_reader", **MKDIR), r"dataset_reader.type is 'os.mkdir'"),
    "tokenizer": (
        _changing("dataset_reader", "tokenizer", type="subprocess.Popen", args=["mkdir", "MARKER"]),
        r"dataset_reader.tokenizer.type is 'subprocess.Popen', which is imported and called",
    ),
    "indexer": (
        _changing("dataset_reader", "token_indexers", tokens=MKDIR),
        r"dataset_reader.token_indexers.tokens.type is 'os.mkdir'",
    ),
    "loss": (_changing("model", "loss", **MKDIR), r"model.loss.type is 'os.mkdir'"),
    "regularizer": (
        _changing("model", "regularizer", regexes=[[".*", MKDIR]]),
        r"model.regularizer.regexes.0.1.type is 'os.mkdir'",
    ),
    "vocabulary": (module_as_vocabulary, r"vocabulary.type is 'evil_module.Vocabulary'"),
    "another archive": (another_archive, r"model.exit_layers._pretrained is .* another archive"),
    "program": (program_as_tokenizer, r"tokenizer_kwargs.trust_remote_code is True"),
    "unpickled tokenizer": (unpickled_tokenizer, r"tokenizer_class with 'TransfoXLTokenizer'"),
}
# Which the transformers library no longer does by itself.
STOPPED = {"unpickled tokenizer"} if int(transformers.__version__.split(".")[1]) >= 36 else set()

STOCK = """
import sys
import sledgehammer_allennlp
from allennlp.models import load_archive
for archive in sys.argv[1:]:
    try:
        load_archive(archive)
    except BaseException as error:
        print(type(error), error)
"""


def test_nothing_is_run_that_allennlp_alone_would_run(trained, tmp_path):
    archives, markers = {}, {}
    for number, (name, (attack, message)) in enumerate(ATTACKS.items()):
        hostile = Hostile(trained["run"], tmp_path / str(number))
        markers[name] = tmp_path / f"marker{number}"
        attack(hostile, markers[name])
        archives[name] = hostile.pack()
        with pytest.raises(ConfigurationError, match=message):
            load_checked_archive(archives[name])
        assert check_archive(archives[name]).problems
        with suppress(ValueError):
            load_archived_classifier(archives[name])
    assert not [name for name, marker in markers.items() if marker.exists()]
    environment = {
        **os.environ,
        "PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path}",
        "HF_HOME": str(tmp_path / "hf"),
        "HF_MODULES_CACHE": str(tmp_path / "hf" / "modules"),
    }
    done = subprocess.run(
        [sys.executable, "-c", STOCK, *archives.values()],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    run = {name for name, marker in markers.items() if marker.exists()}
    assert run == set(ATTACKS) - STOPPED, done.stdout + done.stderr


@pytest.mark.parametrize(
    "attack, message",
    [
        (_changing("dataset_reader", "tokenizer", type="spacy"), "'spacy', of AllenNLP, which may"),
        (_changing("model", type="from_archive"), "from_archive', which loads another archive"),
        (_changing("model", type="basic_classifier"), "'basic_classifier': wanted multi_exit"),
        (_changing("dataset_reader", type="none"), "dataset_reader.type is 'none', which is unkn"),
        (_changing("validation_dataset_reader", **MKDIR), "validation_dataset_reader.type is"),
        (_changing("validation_data_loader", **MKDIR), "validation_data_loader.type is 'os.mkdir'"),
        (_changing("evaluation", batch_serializer=MKDIR), "evaluation.batch_serializer.type is"),
        (_changing("model", "serialization_dir", a=1), "model.serialization_dir is .* by itself"),
        (_changing("model", "vocab", type="from_files"), "model.vocab is .* gives by itself"),
        (
            _changing("dataset_reader", "tokenizer", "tokenizer_kwargs", tokenizer_type="bloom"),
            "tokenizer_kwargs.tokenizer_type is 'bloom'",
        ),
        (
            lambda hostile, _: hostile.change("dataset_reader", "tokenizer", "model_name", "a/b"),
            "it has no tokenizer_config.json of 'a/b', which would be read from the hub",
        ),
        (
            lambda hostile, _: hostile.change("model", "transformer_model", "/else/where"),
            "it has no config.json of '/else/where', which would be read",
        ),
        (
            lambda hostile, _: hostile.change("include_in_archive", ["../../secret"]),
            "include_in_archive has '../../secret', which would be elsewhere",
        ),
        (
            lambda hostile, _: hostile.change_pretrained("config.json", auto_map={"A": "b.C"}),
            "config.json has the key auto_map",
        ),
        (
            lambda hostile, _: hostile.change_pretrained("config.json", configuration_files=["c"]),
            r"config.json has the key configuration_files with \['c'\]",
        ),
        (
            lambda hostile, _: hostile.change_pretrained("config.json", tokenizer_class="Evil"),
            "config.json has the key tokenizer_class with 'Evil'",
        ),
        (
            lambda hostile, _: hostile.change_pretrained("config.json", model_type="transfo-xl"),
            "config.json has the key model_type with 'transfo-xl'",
        ),
        (
            lambda hostile, _: hostile.change_pretrained(
                "tokenizer_config.json", vocab_file="/etc/passwd"
            ),
            "tokenizer_config.json has the key vocab_file with '/etc/passwd'",
        ),
        (
            lambda hostile, _: (hostile.folder / "config.json").write_text(
                "{model: importstr '/etc/passwd'}"
            ),
            "config.json is not plain JSON",
        ),
        (
            lambda hostile, _: (hostile.folder / "config.json").write_text("[" * 100_000),
            "config.json is not plain JSON",
        ),
        (
            lambda hostile, _: (
                shutil.rmtree(hostile.folder / "vocabulary"),
                (hostile.folder / "vocabulary").write_text("a tar"),
            ),
            "'vocabulary' is a file",
        ),
    ],
)
def test_what_is_not_known_to_be_harmless_is_refused(hostile, tmp_path, attack, message):
    attack(hostile, tmp_path / "marker")
    with pytest.raises(ConfigurationError, match=message):
        load_checked_archive(hostile.folder)
    assert not (tmp_path / "marker").exists()


@pytest.mark.parametrize("load", [load_archive, load_checked_archive, load_archived_classifier])
def test_weights_that_are_a_program_are_refused_also_by_allennlps_own_loading(
    hostile, tmp_path, load
):
    torch.save({"temperatures": Touch(tmp_path / "made")}, hostile.folder / "best.th")
    with pytest.raises((ConfigurationError, ValueError), match="cannot read the weights"):
        load(hostile.pack())
    assert "cannot read the weights" in check_archive(hostile.folder).problems[0]
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("load", [load_checked_archive, load_archived_classifier])
def test_pretrained_weights_in_an_archive_are_not_read(hostile, tmp_path, load):
    torch.save({"a": Touch(tmp_path / "made")}, hostile.transformers / "pytorch_model.bin")
    load(hostile.pack())
    assert not (tmp_path / "made").exists()


def test_what_was_trained_is_loaded_as_by_allennlp(trained, trained_with_heads):
    for archive in (trained["archive"], trained["run"], trained_with_heads):
        assert check_archive(archive).problems == []
    overrides = {"model.confidence_threshold": 0.25}
    found = load_checked_archive(trained["archive"], overrides=overrides)
    wanted = load_archive(trained["archive"], overrides=overrides)
    assert found.model.confidence_threshold == 0.25
    assert found.config.as_dict(quiet=True) == wanted.config.as_dict(quiet=True)
    assert found.meta == wanted.meta
    weights = wanted.model.state_dict()
    for name, value in found.model.state_dict().items():
        assert not torch.is_tensor(value) or torch.equal(value, weights[name])


@pytest.mark.parametrize("config", sorted((ROOT / "training_config").glob("*.jsonnet")))
def test_of_the_shipped_configs_nothing_is_refused(config, tmp_path):
    if config.name.startswith("sweep"):
        return  # which have variables
    found = check_config(Params.from_file(str(config)).as_dict(quiet=True), tmp_path)
    assert len(found.problems) == 2  # in this empty folder
    assert all("which would be read from the hub" in problem for problem in found.problems)
    assert {"model.loss", "data_loader.batch_sampler", "evaluation.batch_serializer"} <= set(
        found.classes
    )


@Model.register("own_classifier")
class OwnClassifier(MultiExitClassifier):
    pass


@DatasetReader.register("own_reader")
class OwnReader(LabeledTsvReader):
    def __init__(self, lexicon: str, **kwargs) -> None:
        super().__init__(**kwargs)
        self.lexicon = lexicon


def test_own_classes_need_no_trust_when_registered_and_trust_by_dotted_names(hostile, caplog):
    hostile.change("model", "type", "own_classifier")
    hostile.change("dataset_reader", "type", "own_reader")
    hostile.change("dataset_reader", "lexicon", "os.txt")
    assert type(load_checked_archive(hostile.folder).model) is OwnClassifier
    hostile.change("dataset_reader", "type", f"{__name__}.OwnReader")
    with pytest.raises(ConfigurationError, match="OwnReader', which is imported .*\n.*--trust-arc"):
        load_checked_archive(hostile.folder)
    archive = load_checked_archive(hostile.folder, trust=True)
    assert archive.dataset_reader.lexicon == "os.txt"
    assert "is trusted, although config key dataset_reader.type is" in caplog.text


def test_own_classes_do_not_hide_what_they_are_given(hostile):
    hostile.change("dataset_reader", "type", "own_reader")
    hostile.change("dataset_reader", "lexicon", "a")
    hostile.change("dataset_reader", "tokenizer", {"type": "os.mkdir", "path": "x"})
    with pytest.raises(ConfigurationError, match="tokenizer.type is 'os.mkdir'"):
        load_checked_archive(hostile.folder)


def test_with_trust_files_and_weights_are_still_read_with_care(hostile, tmp_path):
    torch.save({"temperatures": Touch(tmp_path / "made")}, hostile.folder / "best.th")
    with pytest.raises(ConfigurationError, match="cannot read the weights"):
        load_checked_archive(hostile.pack(), trust=True)
    assert not (tmp_path / "made").exists()


def test_a_regularizer_that_is_harmless_is_loaded(hostile):
    regexes = [["exits.*", {"type": "l2", "alpha": 0.1}], [".*", "l1"]]
    hostile.change("model", "regularizer", {"regexes": regexes})
    assert check_archive(hostile.pack()).problems == []
