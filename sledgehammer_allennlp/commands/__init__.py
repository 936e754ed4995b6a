"""The subcommands of `allennlp`."""

from sledgehammer_allennlp.needs_allennlp import require_allennlp

require_allennlp(__name__)

from sledgehammer_allennlp.commands import include_package as include_package
from sledgehammer_allennlp.commands.calibrate import Calibrate as Calibrate
from sledgehammer_allennlp.commands.check_archive import CheckArchive as CheckArchive
from sledgehammer_allennlp.commands.oracle import Oracle as Oracle
from sledgehammer_allennlp.commands.predict_files import PredictFiles as PredictFiles
from sledgehammer_allennlp.commands.serve import Serve as Serve
from sledgehammer_allennlp.commands.sweep import Sweep as Sweep
from sledgehammer_allennlp.commands.tradeoff import Tradeoff as Tradeoff
