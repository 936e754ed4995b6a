"""
Jobs by several workers of Ray give, byte by byte, what one process gives.

A cluster takes minutes to start where others use the machine, and may give up: `RAY_TESTS=1` runs
what needs one.
"""

import json
import os
import signal

import pytest

pytest.importorskip("pyarrow")
ray = pytest.importorskip("ray")
pytest.importorskip("ray.data")

from sledgehammer_allennlp.__main__ import main
from sledgehammer_allennlp.bulk import ray_workers
from sledgehammer_allennlp.bulk.inputs import find_inputs
from sledgehammer_allennlp.bulk.output_folder import LocalFolder
from sledgehammer_allennlp.bulk.part_worker import PartWorker, PredictionSettings
from sledgehammer_allennlp.bulk.tables import columns_of, plan_parts
from tests.tiny import SENTENCES


@pytest.fixture(scope="module")
def cluster():
    """A cluster of two nodes, which share one folder; the driver is on the first."""
    from ray.cluster_utils import Cluster

    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    options = {"num_cpus": 1, "object_store_memory": 80 * 2**20, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=options)
    cluster.add_node(num_cpus=2, object_store_memory=80 * 2**20)
    yield cluster
    ray.shutdown()
    cluster.shutdown()


@pytest.fixture
def job(trained, tmp_path):
    path = tmp_path / "in.txt"
    path.write_text("".join(f"{text}{' and' * (n % 5)}\n" for n, text in enumerate(SENTENCES * 4)))
    options = ["--threshold", "0.7", "--rows-per-part", "20", "--batch-size", "16"]
    return ["predict-files", trained["archive"], str(path), *options]


def content(folder):
    return {path.name: path.read_bytes() for path in (folder / "parts").iterdir()}


@pytest.mark.skipif("RAY_TESTS" not in os.environ, reason="a cluster is slow: RAY_TESTS=1 runs it")
def test_workers_give_what_one_process_gives_and_a_dead_ones_parts_are_done_again(
    cluster, job, tmp_path, monkeypatch
):
    assert main([*job, "--output-dir", str(tmp_path / "alone")]) == 0
    wanted = content(tmp_path / "alone")
    marker = tmp_path / "killed"

    class DiesOnce(ray_workers._Worker):
        def __call__(self, batch):
            try:
                marker.touch(exist_ok=False)
            except FileExistsError:
                return super().__call__(batch)
            os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr(ray_workers, "_Worker", DiesOnce)
    ray_options = ["--ray", cluster.address, "--workers", "2"]
    assert main([*job, "--output-dir", str(tmp_path / "out"), *ray_options]) == 0
    assert marker.exists()
    assert content(tmp_path / "out") == wanted
    summaries = [
        json.loads((tmp_path / one / "summary.json").read_text()) for one in ("alone", "out")
    ]
    assert summaries[0] == summaries[1]


def test_a_worker_says_what_is_wrong_with_a_row_and_does_not_try_again(trained, tmp_path):
    path = tmp_path / "in.txt"
    path.write_bytes(b"good\n\xff\n")
    inputs = find_inputs([str(path)])
    settings = PredictionSettings(0.7, None, None, "parquet", 16, "stop")
    worker = ray_workers._Worker.__new__(ray_workers._Worker)
    worker._worker = PartWorker(
        trained["archive"], inputs, columns_of(inputs), settings, LocalFolder(tmp_path), "cpu"
    )
    ((first, second),) = plan_parts(inputs, 1)
    batch = {"part": [json.dumps([0, 0, first]), json.dumps([0, 1, second])]}
    good, bad = map(json.loads, worker(batch)["result"])
    assert good["num_rows"] == 1
    assert bad["error"].startswith(f"{path}, row 2: it is not UTF-8")


def test_what_is_missing_for_workers_is_named(job, tmp_path, trained, capsys):
    options = ["--output-dir", str(tmp_path / "out"), "--ray", "127.0.0.1:1"]
    job[1] = str(trained["run"])
    assert main([*job, *options]) == 2
    assert "is a folder: wanted a model.tar.gz, which workers are sent" in capsys.readouterr().err
