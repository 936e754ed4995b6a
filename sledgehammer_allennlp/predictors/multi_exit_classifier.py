"""The predictor: JSON in, JSON out."""

import inspect
import json
import re
from typing import Any, Dict, List, Optional, Sequence, Tuple

import torch
from allennlp.common.checks import ConfigurationError
from allennlp.common.util import JsonDict
from allennlp.data import DatasetReader, Instance
from allennlp.models import Model
from allennlp.predictors import Predictor

from sledgehammer_allennlp.archives.archived_classifier import as_dicts
from sledgehammer_allennlp.bulk.kept_names import kept_name
from sledgehammer_allennlp.data.labeled_tsv import LabeledTsvReader
from sledgehammer_allennlp.encoders import TokenBatch
from sledgehammer_allennlp.encoders.cut_texts import CutTexts
from sledgehammer_allennlp.json_texts import TEXT_KEYS, WANTED, texts_in
from sledgehammer_allennlp.models.multi_exit_classifier import MultiExitClassifier
from sledgehammer_allennlp.predictors.lines import BadLine, Line, LineCounts
from sledgehammer_allennlp.values import short_repr

# What validation, readers and tokenizers raise because of what they are given.
_REFUSED = (ValueError, TypeError, LookupError, ConfigurationError)

# What Python puts in the place of bytes that are not UTF-8, where it is asked to keep them.
_UNDECODABLE = re.compile("[\udc80-\udcff]")


