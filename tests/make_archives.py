"""Writes archives and what they answer, for `test_installs.py` in another environment.

python -m tests.make_archives FOLDER
"""

import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any, Dict, List

import sledgehammer_allennlp  # noqa: F401  (registers the classes)
from tests.tiny import SENTENCES, save_tiny_bert, write_tsv
from tests.tiny_runs import train_and_move_pretrained, train_family, train_with_heads

ANSWERS = "answers.json"
FAMILIES = ("deberta-v2", "mpnet")
ARCHIVES = ("trained.tar.gz", "heads.tar.gz", *(f"{family}.tar.gz" for family in FAMILIES))
THRESHOLDS = (0.0, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 1.0)
PAIRS = [[text, other] for text, other in zip(SENTENCES, SENTENCES[7:])]


def write_archives(folder: Path) -> None:
    """Writes `ARCHIVES`, and `answers.json`."""
    folder.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        tsv = write_tsv(work)
        pretrained = save_tiny_bert(work / "pretrained")
        (work / "trained").mkdir()
        trained = train_and_move_pretrained(work / "trained", tsv)["archive"]
        heads = train_with_heads(work / "heads", str(pretrained), tsv)
        shutil.copy(trained, folder / "trained.tar.gz")
        shutil.copy(heads, folder / "heads.tar.gz")
        for family in FAMILIES:
            (work / family).mkdir()
            archive = train_family(work / family, family, tsv)
            shutil.copy(archive, folder / f"{family}.tar.gz")
    answers = [
        {"archive": archive, "threshold": threshold, **answered(folder / archive, threshold)}
        for archive in ARCHIVES
        for threshold in THRESHOLDS
    ]
    (folder / ANSWERS).write_text(json.dumps(answers))


def answered(archive: Path, threshold: float) -> Dict[str, List[Dict[str, Any]]]:
    """What AllenNLP's predictor answers to sentences, and to pairs."""
    from allennlp.predictors import Predictor

    predictor = Predictor.from_path(
        str(archive), overrides={"model.confidence_threshold": threshold}
    )
    sentences = [{"sentence": text} for text in SENTENCES]
    pairs = [{"premise": premise, "hypothesis": hypothesis} for premise, hypothesis in PAIRS]
    return {
        "sentences": predictor.predict_batch_json(sentences),
        "pairs": predictor.predict_batch_json(pairs),
    }


if __name__ == "__main__":
    write_archives(Path(sys.argv[1]))
