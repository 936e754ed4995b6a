"""The tables of the documentation: what they show, and that they are up to date."""

import json
from pathlib import Path

import pytest

from scripts.result_tables import (
    RESULTS,
    TABLES,
    filled,
    markdown,
    number,
    pages,
    table_after,
    text,
)

ROOT = Path(__file__).parents[2]


def result(method, seed=1, exit_layers=(-1, 1, 3), full_depth=0.8, validation_accuracy=0.7):
    return {
        "data": "sst2",
        "method": method,
        "seed": seed,
        "exit_layers": list(exit_layers),
        "full_depth": full_depth,
        "full_depth_by_temperatures": 0.79,
        "validation_accuracy": validation_accuracy,
        "at_layers": [0.5, 0.6, 0.7],
        "at_layers_by_temperatures": [0.4, 0.5, 0.6],
    }


def test_cells_of_numbers_stand_to_the_right():
    rows = [{"name": "a", "x": 1.25}, {"name": "b", "x": None}]
    table = markdown(rows, {"": text("name"), "x": number("x", ".2f")})
    assert table == "|  | x |\n|---|---:|\n| a | 1.25 |\n| b |  |"


def test_recipes_are_means_over_seeds(tmp_path):
    (tmp_path / "recipes/results").mkdir(parents=True)
    for place, one in enumerate(
        [
            result("PABEE"),
            result("as recommended", full_depth=0.8),
            result("as recommended", seed=2, full_depth=0.9),
            result("plain fine-tuning, 2e-05", exit_layers=[3], full_depth=0.7),
            result("plain fine-tuning, 5e-05", exit_layers=[3], validation_accuracy=0.8),
            result("plain fine-tuning of the first 2", exit_layers=[1], full_depth=0.6),
            {**result("as recommended", seed=3), "data": "snli"},
        ]
    ):
        (tmp_path / f"recipes/results/{place}.json").write_text(json.dumps(one))
    page = "before\n<!-- table: recipes sst2 -->\nold\n<!-- end of table -->\nafter"
    assert filled(page, tmp_path).splitlines() == [
        "before",
        "<!-- table: recipes sst2 -->",
        "",
        "|  | seeds | all layers | 3 | 2 | 1 |",
        "|---|---:|---:|---:|---:|---:|",
        "| as recommended | 1, 2 | .850 ± .071 | .700 ± .000 | .600 ± .000 | .500 ± .000 |",
        "| the same, temperatures alone | 1, 2 | .790 ± .000 | .600 ± .000 | .500 ± .000 | "
        ".400 ± .000 |",
        "| plain fine-tuning, 2e-05 | 1 | .700 |  |  |  |",
        "| **plain fine-tuning, 5e-05** | 1 | .800 |  |  |  |",
        "| PABEE | 1 | .800 | .700 | .600 | .500 |",
        "| plain fine-tuning of the first 2 | 1 |  |  | .600 |  |",
        "",
        "<!-- end of table -->",
        "after",
    ]


def test_tables_of_a_page_that_a_benchmark_wrote_are_repeated():
    written = "## One\n\n| x |\n| --- |\n| 1 |\n\n## Two\n\nwords\n\n| y |\n| --- |\n| 2 |"
    assert table_after("## One")(written) == "| x |\n| --- |\n| 1 |"
    assert table_after("## Two")(written) == "| y |\n| --- |\n| 2 |"
    with pytest.raises(ValueError, match="no table after '## Three'"):
        table_after("## Three")(written)


def test_of_a_service_the_highest_rate_in_time_is_shown(tmp_path):
    loads = [
        {
            "service": service,
            "threshold": threshold,
            "due a second": rate,
            "median ms": rate / 10,
            "99 % ms": rate,
            "held": rate < 100,
        }
        for service, threshold, rate in [
            ("plain", 1.0, 10.0),
            ("plain", 1.0, 20.0),
            ("plain", 1.0, 400.0),
            ("serve", 0.9, 40.0),
        ]
    ]
    held = {"plain at 1.0": 20.0, "serve at 0.9": 40.0}
    (tmp_path / "serving.json").write_text(json.dumps({"loads": loads, "held": held}))
    page = "<!-- table: services -->\n<!-- end of table -->"
    assert filled(page, tmp_path).splitlines()[2:6] == [
        "| service | threshold | requests a second | median ms | 99 % ms |",
        "|---|---:|---:|---:|---:|",
        "| plain | 1 | 20 | 2.0 | 20.0 |",
        "| serve | 0.9 | 40 | 4.0 | 40.0 |",
    ]


def test_an_unknown_table_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="there is no table 'none': wanted one of recipes sst2"):
        filled("<!-- table: none -->\n<!-- end of table -->", tmp_path)


@pytest.mark.parametrize("page", pages(ROOT), ids=lambda page: page.name)
def test_tables_are_up_to_date(page):
    written = page.read_text(encoding="utf-8")
    assert filled(written, ROOT / RESULTS) == written, "wanted: make pictures"


def can_be_made(name):
    """Whether a benchmark wrote its numbers."""
    try:
        filled(f"<!-- table: {name} -->\n<!-- end of table -->", ROOT / RESULTS)
    except (FileNotFoundError, KeyError):
        return False
    return True


def test_every_result_is_shown():
    written = "".join(page.read_text(encoding="utf-8") for page in pages(ROOT))
    shown = {name for name in TABLES if f"<!-- table: {name} -->" in written}
    assert "demo" in shown
    assert [name for name in TABLES if can_be_made(name) and name not in shown] == []
