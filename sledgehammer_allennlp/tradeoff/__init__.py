"""Speed against accuracy: what each threshold gives, which to take, and a report of it."""

from sledgehammer_allennlp.tradeoff.curve import TradeoffCurve as TradeoffCurve
from sledgehammer_allennlp.tradeoff.curve import tradeoff_curve as tradeoff_curve
from sledgehammer_allennlp.tradeoff.recommendation import OperatingPoint as OperatingPoint
from sledgehammer_allennlp.tradeoff.recommendation import Recommendation as Recommendation
from sledgehammer_allennlp.tradeoff.recommendation import (
    check_accuracy_drop as check_accuracy_drop,
)
from sledgehammer_allennlp.tradeoff.recommendation import (
    check_confidence_level as check_confidence_level,
)
from sledgehammer_allennlp.tradeoff.recommendation import (
    check_target_speedup as check_target_speedup,
)
from sledgehammer_allennlp.tradeoff.recommendation import operating_point as operating_point
from sledgehammer_allennlp.tradeoff.recommendation import threshold_for_drop as threshold_for_drop
from sledgehammer_allennlp.tradeoff.recommendation import (
    threshold_for_speedup as threshold_for_speedup,
)
