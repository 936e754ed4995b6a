"""The lowest threshold by an accuracy drop, from what `tradeoff` or `calibrate` kept."""

from itertools import takewhile
from pathlib import Path
from typing import Any, Dict, NamedTuple, Optional

from sledgehammer_allennlp.archives.contents import read_json
from sledgehammer_allennlp.archives.extraction import archive_folder
from sledgehammer_allennlp.encoders.archived_files import StrPath
from sledgehammer_allennlp.tradeoff import check_accuracy_drop
from sledgehammer_allennlp.tradeoff.recommendation import MAX_ACCURACY_DROP
from sledgehammer_allennlp.values import is_number, short_repr

CALIBRATION_FILE = "calibration.json"


class Floor(NamedTuple):
    """A threshold, and in words what is known of it."""

    threshold: float
    reason: str


def floor_by_drop(archive: StrPath, drop: float, tradeoff_file: Optional[StrPath] = None) -> Floor:
    """
    The lowest threshold that loses at most a share of accuracy against the last exit.

    # Parameters

    archive : `str`
        Whose `calibration.json` is read, unless a file is given.
    drop : `float`
        In [0, 1), 0.01 for one point.
    tradeoff_file : `str`, optional (default = `None`)
        The `tradeoff.json` that `allennlp tradeoff` wrote. A threshold that it guarantees for such
        a drop comes before the one that was fastest there.

    # Raises

    ValueError
        If the drop is no share, or nothing was kept for it.
    """
    check_accuracy_drop(drop)
    if tradeoff_file is not None:
        return _by_tradeoff(Path(tradeoff_file), drop)
    with archive_folder(archive) as folder:
        file = folder / CALIBRATION_FILE
        kept: Dict[str, Any] = read_json(file) if file.exists() else {}
    kept_drop, threshold = kept.get("max_accuracy_drop"), kept.get("recommended_threshold")
    if kept_drop is None or not is_number(kept_drop) or kept_drop > drop:
        found = "none" if kept_drop is None else f"one for {short_repr(kept_drop)}"
        raise ValueError(
            f"--max-accuracy-drop is {drop:g}, and the archive's {CALIBRATION_FILE} has {found}: "
            "wanted --tradeoff with the tradeoff.json of `allennlp tradeoff`, or an archive "
            f"calibrated with such a drop whose config has {CALIBRATION_FILE} in include_in_archive"
        )
    return Floor(_checked(threshold), f"lost at most {kept_drop:g} where it was calibrated")


def _by_tradeoff(file: Path, drop: float) -> Floor:
    found = read_json(file)
    try:
        guaranteed = [
            one
            for one in found["recommendations"]
            if one["wish"] == MAX_ACCURACY_DROP
            and one["confidence_level"] is not None
            and one["is_satisfied"]
            and one["value"] <= drop
        ]
        if guaranteed:
            best = min(guaranteed, key=lambda one: one["point"]["threshold"])
            reason = (
                f"a drop of {best['value']:g} is guaranteed with probability "
                f"{best['confidence_level']:g}"
            )
            return Floor(_checked(best["point"]["threshold"]), reason)
        columns = found["thresholds"]
        rows = sorted(zip(columns["threshold"], columns["accuracy_drop"]), reverse=True)
        # The threshold moves between this and the highest: none between may lose more.
        allowed = takewhile(lambda row: row[1] <= drop + 1e-9, rows)
        lowest = min((threshold for threshold, _ in allowed), default=1.0)
        return Floor(_checked(lowest), f"lost at most {drop:g} in {file.name}")
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{file} is not what `allennlp tradeoff` writes: wanted its tradeoff.json. {error!r}"
        ) from error


def _checked(threshold: Any) -> float:
    if not is_number(threshold) or not 0 <= threshold <= 1:
        raise ValueError(f"the threshold is {short_repr(threshold)}: wanted a number from 0 to 1")
    return float(threshold)
