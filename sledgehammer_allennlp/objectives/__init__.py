"""Training objectives: which exits learn when, and from what."""

from sledgehammer_allennlp.needs_allennlp import require_allennlp

require_allennlp(__name__)

from sledgehammer_allennlp.objectives.alternating import Alternating as Alternating
from sledgehammer_allennlp.objectives.joint import Joint as Joint
from sledgehammer_allennlp.objectives.objective import Objective as Objective
from sledgehammer_allennlp.objectives.objective import Plan as Plan
from sledgehammer_allennlp.objectives.sampled import Sampled as Sampled
from sledgehammer_allennlp.objectives.self_distillation import SelfDistillation as SelfDistillation
from sledgehammer_allennlp.objectives.two_stage import TwoStage as TwoStage
from sledgehammer_allennlp.objectives.weighted import Weighted as Weighted
