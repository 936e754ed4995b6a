"""The report in a real browser: Chromium, or another that playwright can drive."""

import json
from dataclasses import replace

import numpy as np
import pytest

from sledgehammer_allennlp.tradeoff import report, tradeoff_curve
from sledgehammer_allennlp.tradeoff.classes import class_curve
from sledgehammer_allennlp.tradeoff.report import write_report
from sledgehammer_allennlp.tradeoff.results import write_json
from tests.tradeoff.made_results import ATTACK, COMBINATION, made_results

pytest.importorskip("bokeh")

EXIT_NAMES = ["before layer 0", "layer 0", "layer 2", "layer 3"]


def row_of(thresholds, threshold):
    single = float(np.float32(threshold))
    if single == 1 and threshold < 1:
        single = 1 - 2**-25  # between what is below 1 in single precision, and 1
    return next(row for row, highest in enumerate(thresholds) if highest >= single)


class Page:
    """The report of some results, opened, and what happened since."""

    def __init__(self, browser, folder, results, width=1200):
        write_report(results, folder)
        write_json(results, folder / "tradeoff.json")
        self.json = json.loads((folder / "tradeoff.json").read_text())
        self.errors, self.requests = [], []
        self.page = browser.new_page(viewport={"width": width, "height": 900})
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on(
            "console",
            lambda message: message.type in ("error", "warning") and self.errors.append(message),
        )
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(f"file://{folder / 'report.html'}")
        self.page.wait_for_function("document.getElementById('threshold').textContent !== ''")
        self.wait()

    def wait(self):
        """Until everything is drawn."""
        self.page.wait_for_function("Bokeh.documents[0].is_idle")

    def text(self, id_):
        return self.page.inner_text(f"#{id_}")

    def short_repr(self):
        ids = ("threshold", "accuracy", "interval", "speed-up", "layer-equivalents")
        return [self.text(id_) for id_ in ids]

    def slider_value(self):
        return self.page.evaluate("Bokeh.documents[0].get_model_by_name('slider').value")

    def press(self, key):
        handle = self.page.locator("#slider .noUi-handle")
        handle.focus()
        handle.press(key)
        self.wait()

    def type_threshold(self, threshold):
        field = self.page.locator("#typed input")
        field.fill(str(threshold))
        field.press("Enter")
        self.wait()

    def row(self):
        """The first row of tradeoff.json whose threshold is not below the one shown."""
        return row_of(self.json["thresholds"]["threshold"], float(self.text("threshold")))

    def check_numbers(self):
        """What is shown is what tradeoff.json says of the threshold shown."""
        row, columns = self.row(), self.json["thresholds"]
        _, accuracy, interval, speed_up, layers = self.short_repr()
        assert accuracy == f"{100 * columns['accuracy'][row]:.2f} %"
        low, high = (
            f"{100 * columns[name][row]:.2f} %" for name in ("accuracy_low", "accuracy_high")
        )
        assert interval == f"{low} to {high}"
        wanted = columns["speed_up"][row]
        if wanted is None:
            assert speed_up == "no layer run"
        else:
            assert speed_up == (f"{wanted:.2f}×" if wanted < 100 else f"{wanted:.0f}×")
        assert layers == f"{columns['layer_equivalents'][row]:.3f}"
        f1 = pytest.approx(columns["macro_f1"][row], abs=5.1e-5)  # of four digits
        assert float(self.text("macro-f1")) == f1
        shares = self.page.evaluate(
            "Array.from(Bokeh.documents[0].get_model_by_name('shares')"
            ".renderers[0].data_source.data.share)"
        )
        counts = [counts[row] for counts in columns["exit_counts"]]
        assert shares == pytest.approx([count / self.json["num_instances"] for count in counts])
        marked = self.page.evaluate("Bokeh.documents[0].get_model_by_name('here').data")
        assert marked["accuracy"][0] == pytest.approx(columns["accuracy"][row])
        if wanted is not None and wanted < 200:
            assert marked["x"][0] == pytest.approx(wanted)


@pytest.fixture(scope="module")
def opened(browser, tmp_path_factory):
    return Page(browser, tmp_path_factory.mktemp("report"), made_results())


@pytest.fixture(autouse=True)
def nothing_went_wrong(request):
    """No test may leave an error behind, nor ask the network for anything."""
    yield
    if "opened" in request.fixturenames:
        page = request.getfixturevalue("opened")
        assert page.errors == []
        assert [
            url for url in page.requests if not url.startswith(("file:", "data:", "blob:"))
        ] == []


def test_it_opens_at_the_last_recommendation(opened):
    recommended = opened.json["recommendations"][-1]["point"]
    assert float(opened.text("threshold")) == recommended["threshold"]
    opened.check_numbers()


def test_the_slider_moves_the_numbers_and_they_equal_the_json(opened):
    num_rows = len(opened.json["thresholds"]["threshold"])
    seen = set()
    for key in ["Home"] + ["ArrowLeft"] * 3 + ["PageUp"] * 4 + ["ArrowRight"] * 2 + ["End"]:
        opened.press(key)
        assert opened.row() == opened.slider_value()
        opened.check_numbers()
        seen.add(opened.slider_value())
    assert len(seen) > 8 and {0, num_rows - 1} <= seen
    assert opened.short_repr()[0] == "1" and opened.short_repr()[3] == "1.00×"


