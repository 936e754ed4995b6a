"""Prepares AG News, IMDB, SST-2, SNLI and MultiNLI as the configs read them.

    python scripts/prepare_datasets.py all --output-dir data

Writes, below --output-dir, <name>/{train,dev,test}.tsv, from the Hugging Face hub or, with --from,
from local copies: a clone of the hub's repository, a folder of `save_to_disk`, or the files of the
original distribution, in FOLDER or FOLDER/<name>. Whatever the source, the same files result.

    ag_news   World, Sports, Business, Sci/Tech; dev is 5,000 of the 120,000 items of train
    imdb      neg, pos; dev is 5,000 of the 25,000 reviews of train
    sst2      negative, positive; dev is GLUE's; no test, because GLUE's test has no labels
    snli      entailment, neutral, contradiction; pairs without a gold label are left out
    mnli      the same; dev is validation_matched, test is validation_mismatched (other genres),
              because the labels of MultiNLI's own tests are not public

Where dev is taken from train, it has each label's share, depends on the texts alone, and has no
text that is in train too; lines then stand in an order that mixes the labels. Whitespace, control
characters and <br /> become single spaces; instances with an empty text are left out. All of it is
counted and said at the end. What is written already is not made again.
"""

import argparse
import csv
import hashlib
import json
import os
import re
import shlex
import sys
from collections import Counter, defaultdict
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Callable, Dict, Iterable, Iterator, List, Optional, Sequence, Set, Tuple

from tqdm import tqdm

# `datasets` is imported where it is used: it takes seconds, which --help does not need.

Texts = Tuple[str, ...]
# A label as a source has it, and texts; then its name, and texts that are one line each.
RawInstance = Tuple[Any, Sequence[Optional[str]]]
Instance = Tuple[str, Texts]


@dataclass(frozen=True)
class Split:
    """A split as it was published: its name on the hub, its original file, and how many labels."""

    name: str
    original: str
    num_labelled: int


@dataclass(frozen=True)
class Description:
    """
    What is known of a data set: `hub`, the arguments of `load_dataset`; `labels`, in the order of
    their numbers; `columns`, those of the texts; `splits`, from which each part is made;
    `dev_size`, how many instances dev takes from train where it has no split of its own.
    """

    hub: Tuple[str, ...]
    labels: Tuple[str, ...]
    columns: Tuple[str, ...]
    original_folder: str
    read_original: Callable[[Path], Iterator[RawInstance]]
    splits: Dict[str, Split]
    dev_size: int = 0

    @property
    def parts(self) -> List[str]:
        return ["train", "dev"] + ["test"] * ("test" in self.splits)

    def split_of(self, part: str) -> Split:
        return self.splits.get(part, self.splits["train"])


def read_ag_news(file: Path) -> Iterator[RawInstance]:
    """Lines of label number from 1, title, description, quoted; some copies have a header."""
    numbers = {"1": "World", "2": "Sports", "3": "Business", "4": "Sci/Tech"}
    with open(file, encoding="utf-8", newline="") as lines:
        for row in csv.reader(lines):
            if row == ["Class Index", "Title", "Description"]:
                continue
            if len(row) != 3:
                raise ValueError(f"found {len(row)} columns: wanted label, title, description")
            yield numbers.get(row[0], row[0]), [f"{row[1]} {row[2]}"]


def read_imdb(folder: Path) -> Iterator[RawInstance]:
    """One file each, in folders named after the labels, of which `folder` is one."""
    for label in ("neg", "pos"):
        for file in sorted((folder.parent / label).glob("*.txt")):
            yield label, [file.read_text(encoding="utf-8")]


def read_sst2(file: Path) -> Iterator[RawInstance]:
    """A header, then sentence<TAB>label, without quotes."""
    numbers = {"0": "negative", "1": "positive"}
    with open(file, encoding="utf-8", newline="\n") as lines:
        header = next(lines, "").rstrip("\r\n")
        if header != "sentence\tlabel":
            raise ValueError(f"the header is {header!r}: wanted sentence<TAB>label")
        for line in lines:
            sentence, _, label = line.rstrip("\r\n").rpartition("\t")
            yield numbers.get(label, label), [sentence]


