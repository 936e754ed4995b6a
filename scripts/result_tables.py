"""
Writes the tables of results into the documentation, from what benchmarks wrote into docs/results.
A table stands between `<!-- table: NAME -->` and `<!-- end of table -->`.
"""

import argparse
import json
import re
import statistics
from itertools import dropwhile, takewhile
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Sequence, Tuple

from scripts.pictures.accuracy import (
    DATA_SETS,
    PAPERS,
    PLAIN,
    RECOMMENDED,
    TRUNCATED,
    best_plain,
)
from sledgehammer_allennlp.files import write_text_whole

PAGES = ("README.md", "docs")
RESULTS = Path("docs/results")

_PLACE = re.compile(r"(<!-- table: (.+?) -->\n).*?(<!-- end of table -->)", re.DOTALL)

_MEASURED = ("engine", "engine_snli", "latency", "precision", "limits", "predict", "examples")
"""The results that know when and where they were measured."""

Row = Mapping[str, Any]
Columns = Mapping[str, Callable[[Row], str]]
"""By heading, the text of a cell."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.parse_args()
    for page in pages():
        text = page.read_text(encoding="utf-8")
        written = filled(text, RESULTS)
        if written != text:
            write_text_whole(page, written)
            print(page)


def pages(root: Path = Path()) -> List[Path]:
    """The Markdown files that may have tables."""
    found: List[Path] = []
    for name in PAGES:
        path = root / name
        found += sorted(path.rglob("*.md")) if path.is_dir() else [path]
    return found


def filled(text: str, results: Path) -> str:
    """
    A page with its tables.

    # Parameters

    text : `str`
        The page.
    results : `Path`
        The folder of what benchmarks wrote.

    # Raises

    ValueError
        If there is no such table.
    """

    def fill(place: "re.Match[str]") -> str:
        name = place.group(2)
        if name not in TABLES:
            raise ValueError(f"there is no table {name!r}: wanted one of {', '.join(TABLES)}")
        file, make = TABLES[name]
        return f"{place.group(1)}\n{make(_read(results / file))}\n\n{place.group(3)}"

    return _PLACE.sub(fill, text)


def _read(path: Path) -> Any:
    """A JSON file, or all in a folder, or the text of a page."""
    if path.is_dir():
        return [_read(file) for file in sorted(path.glob("*.json"))]
    text = path.read_text(encoding="utf-8")
    return text if path.suffix == ".md" else json.loads(text)


def markdown(rows: Sequence[Row], columns: Columns) -> str:
    """A table; cells that are numbers stand to the right."""
    cells = [[cell(row) for cell in columns.values()] for row in rows]
    sides = ["---:" if _are_numbers(column) else "---" for column in zip(*cells)]
    lines = [list(columns), *cells]
    shown = [f"| {' | '.join(line)} |" for line in lines]
    return "\n".join([shown[0], f"|{'|'.join(sides)}|", *shown[1:]])


def _are_numbers(cells: Sequence[str]) -> bool:
    return all(cell == "" or cell.lstrip("−-.")[:1].isdigit() for cell in cells)


def number(key: str, form: str = ".1f") -> Callable[[Row], str]:
    """A cell of a row's number; empty where there is none."""
    return lambda row: "" if row.get(key) is None else format(row[key], form)


def text(key: str) -> Callable[[Row], str]:
    return lambda row: str(row[key])


def share(value: float) -> str:
    """An accuracy, as .856."""
    return f"{value:.3f}".lstrip("0")


def recipes(data: str) -> Callable[[Sequence[Row]], str]:
    """Accuracies of one data set by recipe, at all layers and at fewer: means over seeds."""

    def table(results: Sequence[Row]) -> str:
        methods: Dict[str, List[Row]] = {}
        for one in results:
            if one["data"] == data:
                methods.setdefault(one["method"], []).append(one)
        best = best_plain(methods)
        rows = []
        for method in sorted(methods, key=_place_of_recipe):
            found = methods[method]
            name = f"**{method}**" if method == best else method
            rows.append(_recipe(name, found, "at_layers", "full_depth"))
            if method.startswith(RECOMMENDED):
                keys = ("at_layers_by_temperatures", "full_depth_by_temperatures")
                rows.append(_recipe("the same, temperatures alone", found, *keys))
        columns = {"": text("name"), "seeds": text("seeds"), "all layers": text("all")}
        return markdown(rows, {**columns, **{k: text(k) for k in "321"}})

    return table


