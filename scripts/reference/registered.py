"""Pages of what configs name by `type`: registered classes, with their keys."""

from dataclasses import dataclass
from typing import Dict, List, Tuple

from allennlp.common import Registrable
from allennlp.data import DatasetReader, TokenIndexer, Tokenizer
from allennlp.evaluation.serializers.serializers import Serializer
from allennlp.models import Model
from allennlp.predictors import Predictor
from allennlp.training import Checkpointer, TrainerCallback
from allennlp.training.optimizers import Optimizer

from scripts.reference.docstrings import parse
from scripts.reference.entries import definitions, linked
from scripts.reference.public_names import PACKAGE
from sledgehammer_allennlp.exits import confidence
from sledgehammer_allennlp.models.exit_metrics import ExitMetrics
from sledgehammer_allennlp.objectives import Objective


@dataclass(frozen=True)
class Page:
    """
    # Parameters

    title, introduction : `str`
    bases : `Tuple[type, ...]`
        Of the registered classes that it has.
    """

    title: str
    introduction: str
    bases: Tuple[type, ...]


PAGES: Dict[str, Page] = {
    "model": Page(
        "Model",
        "The keys of `model` in a config; `--overrides` names them with `model.` before.",
        (Model,),
    ),
    "data": Page(
        "Data",
        "The keys of `dataset_reader` in a config. Readers also take what every reader of AllenNLP "
        "takes, such as `max_instances`.",
        (DatasetReader, Tokenizer, TokenIndexer),
    ),
    "training": Page(
        "Training",
        "Callbacks stand in the list `callbacks` of `trainer`, the checkpointer at `checkpointer`, "
        "the optimizer at `optimizer`.",
        (TrainerCallback, Checkpointer, Optimizer),
    ),
    "losses": Page(
        "Losses",
        "What training minimises: the key `loss` of `model`, and the setting of this name; a name, "
        'or an object with its keys, `{"type": "two_stage", "encoder_epochs": 2}`.',
        (Objective,),
    ),
    "predictor": Page(
        "Predictor",
        "What `allennlp predict` takes by `--predictor-args`, and what `evaluate` writes with.",
        (Predictor, Serializer),
    ),
}


def registered_page(page: Page, links: Dict[str, str]) -> str:
    """A section for each of our classes that are registered under one of the page's bases."""
    parts = [f"# {page.title}\n", f"{page.introduction}\n"]
    for base in page.bases:
        for name, cls in ours(base):
            doc = parse(cls.__doc__ or "")
            parts += [
                f"## {base.__name__} `{name}`\n",
                linked(doc.prose_without_registration, links),
            ]
            if doc.parameters:
                parts += ["\n**Keys**\n", linked(definitions(doc.parameters), links)]
            if doc.raises:
                parts += ["\n**Errors**\n", linked(definitions(doc.raises), links)]
            parts.append("")
    return "\n".join(parts)


def ours(base: type) -> List[Tuple[str, type]]:
    """Names and classes that the package registers under a base, by name."""
    found = Registrable._registry[base]
    return sorted(
        ((name, cls) for name, (cls, _) in found.items() if cls.__module__.startswith(PACKAGE)),
        key=lambda named: named[0],
    )


def confidences_page(links: Dict[str, str]) -> str:
    """A section for each measure of confidence."""
    parts = [
        "# Measures of confidence\n",
        "The key `confidence` of `model`, and the setting of this name. All are in [0, 1], of "
        "calibrated probabilities, and compared with the same `confidence_threshold`.\n",
    ]
    for name in confidence.available_confidences():
        doc = parse(confidence.confidence_by_name(name).function.__doc__ or "")
        parts.append(f"## `{name}`\n\n{linked(doc.prose, links)}\n")
    return "\n".join(parts)


def metrics_page(links: Dict[str, str]) -> str:
    """What is measured, from the class that does it."""
    doc = parse(ExitMetrics.__doc__ or "")
    return f"# Metrics\n\n{linked(doc.prose_without_registration, links)}\n"
