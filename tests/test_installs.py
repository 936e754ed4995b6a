"""What was installed, and how it answers: for `make test-plain` and `make test-classic`."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import sledgehammer_allennlp
from sledgehammer_allennlp import load_archived_classifier
from tests.make_archives import ANSWERS, ARCHIVES, PAIRS, SENTENCES

INSTALL = os.environ.get("INSTALL")
FOLDER = os.environ.get("MAIN_STACK_ARCHIVES")

needs_install = pytest.mark.skipif(not INSTALL, reason="the checkout is tested, not an install")
needs_archives = pytest.mark.skipif(
    not FOLDER, reason="MAIN_STACK_ARCHIVES names no folder that make_archives.py wrote"
)


@needs_install
def test_the_package_under_test_is_the_installed_one():
    folder = Path(sledgehammer_allennlp.__file__).parent
    assert folder.parent.name == "site-packages"
    assert (folder / "py.typed").exists()
    assert (folder / "tradeoff" / "report.html.jinja").exists()
    assert not (folder.parent / "tests" / "tiny.py").exists()


@needs_install
def test_only_an_install_for_training_has_what_training_needs():
    for name in ("allennlp", "bokeh", "matplotlib", "optuna", "sklearn"):
        assert (importlib.util.find_spec(name) is not None) == (INSTALL != "plain"), name


@needs_archives
@pytest.mark.parametrize("archive", ARCHIVES)
@pytest.mark.parametrize("kind", ["sentences", "pairs"])
def test_an_archive_of_the_main_stack_answers_as_there(archive, kind):
    texts = SENTENCES if kind == "sentences" else [tuple(pair) for pair in PAIRS]
    layers = set()
    for wanted in json.loads((Path(FOLDER) / ANSWERS).read_text()):
        if wanted["archive"] != archive:
            continue
        classifier = load_archived_classifier(
            Path(FOLDER) / archive, confidence_threshold=wanted["threshold"]
        )
        found = classifier.predict(texts)
        for key in ("label", "exit_layer"):
            assert [a[key] for a in found] == [a[key] for a in wanted[kind]], wanted["threshold"]
        for key in ("probs", "confidence", "logits"):
            np.testing.assert_allclose(
                [a[key] for a in found], [a[key] for a in wanted[kind]], rtol=0, atol=1e-5
            )
        layers.update(a["exit_layer"] for a in found)
    assert len(layers) > 1


@needs_archives
@pytest.mark.parametrize("archive", ARCHIVES)
def test_the_command_checks_an_archive_of_the_main_stack(archive):
    found = subprocess.run(
        [sys.executable, "-m", "sledgehammer_allennlp", "check-archive", Path(FOLDER) / archive],
        capture_output=True,
        text=True,
    )
    assert found.returncode == 0, found.stdout + found.stderr
    assert "nothing of it is run." in found.stdout.splitlines()[-1]
