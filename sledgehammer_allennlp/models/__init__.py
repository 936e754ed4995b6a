"""The AllenNLP model."""

from sledgehammer_allennlp.models.multi_exit_classifier import (
    MultiExitClassifier as MultiExitClassifier,
)
