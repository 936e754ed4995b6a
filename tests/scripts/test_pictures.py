"""The pictures of the documentation: what they draw, how they read, that they are up to date."""

import json
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import matplotlib
import pytest
from matplotlib.text import Text
from PIL import Image

from scripts.demo_results import demo_results
from scripts.demo_results import main as write_demo_results
from scripts.pictures.__main__ import CAPTIONS_FILE, draw_pictures, main
from scripts.pictures.accuracy import draw_accuracies, lines_of
from scripts.pictures.early_exit import EXITS, JOURNEYS, THRESHOLD
from scripts.pictures.load import draw_load
from scripts.pictures.picture import SMALLEST, STYLES, style, write_picture
from scripts.pictures.thinning import active_in_layers, draw_thinning

ROOT = Path(__file__).parents[2]
PIXELS_OF_A_TELEPHONE = 390
POINTS_PER_INCH = 72

TRADEOFF = {
    "num_instances": 10,
    "num_layers": 4,
    "exits": [{"exit_layer": -1}, {"exit_layer": 1}, {"exit_layer": 3}],
    "measured": [
        {"threshold": 0.8, "speed_up": 1.5, "texts_per_second": 3000.0},
        {"threshold": 0.5, "speed_up": 9.0, "texts_per_second": 20000.0},
    ],
    "thresholds": {
        # What a row says holds above the threshold before it, and up to its own.
        "threshold": [0.5, 0.75, 0.8, 1.0],
        "accuracy": [0.6, 0.7, 0.8, 0.9],
        "layer_equivalents": [0.0, 1.0, 2.0, 4.0],
        "speed_up": [None, 4.0, 2.0, 1.0],
        "exit_counts": [[10, 5, 3, 0], [0, 3, 2, 0], [0, 2, 5, 10]],
    },
}
SERVING = {
    "limit_ms": 100.0,
    "loads": [
        {"service": "plain", "threshold": 1.0, "due a second": rate, "99 % ms": worst}
        for rate, worst in ((10.0, 50.0), (20.0, 500.0), (40.0, float("inf")))
    ]
    + [{"service": "serve", "threshold": 0.9, "due a second": 40.0, "99 % ms": 30.0}],
    "held": {"plain at 1.0": 10.0, "serve at 0.9": 40.0},
}


def result(method: str, seed: int = 1, exit_layers=(-1, 1, 3), **settings):
    shares = {"full_depth": 0.8, "full_depth_by_temperatures": 0.79, "validation_accuracy": 0.7}
    shares.update(at_layers=[0.5, 0.6, 0.7], at_layers_by_temperatures=[0.4, 0.5, 0.6])
    about = {"data": "sst2", "method": method, "seed": seed, "num_test_texts": 100}
    return {**about, "exit_layers": list(exit_layers), **shares, **settings}


RECIPES = [
    result("as recommended"),
    result("as recommended", seed=2, full_depth=0.9, at_layers=[0.6, 0.7, 0.8]),
    result("plain fine-tuning, 2e-05", exit_layers=[3], validation_accuracy=0.6, full_depth=0.95),
    result("plain fine-tuning, 5e-05", exit_layers=[3], full_depth=0.85),
    result("plain fine-tuning of the first 1", exit_layers=[0], full_depth=0.55),
    result("plain fine-tuning of the first 2", exit_layers=[1], full_depth=0.65),
    result("the paper's exits"),
    result("DeeBERT's last exit", exit_layers=[3]),
    result("PABEE", full_depth=0.75),
]


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """A folder of small results, of every kind."""
    folder = tmp_path_factory.mktemp("results")
    recipes = folder / "recipes" / "results"
    recipes.mkdir(parents=True)
    for number, one in enumerate(RECIPES):
        (recipes / f"{number}.json").write_text(json.dumps(one))
    (folder / "demo.json").write_text(json.dumps(demo_results(TRADEOFF, "made up")))
    (folder / "serving.json").write_text(json.dumps(SERVING))
    return folder


@pytest.fixture(scope="module")
def pictures(results):
    return draw_pictures(results)


@pytest.fixture
def drawn(monkeypatch):
    """Gives the texts that a figure draws, and where, in pixels; ticks beyond an axis are not."""
    draw = Text.draw

    def texts_and_boxes(figure):
        found = []

        def note(text, renderer, *others, **settings):
            if text.get_visible() and text.get_text().strip():
                found.append(text)
            draw(text, renderer, *others, **settings)

        with style(), monkeypatch.context() as patched:
            patched.setattr(Text, "draw", note)
            figure.draw_without_rendering()
            return [(text, text.get_window_extent()) for text in found]

    return texts_and_boxes


def test_there_is_one_of_each_kind(pictures):
    assert [p.name for p in pictures] == ["early-exit", "thinning-out", "accuracy-sst2", "load"]


def test_what_there_are_no_numbers_of_is_left_out(tmp_path):
    assert [picture.name for picture in draw_pictures(tmp_path)] == ["early-exit"]


