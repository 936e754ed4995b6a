"""Training runs of the tiny models, with AllenNLP."""

from pathlib import Path
from typing import Any, Dict

from tests.tiny import save_tiny_bert, tiny_experiment


def train_and_move_pretrained(folder: Path, tsv: Dict[str, str]) -> Dict[str, Any]:
    """
    A training run with calibration whose pretrained model is gone: `run`, its folder; `archive`,
    its archive; `config`, what it was trained with; `model`, as it was at the end of training.
    """
    from allennlp.commands.train import train_model
    from allennlp.common import Params

    pretrained = save_tiny_bert(folder / "pretrained")
    model = train_model(Params(tiny_experiment(str(pretrained), tsv)), str(folder / "run"))
    pretrained.rename(folder / "moved-away")
    return {
        "run": folder / "run",
        "archive": str(folder / "run" / "model.tar.gz"),
        "config": tiny_experiment(str(pretrained), tsv),
        "model": model,
    }


def train_with_heads(folder: Path, pretrained: str, tsv: Dict[str, str]) -> str:
    """
    An archive whose exits have heads and alignments, see the logits before them, and are combined,
    with an exit on n-grams.
    """
    from allennlp.commands.train import train_model
    from allennlp.common import Params

    config = tiny_experiment(
        pretrained,
        tsv,
        embedding_exit="ngrams",
        confidence="learned",
        use_previous_logits=True,
        alignment=8,
        loss="alternating",
    )
    calibration = {"type": "temperature_calibration", "combine_exits": True}
    config["trainer"]["callbacks"] = [calibration]
    train_model(Params(config), str(folder))
    return str(folder / "model.tar.gz")


def train_family(folder: Path, family: str, tsv: Dict[str, str]) -> str:
    """An archive of a model of this family, with an alignment and an exit on n-grams."""
    from allennlp.commands.train import train_model
    from allennlp.common import Params

    pretrained = save_tiny_bert(folder / "pretrained", family)
    config = tiny_experiment(str(pretrained), tsv, embedding_exit="ngrams", alignment=8)
    train_model(Params(config), str(folder / "run"))
    return str(folder / "run" / "model.tar.gz")
