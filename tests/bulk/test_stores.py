"""
Jobs that write to a store, by a URL, against the same job in a folder.

`memory://` stands for object stores. Those with S3's own interface run where `s3fs` and
`moto[server]` are installed, which the pinned stack has not: aiobotocore wants an older botocore.
"""

import json
import os
import signal

import pytest

pytest.importorskip("pyarrow")
fsspec = pytest.importorskip("fsspec")

from fsspec.implementations.memory import MemoryFileSystem

from sledgehammer_allennlp.__main__ import main
from tests.bulk.test_kills import begin
from tests.tiny import SENTENCES

WRITTEN = ["manifest.json", "plan.json", "summary.json"]
PARTS = [f"part-00000-{number:07d}" for number in range(3)]


@pytest.fixture
def memory():
    store = fsspec.filesystem("memory")
    yield store
    if store.exists("/bulk"):
        store.rm("/bulk", recursive=True)


@pytest.fixture(scope="module")
def lines():
    texts = [text + " and" * (number % 5) for number, text in enumerate((SENTENCES * 3)[:90])]
    return "".join(text + "\n" for text in texts).encode()


@pytest.fixture
def job(trained, lines, tmp_path):
    """The arguments of a job but for its folder."""
    path = tmp_path / "in.txt"
    path.write_bytes(lines)
    options = ["--threshold", "0.7", "--rows-per-part", "40", "--batch-size", "16"]
    return ["predict-files", trained["archive"], str(path), *options]


@pytest.fixture
def wanted(job, tmp_path):
    """What the job writes in a folder, by the names of its parts, and its summary."""
    assert main([*job, "--output-dir", str(tmp_path / "wanted")]) == 0
    files = [*(tmp_path / "wanted/parts").iterdir(), tmp_path / "wanted/summary.json"]
    assert len(files) == 4
    return {path.name: path.read_bytes() for path in files}


def answers(memory, folder):
    """What `wanted` is of a folder."""
    paths = [*memory.find(f"{folder}/parts"), f"{folder}/summary.json"]
    return {path.rsplit("/", 1)[1]: memory.cat_file(path) for path in paths}


def test_a_job_writes_the_same_to_a_store(memory, job, wanted):
    assert main([*job, "--output-dir", "memory://bulk/out/"]) == 0
    assert answers(memory, "/bulk/out") == wanted
    done = [f"done/{name}.json" for name in PARTS]
    parts = [f"parts/{name}.parquet" for name in PARTS]
    names = [path[len("/bulk/out/") :] for path in memory.find("/bulk/out")]
    assert sorted(names) == sorted([*done, *parts, *WRITTEN])


def test_a_job_killed_at_any_write_to_a_store_goes_on(memory, job, wanted, monkeypatch):
    put_file = MemoryFileSystem.put_file

    class Killed(BaseException):
        pass

    def dies_before(num_writes):
        """Lets a process write so often."""
        written = []

        def put(self, source, path, **kwargs):
            if len(written) == num_writes:
                raise Killed
            written.append(path.rsplit("/", 1)[1])
            put_file(self, source, path, **kwargs)

        return written, put

    for num_writes in range(9):
        folder = f"memory://bulk/{num_writes}"
        before, put = dies_before(num_writes)
        monkeypatch.setattr(MemoryFileSystem, "put_file", put)
        with pytest.raises(Killed):
            main([*job, "--output-dir", folder])
        after, put = dies_before(None)
        monkeypatch.setattr(MemoryFileSystem, "put_file", put)
        assert main([*job, "--output-dir", folder]) == 0
        assert answers(memory, f"/bulk/{num_writes}") == wanted
        # No part that is noted as done is done again, nor is what is before the parts.
        noted = [name for name in before if name.startswith("part-") and name.endswith(".json")]
        again = {name.replace(".json", ".parquet") for name in noted} | set(noted)
        assert not set(after) & {*again, *(set(before) & set(WRITTEN))}


def test_a_part_that_is_gone_from_a_store_is_done_again(memory, job, wanted):
    assert main([*job, "--output-dir", "memory://bulk/out"]) == 0
    memory.rm_file(f"/bulk/out/parts/{PARTS[1]}.parquet")
    assert main([*job, "--output-dir", "memory://bulk/out"]) == 0
    assert answers(memory, "/bulk/out") == wanted


