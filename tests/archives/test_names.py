"""A name in a config leads to a file inside of the archive, or the archive is refused."""

import pytest

from sledgehammer_allennlp.archives import check_archive, load_archived_classifier
from sledgehammer_allennlp.archives.names import (
    model_name_problem,
    name_problem,
    path_problem,
)

ELSEWHERE = [
    "/path/secret",
    "../../secret",
    "..",
    "a/../../b",
    "C:secret",
    "c:\\secret",
    "\\\\host\\share",
    "a\\b",
    "a\0b",
]


@pytest.mark.parametrize("name", ELSEWHERE)
def test_what_leads_elsewhere_on_any_system_is_neither_name_nor_path(name):
    assert name_problem(name) == path_problem(name) == "would be elsewhere"


@pytest.mark.parametrize("name", ["labels", "my labels", "étiquettes", "...", ".hidden", "ab:c"])
def test_names_of_files_are_names(name):
    assert name_problem(name) is None and path_problem(f"a/./{name}") is None


@pytest.mark.parametrize("name", ["", ".", "a/b", "a/"])
def test_folders_are_no_names_of_files(name):
    assert name_problem(name) == "would be elsewhere"
    assert path_problem(name) is None


@pytest.mark.parametrize("name", [None, 3, ["labels"], {"a": 1}])
def test_what_is_no_text_is_no_name(name):
    assert name_problem(name) == path_problem(name) == "is no text"
    assert model_name_problem(name) == "is no name"


def test_names_are_bounded_by_bytes_and_paths_by_folders():
    assert name_problem("a" * 200) is None
    assert name_problem("é" * 101) == "is too long for a name: of 101 characters"
    assert path_problem("/".join("a" * 30)) is None
    assert path_problem("/".join("a" * 31)) == "is in too many folders: 30"
    assert path_problem("/".join(["a" * 99] * 11)) == "is too long for a name: of 1,099 characters"


def test_a_pretrained_model_may_be_a_path_but_not_of_any_length():
    for name in ("a/b", "/data/model", "C:\\models\\bert", "..", "a" * 200):
        assert model_name_problem(name) is None
    assert model_name_problem("a/" + "b" * 300) == "is too long for a name: of 302 characters"
    assert model_name_problem("") == model_name_problem("a\0b") == "is no name"


def loaders():
    loads = {"plain": (check_archive, load_archived_classifier)}
    try:
        from sledgehammer_allennlp.models import checked_archive
    except ImportError:
        return loads
    return {
        **loads,
        "allennlp": (checked_archive.check_archive, checked_archive.load_checked_archive),
    }


@pytest.mark.parametrize("way", ["plain", "allennlp"])
@pytest.mark.parametrize("name", ELSEWHERE + ["/path/" + "a" * 300, "a" * 300, [1]])
def test_labels_are_read_from_the_archive_only(hostile, tmp_path, way, name):
    check, load = loaders()[way]
    (tmp_path / "secret.txt").write_text("root\nsecret\n")
    if isinstance(name, str):
        name = name.replace("/path", str(tmp_path))
    hostile.change("model", "label_namespace", name)
    assert "config key model.label_namespace is" in check(hostile.folder).problems[0]
    with pytest.raises((ValueError, _configuration_error()), match="model.label_namespace is"):
        load(hostile.folder)


@pytest.mark.parametrize("way", ["plain", "allennlp"])
@pytest.mark.parametrize(
    "keys", [("model", "transformer_model"), ("dataset_reader", "tokenizer", "model_name")]
)
@pytest.mark.parametrize("name", ["a" * 300, "a\0b", ""])
def test_a_pretrained_models_name_that_no_folder_has_is_refused(hostile, way, keys, name):
    check, load = loaders()[way]
    hostile.change(*keys, name)
    assert any("the pretrained model" in problem for problem in check(hostile.folder).problems)
    with pytest.raises((ValueError, _configuration_error()), match="the pretrained model .*: want"):
        load(hostile.folder)


def _configuration_error():
    return pytest.importorskip("allennlp.common.checks").ConfigurationError
