"""Imports run downwards only, and AllenNLP is imported below the line only."""

import ast
from pathlib import Path
from typing import Iterator, List, Tuple

import pytest

import sledgehammer_allennlp

PACKAGE = Path(sledgehammer_allennlp.__file__).parent
NAME = PACKAGE.name

WITHOUT_ALLENNLP = [
    "encoders",
    "calibration",
    "ngrams",
    "exits",
    "engine",
    "tradeoff",
    "archives",
    "bulk",
    "serving",
    "configs",
]
WITH_ALLENNLP = ["objectives", "data", "models", "predictors", "training", "sweeps", "commands"]
FOLDERS = WITHOUT_ALLENNLP + WITH_ALLENNLP
"""From the ground up: a folder imports itself and those before it."""

ABOVE_ALL = {"__init__", "__main__"}
"""Modules of the package's root that import the folders; all others there import none."""


def imported_modules(file: Path) -> Iterator[Tuple[int, str]]:
    """Every import of a file, also inside of functions: its line, and the module's dotted name."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}, line {node.lineno}: a relative import"
            if node.module == NAME:
                for alias in node.names:
                    yield node.lineno, f"{NAME}.{alias.name}"
            else:
                yield node.lineno, str(node.module)


def wrong_imports(package: Path, folder: str) -> List[str]:
    """What a folder imports that it may not."""
    rank = FOLDERS.index(folder)
    wrong = []
    for file in sorted((package / folder).rglob("*.py")):
        for line, module in imported_modules(file):
            top, *rest = module.split(".")
            runs_up = top == NAME and rest and rest[0] in FOLDERS[rank + 1 :]
            is_above_all = top == NAME and (not rest or rest[0] in ABOVE_ALL)
            is_allennlp = top in ("allennlp", "allennlp_models")
            if runs_up or is_above_all or (is_allennlp and folder in WITHOUT_ALLENNLP):
                wrong.append(f"{file.relative_to(package)}, line {line}: imports {module}")
    return wrong


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_folder_imports_only_those_below_it(folder):
    assert wrong_imports(PACKAGE, folder) == []


def test_the_modules_of_the_root_import_no_folder():
    for file in PACKAGE.glob("*.py"):
        if file.stem not in ABOVE_ALL:
            for line, module in imported_modules(file):
                top, *rest = module.split(".")
                assert top != "allennlp", f"{file.name}, line {line}"
                assert not (top == NAME and rest and rest[0] in FOLDERS), (
                    f"{file.name}, line {line}"
                )


def test_every_folder_has_its_place():
    found = {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").exists()}
    assert found == set(FOLDERS)


def test_folders_that_need_allennlp_look_for_it_first():
    for folder in WITH_ALLENNLP:
        text = (PACKAGE / folder / "__init__.py").read_text(encoding="utf-8")
        imports = [line for line in text.splitlines() if line.startswith(("from ", "import "))]
        assert imports[0] == f"from {NAME}.needs_allennlp import require_allennlp", folder
        assert "\nrequire_allennlp(__name__)\n" in text, folder


@pytest.mark.parametrize(
    "folder, line",
    [
        ("exits", "from sledgehammer_allennlp.engine import ExitRule"),
        ("exits", "def late():\n    from sledgehammer_allennlp.models import exit_metrics"),
        ("encoders", "import allennlp.common"),
        ("archives", "from sledgehammer_allennlp import models"),
        ("models", "import sledgehammer_allennlp.training.recovery"),
        ("tradeoff", "import sledgehammer_allennlp"),
    ],
)
def test_an_import_that_runs_up_is_found(tmp_path, folder, line):
    (tmp_path / folder).mkdir()
    (tmp_path / folder / "wrong.py").write_text(line)
    (found,) = wrong_imports(tmp_path, folder)
    assert found.startswith(f"{folder}/wrong.py, line ")
