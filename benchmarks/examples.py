"""
What the examples of the how-tos give: small models, trained and looked at by the commands that a
user runs. `ngrams`: the exit on n-grams of news and of pairs, with vectors of word pieces or
without. `windows`: long articles, cut or read in windows, and how long to train on few texts.
`unbalanced`: news of which some topics are rare; and what that model says of texts of other kinds.
Prints tables, writes JSON; of a part that does not run, what was measured before stays, if it was
on the same machine and day.
"""

import argparse
import json
import math
import shlex
import statistics
import subprocess
import sys
from bisect import bisect_left
from functools import partial
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional

import torch
from transformers import AutoModel, AutoTokenizer

from benchmarks.timing import alternate, machine, print_table, write
from benchmarks.trained_models import config_source
from sledgehammer_allennlp import load_archived_classifier
from sledgehammer_allennlp.encoders import TokenBatch
from sledgehammer_allennlp.encoders.tokenizing import tokenize
from sledgehammer_allennlp.files import write_text_whole
from sledgehammer_allennlp.ngrams import NgramClassifier
from sledgehammer_allennlp.ngrams.fitting import fit_ngram_classifier
from sledgehammer_allennlp.ngrams.training_texts import TrainingTexts

Lines = List[List[str]]
"""Of each line the label, the text, and the second text if there is one."""

SHARES = (1.0, 0.5, 0.25, 0.125)
"""Of the texts of each label that are kept, by the labels in order."""
THRESHOLDS = (0.8, 0.9)
ABSTAIN_BELOW = 0.6
BATCH_SIZE = 32


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=Path("data"), help="by default data")
    parser.add_argument("--transformer-model", default="data/minilm", help="by default data/minilm")
    parser.add_argument("--parts", nargs="+", default=list(PARTS), choices=list(PARTS))
    parser.add_argument("--max-texts", type=int, help="at most so many of each file")
    parser.add_argument(
        "--epochs", type=int, nargs=2, default=[2, 9], help="few, and enough, for `windows`"
    )
    parser.add_argument("--unbalanced-epochs", type=int, default=4)
    parser.add_argument(
        "--thresholds", type=float, nargs="+", default=[0.9, 0.99, 1.0], help="for `windows`"
    )
    parser.add_argument("--work", type=Path, default=Path("runs/examples"), help="for the models")
    parser.add_argument("--output", default="runs/examples.json", help="JSON")
    arguments = parser.parse_args()
    path = Path(arguments.output)
    results = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    if results.pop("machine", machine()) != machine():
        raise SystemExit(f"{path} is of another machine or day: wanted another --output")
    for part in arguments.parts:
        found = PARTS[part](arguments)
        results.update(found)
        for title, rows in found.items():
            print_table(rows, title)
    write(arguments.output, results)


def ngrams(arguments: argparse.Namespace) -> Dict[str, Any]:
    """The exit on n-grams alone."""
    tokenizer = AutoTokenizer.from_pretrained(arguments.transformer_model)
    embeddings = AutoModel.from_pretrained(arguments.transformer_model).get_input_embeddings()
    pretrained = embeddings.weight.detach()
    random = torch.randn(pretrained.shape, generator=torch.Generator().manual_seed(0))
    vectors: Dict[str, Dict[str, Optional[torch.Tensor]]] = {
        "ag_news": {"": None},
        "snli": {"none": None, "random": random, "of the pretrained model": pretrained},
    }
    rows = []
    for data, by_name in vectors.items():
        seen, held_out = (read(arguments, data, name) for name in ("train", "dev"))
        texts = TrainingTexts(len(labels_of(seen)), seed=0)
        texts.add(tokens_of(tokenizer, seen), label_numbers(seen, seen).numpy())
        tokens, labels = tokens_of(tokenizer, held_out), label_numbers(seen, held_out)
        for name, matrix in by_name.items():
            classifier = NgramClassifier(len(labels_of(seen)))
            fit = fit_ngram_classifier(classifier, [texts], matrix)
            with torch.inference_mode():
                seconds = alternate({"all": partial(classifier, tokens)}, rounds=7)["all"]
                is_right = classifier(tokens).argmax(-1) == labels
            rows.append(
                {
                    "data": data,
                    "vectors": name,
                    "accuracy": float(is_right.float().mean()),
                    "seconds of the fit": fit.seconds,
                    "microseconds a text": 1e6 * seconds / len(tokens),
                }
            )
    return {"ngrams": rows}


