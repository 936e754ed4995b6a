"""What a stranger's set-up relies on."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def test_every_requirement_is_pinned_and_names_no_host():
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    requirements = [line for line in lines if not line.startswith("#")]
    for line in requirements:
        assert re.fullmatch(r"[a-z0-9-]+==[0-9][^ ]*( ; .+)?", line), line
    chosen = [
        line
        for line in (ROOT / "requirements.in").read_text().splitlines()
        if "==" in line and not line.startswith("#")
    ]
    assert len(chosen) > 15 and set(chosen) <= set(requirements)


@pytest.mark.parametrize("name", ["benchmarks", "fuzz"])
def test_every_requirement_beside_the_environment_is_pinned(name):
    lines = (ROOT / f"requirements-{name}.txt").read_text().splitlines()
    requirements = [line for line in lines if not line.startswith("#")]
    assert requirements
    for line in requirements:
        assert re.fullmatch(r"[a-z0-9-]+==[0-9][^ ]*", line), line


def test_an_unsupported_interpreter_is_refused_with_a_clear_message(tmp_path: Path):
    for name in ("Makefile", "requirements.txt", "setup.py"):
        shutil.copy(ROOT / name, tmp_path / name)
    python = tmp_path / "python3.9"
    python.write_text("#!/bin/sh\n[ $1 = --version ] && echo Python 3.9.1 && exit\nexit 1\n")
    python.chmod(0o755)
    found = subprocess.run(
        ["make", "setup", f"PYTHON={python}"], cwd=tmp_path, capture_output=True, text=True
    )
    assert found.returncode != 0
    assert "is Python 3.9.1: wanted Python 3.11 or 3.12" in found.stdout
    assert not (tmp_path / ".venv").exists()


def test_the_version_is_in_the_changelog():
    from sledgehammer_allennlp import __version__

    assert f"## {__version__}" in (ROOT / "CHANGELOG.md").read_text()