def read_nli(file: Path) -> Iterator[RawInstance]:
    """JSON lines; the gold label is "-" where the annotators did not agree."""
    with open(file, encoding="utf-8", newline="\n") as lines:
        for line in lines:
            pair = json.loads(line)
            label = None if pair["gold_label"] == "-" else pair["gold_label"]
            yield label, [pair["sentence1"], pair["sentence2"]]


NLI_LABELS = ("entailment", "neutral", "contradiction")
DATASETS = {
    "ag_news": Description(
        hub=("fancyzhx/ag_news",),
        labels=("World", "Sports", "Business", "Sci/Tech"),
        columns=("text",),
        original_folder="ag_news_csv",
        read_original=read_ag_news,
        splits={
            "train": Split("train", "train.csv", 120_000),
            "test": Split("test", "test.csv", 7_600),
        },
        dev_size=5_000,
    ),
    "imdb": Description(
        hub=("stanfordnlp/imdb",),
        labels=("neg", "pos"),
        columns=("text",),
        original_folder="aclImdb",
        read_original=read_imdb,
        splits={
            "train": Split("train", "train/pos", 25_000),
            "test": Split("test", "test/pos", 25_000),
        },
        dev_size=5_000,
    ),
    "sst2": Description(
        hub=("nyu-mll/glue", "sst2"),
        labels=("negative", "positive"),
        columns=("sentence",),
        original_folder="SST-2",
        read_original=read_sst2,
        splits={
            "train": Split("train", "train.tsv", 67_349),
            "dev": Split("validation", "dev.tsv", 872),
        },
    ),
    "snli": Description(
        hub=("stanfordnlp/snli",),
        labels=NLI_LABELS,
        columns=("premise", "hypothesis"),
        original_folder="snli_1.0",
        read_original=read_nli,
        splits={
            "train": Split("train", "snli_1.0_train.jsonl", 549_367),
            "dev": Split("validation", "snli_1.0_dev.jsonl", 9_842),
            "test": Split("test", "snli_1.0_test.jsonl", 9_824),
        },
    ),
    # A quarter of the download of nyu-mll/multi_nli, which has parse trees too.
    "mnli": Description(
        hub=("nyu-mll/glue", "mnli"),
        labels=NLI_LABELS,
        columns=("premise", "hypothesis"),
        original_folder="multinli_1.0",
        read_original=read_nli,
        splits={
            "train": Split("train", "multinli_1.0_train.jsonl", 392_702),
            "dev": Split("validation_matched", "multinli_1.0_dev_matched.jsonl", 9_815),
            "test": Split("validation_mismatched", "multinli_1.0_dev_mismatched.jsonl", 9_832),
        },
    ),
}

Source = Callable[[Split], Iterable[RawInstance]]


def open_hub(name: str) -> Source:
    """The splits as the `datasets` library downloads them, or has them in its cache."""
    import datasets

    hub = DATASETS[name].hub
    try:
        found = datasets.load_dataset(*hub)
    except Exception as error:  # of many kinds, of several libraries
        sys.exit(
            f"{name}: {' '.join(hub)} could not be loaded from the Hugging Face hub "
            f"({type(error).__name__}: {error}).\nWithout network, either\n"
            f"- run this command where there is network, and copy the folder {name} of its "
            "--output-dir here, or\n"
            f"- give a local copy: --from FOLDER, with one of\n{_wanted_of(name, Path('FOLDER'))}"
        )
    return partial(_rows, name, found)


def open_copy(name: str, folder: Path) -> Source:
    """The splits of a local copy, in whichever of the formats it is."""
    description = DATASETS[name]
    splits = list(description.splits.values())
    for candidate in _candidates(name, folder):
        if (candidate / "dataset_dict.json").is_file():
            import datasets

            saved = datasets.load_from_disk(str(candidate))
            return partial(_rows, name, saved)
        if all(_parquet_files(candidate, split, description) for split in splits):
            return partial(_parquet_rows, name, candidate)
        if all((candidate / split.original).exists() for split in splits):
            return partial(_original_rows, description, candidate)
    sys.exit(f"{name}: no copy was found in {folder}. Looked for\n{_wanted_of(name, folder)}")