@pytest.mark.parametrize("threshold", [0, 0.4, 0.5, 0.731, 0.9, 0.95, 0.99999, 0.99999999, 1])
def test_a_typed_threshold_is_shown(opened, threshold):
    opened.type_threshold(threshold)
    curve = made_results().curve
    assert opened.slider_value() == curve.row_of(threshold)
    assert float(opened.text("threshold")) == threshold
    opened.check_numbers()


@pytest.mark.parametrize("threshold", [0, 0.6, 0.9, 0.99999999, 1])
def test_examples_show_the_exit_they_take(opened, threshold):
    results = made_results()
    opened.type_threshold(threshold)
    for number, example in enumerate([*results.easiest, *results.hardest]):
        single = np.float32(threshold)
        confident = [threshold < 1 and c >= single for c in example.confidences[:-1]] + [True]
        taken = confident.index(True)
        assert opened.text(f"exit-{number}") == EXIT_NAMES[taken]
        assert opened.text(f"answer-{number}") == example.answers[taken]
        assert opened.text(f"confidence-{number}") == f"{example.confidences[taken]:.3f}"


def test_texts_are_escaped(opened):
    assert opened.page.evaluate("window.attacked") is None
    for table, first in (("easiest", 1), ("hardest", 6)):
        texts = opened.page.locator(f"#{table} td.text").all_inner_texts()
        assert texts == [f"text {number} {ATTACK}" for number in range(first, first + 5)]
    body = opened.text("thresholds") + opened.page.inner_text("body")
    assert f"allennlp tradeoff {ATTACK}" in body and f"runs/{ATTACK}/model.tar.gz" in body


def test_the_tables_have_the_numbers_of_the_json(opened):
    points = opened.page.locator("#thresholds tr").all_inner_texts()[1:]
    assert len(points) == len(made_results().points)
    for line, point in zip(points, made_results().points):
        cells = line.split("\t")
        assert cells[:2] == [f"{point.threshold:g}", f"{point.accuracy:.4f}"]
        assert cells[3] == f"{made_results().macro_f1(point.threshold):.4f}"
        assert cells[6:8] == (["1.8x", "200"] if point.threshold == 0.5 else ["", ""])
    exits = opened.page.locator("#exits tr").all_inner_texts()[1:]
    for line, name, exit_ in zip(exits, EXIT_NAMES, opened.json["exits"]):
        wanted = [f"{exit_['accuracy']:.4f}", f"{exit_['layer_equivalents']:.2f}"]
        wanted.append(f"{exit_['temperature']:.3f}")
        for key in ("nll_before", "nll_after", "ece_before", "ece_after"):
            wanted.append(f"{exit_[key]:.4f}")
        assert line.split("\t") == [name, *wanted]
    for recommendation in opened.json["recommendations"]:
        pasted = json.dumps(recommendation["overrides"])
        assert f"--overrides '{pasted}'" in opened.page.inner_text("body")


def test_of_combined_exits_the_tables_have_what_they_give_combined(browser, tmp_path):
    results = made_results(is_combined=True)
    page = Page(browser, tmp_path, results)
    lines = page.page.locator("#exits tr").all_inner_texts()[1:]
    weights = page.page.locator("#combination tr").all_inner_texts()[1:]
    for line, weight_line, exit_, name, row in zip(
        lines, weights, results.exits, EXIT_NAMES, COMBINATION
    ):
        combination = exit_.combination
        numbers = (combination.accuracy, combination.nll, combination.ece)
        cells = line.split("\t")
        assert [cells[1], cells[5], cells[7]] == [f"{number:.4f}" for number in numbers]
        accuracies = [f"{exit_.accuracy:.4f}", f"{combination.accuracy:.4f}"]
        wanted = [name, *accuracies, *(f"{weight:g}" if weight else "" for weight in row)]
        assert weight_line.split("\t") == wanted
    assert page.errors == []
    page.page.close()


def test_a_threshold_can_be_typed_again_after_the_slider_has_moved(opened):
    for _ in range(2):
        opened.type_threshold(0.9)
        assert opened.text("threshold") == "0.9"
        opened.press("End")
        assert opened.text("threshold") == "1"
        assert opened.page.input_value("#typed input") == ""


def test_a_curve_of_one_threshold_is_shown(browser, tmp_path):
    results = made_results()
    confidences = np.full((4, 200), np.nan)
    curve = tradeoff_curve(confidences, np.ones((4, 200)), results.curve.costs)
    answers = np.zeros((4, 200), dtype=int)
    classes = class_curve(curve, confidences, answers, answers[0], 3)
    page = Page(browser, tmp_path, replace(results, curve=curve, classes=classes))
    page.check_numbers()
    page.type_threshold(0.5)
    page.check_numbers()
    assert page.errors == []


@pytest.mark.parametrize("width", [320, 800])
def test_it_fits_a_narrow_window(browser, tmp_path, width):
    page = Page(browser, tmp_path, made_results(), width)
    too_wide = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert page.page.evaluate(too_wide) == 0
    box = page.page.locator("#curve canvas").first.bounding_box()
    assert 0.8 * width < box["width"] <= width
    assert page.errors == []


def test_of_many_thresholds_a_selection_is_shown(browser, tmp_path, monkeypatch):
    monkeypatch.setattr(report, "MAX_ROWS", 40)
    results = made_results()
    page = Page(browser, tmp_path, results)
    assert f"Of {len(results.curve):,} different thresholds an even selection" in (
        page.page.inner_text("body")
    )
    for threshold in (0, 0.5, 0.77, 1):
        page.type_threshold(threshold)
        page.check_numbers()
    assert 0 < page.page.evaluate("Bokeh.documents[0].get_model_by_name('slider').end") < 50
    assert page.errors == []