def exits_alone(results: Sequence[Row]) -> str:
    """The accuracy of each exit of the recommended recipes: means over seeds."""
    groups: Dict[Tuple[str, str], List[Row]] = {}
    for one in results:
        if one["method"].startswith(RECOMMENDED):
            groups.setdefault((one["data"], one["method"]), []).append(one)
    rows = []
    for (data, method), found in sorted(groups.items()):
        row = {"data": DATA_SETS[data], "recipe": method, "seeds": _seeds(found)}
        for place, layer in enumerate(found[0]["exit_layers"]):
            accuracies = [one["accuracy_of_exits"][place] for one in found]
            row[str(layer)] = share(statistics.mean(accuracies))
        rows.append(row)
    return markdown(rows, {key: text(key) for key in rows[0]})


def chosen_thresholds(results: Sequence[Row]) -> str:
    """What thresholds of the recommended recipe give beyond the texts that chose them."""
    rows = []
    for data, name in DATA_SETS.items():
        found = [one for one in results if one["data"] == data and one["method"] == RECOMMENDED]
        found = [one for one in found if "chosen_on_half" in one]
        for of_drop in zip(*(one["chosen_on_half"] for one in found)):
            row = {"data": name, "seeds": _seeds(found)}
            row["allowed"] = _points(of_drop[0]["allowed"])
            for where in ("there", "on others"):
                row[f"lost {where}"] = _points(statistics.mean(x[f"drop {where}"] for x in of_drop))
                layers = statistics.mean(x[f"layers {where}"] for x in of_drop)
                row[f"layers {where}"] = f"{layers:.2f}"
            rows.append(row)
    return markdown(rows, {key: text(key) for key in rows[0]})


def _points(share_: float) -> str:
    return f"{round(100 * share_, 1) + 0:.1f}"  # no -0.0


def measured(results: Row) -> str:
    """When, and on what machine and libraries."""
    machine = results["machine"]
    libraries = ("torch", "transformers", "onnxruntime")
    versions = [f"{name} {machine[name]}" for name in libraries if machine[name]]
    cpu = f"{machine['cores']} cores of {machine['cpu']}"
    features = ", ".join(machine["cpu_features"])
    return f"*Measured on {machine['date']}: {cpu} ({features}), {', '.join(versions)}.*"


def shares_of_peak(results: Row) -> str:
    """How near the engine comes to the fastest product, and what memory it takes."""
    memory = {row["batch"]: row for row in results["peak_memory"]}
    rows = [{**row, **memory[row["batch"]]} for row in results["share_of_peak"]]
    return markdown(rows, _LIMITS)


def _seeds(results: Sequence[Row]) -> str:
    return ", ".join(map(str, sorted(one["seed"] for one in results)))


def _place_of_recipe(method: str) -> Tuple[int, float, str]:
    order = (RECOMMENDED, PLAIN, *PAPERS, TRUNCATED)
    place = next((i for i, start in enumerate(order) if method.startswith(start)), len(order))
    rate = float(method[len(PLAIN) :]) if method.startswith(PLAIN) else 0.0
    return place, rate, method


def _recipe(name: str, results: Sequence[Row], at: str, full_depth: str) -> Dict[str, str]:
    num_layers = len(results[0]["at_layers"]) + 1
    last = results[0]["exit_layers"][-1] + 1
    row = {"name": name, "seeds": _seeds(results)}
    row.update({"all": "", "1": "", "2": "", "3": ""})
    row["all" if last == num_layers else str(last)] = _mean([one[full_depth] for one in results])
    if len(results[0]["exit_layers"]) > 1:
        row.update({str(k): _mean([one[at][k - 1] for one in results]) for k in (3, 2, 1)})
    return row


def _mean(shares: Sequence[float]) -> str:
    spread = f" ± {share(statistics.stdev(shares))}" if len(shares) > 1 else ""
    return share(statistics.mean(shares)) + spread


