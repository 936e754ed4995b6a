"""The predictor: JSON in, JSON out."""

import inspect
from typing import Any, List, Optional

import torch
from allennlp.common.util import JsonDict
from allennlp.data import Instance
from allennlp.predictors import Predictor

from sledgehammer_allennlp.data.labeled_tsv import LabeledTsvReader
from sledgehammer_allennlp.encoders import TokenBatch
from sledgehammer_allennlp.exits.archived_classifier import answers
from sledgehammer_allennlp.models.multi_exit_classifier import MultiExitClassifier

_WANTED = 'wanted {"sentence": …} or {"premise": …, "hypothesis": …}, with texts as values'


@Predictor.register("multi_exit_classifier")
class MultiExitClassifierPredictor(Predictor):
    """
    Classifies a sentence, `{"sentence": …}`, or a pair, `{"premise": …, "hypothesis": …}`. Other
    keys of the input are ignored. A text may be empty.

    Works with every reader whose `text_to_instance` takes the text, or the two texts of a pair,
    first: `labeled_tsv`, AllenNLP's `text_classification_json`, allennlp-models' `snli`.

    Registered as a `Predictor` with name "multi_exit_classifier".

    # Raises

    ValueError
        If the input has not the expected keys, a text is not a string, or the reader cannot take
        what it has.
    """

    def predict(self, sentence: str) -> JsonDict:
        """Classifies a sentence."""
        return self.predict_json({"sentence": sentence})

    def predict_pair(self, premise: str, hypothesis: str) -> JsonDict:
        """Classifies a pair."""
        return self.predict_json({"premise": premise, "hypothesis": hypothesis})

    def load_line(self, line: str) -> JsonDict:
        try:
            return super().load_line(line)
        except ValueError as error:
            raise ValueError(f"the line is not JSON: {line[:200]!r}: {_WANTED}. {error}") from error

    def predict_json(self, inputs: JsonDict) -> JsonDict:
        return self.predict_batch_json([inputs])[0]

    def predict_batch_json(self, inputs: List[JsonDict]) -> List[JsonDict]:
        if not inputs:
            return []
        texts = self._token_batch(inputs)
        if texts is None:
            return super().predict_batch_json(inputs)
        model = self._model
        assert isinstance(model, MultiExitClassifier)
        with torch.no_grad():
            output = model.run_to_exits(texts)
        return answers(output, model.exit_layers, model.label_names())

    def _token_batch(self, inputs: List[JsonDict]) -> Optional[TokenBatch]:
        """The texts' tokens, in one call of the tokenizer; `None` if only instances will do."""
        reader, model = self._dataset_reader, type(self._model)
        is_plain = (
            type(self)._json_to_instance is MultiExitClassifierPredictor._json_to_instance
            and isinstance(self._model, MultiExitClassifier)
            and model.forward is MultiExitClassifier.forward
            and model.make_output_human_readable is MultiExitClassifier.make_output_human_readable
            and not (self._model._forward_hooks or self._model._forward_pre_hooks)
        )
        if not is_plain or not isinstance(reader, LabeledTsvReader):
            return None
        texts = [_texts_in(json_dict) for json_dict in inputs]
        if len({len(texts_of_one) for texts_of_one in texts}) > 1:
            return None
        return reader.token_batch(*zip(*texts))

    def _json_to_instance(self, json_dict: JsonDict) -> Instance:
        texts = _texts_in(json_dict)
        self._check_reader_takes(len(texts))
        return self._dataset_reader.text_to_instance(*texts)

    def _check_reader_takes(self, num_texts: int) -> None:
        parameters = inspect.signature(self._dataset_reader.text_to_instance).parameters
        takes = [
            name
            for name, parameter in parameters.items()
            if name != "label" and parameter.kind is not parameter.VAR_KEYWORD
        ]
        required = [name for name in takes if parameters[name].default is inspect.Parameter.empty]
        if not len(required) <= num_texts <= len(takes):
            raise ValueError(
                f"the input has {num_texts} text{'s' * (num_texts > 1)}, but the archive's reader, "
                f"{type(self._dataset_reader).__name__}, takes {', '.join(takes)}: {_WANTED}"
            )


def _texts_in(json_dict: Any) -> list:
    if not isinstance(json_dict, dict):
        raise ValueError(f"the input is {repr(json_dict)[:200]}: {_WANTED}")
    if "sentence" in json_dict:
        keys = ["sentence"]
    elif "premise" in json_dict and "hypothesis" in json_dict:
        keys = ["premise", "hypothesis"]
    else:
        found = ", ".join(repr(key) for key in json_dict) or "none"
        raise ValueError(f"the input has the keys {found}: {_WANTED}")
    for key in keys:
        if not isinstance(json_dict[key], str):
            raise ValueError(f"the value of '{key}' is {json_dict[key]!r}: {_WANTED}")
    return [json_dict[key] for key in keys]
