"""Exits: what they see, their scores, measures of confidence, and how they are built."""

from typing import Any

from sledgehammer_allennlp.exits.building import (
    build_encoder_and_exits as build_encoder_and_exits,
)
from sledgehammer_allennlp.exits.classifiers import EMBEDDING_EXIT as EMBEDDING_EXIT
from sledgehammer_allennlp.exits.classifiers import POOLINGS as POOLINGS
from sledgehammer_allennlp.exits.classifiers import ExitClassifiers as ExitClassifiers
from sledgehammer_allennlp.exits.classifiers import ExitScores as ExitScores
from sledgehammer_allennlp.exits.classifiers import concatenate_scores as concatenate_scores
from sledgehammer_allennlp.exits.confidence import AtExit as AtExit
from sledgehammer_allennlp.exits.confidence import register_confidence as register_confidence
from sledgehammer_allennlp.old_names import moved as _moved


def __getattr__(name: str) -> Any:
    return _moved(__name__, name)