def test_another_job_and_other_files_in_a_store_are_refused(memory, job, capsys):
    memory.pipe("/bulk/mine/a.txt", b"x")
    assert main([*job, "--output-dir", "memory://bulk/mine"]) == 2
    message = "'memory://bulk/mine' has no manifest.json, but 'a.txt': wanted an empty folder"
    assert message in capsys.readouterr().err
    assert memory.find("/bulk/mine") == ["/bulk/mine/a.txt"]
    assert main([*job, "--output-dir", "memory://bulk/out"]) == 0
    assert main([*job, "--output-dir", "memory://bulk/out", "--top-labels", "1"]) == 2
    assert "settings.top_labels was None and is 1" in capsys.readouterr().err


def test_errors_of_stores_name_what_was_read_or_written(memory, job, capsys, monkeypatch):
    class NoCredentials(Exception):
        """As of botocore: neither an `OSError` nor a `ValueError`."""

    def fail(self, *args, **kwargs):
        raise NoCredentials("unable to locate")

    for name, message in {
        "put_file": "cannot write 'memory://bulk/out/manifest.json': NoCredentials: unable to",
        "cat_file": "cannot read 'memory://bulk/out/manifest.json': NoCredentials: unable to",
    }.items():
        with monkeypatch.context() as patch:
            patch.setattr(MemoryFileSystem, name, fail)
            assert main([*job, "--output-dir", "memory://bulk/out"]) == 2
        assert message in capsys.readouterr().err
    assert main([*job, "--output-dir", "no-such://bulk/out"]) == 2
    assert "cannot write to 'no-such://bulk/out': Protocol not known" in capsys.readouterr().err


def test_a_url_of_this_machine_is_its_folder(job, wanted, tmp_path):
    assert main([*job, "--output-dir", f"file://{tmp_path}/out"]) == 0
    assert {path.name for path in (tmp_path / "out").iterdir()} >= {".lock", "done.jsonl"}
    assert (tmp_path / "out/summary.json").read_bytes() == wanted["summary.json"]


@pytest.fixture
def bucket(monkeypatch):
    """A bucket of a server on this machine, as boto3 sees it."""
    pytest.importorskip("s3fs", minversion="2022.1")
    moto_server = pytest.importorskip("moto.server")
    import boto3

    server = moto_server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    for name, value in {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    bucket = boto3.resource("s3").Bucket("bulk")
    bucket.create()
    yield bucket
    server.stop()


def content(bucket, prefix):
    return {
        one.key[len(prefix) :]: one.get()["Body"].read()
        for one in bucket.objects.filter(Prefix=prefix)
    }


def test_a_job_from_s3_to_s3_goes_on_after_kills(bucket, lines, job, wanted):
    bucket.put_object(Key="in/a.txt", Body=lines)
    job[2] = "s3://bulk/in"
    for way in (signal.SIGKILL, signal.SIGTERM):
        prefix = f"out/{way.name}/"
        arguments = [*job, "--output-dir", f"s3://bulk/{prefix}"]
        process = begin(arguments)
        while process.exitcode is None and "done/" not in "".join(content(bucket, prefix)):
            process.join(0.01)
        if process.exitcode is None:
            os.kill(process.pid, way)
        process.join()
        killed = content(bucket, prefix)
        assert f"done/{PARTS[0]}.json" in killed and f"parts/{PARTS[0]}.parquet" in killed
        process = begin(arguments)
        process.join()
        assert process.exitcode == 0
        found = content(bucket, prefix)
        assert killed.items() <= found.items()
        for name in PARTS:
            assert found[f"parts/{name}.parquet"] == wanted[f"{name}.parquet"]
        assert json.loads(found["summary.json"]) == json.loads(wanted["summary.json"])


def test_s3_without_such_a_bucket_is_named(bucket, job, capsys):
    assert main([*job, "--output-dir", "s3://no-such-bucket/out"]) == 2
    assert "cannot write 's3://no-such-bucket/out/manifest.json': " in capsys.readouterr().err
