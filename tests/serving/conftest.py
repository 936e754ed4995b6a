from pathlib import Path

import pytest

from sledgehammer_allennlp import load_archived_classifier
from tests.serving.archives import write_archive


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