def test_files_parse_are_small_and_the_same_each_time(results, tmp_path):
    for name in ("once", "again"):
        for picture in draw_pictures(results):
            write_picture(picture, tmp_path / name)
    files = sorted((tmp_path / "once").iterdir())
    assert len(files) == 8
    for file in files:
        content = file.read_bytes()
        assert content == (tmp_path / "again" / file.name).read_bytes(), file.name
        assert len(content) <= 150_000, file.name
        if file.suffix == ".svg":
            assert ElementTree.fromstring(content).tag == "{http://www.w3.org/2000/svg}svg"
        else:
            with Image.open(file) as image:
                image.load()
                assert image.width > 2 * PIXELS_OF_A_TELEPHONE


def test_all_text_is_on_the_canvas_and_large_enough_for_a_telephone(pictures, drawn):
    for picture in pictures:
        figure = picture.figure
        width = figure.get_figwidth() * POINTS_PER_INCH
        texts = drawn(figure)
        assert len(texts) >= 8
        for text, box in texts:
            where = f"{picture.name}: {text.get_text()!r}"
            assert box.x0 >= 0 and box.y0 >= 0, where
            assert box.x1 <= figure.bbox.x1 and box.y1 <= figure.bbox.y1, where
            assert text.get_fontsize() >= SMALLEST, where
            assert text.get_fontsize() * PIXELS_OF_A_TELEPHONE / width >= 8, where


def test_no_two_texts_overlap(pictures, drawn):
    for picture in pictures:
        texts = drawn(picture.figure)
        for number, (text, box) in enumerate(texts):
            for other, other_box in texts[:number]:
                both = f"{picture.name}: {text.get_text()!r}, {other.get_text()!r}"
                assert not box.overlaps(other_box), both


def test_lines_differ_without_colours():
    looks = [(str(line["linestyle"]), line["marker"]) for line in STYLES]
    assert len(set(looks)) == len(STYLES)
    assert len({line["color"] for line in STYLES}) == len(STYLES)


def test_the_texts_of_the_schema_exit_by_the_rule():
    for journey in JOURNEYS:
        layers = list(journey.confidences)
        assert layers == [layer for layer in EXITS if layer <= journey.exit_layer]
        *before, last = journey.confidences.values()
        assert all(confidence < THRESHOLD for confidence in before)
        assert last >= THRESHOLD or journey.exit_layer == EXITS[-1]


def test_rates_are_of_the_row_in_which_a_threshold_is():
    rates = demo_results(TRADEOFF, "made up")
    assert [at["threshold"] for at in rates["at"]] == [0.5, 0.7, 0.8, 0.9]
    counts = [[10, 0, 0], [5, 3, 2], [3, 2, 5], [0, 0, 10]]
    assert [at["exit_counts"] for at in rates["at"]] == counts
    assert [at["accuracy"] for at in rates["at"]] == [0.6, 0.7, 0.8, 0.9]
    assert [at["average_exit_layer"] for at in rates["at"]] == pytest.approx([-1, 0.4, 1.4, 3])
    assert [at["speed_up"] for at in rates["at"]] == [None, 4.0, 2.0, 1.0]
    assert [at["measured"] for at in rates["at"]] == [9.0, None, 1.5, None]


def test_active_texts_are_those_that_did_not_exit_before():
    assert active_in_layers([-1, 1, 3], [5, 3, 2], 4) == [0.5, 0.5, 0.2, 0.2]
    assert active_in_layers([0, 3], [4, 6], 4) == [1.0, 0.6, 0.6, 0.6]


def test_the_picture_of_a_batch_has_these_shares():
    with style():
        picture = draw_thinning(demo_results(TRADEOFF, "made up"))
    first, second, third = (line.get_ydata() for line in picture.figure.axes[0].get_lines())
    assert list(first) == [100, 50, 50, 20, 20]
    assert list(second) == [100, 70, 70, 50, 50]
    assert list(third) == [100] * 5
    assert "at threshold 0.7 50 % run layer 0 and 20 % the last" in picture.alt


def test_rates_are_written_from_a_tradeoff(tmp_path, monkeypatch):
    (tmp_path / "tradeoff.json").write_text(json.dumps(TRADEOFF))
    arguments = ["x", str(tmp_path / "tradeoff.json"), str(tmp_path / "rates.json")]
    monkeypatch.setattr("sys.argv", [*arguments, "--data", "made up"])
    write_demo_results()
    assert json.loads((tmp_path / "rates.json").read_text()) == demo_results(TRADEOFF, "made up")


def test_accuracy_is_of_every_seed_at_its_speed_up():
    lines = lines_of(RECIPES)
    assert lines["exits, combined"] == [
        (1.0, [0.8, 0.9]),
        (pytest.approx(4 / 3), [0.7, 0.8]),
        (2.0, [0.6, 0.7]),
        (4.0, [0.5, 0.6]),
    ]
    assert lines["exits, temperatures"][0] == (1.0, [0.79, 0.79])
    # The learning rate that is best on the validation data, not on the test data.
    assert lines["plain fine-tuning"] == [(1.0, [0.85])]
    assert lines["first layers, fine-tuned"] == [(2.0, [0.65]), (4.0, [0.55])]
    assert lines["PABEE"][0] == (1.0, [0.75])
    assert [accuracies for _, accuracies in lines["the paper's exits"]] == [
        [0.8],
        [0.7],
        [0.6],
        [0.5],
    ]
    assert lines["DeeBERT, last exit"] == [(1.0, [0.8])]


