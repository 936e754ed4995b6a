import json
import tarfile

import pytest

from sledgehammer_allennlp.serving.floor import floor_by_drop
from sledgehammer_allennlp.tradeoff.recommendation import operating_point, threshold_for_drop
from sledgehammer_allennlp.tradeoff.results import write_json
from tests.tradeoff.made_results import made_results


def tradeoff_file(folder, **changes):
    results = made_results()
    path = folder / "tradeoff.json"
    write_json(results, path)
    if changes:
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    return results.curve, path


def archive_with(folder, calibration):
    (folder / "calibration.json").write_text(json.dumps(calibration))
    with tarfile.open(folder / "model.tar.gz", "w:gz") as tar:
        tar.add(folder / "calibration.json", "calibration.json")
    return folder / "model.tar.gz"


@pytest.mark.parametrize("drop", [0.0, 0.01, 0.05, 0.2])
def test_of_the_curve_it_is_the_lowest_above_which_nothing_loses_more(tmp_path, drop):
    curve, path = tradeoff_file(tmp_path, recommendations=[])
    floor = floor_by_drop("unused", drop, path)
    above = [t for t in curve.thresholds.tolist() if t >= floor.threshold]
    assert above
    assert all(operating_point(curve, t).accuracy_drop <= drop + 1e-9 for t in above)
    below = max((t for t in curve.thresholds.tolist() if t < floor.threshold), default=None)
    assert below is None or operating_point(curve, below).accuracy_drop > drop
    assert floor.threshold >= 0 and f"lost at most {drop:g}" in floor.reason


def test_a_guaranteed_threshold_comes_first(tmp_path):
    def one(threshold, value, level, is_satisfied=True, wish="max_accuracy_drop"):
        return {
            "wish": wish,
            "value": value,
            "confidence_level": level,
            "point": {"threshold": threshold},
            "is_satisfied": is_satisfied,
        }

    recommendations = [
        one(0.1, 0.01, None),
        one(0.2, 0.01, 0.9, is_satisfied=False),
        one(0.3, 0.05, 0.9),
        one(0.4, 0.01, 0.95),
        one(0.05, 3, 0.9, wish="target_speedup"),
    ]
    _, path = tradeoff_file(tmp_path, recommendations=recommendations)
    floor = floor_by_drop("unused", 0.01, path)
    assert floor == (0.4, "a drop of 0.01 is guaranteed with probability 0.95")


def test_without_a_file_it_is_what_the_archive_was_calibrated_for(tmp_path):
    kept = {"max_accuracy_drop": 0.01, "recommended_threshold": 0.83}
    archive = archive_with(tmp_path, kept)
    for drop in (0.01, 0.02):
        assert floor_by_drop(archive, drop).threshold == 0.83
        assert floor_by_drop(tmp_path, drop).threshold == 0.83
    with pytest.raises(ValueError, match="is 0.005, and the archive's .* has one for 0.01: wanted"):
        floor_by_drop(archive, 0.005)


def test_an_archive_that_kept_nothing_says_what_to_do(tmp_path):
    with pytest.raises(ValueError, match="has none: wanted --tradeoff with the tradeoff.json"):
        floor_by_drop(archive_with(tmp_path, {}), 0.01)


@pytest.mark.parametrize("content", ["{}", '{"recommendations": [], "thresholds": 3}', "[]", "{"])
def test_another_file_is_refused(tmp_path, content):
    (tmp_path / "other.json").write_text(content)
    with pytest.raises(ValueError, match="other.json"):
        floor_by_drop("unused", 0.01, tmp_path / "other.json")


def test_it_is_that_of_a_recommendation_where_the_curve_is_monotone(tmp_path):
    curve, path = tradeoff_file(tmp_path, recommendations=[])
    wanted = threshold_for_drop(curve, 0.99).point
    found = operating_point(curve, floor_by_drop("unused", 0.99, path).threshold)
    assert found.layer_equivalents == wanted.layer_equivalents