def _original_rows(description: Description, folder: Path, split: Split) -> Iterator[RawInstance]:
    return description.read_original(folder / split.original)


def _candidates(name: str, folder: Path) -> List[Path]:
    return [folder / name, folder / DATASETS[name].original_folder, folder]


def _parquet_files(folder: Path, split: Split, description: Description) -> List[str]:
    """Where the hub's repositories have a split."""
    return [
        str(file)
        for subfolder in ("", "data", "plain_text", *description.hub[1:])
        for pattern in ("-*.parquet", ".parquet", "/*.parquet")
        for file in sorted((folder / subfolder).glob(split.name + pattern))
    ]


def _wanted_of(name: str, folder: Path) -> str:
    description = DATASETS[name]
    names = ", ".join(split.name for split in description.splits.values())
    originals = ", ".join(split.original for split in description.splits.values())
    hub = " ".join(description.hub)
    return (
        f"  a clone of {hub} from the hub: <split>-*.parquet, also in data/ or plain_text/\n"
        f"  a folder of save_to_disk: dataset_dict.json\n    (both with the splits {names})\n"
        f"  the original distribution: {originals}\n"
        f"in {', '.join(map(str, _candidates(name, folder)))}"
    )


def _parquet_rows(name: str, folder: Path, split: Split) -> Iterator[RawInstance]:
    import datasets

    files = _parquet_files(folder, split, DATASETS[name])
    columns = ["label", *DATASETS[name].columns]
    try:
        found = datasets.Dataset.from_parquet(
            files, columns=columns, split=datasets.NamedSplit(split.name)
        )
    except Exception as error:  # of many kinds, of several libraries
        raise ValueError(
            f"{', '.join(files)}: wanted parquet with the columns {', '.join(columns)} (without "
            f"git-lfs a clone has only pointers: git lfs pull); {type(error).__name__}: {error}"
        )
    return _rows(name, {split.name: found}, split)


def _rows(name: str, found: Any, split: Split) -> Iterator[RawInstance]:
    """The rows of a split of a `DatasetDict`."""
    description = DATASETS[name]
    wanted = ["label", *description.columns]
    if split.name not in found:
        raise ValueError(f"found the splits {', '.join(found)}: wanted {split.name}")
    dataset = found[split.name]
    if not set(wanted) <= set(dataset.column_names):
        columns = ", ".join(dataset.column_names)
        raise ValueError(f"found the columns {columns}: wanted {', '.join(wanted)}")
    labels = getattr(dataset.features["label"], "names", None)
    if labels is not None and tuple(labels) != description.labels:
        raise ValueError(
            f"found the labels {', '.join(labels)}: wanted {', '.join(description.labels)}"
        )
    for batch in dataset.select_columns(wanted).iter(batch_size=1000):
        yield from zip(batch["label"], zip(*(batch[column] for column in description.columns)))


_SPACE = re.compile(r"(?:[\s\x00-\x1f\x7f-\x9f\ud800-\udfff]|<br\s*/?>)+")


def one_line(text: str) -> str:
    """The text with single spaces for all runs of whitespace, control characters and <br />."""
    return _SPACE.sub(" ", text).strip(" ")


def label_name(label: Any, labels: Sequence[str]) -> Optional[str]:
    """The name of a label, which may be a number; `None` for an instance without one."""
    if label is None or label == -1:
        return None
    if isinstance(label, int) and 0 <= label < len(labels):
        return labels[label]
    if label in labels:
        return str(label)
    raise ValueError(f"found the label {label!r}: wanted one of {', '.join(labels)}")