def demo_short(results: Row) -> str:
    """Without some of the round thresholds."""
    rows = [at for at in results["at"] if at["threshold"] not in (0.8, 0.95, 0.99)]
    return markdown(rows, _DEMO_SHORT)


def _threshold(row: Row) -> str:
    return f"{row['threshold']:.5g}"


def _with_words(row: Row) -> str:
    words = {0: " (n-grams alone)", 1: " (the whole model)"}
    return _threshold(row) + words.get(row["threshold"], "")


def times(key: str) -> Callable[[Row], str]:
    return lambda row: "no layer run" if row[key] is None else f"{row[key]:.3g}×"


def held(serving: Row) -> str:
    """The highest rates that were answered in time."""
    best: Dict[Tuple[str, float], Row] = {}
    for load in sorted(serving["loads"], key=lambda load: load["due a second"]):
        if load["held"]:
            best[load["service"], load["threshold"]] = load
    # In the order in which they took turns.
    order = dict.fromkeys((load["service"], load["threshold"]) for load in serving["loads"])
    rows = [best[subject] for subject in order if subject in best]
    return markdown(
        rows,
        {
            "service": text("service"),
            "threshold": number("threshold", "g"),
            "requests a second": number("due a second", ".0f"),
            "median ms": number("median ms"),
            "99 % ms": number("99 % ms"),
        },
    )


def part(key: str, columns: Columns) -> Callable[[Row], str]:
    """The rows of one part of a result."""
    return lambda results: markdown(results[key], columns)


def windows(results: Mapping[str, Sequence[Row]]) -> str:
    """A line for each way to treat long texts; accuracy and layers by threshold."""
    ways: Dict[str, Dict[str, Any]] = {}
    for row in results["windows"]:
        way = ways.setdefault(row["texts"], {"texts": row["texts"]})
        for key, form in (("accuracy", ".3f"), ("layers", ".2f"), ("windows read", ".1f")):
            way[f"{key} at {row['threshold']:g}"] = f"{row[key]:{form}}"
    rows = list(ways.values())
    return markdown(rows, {"" if key == "texts" else key: text(key) for key in rows[0]})


def none_of_these(results: Mapping[str, Sequence[Row]]) -> str:
    """Shares of texts, without the least share of known n-grams and with it."""

    def both(key: str) -> Callable[[Row], str]:
        return lambda row: " → ".join(
            f"{100 * row[f'{key}, {name}']:.0f} %" for name in ("without", "with")
        )

    keys = ("exit at the n-grams", "confidence from 0.9", "none of these")
    columns = {"texts": text("texts"), **{key: both(key) for key in keys}}
    return markdown(results["none of these"], columns)


def table_after(start: str) -> Callable[[str], str]:
    """The first table after a line that begins so, of a page that a benchmark wrote."""

    def table(page: str) -> str:
        lines = dropwhile(lambda line: not line.startswith(start), page.splitlines())
        from_table = dropwhile(lambda line: not line.startswith("|"), lines)
        found = list(takewhile(lambda line: line.startswith("|"), from_table))
        if not found:
            raise ValueError(f"the page has no table after {start!r}")
        return "\n".join(found)

    return table


_DEMO_SHORT: Columns = {
    "threshold": _with_words,
    "accuracy": number("accuracy", ".4f"),
    "layers computed": number("layer_equivalents", ".2f"),
    "speed-up": times("measured"),
    "texts/s": number("texts_a_second", ",.0f"),
}
_DEMO: Columns = {
    "threshold": _threshold,
    "accuracy": number("accuracy", ".4f"),
    "average exit layer": number("average_exit_layer", ".2f"),
    "layer-equivalents": number("layer_equivalents", ".2f"),
    "speed-up": times("speed_up"),
    "measured": times("measured"),
    "texts/s": number("texts_a_second", ",.0f"),
}
_ENGINE: Columns = {
    "batches of": text("batch"),
    "": text("what"),
    "accuracy": number("accuracy", ".3f"),
    "layers computed": number("layer-equivalents", ".2f"),
    "texts a second": number("texts a second", ",.0f"),
    "over transformers": number("x transformers"),
    "over ONNX Runtime": number("x ONNX Runtime"),
    "promised": number("promised"),
    "realised": number("realised", ".2f"),
}

