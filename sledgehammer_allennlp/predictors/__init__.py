"""The predictor."""

from sledgehammer_allennlp.predictors.instance_serializer import (
    InstanceSerializer as InstanceSerializer,
)
from sledgehammer_allennlp.predictors.multi_exit_classifier import (
    MultiExitClassifierPredictor as MultiExitClassifierPredictor,
)
