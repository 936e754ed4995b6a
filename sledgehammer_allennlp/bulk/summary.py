"""What a job has done and cost."""

from typing import Any, Dict, Iterable, List, Sequence, Tuple

from sledgehammer_allennlp.bulk.kept_names import OTHER_KEYS
from sledgehammer_allennlp.bulk.line_file import NUM_SAMPLED
from sledgehammer_allennlp.bulk.parts import MAX_OTHER_KEYS_COUNTED, PartResult

_NUM_ERRORS_SHOWN = 10
_NUM_KEYS_SHOWN = 10


def summarize(
    results: Iterable[PartResult],
    exit_layers: Sequence[int],
    costs: Sequence[float],
    names: Sequence[str],
    max_tokens: int,
) -> Dict[str, Any]:
    """
    What became of the parts of a job, of plain JSON.

    # Parameters

    results : `Iterable[PartResult]`
    exit_layers : `Sequence[int]`
    costs : `Sequence[float]`
        Of each exit, in layer-equivalents; the last is what a row costs at threshold 1.
    names : `Sequence[str]`
        Of the inputs.
    max_tokens : `int`
        To which longer texts were cut.
    """
    results = sorted(results)
    exits = _sums(exit_layers, [result.exits for result in results])
    # A text that is not read in windows is one.
    windows_exits = _sums(exit_layers, [result.windows_exits or result.exits for result in results])
    num_answered = sum(exits)
    spent = sum(count * cost for count, cost in zip(windows_exits, costs))
    errors: List[str] = [
        f"{names[result.input_index]}, {error}" for result in results for error in result.errors
    ]
    return {
        "rows": sum(result.num_rows for result in results),
        "answered": num_answered,
        "bad_rows": sum(result.num_bad for result in results),
        "first_bad_rows": errors[:_NUM_ERRORS_SHOWN],
        "cut_rows": sum(result.num_cut for result in results),
        "max_tokens": max_tokens,
        "other_keys": dict(_other_keys(results)),
        "parts": len(results),
        "exits": {str(layer): count for layer, count in zip(exit_layers, exits)},
        "windows_read": sum(windows_exits),
        "layer_equivalents": spent / num_answered if num_answered else None,
        "layer_equivalents_at_threshold_1": costs[-1],
    }


def _sums(exit_layers: Sequence[int], of_parts: Sequence[Sequence[int]]) -> List[int]:
    """Of each exit, over all parts."""
    return [sum(counts) for counts in zip(*of_parts)] or [0] * len(exit_layers)


def _other_keys(results: Iterable[PartResult]) -> List[Tuple[str, int]]:
    """In how many rows there was each key that has no column; those of most rows first."""
    counts: Dict[str, int] = {}
    for result in results:
        for key, count in result.other_keys.items():
            if key in counts or len(counts) < MAX_OTHER_KEYS_COUNTED:
                counts[key] = counts.get(key, 0) + count
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def _other_keys_as_text(counts: Dict[str, int]) -> List[str]:
    if not counts:
        return []
    shown = [f"{key!r} in {count:,} rows" for key, count in counts.items()]
    more = f" and {len(shown) - _NUM_KEYS_SHOWN} more" if len(shown) > _NUM_KEYS_SHOWN else ""
    return [
        f"Kept, though not in the first {NUM_SAMPLED:,} rows of a file (in Parquet as JSON in the "
        f"column {OTHER_KEYS}): {', '.join(shown[:_NUM_KEYS_SHOWN])}{more}"
    ]


def as_text(summary: Dict[str, Any], seconds: float, rows_now: int) -> str:
    """The summary, and how fast it went, as it is printed."""
    lines = [f"{summary['rows']:,} rows, {summary['bad_rows']:,} of them bad"]
    lines += [f"  {error}" for error in summary["first_bad_rows"][:3]]
    if summary["cut_rows"]:
        lines.append(
            f"{summary['cut_rows']:,} rows had more than {summary['max_tokens']:,} word pieces "
            "and were cut"
        )
    lines += _other_keys_as_text(summary["other_keys"])
    if summary["answered"]:
        lines.append("Exits:")
        for layer, count in summary["exits"].items():
            lines.append(f"  layer {layer:>2}  {count:>13,}  {count / summary['answered']:7.2%}")
        if summary["windows_read"] != summary["answered"]:
            lines.append(f"{summary['windows_read']:,} windows read")
        spent = summary["layer_equivalents"]
        at_one = summary["layer_equivalents_at_threshold_1"]
        lines.append(
            f"{spent:.3f} layer-equivalents a row; {at_one:.3f} at threshold 1"
            + (f", {at_one / spent:.1f} times as many" if spent else "")
        )
    if rows_now and seconds > 0:
        lines.append(f"{rows_now:,} rows in {seconds:.1f} s: {rows_now / seconds:,.0f} a second")
    return "\n".join(lines)