def windows(arguments: argparse.Namespace) -> Dict[str, Any]:
    """Long articles, of which training sees the first 128 word pieces."""
    epochs, cut = [], []
    parts = {name: read(arguments, "bbc_news", name) for name in ("train", "dev", "test")}
    data = written(arguments.work / "bbc_news_data", parts)
    for number in arguments.epochs:
        folder = arguments.work / f"bbc_news_{number}"
        train(arguments, folder, data, {"num_epochs": number, "max_length": 128})
        found = tradeoff(folder, data / "test.tsv")
        steps = number * math.ceil(len(parts["train"]) / BATCH_SIZE)
        accuracies = {str(one["exit_layer"]): one["accuracy"] for one in found["exits"]}
        epochs.append({"epochs": number, "steps": steps, **accuracies})
    ways: Dict[str, Dict[str, Any]] = {
        "cut to 128": {},
        "cut to 512": {"dataset_reader.tokenizer.max_length": 512},
        "in windows": {
            "dataset_reader.tokenizer.max_length": 4096,
            "model.windows": {"size": 126, "stride": 63},
        },
    }
    for name, settings in ways.items():
        for threshold in arguments.thresholds:
            overrides = {"model.confidence_threshold": threshold, **settings}
            metrics = evaluate(folder, data / "test.tsv", overrides)
            cut.append(
                {
                    "texts": name,
                    "threshold": threshold,
                    "accuracy": metrics["accuracy"],
                    "layers": metrics["layer_equivalents"],
                    "windows read": metrics.get("windows_read", 1.0),
                }
            )
    return {"epochs": epochs, "windows": cut}


def unbalanced(arguments: argparse.Namespace) -> Dict[str, Any]:
    """News, fewer of each label than of the one before."""
    folder = arguments.work / "unbalanced"
    held_out = read(arguments, "ag_news", "dev")
    num_dev = len(held_out) // 4
    parts = {"train": read(arguments, "ag_news", "train")}
    parts.update(dev=held_out[:num_dev], test=held_out[num_dev:])
    thin = {name: thinned(lines) for name, lines in parts.items()}
    data = written(arguments.work / "unbalanced_data", thin)
    train(arguments, folder, data, {"num_epochs": arguments.unbalanced_epochs})
    found = tradeoff(folder, data / "test.tsv", "--max-recall-drop", "0.02")
    rows = rows_at_thresholds(found)
    counts = [
        {"label": label, **{name: of_label(lines, label) for name, lines in thin.items()}}
        for label in labels_of(thin["train"])
    ]
    return {
        "unbalanced labels": counts,
        "unbalanced": rows,
        "none of these": unknown_texts(arguments, folder, data),
    }


def rows_at_thresholds(found: Dict[str, Any]) -> List[Dict[str, Any]]:
    """What `allennlp tradeoff` found at some thresholds and at the one that it recommends."""
    recommended = found["recommendations"][0]["point"]["threshold"]
    table = found["thresholds"]
    names = ("accuracy", "macro_f1", "worst_recall_drop", "speed_up")
    rows = []
    for threshold in sorted({0.0, *THRESHOLDS, recommended, 1.0}):
        # Thresholds in between are as the next one.
        row = bisect_left(table["threshold"], threshold)
        numbers = {name: table[name][row] for name in names}
        rows.append({"threshold": threshold, "recommended": threshold == recommended, **numbers})
    return rows


def unknown_texts(arguments: argparse.Namespace, folder: Path, data: Path) -> List[Dict[str, Any]]:
    """What a model of news says of other texts, with the least share of known n-grams or not."""
    kinds = {
        "phrases of film reviews (SST-2)": read(arguments, "sst2", "dev"),
        "captions of pictures (SNLI)": read(arguments, "snli", "dev"),
        "its own": lines_of(data / "test.tsv"),
    }
    classifier = load_archived_classifier(folder / "model.tar.gz", 0.8, abstain_below=ABSTAIN_BELOW)
    exit_on_ngrams = classifier.exits.ngrams
    assert exit_on_ngrams is not None
    of_archive = exit_on_ngrams.min_seen_share
    rows = []
    for kind, lines in kinds.items():
        texts = list(dict.fromkeys(line[1] for line in lines))[:300]
        row: Dict[str, Any] = {"texts": f"{len(texts)} {kind}"}
        for name, min_seen_share in (("without", 0.0), ("with", of_archive)):
            exit_on_ngrams.min_seen_share = min_seen_share
            answers = classifier.predict(texts)
            shares = {
                "exit at the n-grams": [answer["exit_layer"] < 0 for answer in answers],
                "confidence from 0.9": [answer["confidence"] >= 0.9 for answer in answers],
                "none of these": [answer["label"] is None for answer in answers],
            }
            row.update({f"{key}, {name}": statistics.mean(x) for key, x in shares.items()})
        rows.append(row)
    return rows


