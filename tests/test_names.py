"""Names that people import, and what is said where AllenNLP is missing."""

import importlib
import subprocess
import sys

import pytest

import sledgehammer_allennlp
from sledgehammer_allennlp import archives, exits


def test_an_archive_is_loaded_by_a_name_of_the_package_itself():
    assert sledgehammer_allennlp.load_archived_classifier is archives.load_archived_classifier


def test_the_old_name_works_with_a_warning():
    with pytest.warns(DeprecationWarning, match="imported from sledgehammer_allennlp now") as found:
        from sledgehammer_allennlp.exits import load_archived_classifier
    assert load_archived_classifier is archives.load_archived_classifier
    assert found[0].filename == __file__


def test_the_old_name_of_the_checked_loading_works_with_a_warning():
    pytest.importorskip("allennlp")
    checked_archive = importlib.import_module("sledgehammer_allennlp.models.checked_archive")
    with pytest.warns(DeprecationWarning, match="from sledgehammer_allennlp.models.checked_arch"):
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