def clean(
    rows: Iterable[RawInstance], labels: Sequence[str]
) -> Tuple[List[Instance], Dict[str, int]]:
    """The labelled instances as they are written, and how many needed what."""
    instances: List[Instance] = []
    notes: Counter[str] = Counter()
    for number, (raw_label, raw_texts) in enumerate(rows, start=1):
        try:
            label = label_name(raw_label, labels)
        except ValueError as error:
            raise ValueError(f"instance {number}: {error}")
        if label is None:
            notes["without a label, left out"] += 1
            continue
        notes["labelled"] += 1
        given = [text or "" for text in raw_texts]
        texts = tuple(map(one_line, given))
        notes["with whitespace, control characters or <br /> changed"] += texts != tuple(given)
        if all(texts):
            instances.append((label, texts))
        else:
            notes["with an empty text, left out"] += 1
    return instances, dict(+notes)


def divide(instances: List[Instance], dev_share: float) -> Dict[str, List[Instance]]:
    """
    Train and dev. Dev has `dev_share` of each label, at least 1, and only texts that occur once;
    which ones depends on the texts alone.
    """
    copies = Counter(texts for _, texts in instances)
    sizes = Counter(label for label, _ in instances)
    by_label: Dict[str, List[Instance]] = defaultdict(list)
    for instance in _mixed(instances):
        if copies[instance[1]] == 1:
            by_label[instance[0]].append(instance)
    dev: Set[Instance] = set()
    for label, candidates in by_label.items():
        dev.update(candidates[: max(1, round(dev_share * sizes[label]))])
    return {
        "train": [instance for instance in instances if instance not in dev],
        "dev": [instance for instance in instances if instance in dev],
    }


def _mixed(instances: List[Instance]) -> List[Instance]:
    """In an order that mixes the labels, so that the first lines alone are a fair sample."""
    return sorted(instances, key=lambda instance: _digest(_line(instance).encode("utf-8")))


