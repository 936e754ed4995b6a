"""Searches over training settings: many runs, several workers, one study of Optuna's.

Optuna is imported by this folder's modules alone, which `allennlp sweep` imports when it runs.
"""

from sledgehammer_allennlp.needs_allennlp import require_allennlp

require_allennlp(__name__)
