"""The script behind the report's confusion matrix, run by Node without a browser."""

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from sledgehammer_allennlp.tradeoff import report_classes
from sledgehammer_allennlp.tradeoff.classes import recall_and_precision
from sledgehammer_allennlp.tradeoff.report import write_report
from tests.tradeoff.made_results import made_results

pytest.importorskip("bokeh")

RUN = """
const { code, args, sliderValues } = JSON.parse(require("fs").readFileSync(0));
const seen = sliderValues.map((value) => {
  const texts = {}, cells = { data: null };
  const document = { getElementById: (id) => ({ set textContent(text) { texts[id] = text; } }) };
  const given = { ...args, slider: { value }, cells, document };
  new Function(...Object.keys(given), code)(...Object.values(given));
  return { texts, cells: cells.data };
});
console.log(JSON.stringify(seen));
"""


def node():
    """Node on the path, or the one that playwright brings."""
    if shutil.which("node"):
        return shutil.which("node")
    playwright = pytest.importorskip("playwright", reason="found no Node")
    return str(Path(playwright.__file__).parent / "driver" / "node")


def script_of(results, rows):
    """The code and the plain arguments of the report's script."""
    moved = report_classes.ClassParts(results).on_move(None, rows)
    args = {
        name: value.tolist() if isinstance(value, np.ndarray) else value
        for name, value in moved.args.items()
        if name not in ("slider", "cells")
    }
    return {"code": moved.code, "args": args}


def test_the_matrix_and_the_numbers_are_those_of_the_row_of_the_slider():
    results = made_results(num_labels=5)
    rows = np.arange(0, len(results.curve), 3)
    places = [0, 10, len(rows) // 2, len(rows) - 1]
    seen = json.loads(
        subprocess.run(
            [node(), "-e", RUN],
            input=json.dumps({**script_of(results, rows), "sliderValues": places}),
            capture_output=True,
            check=True,
            text=True,
        ).stdout
    )
    names = results.origin["labels"]
    for place, shown in zip(places, seen):
        confusion = results.classes.confusion(rows[place])
        cells = shown["cells"]
        found = np.zeros_like(confusion)
        found[cells["label"], cells["answer"]] = cells["count"]
        np.testing.assert_array_equal(found, confusion)
        assert cells["of_label"] == [names[label] for label in cells["label"]]
        assert cells["answered"] == [names[answer] for answer in cells["answer"]]
        shares = confusion / confusion.sum(axis=1, keepdims=True)
        np.testing.assert_allclose(shares[cells["label"], cells["answer"]], cells["share"])
        at_one, _ = recall_and_precision(results.classes.confusion_at_one)
        recall, precision = recall_and_precision(confusion)
        f1 = 2 * recall * precision / (recall + precision)
        for name, numbers in (
            ("recall-at-one", at_one),
            ("recall", recall),
            ("precision", precision),
            ("f1", f1),
        ):
            texts = [shown["texts"][f"{name}-{label}"] for label in range(5)]
            # Four digits; what lies in the middle may be rounded either way.
            np.testing.assert_allclose(np.array(texts, float), numbers, atol=5.1e-5)
        f1 = results.classes.macro_f1[rows[place]]
        assert float(shown["texts"]["macro-f1"]) == pytest.approx(f1, abs=5.1e-5)


@pytest.mark.parametrize("num_labels, is_named", [(2, True), (100, True), (150, False)])
def test_the_matrix_has_the_names_of_its_labels_where_they_have_room(num_labels, is_named):
    figure = report_classes.ClassParts(made_results(num_labels=num_labels)).figure
    assert len(figure.xaxis[0].ticker.ticks) == (num_labels if is_named else 0)
    names = figure.yaxis[0].major_label_overrides
    assert names[1].startswith("label 1") and max(map(len, names.values())) <= 18
    assert 300 <= figure.height <= 1100


def test_the_page_has_a_place_for_all_that_the_script_fills_in(tmp_path):
    results = made_results(num_labels=4)
    write_report(results, tmp_path)
    html = (tmp_path / "report.html").read_text()
    for label in range(4):
        for name in ("recall-at-one", "recall", "precision", "f1"):
            assert html.count(f'id="{name}-{label}"') == 1
    assert html.count('id="macro-f1"') == html.count('id="confusion"') == 1
