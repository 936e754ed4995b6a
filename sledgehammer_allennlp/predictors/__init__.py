"""The predictor."""

from sledgehammer_allennlp.needs_allennlp import require_allennlp

require_allennlp(__name__)

from sledgehammer_allennlp.predictors.instance_serializer import (
    InstanceSerializer as InstanceSerializer,
)
from sledgehammer_allennlp.predictors.multi_exit_classifier import (
    MultiExitClassifierPredictor as MultiExitClassifierPredictor,
)
