"""What runs beside training: fitting, calibration, checkpoints, recovery."""

from sledgehammer_allennlp.needs_allennlp import require_allennlp

require_allennlp(__name__)
