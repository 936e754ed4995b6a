"""The predictor."""

from sledgehammer_allennlp.predictors.multi_exit_classifier import (
    MultiExitClassifierPredictor as MultiExitClassifierPredictor,
)
