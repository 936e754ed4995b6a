"""After a kill or on a full disk, what was written can be told from what was not."""

import errno
import gc
import json
import os

import pytest
from allennlp.common.checks import ConfigurationError
from allennlp.models import archival

from sledgehammer_allennlp import files
from sledgehammer_allennlp.commands.tradeoff import write
from sledgehammer_allennlp.predictors.lines import LineCounts
from sledgehammer_allennlp.tradeoff import plots
from tests.full_disk import files_of_at_most
from tests.tradeoff.made_results import made_results


@pytest.fixture
def lines(tmp_path):
    """Sentences to be predicted, of which the third is bad."""
    texts = [json.dumps({"sentence": f"the film was good {n}"}) for n in range(200)]
    texts[2] = "{}"
    (tmp_path / "in.jsonl").write_text("\n".join(texts) + "\n")
    return tmp_path / "in.jsonl"


def test_predict_on_a_full_disk_counts_what_stands_in_the_file(
    trained, lines, tmp_path, allennlp_command
):
    output = tmp_path / "out.jsonl"
    with pytest.raises(ConfigurationError) as refused, files_of_at_most(30_000):
        allennlp_command(
            *("predict", trained["run"], lines, "--output-file", output, "--batch-size", 16),
            *("--predictor-args", '{"bad_lines": "skip"}', "--silent"),
        )
    found = output.read_text().split("\n")[:-1]
    assert 50 < len(found) < 200
    assert f"out.jsonl' cannot be written: File too large. {len(found)} whole lines" in str(
        refused.value
    )
    assert "wanted room for all, or another --output-file" in str(refused.value)
    predictors = [one for one in gc.get_objects() if isinstance(one, LineCounts)]
    assert (len(found) - 1, 1) in [(one.num_answered, one.num_skipped) for one in predictors]


def test_predict_into_a_device_that_is_full_says_so(trained, lines, allennlp_command):
    if not os.path.exists("/dev/full"):
        pytest.skip("this system has no device that is full")
    with pytest.raises(ConfigurationError, match="'/dev/full' cannot be written: No space left"):
        allennlp_command(
            *("predict", trained["run"], lines, "--output-file", "/dev/full", "--silent"),
            *("--predictor-args", '{"bad_lines": "skip"}'),
        )


@pytest.mark.parametrize("command", ["calibrate", "oracle", "tradeoff"])
def test_on_a_full_disk_the_old_results_stay_or_are_gone(
    trained, tsv, tmp_path, allennlp_command, monkeypatch, command
):
    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    (tmp_path / "old").mkdir()
    argument, output, options = {
        "calibrate": ("--output-archive", tmp_path / "old" / "a.tar.gz", ["--force"]),
        "oracle": ("--output-file", tmp_path / "old" / "a.tsv", []),
        "tradeoff": ("--output-dir", tmp_path / "old", []),
    }[command]
    old = tmp_path / "old" / "report.html" if command == "tradeoff" else output
    old.write_text("old")
    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(ConfigurationError, match="the results cannot be written: want") as refused:
        allennlp_command(command, trained["run"], tsv["dev"], argument, output, *options)
    assert f"or another {argument}. [Errno 28] cannot be written: No space left" in str(
        refused.value
    )
    names = [path.name for path in (tmp_path / "old").iterdir()]
    assert names == ([] if command == "tradeoff" else [output.name])
    assert command == "tradeoff" or output.read_text() == "old"


def test_files_of_tradeoff_are_of_one_run_whenever_it_ends(tmp_path, monkeypatch):
    written = ("report.html", "tradeoff.csv", "tradeoff.json", "tradeoff.png", "reliability.png")
    for name in written:
        (tmp_path / name).write_text("old")

    def killed(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(plots, "write_pictures", killed)
    with pytest.raises(KeyboardInterrupt):
        write(made_results(), tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"tradeoff.csv", "tradeoff.json"}
    assert "old" not in {path.read_text() for path in tmp_path.iterdir()}


def test_predict_unpacks_into_a_folder_that_the_next_run_would_remove(
    trained, lines, tmp_path, allennlp_command, monkeypatch
):
    monkeypatch.setattr(files.tempfile, "tempdir", str(tmp_path))
    with archival.extracted_archive(trained["archive"], cleanup=False) as folder:
        assert os.path.basename(folder).startswith(f"sledgehammer-{files._PLACE}.{os.getpid()}.")
        assert os.path.exists(os.path.join(folder, "weights.th"))
    monkeypatch.setattr(files, "_is_alive", lambda process_id: process_id != os.getpid())
    with archival.extracted_archive(trained["archive"]) as other:
        assert not os.path.exists(folder) and os.path.exists(other)
    assert not os.path.exists(other)
