import numpy as np
import pytest

from sledgehammer_allennlp.tradeoff.curve import wilson_interval
from sledgehammer_allennlp.tradeoff.plots import (
    SpeedUpAxis,
    draw_curve,
    draw_reliability,
    write_pictures,
)
from tests.tradeoff.made_results import made_results

pytest.importorskip("matplotlib")


def test_the_curve_has_every_threshold_the_exits_and_the_recommended():
    results = made_results()
    (axes,) = draw_curve(results).axes
    every, f1, exits, *recommended = axes.lines
    curve = results.curve
    np.testing.assert_array_equal(every.get_ydata(), curve.accuracy)
    np.testing.assert_array_equal(f1.get_ydata(), results.classes.macro_f1)
    is_near = curve.speed_up <= 200
    np.testing.assert_allclose(every.get_xdata()[is_near], curve.speed_up[is_near])
    assert (every.get_xdata()[~is_near] == axes.get_xticks()[-1]).all()
    np.testing.assert_allclose(exits.get_ydata(), [e.accuracy for e in results.exits])
    np.testing.assert_allclose(exits.get_xdata()[1:], 3.2 / np.array([0.2, 2.2, 3.2]))
    assert exits.get_xdata()[0] == axes.get_xticks()[-1]
    marked = {(float(line.get_xdata()[0]), float(line.get_ydata()[0])) for line in recommended}
    assert marked == {(p.speed_up, p.accuracy) for p in results.recommended_points()}
    band = axes.collections[0].get_paths()[0].vertices
    low, high = wilson_interval(curve.num_correct, curve.num_instances)
    assert {*np.round(low, 9), *np.round(high, 9)} <= set(np.round(band[:, 1], 9))


def test_the_reliability_diagrams_have_the_bins_of_each_exit():
    results = made_results()
    figure = draw_reliability(results)
    assert len(figure.axes) == 4
    for axes, before, after, exit_ in zip(
        figure.axes, results.bins_before, results.bins_after, results.exits
    ):
        for dots, bins in zip(axes.collections, (before, after)):
            filled = bins.num_instances > 0
            wanted = np.stack([bins.confidence[filled], bins.accuracy[filled]], axis=1)
            np.testing.assert_allclose(dots.get_offsets(), wanted)
        assert f"{exit_.ece_before:.3f} → {exit_.ece_after:.3f}" in axes.get_title()


def test_pictures_are_written(tmp_path):
    write_pictures(made_results(), tmp_path)
    assert {file.name for file in tmp_path.iterdir()} == {"tradeoff.png", "reliability.png"}
    for file in tmp_path.iterdir():
        assert file.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    "speed_ups, end, ticks",
    [
        ([1, 2, 7], 7, ["1×", "2×", "3×", "5×"]),
        ([1, 2, 4, np.inf], 8, ["1×", "2×", "3×", ">4×"]),
        ([1, 5000, np.inf], 400, ["1×", "2×", "3×", "5×", "10×", "20×", "50×", "100×", ">200×"]),
        ([1], 1.2, ["1×"]),
    ],
)
def test_everything_has_a_place_on_the_axis(speed_ups, end, ticks):
    axis = SpeedUpAxis(np.array(speed_ups, dtype=float))
    assert axis.end == end
    assert axis.ticks()[1] == ticks
    places = axis.place(np.array(speed_ups, dtype=float))
    assert (places <= end).all() and (np.diff(places) >= 0).all()
