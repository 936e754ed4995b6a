"""
Has `allennlp predict --silent` list no settings of the archive either. AllenNLP means by it the
predictions alone.
"""

import argparse
from functools import wraps

from allennlp.commands import predict
from allennlp.predictors import Predictor

from sledgehammer_allennlp.models.quiet_loading import without_lists_of_settings

_get_predictor = predict._get_predictor


@wraps(_get_predictor)
def _get_predictor_in_silence(args: argparse.Namespace) -> Predictor:
    if not args.silent:
        return _get_predictor(args)
    with without_lists_of_settings():
        return _get_predictor(args)


# The command has no setting for it.
predict._get_predictor = _get_predictor_in_silence
