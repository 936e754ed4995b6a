"""Names that people import, and what is said where AllenNLP is missing."""

import importlib
import subprocess
import sys
from importlib.machinery import ModuleSpec

import pytest

import sledgehammer_allennlp
from sledgehammer_allennlp import archives, exits, needs_allennlp


def test_an_archive_is_loaded_by_a_name_of_the_package_itself():
    assert sledgehammer_allennlp.load_archived_classifier is archives.load_archived_classifier


def test_the_old_name_works_with_a_warning():
    with pytest.warns(
        DeprecationWarning, match="is load_archived_classifier of sledgehammer_allennlp n"
    ) as found:
        from sledgehammer_allennlp.exits import load_archived_classifier
    assert load_archived_classifier is archives.load_archived_classifier
    assert found[0].filename == __file__


@pytest.mark.parametrize(
    "old, folder, new",
    [
        ("ArchivedClassifier", "archives", "ArchivedClassifier"),
        ("ExitOutput", "engine", "EarlyExitOutput"),
        ("ExitRule", "engine", "ExitRule"),
        ("cost_of_exits", "engine", "cost_of_exits"),
        ("run_exits", "engine", "run_exits"),
        ("run_to_exits", "engine", "run_early_exit"),
        ("NgramClassifier", "ngrams", "NgramClassifier"),
        ("Said", "exits", "ExitScores"),
    ],
)
def test_other_old_names_of_exits_work_with_a_warning(old, folder, new):
    with pytest.warns(
        DeprecationWarning, match=f"^{old} of sledgehammer_allennlp.exits is {new} of"
    ):
        found = getattr(exits, old)
    assert found is getattr(importlib.import_module(f"sledgehammer_allennlp.{folder}"), new)


def test_the_old_name_of_the_checked_loading_works_with_a_warning():
    pytest.importorskip("allennlp")
    checked_archive = importlib.import_module("sledgehammer_allennlp.models.checked_archive")
    with pytest.warns(DeprecationWarning, match="of sledgehammer_allennlp.models.checked_arch"):
        from sledgehammer_allennlp.archives.loading import load_checked_archive
    assert load_checked_archive is checked_archive.load_checked_archive


@pytest.mark.parametrize("module", [sledgehammer_allennlp, exits, archives.loading])
def test_other_names_are_errors_as_ever(module):
    with pytest.raises(AttributeError, match=f"'{module.__name__}' has no attribute 'no_such'"):
        getattr(module, "no_such")  # noqa: B009


@pytest.mark.parametrize(
    "folder", ["commands", "data", "models", "objectives", "predictors", "sweeps", "training"]
)
def test_what_needs_allennlp_says_what_to_install(folder):
    program = f"""
import sys
sys.modules["allennlp"] = None
import sledgehammer_allennlp
try:
    import sledgehammer_allennlp.{folder}
except ModuleNotFoundError as error:
    print(error.name, error)
"""
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert found.stdout.startswith(f"allennlp sledgehammer_allennlp.{folder} needs AllenNLP: ")
    assert "pip install 'sledgehammer_allennlp[train]' with Python 3.10" in found.stdout


def test_a_folder_named_as_allennlp_is_not_allennlp(monkeypatch):
    folder = ModuleSpec("allennlp", None, is_package=True)  # as `find_spec` describes one
    monkeypatch.setattr(needs_allennlp, "find_spec", lambda name: folder)
    assert not needs_allennlp.has_allennlp()


def test_the_package_alone_imports_no_torch():
    program = """
import sys
sys.modules["allennlp"] = None
import sledgehammer_allennlp
print("torch" in sys.modules)
sledgehammer_allennlp.load_archived_classifier
print("torch" in sys.modules)
"""
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert found.stdout.split() == ["False", "True"], found.stderr
