"""What a stranger's set-up relies on."""

import email
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement

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


@pytest.mark.parametrize("name", ["benchmarks", "classic", "fuzz", "models"])
def test_every_requirement_beside_the_environment_is_pinned(name):
    lines = (ROOT / f"requirements-{name}.txt").read_text().splitlines()
    requirements = [line for line in lines if not line.startswith("#")]
    assert requirements
    for line in requirements:
        assert re.fullmatch(r"[a-z0-9-]+==[0-9][^ ]*", line), line


def test_what_is_downloaded_for_the_demo_is_pinned_by_its_hash_and_names_no_host():
    lines = (ROOT / "requirements-demo.txt").read_text().splitlines()
    requirements = [line for line in lines if not line.startswith("#")]
    assert requirements
    for line in requirements:
        assert re.fullmatch(r"[a-z0-9-]+==[0-9][^ ]* --hash=sha256:[0-9a-f]{64}", line), line


def test_an_unsupported_interpreter_is_refused_with_a_clear_message(tmp_path: Path):
    for name in ("Makefile", "requirements.txt", "setup.py"):
        shutil.copy(ROOT / name, tmp_path / name)
    python = tmp_path / "python3.9"
    python.write_text("#!/bin/sh\n[ $1 = --version ] && echo Python 3.9.1 && exit\nexit 1\n")
    python.chmod(0o755)
    found = _make_setup(tmp_path, f"PYTHON={python}")
    assert found.returncode != 0
    assert "is Python 3.9.1: wanted Python 3.11, 3.12 or 3.13" in found.stdout
    assert not (tmp_path / ".venv").exists()


def _make_setup(folder: Path, *settings: str) -> "subprocess.CompletedProcess[str]":
    """Runs `make setup` with nothing of the settings of a make that runs the tests."""
    settings_of_make = ("MAKEFLAGS", "MAKEOVERRIDES", "MAKELEVEL", "MFLAGS", "PYTHON", "CUDA")
    env = {name: value for name, value in os.environ.items() if name not in settings_of_make}
    return subprocess.run(
        ["make", "setup", *settings], cwd=folder, env=env, capture_output=True, text=True
    )


NO_PYTHON = """#!/bin/sh
# Makes an environment whose python is this file again, and says that it has installed everything.
if [ "$2" = venv ]; then mkdir -p "$3/bin" && cp "$0" "$3/bin/python"; fi
"""


@pytest.mark.parametrize("build", ["CUDA", "CPU", "CPU, installed before"])
def test_set_up_says_what_it_takes_and_leaves_cuda_out_for_the_cpu_build(tmp_path, build):
    for name in ("Makefile", "requirements.txt", "setup.py"):
        shutil.copy(ROOT / name, tmp_path / name)
    python = tmp_path / "python"
    python.write_text(NO_PYTHON)
    python.chmod(0o755)
    if build == "CPU, installed before":
        (tmp_path / ".venv" / "bin").mkdir(parents=True)
        shutil.copy(python, tmp_path / ".venv" / "bin")
        (tmp_path / ".venv/lib/python3.11/site-packages/torch-2.14.1+cpu.dist-info").mkdir(
            parents=True
        )
    given = ["CUDA=no"] if build == "CPU" else []
    found = _make_setup(tmp_path, f"PYTHON={python}", *given)
    assert found.returncode == 0, found.stderr
    first, *_, last = found.stdout.splitlines()
    assert re.fullmatch(r"Setting up \.venv: it downloads .* GB and takes .* GB of disk\..*", first)
    assert last.startswith("Ready")

    installed = (tmp_path / ".venv" / "requirements.txt").read_text().splitlines()
    pinned = (ROOT / "requirements.txt").read_text().splitlines()
    pinned = [line for line in pinned if not line.startswith("#")]
    if build == "CUDA":
        assert installed == pinned
    else:
        left_out = ("nvidia-", "cuda-", "triton==")
        wanted = [line for line in pinned if not line.startswith(left_out)]
        torch_lines = [line for line in wanted if re.match("torch(vision)?==", line)]
        assert len(torch_lines) == 2
        assert installed == [line + "+cpu" * (line in torch_lines) for line in wanted]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> zipfile.ZipFile:
    """The wheel that is built of the sdist."""
    if not (ROOT / "sledgehammer_allennlp" / "__init__.py").exists():
        pytest.skip("the package's source is not here: its wheel is tested")
    folder = tmp_path_factory.mktemp("built")
    for name in ("sledgehammer_allennlp", "tests"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, folder / "copy" / name, ignore=ignored)
    for path in [*ROOT.glob("*.*"), ROOT / "LICENSE"]:
        if path.is_file():
            shutil.copy(path, folder / "copy")
    sdist = folder / _built("sdist", folder / "copy", folder)
    with tarfile.open(sdist) as tar:
        tar.extractall(folder / "unpacked", filter="data")
    (source,) = (folder / "unpacked").iterdir()
    return zipfile.ZipFile(folder / _built("wheel", source, folder))


