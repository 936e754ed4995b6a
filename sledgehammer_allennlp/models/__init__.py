"""The AllenNLP model."""

from sledgehammer_allennlp.needs_allennlp import require_allennlp

require_allennlp(__name__)

from sledgehammer_allennlp.models.multi_exit_classifier import (
    MultiExitClassifier as MultiExitClassifier,
)
