"""What a job will cost."""

import re

import pytest

pytest.importorskip("pyarrow")
pytest.importorskip("fsspec")

from sledgehammer_allennlp import load_archived_classifier
from sledgehammer_allennlp.__main__ import main
from sledgehammer_allennlp.bulk.estimate import duration
from tests.tiny import SENTENCES


def test_an_estimate_has_the_costs_of_each_threshold_and_writes_nothing(trained, tmp_path, capsys):
    path = tmp_path / "in.csv"
    path.write_text("text\n" + "".join(f'"{text}"\n' for text in SENTENCES * 10))
    arguments = ["predict-files", trained["archive"], str(path), "--estimate", "--threshold", "0.7"]
    assert main(arguments) == 0
    first, _, *lines = capsys.readouterr().out.splitlines()
    assert first == "490 rows; a sample of 490 of them ran on one cpu:"
    found = [re.fullmatch(r" *(\S+) +[\d,]+ +(\S+) +\S.*", line).groups() for line in lines]
    assert [threshold for threshold, _ in found] == [
        *("0", "0.7", "0.8", "0.9", "0.95", "0.99", "1")
    ]
    classifier = load_archived_classifier(trained["archive"], 0.7)
    layers = [answer["exit_layer"] for answer in classifier.predict(SENTENCES)]
    cost = sum(layer + 0.25 for layer in layers if layer >= 0) / len(layers)
    assert [float(value) for _, value in found][:2] == [0, pytest.approx(cost, abs=1e-3)]
    assert float(found[-1][1]) == 3.25
    assert [one.name for one in tmp_path.iterdir()] == ["in.csv"]


def test_a_sample_comes_from_all_over_the_input(trained, tmp_path, capsys):
    path = tmp_path / "in.txt"
    path.write_text("it was a day\n" * 1000)
    options = ["--estimate", "--limit", "30", "--rows-per-part", "100"]
    assert main(["predict-files", trained["archive"], str(path), *options]) == 0
    assert capsys.readouterr().out.startswith("1,000 rows; a sample of 30 of them")


def test_without_an_estimate_there_must_be_a_folder(trained, tmp_path, capsys):
    assert main(["predict-files", trained["archive"], str(tmp_path)]) == 2
    assert "wanted --output-dir, or --estimate" in capsys.readouterr().err


def test_durations_have_two_units():
    assert [duration(seconds) for seconds in (0.25, 61, 3600, 12_000, 200_000)] == [
        "0.2 s",
        "1 min 1 s",
        "1 h 0 min",
        "3 h 20 min",
        "2 d 7 h",
    ]