def _line(instance: Instance) -> str:
    label, texts = instance
    return "\t".join((label, *texts)) + "\n"


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def write_whole(path: Path, content: bytes) -> None:
    """Writes a file beside `path` and renames it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(path.name + ".new")
    try:
        beside.write_bytes(content)
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


@dataclass
class Record:
    """
    What was written to a folder, kept in its prepared.json: `source`; `parts`, the digest of each;
    `notes`, what `clean` counted in each split.
    """

    path: Path
    source: str
    parts: Dict[str, str]
    notes: Dict[str, Dict[str, int]]

    @classmethod
    def read(cls, path: Path, source: str) -> "Record":
        if not path.exists():
            return cls(path, source, {}, {})
        try:
            return cls(path, **json.loads(path.read_text(encoding="utf-8")))
        except (ValueError, TypeError) as error:
            sys.exit(f"{path} is not what this command wrote: remove it. {error}")

    def write(self) -> None:
        kept = {"source": self.source, "parts": self.parts, "notes": self.notes}
        write_whole(self.path, (json.dumps(kept, indent=2) + "\n").encode("utf-8"))

    def has(self, part: str, source: str) -> bool:
        """Whether a part is there, whole. Exits if it is there but was not made from `source`."""
        file = self.path.with_name(f"{part}.tsv")
        if not file.exists():
            return False
        if self.parts.get(part) != _digest(file.read_bytes()):
            sys.exit(f"{file} is not what this command wrote: --force replaces it")
        if self.source != source:
            sys.exit(f"{file} was made from {self.source}, not {source}: --force replaces it")
        return True


def prepare(
    name: str, output_dir: Path, copy: Optional[Path], force: bool, allow_other_counts: bool
) -> None:
    """Writes the parts of a data set that are not there yet, and says what is there."""
    description = DATASETS[name]
    source_name = str(copy.resolve()) if copy else " ".join(description.hub)
    record = Record.read(output_dir / name / "prepared.json", source_name)
    missing = [part for part in description.parts if force or not record.has(part, source_name)]
    if missing:
        if set(missing) == set(description.parts):
            record = Record(record.path, source_name, {}, {})
        source = open_copy(name, copy) if copy else open_hub(name)
        for split in description.splits.values():
            parts = [part for part in missing if description.split_of(part) is split]
            if parts:
                instances = _read(source, split, name, allow_other_counts, record)
                _write_parts(instances, parts, split, description, record)
    _report(name, record)


def _read(
    source: Source, split: Split, name: str, allow_other_counts: bool, record: Record
) -> List[Instance]:
    where = f"{name}, split {split.name} of {record.source}"
    shown = {"desc": f"{name} {split.name}", "total": split.num_labelled, "disable": None}
    try:
        instances, notes = clean(tqdm(source(split), **shown), DATASETS[name].labels)
    except (ValueError, KeyError, OSError, csv.Error) as error:
        sys.exit(f"{where}: {type(error).__name__}: {error}")
    found = notes.get("labelled", 0)
    if not instances:
        sys.exit(f"{where}: found no instances with label and text")
    if found != split.num_labelled and not allow_other_counts:
        sys.exit(
            f"{where}: found {found:,} labelled instances: wanted {split.num_labelled:,}, as "
            "published. If the copy is meant to be another, add --allow-other-counts"
        )
    record.notes[split.name] = notes
    return instances


def _write_parts(
    instances: List[Instance],
    parts: List[str],
    split: Split,
    description: Description,
    record: Record,
) -> None:
    divided = {part: instances for part in parts}
    if description.dev_size:
        instances = _mixed(instances)
        dev_share = description.dev_size / description.splits["train"].num_labelled
        is_divided = split is description.splits["train"]
        divided = divide(instances, dev_share) if is_divided else {"test": instances}
    for part in parts:
        content = "".join(map(_line, divided[part])).encode("utf-8")
        # First, so that a file that is there is always one that is recorded.
        record.parts[part] = _digest(content)
        record.write()
        write_whole(record.path.with_name(f"{part}.tsv"), content)


def _report(name: str, record: Record) -> None:
    """Says what the files have, from the files themselves."""
    description = DATASETS[name]
    print(f"{name}, from {record.source}:")
    texts: Dict[str, Set[str]] = {}
    for part in description.parts:
        file = record.path.with_name(f"{part}.tsv")
        lines = file.read_text(encoding="utf-8").split("\n")[:-1]
        labels = Counter(line.split("\t")[0] for line in lines)
        counts = ", ".join(f"{labels[label]:,} {label}" for label in description.labels)
        print(f"  {file}: {len(lines):,} instances: {counts}")
        texts[part] = {line.partition("\t")[2] for line in lines}
    for part in description.parts[1:]:
        num_shared = len(texts[part] & texts["train"])
        print(f"  texts of {part} that are in train too: {num_shared:,}")
    for split in description.splits.values():
        notes = dict(record.notes[split.name])
        found = notes.pop("labelled")
        if found != split.num_labelled:
            print(f"  split {split.name}: {found:,} labelled; published: {split.num_labelled:,}")
        for note, count in notes.items():
            print(f"  split {split.name}: {count:,} {note}")
    if "test" not in description.splits:
        print("  no test.tsv: the labels of the published test are not public")


def _next_step(name: str, output_dir: Path) -> str:
    command = f"allennlp train training_config/{name}.jsonnet -s runs/{name}"
    command += " --include-package sledgehammer_allennlp"
    if output_dir != Path("data"):
        folder = output_dir / name
        paths = {"train_data_path": f"{folder}/train.tsv"}
        paths["validation_data_path"] = f"{folder}/dev.tsv"
        command += f" --overrides {shlex.quote(json.dumps(paths))}"
    return command


def main(arguments: Optional[Sequence[str]] = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="+", metavar="NAME", choices=[*DATASETS, "all"])
    parser.add_argument("--output-dir", type=Path, default=Path("data"))
    parser.add_argument(
        "--from", dest="copy", type=Path, metavar="FOLDER", help="a local copy, instead of the hub"
    )
    parser.add_argument("--force", action="store_true", help="replace files that are there")
    parser.add_argument(
        "--allow-other-counts",
        action="store_true",
        help="take a copy that has not as many instances as were published",
    )
    given = parser.parse_args(arguments)
    names = list(DATASETS) if "all" in given.names else list(dict.fromkeys(given.names))
    for name in names:
        prepare(name, given.output_dir, given.copy, given.force, given.allow_other_counts)
    print("Next:")
    for name in names:
        print(f"  {_next_step(name, given.output_dir)}")


if __name__ == "__main__":
    main()