def test_what_is_far_below_is_not_shown_and_that_is_said():
    far_below = result("PABEE", at_layers=[0.1, 0.2, 0.7])
    with style():
        without, beside = draw_accuracies([RECIPES[0]]), draw_accuracies([*RECIPES[:6], far_below])
    assert "not shown" not in without[0].caption and ", 1 seed. " in without[0].caption
    assert ", 1 to 2 seeds, bars: standard deviation. " in beside[0].caption
    # Ours goes from .4, by temperatures, to .85, which is that of plain fine-tuning, too.
    assert beside[0].caption.endswith(" What is below 17 % is not shown.")
    bottom, top = beside[0].figure.axes[0].get_ylim()
    assert bottom == pytest.approx(17) and 92 < top < 100  # 85 % and a standard deviation of 7
    assert "10.0 % at 4×" in beside[0].alt


def test_what_is_not_trained_has_no_line():
    assert list(lines_of(RECIPES[:2])) == ["exits, combined", "exits, temperatures"]


def test_data_without_our_model_has_no_picture_yet():
    others = [{**one, "data": "snli"} for one in RECIPES if one["method"] != "as recommended"]
    with style():
        assert [p.name for p in draw_accuracies([*RECIPES, *others])] == ["accuracy-sst2"]


def test_a_service_that_answered_nothing_has_no_point():
    with style():
        picture = draw_load(SERVING)
    plain, serve, limit = picture.figure.axes[0].get_lines()
    assert list(plain.get_xdata()) == [10, 20] and list(plain.get_ydata()) == [50, 500]
    assert list(serve.get_ydata()) == [30] and list(limit.get_ydata()) == [100, 100]
    assert "serve at 0.9: 40" in picture.alt


def test_of_services_that_exit_early_the_lowest_threshold_is_shown():
    names = ("plain", "litserve classifier", "serve")
    loads = [
        {"service": name, "threshold": threshold, "due a second": 10.0, "99 % ms": 50.0}
        for threshold, services in ((1.0, names), (0.9, names[1:]), (0.4, names[1:]))
        for name in services
    ]
    held = {f"{one['service']} at {one['threshold']}": 10.0 for one in loads}
    with style():
        picture = draw_load({"limit_ms": 100.0, "loads": loads, "held": held})
    shown = [text.get_text() for text in picture.figure.legends[0].get_texts()]
    wanted = [("plain", 1), ("serve", 1), ("litserve classifier", 0.4), ("serve", 0.4)]
    assert shown == [f"{name}, threshold {threshold}" for name, threshold in wanted]
    assert "serve at 0.4" in picture.alt and "at 0.9" not in picture.alt


def test_each_picture_has_a_caption_and_says_what_it_shows(results, tmp_path, monkeypatch):
    arguments = ["x", "--results", str(results), "--output-dir", str(tmp_path)]
    monkeypatch.setattr("sys.argv", arguments)
    main()
    captions = json.loads((tmp_path / CAPTIONS_FILE).read_text(encoding="utf-8"))
    assert {f"{name}.svg" for name in captions} == {p.name for p in tmp_path.glob("*.svg")}
    for name, one in captions.items():
        assert len(one["caption"]) > 40 and len(one["alt"]) > 40, name
        assert "\n" not in one["caption"] + one["alt"]
        with Image.open(tmp_path / f"{name}.png") as image:
            assert image.text["Description"] == one["alt"]


def test_a_file_that_is_no_json_is_named(tmp_path):
    (tmp_path / "serving.json").write_text("half {")
    with pytest.raises(SystemExit, match="serving.json' is no JSON"):
        draw_pictures(tmp_path)


def pinned_matplotlib() -> str:
    text = (ROOT / "requirements.txt").read_text(encoding="utf-8")
    return re.search(r"^matplotlib==(\S+)", text, re.MULTILINE).group(1)


@pytest.mark.skipif(
    matplotlib.__version__ != pinned_matplotlib(), reason="another matplotlib draws others"
)
def test_the_pictures_of_the_documentation_are_those_of_todays_numbers(tmp_path):
    stored = ROOT / "docs" / "pictures"
    found = draw_pictures(ROOT / "docs" / "results")
    assert {p.name for p in found} == {p.stem for p in stored.glob("*.svg")}, "run `make pictures`"
    for picture in found:
        write_picture(picture, tmp_path)
        svg = f"{picture.name}.svg"
        is_same = (tmp_path / svg).read_bytes() == (stored / svg).read_bytes()
        assert is_same, f"{svg} is of other numbers: run `make pictures`"
