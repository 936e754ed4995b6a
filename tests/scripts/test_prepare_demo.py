import collections
from pathlib import Path

import pytest

from scripts.prepare_demo import package_folder, part_of, prepare_bbc_news, prepare_minilm


def test_articles_become_lines_and_copies_stay_together(tmp_path: Path):
    for topic in ("sport", "tech"):
        (tmp_path / "source" / topic).mkdir(parents=True)
        for i in range(100):
            text = f"Headline {i % 50}\n\nIt was\ta {topic} day.\n"
            (tmp_path / "source" / topic / f"{i}.txt").write_text(text)
    prepare_bbc_news(tmp_path / "source", tmp_path / "bbc_news")
    parts = collections.defaultdict(set)
    num_lines = 0
    for part in ("train", "dev", "test"):
        lines = (tmp_path / "bbc_news" / f"{part}.tsv").read_text().splitlines()
        num_lines += len(lines)
        for line in lines:
            topic, text = line.split("\t")
            assert text.endswith(f" It was a {topic} day.")
            parts[line].add(part)
    assert num_lines == 200
    assert all(len(found) == 1 for found in parts.values())


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
