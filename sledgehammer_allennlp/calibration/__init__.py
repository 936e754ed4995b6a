"""Fitting temperatures and combinations, and calibration error."""

from sledgehammer_allennlp.calibration.calibration_error import (
    ReliabilityBins as ReliabilityBins,
)
from sledgehammer_allennlp.calibration.calibration_error import (
    expected_calibration_error as expected_calibration_error,
)
from sledgehammer_allennlp.calibration.calibration_error import (
    reliability_bins as reliability_bins,
)
from sledgehammer_allennlp.calibration.combination import WEIGHT_BOUNDS as WEIGHT_BOUNDS
from sledgehammer_allennlp.calibration.combination import CombinationRow as CombinationRow
from sledgehammer_allennlp.calibration.combination import calibrated_logits as calibrated_logits
from sledgehammer_allennlp.calibration.combination import fit_combination as fit_combination
from sledgehammer_allennlp.calibration.exit_calibration import CombinedExit as CombinedExit
from sledgehammer_allennlp.calibration.exit_calibration import ExitCalibration as ExitCalibration
from sledgehammer_allennlp.calibration.exit_calibration import (
    apply_combination as apply_combination,
)
from sledgehammer_allennlp.calibration.exit_calibration import calibrate_exits as calibrate_exits
from sledgehammer_allennlp.calibration.exit_calibration import (
    calibration_metrics as calibration_metrics,
)
from sledgehammer_allennlp.calibration.exit_calibration import (
    calibration_report as calibration_report,
)
from sledgehammer_allennlp.calibration.exit_calibration import (
    compare_temperatures as compare_temperatures,
)
from sledgehammer_allennlp.calibration.exit_calibration import (
    max_probabilities as max_probabilities,
)
from sledgehammer_allennlp.calibration.exit_calibration import (
    with_combination as with_combination,
)
from sledgehammer_allennlp.calibration.temperature import TEMPERATURE_BOUNDS as TEMPERATURE_BOUNDS
from sledgehammer_allennlp.calibration.temperature import check_logits as check_logits
from sledgehammer_allennlp.calibration.temperature import fit_temperature as fit_temperature
from sledgehammer_allennlp.calibration.temperature import (
    negative_log_likelihood as negative_log_likelihood,
)
