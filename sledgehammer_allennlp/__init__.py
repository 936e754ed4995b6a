"""Sledgehammer for AllenNLP: text classifiers with early exits.

Importing the package registers its classes with AllenNLP. Without AllenNLP installed, `encoders`,
`exits`, `calibration` and `tradeoff` can be used alone.
"""

__version__ = "0.1.0"

try:
    import allennlp as _allennlp  # noqa: F401
except ModuleNotFoundError as error:
    if error.name != "allennlp":
        raise
else:
    from sledgehammer_allennlp import (  # noqa: F401
        commands,
        data,
        models,
        objectives,
        predictors,
        training,
    )
    from sledgehammer_allennlp.predictors import bulk_input  # noqa: F401
    from sledgehammer_allennlp.training import (  # noqa: F401
        crash_safe_checkpointer,
        ngram_fitting,
        objective_progress,
        recovery,
        temperature_calibration,
        whole_archive,
    )