PARTS: Dict[str, Callable[[argparse.Namespace], Dict[str, Any]]] = {
    "ngrams": ngrams,
    "windows": windows,
    "unbalanced": unbalanced,
}


def read(arguments: argparse.Namespace, data: str, name: str) -> Lines:
    """A file of labelled texts."""
    return lines_of(arguments.data / data / f"{name}.tsv")[: arguments.max_texts]


def lines_of(path: Path) -> Lines:
    if not path.exists():
        raise SystemExit(
            f"There is no {path}: python scripts/prepare_datasets.py and scripts/prepare_demo.py "
            "make it, or --data FOLDER"
        )
    return [line.split("\t") for line in path.read_text(encoding="utf-8").splitlines()]


def written(folder: Path, parts: Dict[str, Lines]) -> Path:
    """The folder, with a file for each part."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, lines in parts.items():
        write_text_whole(folder / f"{name}.tsv", "".join("\t".join(x) + "\n" for x in lines))
    return folder


def of_label(lines: Lines, label: str) -> int:
    """How many lines."""
    return sum(line[0] == label for line in lines)


def labels_of(lines: Lines) -> List[str]:
    return sorted({line[0] for line in lines})


def label_numbers(seen: Lines, lines: Lines) -> torch.Tensor:
    """The place of each line's label among those of the lines that were seen."""
    labels = labels_of(seen)
    return torch.tensor([labels.index(line[0]) for line in lines])


def tokens_of(tokenizer: Any, lines: Lines) -> TokenBatch:
    texts = list(zip(*(line[1:] for line in lines)))
    return tokenize(tokenizer, texts[0], texts[1] if len(texts) > 1 else None, 128)


def thinned(lines: Lines) -> Lines:
    """The first texts of each label, by its share."""
    left = {
        label: round(share * of_label(lines, label))
        for label, share in zip(labels_of(lines), SHARES)
    }
    kept = []
    for line in lines:
        if left[line[0]] > 0:
            left[line[0]] -= 1
            kept.append(line)
    return kept


def train(
    arguments: argparse.Namespace, folder: Path, data: Path, settings: Dict[str, Any]
) -> None:
    """By `allennlp train`."""
    settings = {
        "dataset": folder.name,
        "data_folder": str(data),
        "transformer_model": arguments.transformer_model,
        "exit_layers": "all",
        "batch_size": BATCH_SIZE,
        **settings,
    }
    config = arguments.work / f"{folder.name}.jsonnet"
    config.parent.mkdir(parents=True, exist_ok=True)
    write_text_whole(config, config_source(settings) + "\n")
    allennlp("train", config, "-s", folder, "--force", "--file-friendly-logging")


def tradeoff(folder: Path, data: Path, *wishes: str) -> Dict[str, Any]:
    """What `allennlp tradeoff` writes."""
    output = folder / "tradeoff"
    allennlp("tradeoff", folder / "model.tar.gz", data, "--output-dir", output, *wishes)
    found: Dict[str, Any] = json.loads((output / "tradeoff.json").read_text(encoding="utf-8"))
    return found


def evaluate(folder: Path, data: Path, overrides: Dict[str, Any]) -> Dict[str, float]:
    """The metrics of `allennlp evaluate`."""
    output = folder / "metrics_of_test.json"
    given = ("--output-file", output, "--overrides", json.dumps(overrides))
    allennlp("evaluate", folder / "model.tar.gz", data, *given)
    metrics: Dict[str, float] = json.loads(output.read_text(encoding="utf-8"))
    return metrics


def allennlp(*arguments: Any) -> None:
    """A command; its output is shown if it fails."""
    command = [sys.executable, "-m", "allennlp", *map(str, arguments)]
    print(shlex.join(command[2:]), flush=True)
    command += ["--include-package", "sledgehammer_allennlp"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"{done.stdout}{done.stderr}")


if __name__ == "__main__":
    main()