def _built(kind: str, source: Path, folder: Path) -> str:
    """The name of what setuptools builds in a folder."""
    program = f"import sys; from setuptools.build_meta import build_{kind} as build"
    command = [sys.executable, "-c", f"{program}; print(build(sys.argv[1]))"]
    found = subprocess.run([*command, str(folder)], cwd=source, capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    assert "Deprecat" not in found.stderr and "Warning" not in found.stderr, found.stderr
    return found.stdout.splitlines()[-1]


def test_the_wheel_has_the_package_and_its_data_and_nothing_else(wheel):
    package = ROOT / "sledgehammer_allennlp"
    suffixes = {".py", ".typed", ".jinja", ".js", ".html", ".jsonnet", ".libsonnet"}
    wanted = {str(p.relative_to(ROOT)) for p in package.rglob("*") if p.suffix in suffixes}
    data = {
        "py.typed",
        "tradeoff/report.html.jinja",
        "tradeoff/report_on_move.js",
        "serving/page.html",
    }
    assert {f"sledgehammer_allennlp/{name}" for name in data} < wanted
    found = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert found == wanted
    assert any(name.endswith("licenses/LICENSE") for name in wheel.namelist())


def test_plain_pip_install_is_inference_and_train_adds_allennlp(wheel):
    (name,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
    metadata = email.message_from_bytes(wheel.read(name))
    assert metadata["Requires-Python"] == ">=3.10"
    assert metadata["License-Expression"] == "Apache-2.0"
    requirements = [Requirement(line) for line in metadata.get_all("Requires-Dist")]

    def names(extra: str, python: str) -> set:
        environment = {"extra": extra, "python_version": python}
        return {r.name for r in requirements if not r.marker or r.marker.evaluate(environment)}

    plain = [r for r in requirements if r.marker is None]
    assert {r.name for r in plain} == {
        "huggingface-hub",
        "numpy",
        "onnx",
        "onnxruntime",
        "safetensors",
        "scipy",
        "torch",
        "transformers",
    }
    # Nothing holds it to old versions.
    assert {s.operator for r in plain for s in r.specifier} == {">="}
    assert names("", "3.10") == names("", "3.13") == {r.name for r in plain}
    train = names("train", "3.11")
    assert {"allennlp", "bokeh", "matplotlib", "optuna", "scikit-learn"} < train
    for extra in ("demo", "test", "dev"):
        assert train < names(extra, "3.11")
    # What makes pip refuse at once where there is no torch 1.12.
    bounds = [r for r in requirements if r.name == "torch" and "train" in str(r.marker)]
    assert [str(r.specifier) for r in bounds] == ["<1.13"]


def test_the_version_is_in_the_changelog():
    from sledgehammer_allennlp import __version__

    assert f"## {__version__}" in (ROOT / "CHANGELOG.md").read_text()
