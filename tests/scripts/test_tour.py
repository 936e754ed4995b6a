"""The notebook as it is stored; `make tour` runs it."""

import ast
import json
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
TOUR = json.loads((ROOT / "docs" / "tour.ipynb").read_text(encoding="utf-8"))
CODE = [cell for cell in TOUR["cells"] if cell["cell_type"] == "code"]


def text_of(cell) -> str:
    return "".join(cell["source"])


def test_it_has_no_outputs_which_differ_from_machine_to_machine():
    assert len(CODE) >= 7
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in CODE)
    assert not re.search(r"/(home|work|root|tmp|Users)/", json.dumps(TOUR))


def test_every_cell_is_python_and_is_explained_before():
    for before, cell in zip(TOUR["cells"], TOUR["cells"][1:]):
        if cell["cell_type"] == "code":
            ast.parse(text_of(cell))
            assert before["cell_type"] == "markdown", text_of(cell)


def test_files_that_it_names_are_there():
    text = "\n".join(map(text_of, TOUR["cells"]))
    names = set(re.findall(r"training_config/\w+\.jsonnet", text))
    assert names == {"training_config/movie_reviews.jsonnet"}
    assert all((ROOT / name).is_file() for name in names)


def test_what_runs_it_is_pinned_and_not_in_the_main_stack_too():
    pattern = re.compile(r"^([a-z0-9-]+)==\S+$", re.MULTILINE)
    pinned = pattern.findall((ROOT / "requirements-notebook.txt").read_text(encoding="utf-8"))
    main = pattern.findall((ROOT / "requirements.txt").read_text(encoding="utf-8"))
    assert {"nbclient", "ipykernel", "nbformat"} <= set(pinned)
    assert set(pinned) & set(main) == set()
