"""What a job has done and cost."""

from typing import Any, Dict, Iterable, List, Sequence

from sledgehammer_allennlp.bulk.parts import PartResult

_NUM_ERRORS_SHOWN = 10


def summarize(
    results: Iterable[PartResult],
    exit_layers: Sequence[int],
    costs: Sequence[float],
    names: Sequence[str],
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
    """
    results = sorted(results)
    exits = [sum(counts) for counts in zip(*(result.exits for result in results))]
    exits = exits or [0] * len(exit_layers)
    num_answered = sum(exits)
    spent = sum(count * cost for count, cost in zip(exits, costs))
    errors: List[str] = [
        f"{names[result.input_index]}, {error}" for result in results for error in result.errors
    ]
    return {
        "rows": sum(result.num_rows for result in results),
        "answered": num_answered,
        "bad_rows": sum(result.num_bad for result in results),
        "first_bad_rows": errors[:_NUM_ERRORS_SHOWN],
        "parts": len(results),
        "exits": {str(layer): count for layer, count in zip(exit_layers, exits)},
        "layer_equivalents": spent / num_answered if num_answered else None,
        "layer_equivalents_at_threshold_1": costs[-1],
    }


def as_text(summary: Dict[str, Any], seconds: float, rows_now: int) -> str:
    """The summary, and how fast it went, as it is printed."""
    lines = [f"{summary['rows']:,} rows, {summary['bad_rows']:,} of them bad"]
    lines += [f"  {error}" for error in summary["first_bad_rows"][:3]]
    if summary["answered"]:
        lines.append("Exits:")
        for layer, count in summary["exits"].items():
            lines.append(f"  layer {layer:>2}  {count:>13,}  {count / summary['answered']:7.2%}")
        spent = summary["layer_equivalents"]
        at_one = summary["layer_equivalents_at_threshold_1"]
        lines.append(
            f"{spent:.3f} layer-equivalents a row; {at_one:.3f} at threshold 1"
            + (f", {at_one / spent:.1f} times as many" if spent else "")
        )
    if rows_now and seconds > 0:
        lines.append(f"{rows_now:,} rows in {seconds:.1f} s: {rows_now / seconds:,.0f} a second")
    return "\n".join(lines)