_LIMITS: Columns = {
    "batches of": text("batch"),
    "GFLOP/s": number("GFLOP/s", ".0f"),
    "of the fastest product": number("share of peak", ".2f"),
    "MB": text("engine, MB"),
    "MB in int8": text("engine int8, MB"),
    "MB, transformers": text("transformers, MB"),
}

TABLES: Dict[str, Tuple[str, Callable[[Any], str]]] = {
    **{f"recipes {data}": ("recipes/results", recipes(data)) for data in DATA_SETS},
    "exits alone": ("recipes/results", exits_alone),
    "chosen thresholds": ("recipes/results", chosen_thresholds),
    "methods": ("methods.md", table_after("## Early exit without")),
    "methods with n-grams": ("methods.md", table_after("## Early exit with the")),
    "methods at speed-ups": ("methods.md", table_after("max_probability, without n-grams:")),
    **{f"measured: {name}": (f"{name}.json", measured) for name in _MEASURED},
    "engine": ("engine.json", part("archive", _ENGINE)),
    "engine, SNLI": ("engine_snli.json", part("archive", _ENGINE)),
    "engine, BERT-base": ("engine.json", part("random", _ENGINE)),
    "precisions": (
        "precision.json",
        part(
            "archive",
            {
                "threshold": number("threshold", "g"),
                "precision": text("precision"),
                "accuracy": number("accuracy", ".3f"),
                "same answers": number("same answers", ".3f"),
                "texts a second": number("texts a second", ",.0f"),
                "over float32": number("x float32", ".2f"),
            },
        ),
    ),
    "precisions, BERT-base": (
        "precision.json",
        part(
            "random",
            {
                "batches of": text("batch"),
                "precision": text("precision"),
                "texts a second": number("texts a second", ",.0f"),
                "over float32": number("x float32", ".2f"),
            },
        ),
    ),
    "engine, pairs": ("engine.json", part("pairs", _ENGINE)),
    "limits": ("limits.json", shares_of_peak),
    "n-grams": (
        "examples.json",
        part(
            "ngrams",
            {
                "data": lambda row: DATA_SETS[row["data"]],
                "vectors of word pieces": text("vectors"),
                "accuracy": number("accuracy", ".3f"),
                "µs a text": number("microseconds a text", ".0f"),
                "seconds of the fit": number("seconds of the fit", ".0f"),
            },
        ),
    ),
    "epochs": (
        "examples.json",
        part(
            "epochs",
            {
                "epochs": text("epochs"),
                "steps": text("steps"),
                **{exit_: number(exit_, ".3f") for exit_ in ("-1", "0", "1", "2", "3", "4", "5")},
            },
        ),
    ),
    "windows": ("examples.json", windows),
    "unbalanced labels": (
        "examples.json",
        part("unbalanced labels", {key: text(key) for key in ("label", "train", "dev", "test")}),
    ),
    "unbalanced": (
        "examples.json",
        part(
            "unbalanced",
            {
                "threshold": number("threshold", "g"),
                "accuracy": number("accuracy", ".3f"),
                "macro F1": number("macro_f1", ".3f"),
                "worst recall lost": number("worst_recall_drop", ".3f"),
                "speed-up": times("speed_up"),
            },
        ),
    ),
    "none of these": ("examples.json", none_of_these),
    "predict": (
        "predict.json",
        part(
            "predict",
            {
                "threshold": number("threshold", "g"),
                "total": number("total", ".3f"),
                "tokenising": number("tokenising", ".3f"),
                "engine": number("engine", ".3f"),
                "the rest": number("the rest", ".3f"),
            },
        ),
    ),
    "demo": ("demo.json", part("at", _DEMO)),
    "demo, short": ("demo.json", demo_short),
    "services": ("serving.json", held),
    "lone requests": (
        "serving.json",
        part(
            "lone",
            {
                "threshold": number("threshold", "g"),
                "service, ms": number("service", ".2f"),
                "classifier, ms": number("classifier", ".2f"),
                "difference, ms": number("difference", ".2f"),
            },
        ),
    ),
    "latency target": (
        "serving.json",
        part(
            "holding",
            {
                "times the load": number("times the load", "g"),
                "requests a second": number("due a second", ".0f"),
                "median ms": number("median ms"),
                "99 % ms": number("99 % ms"),
                "refused": text("refused"),
                "mean threshold": number("mean threshold", ".3f"),
            },
        ),
    ),
    "one text": (
        "latency.json",
        part(
            "whole_depth",
            {
                "model": text("model"),
                "precision": text("precision"),
                "tokens": text("tokens"),
                "transformers": number("transformers", ".2f"),
                "torch.compile": number("torch.compile", ".2f"),
                "OpenVINO": number("OpenVINO", ".2f"),
                "ONNX Runtime, one graph": number("ONNX Runtime", ".2f"),
                "ours, torch": number("ours, torch", ".2f"),
                "ours, onnxruntime": number("ours, onnxruntime", ".2f"),
                "ours, every exit asked": number("ours, every exit asked", ".2f"),
                "ours / one graph": number("ours / ONNX Runtime", ".2f"),
            },
        ),
    ),
    "batches by runtime": (
        "latency.json",
        part(
            "batches",
            {
                "model": text("model"),
                "precision": text("precision"),
                "texts": text("texts"),
                "torch": number("torch", ".2f"),
                "onnxruntime": number("onnxruntime", ".2f"),
                "auto": number("auto", ".2f"),
                "auto / the better": number("auto / the better", ".2f"),
            },
        ),
    ),
    "n-grams of one": (
        "latency.json",
        part(
            "at_ngrams",
            {
                "one": text("one"),
                "torch": number("torch", ".2f"),
                "NumPy": number("NumPy", ".2f"),
            },
        ),
    ),
    "from text to answer": (
        "latency.json",
        part(
            "from_text_to_answer",
            {
                "precision": text("precision"),
                "threshold": number("threshold", "g"),
                "ours": number("ours", ".2f"),
                "ONNX Runtime, all layers": number("ONNX Runtime, all layers", ".2f"),
                "times as fast": number("times as fast", ".2f"),
            },
        ),
    ),
    "sessions of one text": (
        "latency.json",
        part(
            "sessions",
            {
                "model": text("model"),
                "precision": text("precision"),
                "seconds": number("seconds"),
                "MB": number("MB", ",d"),
                "MB meanwhile": number("MB meanwhile", ",d"),
            },
        ),
    ),
    "soak of the service": (
        "serving_soak.json",
        part(
            "soak",
            {
                "seconds": text("seconds"),
                "requests": number("requests", ",d"),
                "answers": number("answers", ",d"),
                "other than alone": text("other than alone"),
                "lost": text("lost"),
                "clients that went away": text("clients that went away"),
                "the service's MB": number("the service's MB", ",d"),
            },
        ),
    ),
    "cost of predict-files": (
        "bulk.json",
        part(
            "cost",
            {
                "threshold": number("threshold", "g"),
                "tokenising, CPU s": number("tokenising"),
                "engine, CPU s": number("engine"),
                "the job, CPU s": number("job without loading"),
                "share of tokenising and engine": number("share of tokenising and engine", ".2f"),
                "rows a CPU second": number("rows a CPU second", ",.0f"),
                "peak MB": number("the command's peak MB", ",.0f"),
            },
        ),
    ),
    "workers of predict-files": (
        "bulk.json",
        part(
            "workers",
            {
                "": text("way"),
                "rows a second": number("rows a second", ",.0f"),
                "times": number("times", ".2f"),
                "seconds of all, start too": number("seconds, start too"),
            },
        ),
    ),
    "growth of predict-files": (
        "bulk.json",
        part(
            "growth",
            {
                "rows": number("rows", ",d"),
                "seconds": number("seconds"),
                "µs a row": number("microseconds a row"),
                "peak MB": number("peak MB", ",.0f"),
            },
        ),
    ),
    "bookkeeping of predict-files": (
        "bulk.json",
        part(
            "bookkeeping",
            {
                "": text("what"),
                "parts": number("parts", ",d"),
                "seconds": number("seconds"),
            },
        ),
    ),
}
"""By name, the file or folder of its numbers, and what makes it."""


if __name__ == "__main__":
    main()