@Predictor.register("multi_exit_classifier")
class MultiExitClassifierPredictor(Predictor):
    """
    Classifies a sentence, `{"sentence": …}`, or a pair, `{"premise": …, "hypothesis": …}`. Other
    keys of the input are ignored, unless they are kept. A text may be empty.

    Works with every reader whose `text_to_instance` takes the text, or the two texts of a pair,
    first: `labeled_tsv`, AllenNLP's `text_classification_json`, allennlp-models' `snli`.

    Several threads may predict at the same time. Each call has one threshold throughout, that of
    the model when it begins; the model's precision, weights, hooks and mode are not to be changed
    meanwhile.

    Registered as a `Predictor` with name "multi_exit_classifier".

    # Parameters

    model : `Model`
    dataset_reader : `DatasetReader`
    frozen : `bool`, optional (default = `True`)
        Whether to put the model into evaluation mode.
    bad_lines : `str`, optional (default = `"stop"`)
        What becomes of a line, read by `load_line`, that cannot be answered: `"stop"` raises an
        error with its number; `"skip"` answers `{"line": …, "error": …}`, the line's number and
        what is wrong with it. When the lines are done, or the run ends by an error, the log says
        how many there were. Blank lines, which AllenNLP leaves out, are not counted.
    keep : `List[str]`, optional (default = none)
        Keys of JSON inputs that stand in the answers, too, `null` where an input has them not. One
        that an answer has itself, such as `label`, is there `input_label`.
    top_labels : `int`, optional (default = all)
        So many labels are given: `top_labels` and `top_probs`, the most probable first, in place of
        `probs` and `logits`.

    # Raises

    ValueError
        If the input has not the expected keys, a text is not a string, or the reader cannot take
        what it has.
    ConfigurationError
        If a parameter has a value that is not possible.
    """

    # For subclasses that do not call the constructor.
    _skips_bad_lines = False
    _keep: Sequence[str] = ()
    _num_top_labels: Optional[int] = None
    _line_counts: Optional[LineCounts] = None

    def __init__(
        self,
        model: Model,
        dataset_reader: DatasetReader,
        frozen: bool = True,
        bad_lines: str = "stop",
        keep: Optional[List[str]] = None,
        top_labels: Optional[int] = None,
    ) -> None:
        super().__init__(model, dataset_reader, frozen)
        if bad_lines not in ("stop", "skip"):
            raise ConfigurationError(f"bad_lines is {bad_lines!r}: wanted 'stop' or 'skip'")
        self._skips_bad_lines = bad_lines == "skip"
        if keep is not None and (
            not isinstance(keep, list) or not all(isinstance(key, str) for key in keep)
        ):
            raise ConfigurationError(f"keep is {short_repr(keep)}: wanted a list of keys")
        self._keep = keep or ()
        if top_labels is not None:
            if type(top_labels) is not int or top_labels < 1:
                raise ConfigurationError(
                    f"top_labels is {short_repr(top_labels)}: wanted a whole number from 1 on"
                )
            if not isinstance(model, MultiExitClassifier):
                raise ConfigurationError("top_labels wants a model multi_exit_classifier")
        self._num_top_labels = top_labels

    def predict(self, sentence: str) -> JsonDict:
        """Classifies a `sentence`."""
        return self.predict_json({"sentence": sentence})

    def predict_pair(self, premise: str, hypothesis: str) -> JsonDict:
        """Classifies the pair of `premise` and `hypothesis`."""
        return self.predict_json({"premise": premise, "hypothesis": hypothesis})

    def load_line(self, line: str) -> JsonDict:
        if self._line_counts is None:
            self._line_counts = LineCounts(owner=self, cut=self._cut_texts())
        self._line_counts.num_read += 1
        number = self._line_counts.num_read
        try:
            loaded = self._loaded(line)
        except ValueError as error:
            return self._bad_line(number, error)
        return Line(number, loaded) if isinstance(loaded, dict) else loaded

    def _loaded(self, line: str) -> Any:
        undecodable = _UNDECODABLE.search(line)
        if undecodable is not None:
            byte = ord(undecodable.group()) - 0xDC00
            raise ValueError(
                f"the line is not UTF-8: byte 0x{byte:02x} after {undecodable.start()} characters: "
                f"{WANTED}"
            )
        try:
            loaded, pairs = _with_pairs(line)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"the line is not JSON: {line[:200]!r}: {WANTED}. {error}") from error
        if self._takes_texts:
            texts_in(loaded)
            _check_no_text_twice(pairs)
        return loaded

    def predict_json(self, inputs: JsonDict) -> JsonDict:
        return self.predict_batch_json([inputs])[0]

    def predict_batch_json(self, inputs: List[JsonDict]) -> List[JsonDict]:
        lines = [given for given in inputs if isinstance(given, Line)]
        if len(lines) == len(inputs) and self._line_counts is not None:
            return self._predict_lines(lines, self._line_counts)
        return self._predict(inputs)

    def _predict_lines(self, lines: Sequence[Line], counts: LineCounts) -> List[JsonDict]:
        """The answers to lines, in their places; of a bad one that is skipped, why."""
        good = [line for line in lines if not isinstance(line, BadLine)]
        try:
            found = self._predict(good)
        except _REFUSED:
            checked = [self._checked(line) for line in lines]
            if all(new is old for new, old in zip(checked, lines)):
                raise  # It was not the lines' fault.
            return self._predict_lines(checked, counts)
        counts.num_answered += len(found)
        of_good = iter(found)
        return [line if isinstance(line, BadLine) else next(of_good) for line in lines]

    def _checked(self, line: Line) -> Line:
        """The line, or if it is one that cannot be answered, what is in its place."""
        if isinstance(line, BadLine):
            return line
        try:
            self._json_to_instance(line)
        except _REFUSED as error:
            return self._bad_line(line.number, error)
        return line

    def _bad_line(self, number: int, error: Exception) -> BadLine:
        what = str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
        if self._line_counts is None or not self._skips_bad_lines:
            raise ValueError(f"line {number}, not counting blank ones: {what}") from error
        self._line_counts.skip(number)
        return BadLine(number, what)

    def _predict(self, inputs: Sequence[JsonDict]) -> List[JsonDict]:
        """What is kept of inputs, and their answers."""
        if not inputs:
            return []
        answers = self._answers(inputs)
        if self._num_top_labels is not None:
            answers = [self._with_top_labels(answer) for answer in answers]
        if self._keep:
            answers = [
                {**{kept_name(key): given.get(key) for key in self._keep}, **answer}
                for given, answer in zip(inputs, answers)
            ]
        return answers

    def _with_top_labels(self, answer: JsonDict) -> JsonDict:
        assert isinstance(self._model, MultiExitClassifier)
        labels, probs = self._model.label_names(), answer["probs"]
        # The label stands first, also where another is as probable.
        order = sorted(
            range(len(probs)), key=lambda i: (probs[i], labels[i] == answer["label"]), reverse=True
        )[: self._num_top_labels]
        rest = {key: value for key, value in answer.items() if key not in ("probs", "logits")}
        top = {"top_labels": [labels[i] for i in order], "top_probs": [probs[i] for i in order]}
        return {**rest, **top}

    def _answers(self, inputs: Sequence[JsonDict]) -> List[JsonDict]:
        texts = self._token_batch(inputs)
        if texts is None:
            return super().predict_batch_json(list(inputs))
        model = self._model
        assert isinstance(model, MultiExitClassifier)
        with torch.no_grad():
            output = model.run_early_exit(texts)
        return as_dicts(output, model.exit_layers, model.label_names(), model.abstain_below)

    # AllenNLP writes "None" for None.

    def predict_instance(self, instance: Instance) -> JsonDict:
        return self._with_null_labels([super().predict_instance(instance)])[0]

    def predict_batch_instance(self, instances: List[Instance]) -> List[JsonDict]:
        return self._with_null_labels(super().predict_batch_instance(instances))

    def _with_null_labels(self, answers: List[JsonDict]) -> List[JsonDict]:
        abstain_below = getattr(self._model, "abstain_below", None)
        if abstain_below is not None:
            for answer in answers:
                if not answer["confidence"] >= abstain_below:
                    answer["label"] = None
        return answers

    @property
    def _takes_texts(self) -> bool:
        """Whether inputs have the keys that they have here, and not those of a subclass."""
        mine = MultiExitClassifierPredictor._json_to_instance
        return type(self)._json_to_instance is mine

    def _token_batch(self, inputs: Sequence[JsonDict]) -> Optional[TokenBatch]:
        """The texts' tokens, in one call of the tokenizer; `None` if only instances will do."""
        reader, model = self._dataset_reader, type(self._model)
        is_plain = (
            self._takes_texts
            and isinstance(self._model, MultiExitClassifier)
            and model.forward is MultiExitClassifier.forward
            and model.make_output_human_readable is MultiExitClassifier.make_output_human_readable
            and not (self._model._forward_hooks or self._model._forward_pre_hooks)
        )
        if not is_plain or not isinstance(reader, LabeledTsvReader):
            return None
        texts = [texts_in(json_dict) for json_dict in inputs]
        if len({len(texts_of_one) for texts_of_one in texts}) > 1:
            return None
        cut = None if self._line_counts is None else self._line_counts.cut
        first, *others = zip(*texts)
        return reader.token_batch(first, others[0] if others else None, cut)

    def _cut_texts(self) -> Optional[CutTexts]:
        """Counts the texts that are too long, for the reader or the model."""
        reader, model = self._dataset_reader, self._model
        if not isinstance(reader, LabeledTsvReader) or not isinstance(model, MultiExitClassifier):
            return None
        limit = reader.max_tokens
        if limit is not None and model.windows is None:
            limit = min(limit, model.encoder.max_positions)
        return None if limit is None else CutTexts(limit)

    def _json_to_instance(self, json_dict: JsonDict) -> Instance:
        texts = texts_in(json_dict)
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
                f"{type(self._dataset_reader).__name__}, takes {', '.join(takes)}: {WANTED}"
            )


def _with_pairs(line: str) -> Tuple[Any, List[Tuple[str, Any]]]:
    """A line's JSON value, and the keys and values of the outermost object, repeated ones too."""
    pairs: List[Tuple[str, Any]] = []

    def as_dict(pairs_of_object: List[Tuple[str, Any]]) -> Dict[str, Any]:
        nonlocal pairs
        pairs = pairs_of_object  # an object ends after those in it: the last is the outermost
        return dict(pairs_of_object)

    return json.loads(line, object_pairs_hook=as_dict), pairs


def _check_no_text_twice(pairs: List[Tuple[str, Any]]) -> None:
    keys = [key for key, _ in pairs]
    for key in TEXT_KEYS:
        if keys.count(key) > 1:
            raise ValueError(f"the input has the key '{key}' twice: {WANTED}")
