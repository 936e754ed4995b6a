"""The exit rule, and running a transformer with exits in batches.

`early_exit` runs instances only as far as the exit rule needs, for inference; `training_pass` runs
all exits, for training.
"""

from sledgehammer_allennlp.engine.combination import ExitCombination as ExitCombination
from sledgehammer_allennlp.engine.costs import cost_of_exits as cost_of_exits
from sledgehammer_allennlp.engine.early_exit import run_early_exit as run_early_exit
from sledgehammer_allennlp.engine.ensemble import Ensemble as Ensemble
from sledgehammer_allennlp.engine.ensemble import check_ensemble as check_ensemble
from sledgehammer_allennlp.engine.exit_rule import ExitRule as ExitRule
from sledgehammer_allennlp.engine.output import EarlyExitOutput as EarlyExitOutput
from sledgehammer_allennlp.engine.output import ExitRecord as ExitRecord
from sledgehammer_allennlp.engine.prediction import Prediction as Prediction
from sledgehammer_allennlp.engine.prediction import most_probable as most_probable
from sledgehammer_allennlp.engine.training_pass import run_exits as run_exits
from sledgehammer_allennlp.engine.windows import Windows as Windows
