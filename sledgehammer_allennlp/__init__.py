"""Sledgehammer for AllenNLP: text classifiers with early exits.

Importing the package registers its classes with AllenNLP. Without AllenNLP installed, archives can
be used all the same: `load_archived_classifier`.
"""

from typing import TYPE_CHECKING, Any, List

from sledgehammer_allennlp.needs_allennlp import has_allennlp

if TYPE_CHECKING:
    from sledgehammer_allennlp.archives import load_archived_classifier as load_archived_classifier

__version__ = "0.1.0"

if has_allennlp():
    from sledgehammer_allennlp import (  # noqa: F401
        commands,
        data,
        models,
        objectives,
        predictors,
        training,
    )
    from sledgehammer_allennlp.models import stock_archives  # noqa: F401
    from sledgehammer_allennlp.predictors import (  # noqa: F401
        interrupted_predict,
        predict_command_input,
        predict_command_output,
        silent_predict,
    )
    from sledgehammer_allennlp.training import (  # noqa: F401
        busy_cores,
        crash_safe_checkpointer,
        enough_steps,
        fused_adamw,
        label_weighting,
        ngram_fitting,
        objective_progress,
        output_folder,
        recovery,
        short_log,
        temperature_calibration,
        whole_archive,
    )


# Imported on first use, so that commands that need no torch start quickly.
def __getattr__(name: str) -> Any:
    if name == "load_archived_classifier":
        from sledgehammer_allennlp.archives import load_archived_classifier

        return load_archived_classifier
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> List[str]:
    return sorted([*globals(), "load_archived_classifier"])
