import resource
from contextlib import contextmanager
from pathlib import Path

import pytest

from sledgehammer_allennlp import load_archived_classifier
from tests.serving.archives import write_archive
from tests.serving.processes import ServiceProcess


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory, tiny_bert: Path) -> Path:
    """The folder of an archive."""
    return write_archive(tmp_path_factory.mktemp("served") / "run", tiny_bert)


@pytest.fixture(scope="session")
def alone(served: Path):
    """Its classifier, to compare answers with: texts and a threshold in, predictions out."""
    classifier = load_archived_classifier(served)

    def predict(texts, threshold):
        classifier.confidence_threshold = threshold
        return classifier.predict(texts)

    return predict


@contextmanager
def few_open_files():
    """Processes that are started here begin with a limit of 200, and may raise it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (200, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture(scope="session")
def service(served: Path):
    """The archive served at threshold 0.7, in a process that the tests share."""
    pytest.importorskip("fastapi")
    pytest.importorskip("uvicorn")
    pytest.importorskip("prometheus_client")
    options = ("--threshold", 0.7, "--max-body-bytes", 200_000)
    with few_open_files():
        process = ServiceProcess(served, *options)
    with process:
        yield process
        assert process.process.poll() is None  # whatever the tests sent
        assert not any("Traceback" in line for line in process.log), "".join(process.log)
