"""The metrics and the trainer callback."""

from sledgehammer_allennlp.training.exit_metrics import ExitMetrics as ExitMetrics
