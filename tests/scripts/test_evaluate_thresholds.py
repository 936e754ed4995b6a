import json
import subprocess
import sys

import pytest
from allennlp.commands.evaluate import evaluate_from_archive

from scripts.evaluate_thresholds import evaluate_thresholds


def test_its_metrics_are_those_of_allennlp_evaluate(trained):
    data = trained["config"]["validation_data_path"]
    rows = evaluate_thresholds(trained["archive"], data, [0.6, 1.0], 1, 8, -1)
    for row in rows:
        overrides = json.dumps({"model.confidence_threshold": row["threshold"]})
        wanted = evaluate_from_archive(trained["archive"], data, cmd_overrides=overrides)
        del wanted["loss"]
        assert {name: row[name] for name in wanted} == pytest.approx(wanted)
    assert rows[1]["speed_up"] == 1


def test_the_command_prints_a_table_and_writes_the_rows(trained, tmp_path):
    output = tmp_path / "rows.json"
    found = subprocess.run(
        [sys.executable, "-m", "scripts.evaluate_thresholds", trained["archive"]]
        + [trained["config"]["validation_data_path"], "--thresholds", "0", "1", "--rounds", "1"]
        + ["--output", str(output)],
        capture_output=True,
        text=True,
        check=True,
    )
    rows = json.loads(output.read_text())
    assert [row["threshold"] for row in rows] == [0, 1]
    header, *lines = found.stdout.strip().splitlines()[-3:]
    assert header.split()[:2] == ["threshold", "accuracy"]
    assert [line.split()[1] for line in lines] == [f"{row['accuracy']:.4f}" for row in rows]
