"""Exit classifiers, measures of confidence, and the engine that decides who leaves."""

from sledgehammer_allennlp.exits.archived_classifier import (
    ArchivedClassifier as ArchivedClassifier,
)
from sledgehammer_allennlp.exits.archived_classifier import (
    load_archived_classifier as load_archived_classifier,
)
from sledgehammer_allennlp.exits.building import (
    build_encoder_and_exits as build_encoder_and_exits,
)
from sledgehammer_allennlp.exits.classifiers import EMBEDDING_EXIT as EMBEDDING_EXIT
from sledgehammer_allennlp.exits.classifiers import POOLINGS as POOLINGS
from sledgehammer_allennlp.exits.classifiers import ExitClassifiers as ExitClassifiers
from sledgehammer_allennlp.exits.classifiers import Said as Said
from sledgehammer_allennlp.exits.classifiers import said_together as said_together
from sledgehammer_allennlp.exits.confidence import AtExit as AtExit
from sledgehammer_allennlp.exits.confidence import register_confidence as register_confidence
from sledgehammer_allennlp.exits.engine import ExitOutput as ExitOutput
from sledgehammer_allennlp.exits.engine import cost_of_exits as cost_of_exits
from sledgehammer_allennlp.exits.engine import run_all_exits as run_all_exits
from sledgehammer_allennlp.exits.engine import run_exits as run_exits
from sledgehammer_allennlp.exits.engine import run_to_exits as run_to_exits
from sledgehammer_allennlp.exits.exit_rule import ExitRule as ExitRule
from sledgehammer_allennlp.exits.ngrams import NgramClassifier as NgramClassifier
