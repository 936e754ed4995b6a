"""A trained model in use without AllenNLP: in a service, on another machine, with newer libraries.

For example,

    classifier = load_archived_classifier("runs/mine/model.tar.gz", confidence_threshold=0.9)
    classifier.predict(["A quick answer, please."])
"""

from pathlib import Path
from typing import Any, Dict, Iterable, List, Mapping, Optional, Sequence, Tuple, Union

import torch
from torch import nn
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from sledgehammer_allennlp.archives.contents import (
    check_contents,
    check_model_files,
    check_tokenizer_files,
    check_tokenizer_kwargs,
    read_config,
)
from sledgehammer_allennlp.archives.extraction import archive_folder
from sledgehammer_allennlp.encoders import LayeredEncoder, TokenBatch
from sledgehammer_allennlp.encoders.archived_files import StrPath, find_config, find_tokenizer
from sledgehammer_allennlp.encoders.tokenizing import tokenize
from sledgehammer_allennlp.exits.building import (
    build_encoder_and_exits,
    check_threshold,
    check_token_budget,
)
from sledgehammer_allennlp.exits.classifiers import HEAD, ExitClassifiers
from sledgehammer_allennlp.exits.confidence import confidence_by_name
from sledgehammer_allennlp.exits.engine import ExitOutput, run_to_exits
from sledgehammer_allennlp.exits.exit_rule import ExitRule, check_ensemble, most_probable
from sledgehammer_allennlp.shown import shown
from sledgehammer_allennlp.weights_file import read_weights

_MODEL_TYPE = "multi_exit_classifier"
_SETTINGS = ("exit_layers", "embedding_exit", "pooling", "dropout", "use_previous_logits")


class ArchivedClassifier(nn.Module):
    """
    A trained transformer with exits, its labels and its tokenizer.

    # Parameters

    encoder : `LayeredEncoder`
    exits : `ExitClassifiers`
    labels : `List[str]`
        The name of each label.
    tokenizer : `PreTrainedTokenizerBase`, optional
        Needed by `predict`.
    max_length : `int`, optional (default = what the tokenizer says its model takes)
        Longer texts are truncated.
    confidence : `str`, optional (default = `"max_probability"`)
        A registered measure of confidence.
    ensemble : optional (default = `None`)
        See `check_ensemble`.
    confidence_threshold : `float`, optional (default = that kept with the weights, or `1.0`)
        In [0, 1]; can be set at any time.
    token_budget : `int`, optional (default = by device)
        About how many tokens run through a layer together.
    """

    def __init__(
        self,
        encoder: LayeredEncoder,
        exits: ExitClassifiers,
        labels: List[str],
        tokenizer: Optional[PreTrainedTokenizerBase] = None,
        max_length: Optional[int] = None,
        confidence: str = "max_probability",
        ensemble: Any = None,
        confidence_threshold: Optional[float] = None,
        token_budget: Optional[int] = None,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.exits = exits
        self.labels = labels
        self.tokenizer = tokenizer
        self.max_length = max_length
        self.confidence_threshold = confidence_threshold
        self._measure = confidence_by_name(confidence)
        self._ensemble = check_ensemble(ensemble, len(exits.exit_layers))
        self._token_budget = check_token_budget(token_budget)
        self.temperatures: torch.Tensor
        self.register_buffer("temperatures", torch.ones(len(exits.exit_layers)))

    @property
    def confidence_threshold(self) -> float:
        """The threshold that texts leave at, in [0, 1]; set it to `None` for the default."""
        if self._confidence_threshold is None:
            return self.exits.default_threshold
        return self._confidence_threshold

    @confidence_threshold.setter
    def confidence_threshold(self, threshold: Optional[float]) -> None:
        self._confidence_threshold = None if threshold is None else check_threshold(threshold)

    def forward(self, texts: TokenBatch) -> ExitOutput:
        """Early exit for any number of texts, see `exits.engine`."""
        return run_to_exits(
            self.encoder,
            self.exits,
            ExitRule(self.temperatures, self._measure, self.confidence_threshold, self._ensemble),
            texts,
            self._token_budget,
            record_reached=False,
        )

    def predict(self, texts: Sequence[Union[str, Tuple[str, str]]]) -> List[Dict[str, Any]]:
        """
        Classifies any number of texts, or of pairs of texts.

        # Returns

        `List[Dict[str, Any]]`
            For each text what `allennlp predict` writes: `logits`, `probs`, `confidence`,
            `exit_layer`, `label`.

        # Raises

        ValueError
            If `texts` is something else, or both texts and pairs, or the archive has no tokenizer.
        """
        if self.tokenizer is None:
            raise ValueError(
                "how the archive's reader makes tokens is not known without AllenNLP: wanted a "
                "TokenBatch, given to this classifier as to a function"
            )
        first, second = _texts_and_second_texts(texts)
        if not first:
            return []
        with torch.no_grad():
            output = self(tokenize(self.tokenizer, first, second, self.max_length))
        return answers(output, self.exits.exit_layers, self.labels)


def _texts_and_second_texts(texts: Any) -> Tuple[List[str], Optional[List[str]]]:
    wanted = "wanted a list of texts, or of pairs of texts"
    if isinstance(texts, str):
        raise ValueError(f"found a text, {texts[:60]!r}: {wanted}")
    if isinstance(texts, (bytes, Mapping)) or not isinstance(texts, Iterable):
        raise ValueError(f"found {shown(texts)}: {wanted}")
    texts = list(texts)
    is_text = [isinstance(text, str) for text in texts]
    if all(is_text):
        return texts, None
    if any(is_text):
        raise ValueError(f"found texts and pairs of texts: {wanted}, one kind in a call")
    for text in texts:
        if not isinstance(text, (tuple, list)) or [type(part) for part in text] != [str, str]:
            raise ValueError(f"found {shown(text)}: {wanted}")
    return [text[0] for text in texts], [text[1] for text in texts]


def answers(
    output: ExitOutput, exit_layers: Sequence[int], labels: Sequence[str]
) -> List[Dict[str, Any]]:
    """What is said of each text, of plain Python types."""
    return [
        {
            "logits": logits,
            "probs": probs,
            "confidence": confidence,
            "exit_layer": exit_layers[exit_index],
            "label": labels[label],
        }
        for logits, probs, confidence, exit_index, label in zip(
            output.logits.tolist(),
            output.probs.tolist(),
            output.confidence.tolist(),
            output.exit_index.tolist(),
            most_probable(output.logits, output.probs).tolist(),
        )
    ]


def load_archived_classifier(
    archive: StrPath,
    confidence_threshold: Optional[float] = None,
    precision: Optional[str] = None,
    device: Union[str, torch.device] = "cpu",
    token_budget: Optional[int] = None,
    confidence: Optional[str] = None,
    ensemble: Any = None,
    inference_only: bool = False,
    trust: bool = False,
) -> ArchivedClassifier:
    """
    A trained model, without AllenNLP. No code of the archive is run: weights are read as tensors
    only, files are written into a temporary folder only, and the tokenizer is one of those that
    read text files.

    # Parameters

    archive : `str`
        A `model.tar.gz`, or the folder of a training run.
    confidence_threshold, precision, token_budget, confidence, ensemble : optional
        (default = what the archive says)
        As in the model's config.
    device : optional (default = `"cpu"`)
    inference_only : `bool`, optional (default = `False`)
        Whether to give up the weights of which there is a copy for inference, see
        `LayeredEncoder.give_up_weights`: less memory, no training.
    trust : `bool`, optional (default = `False`)
        Whether other tokenizers of the transformers library may be loaded, which may unpickle
        files, and what the archive lacks be read from where its config says. Programs in the
        archive are not run even so.

    # Raises

    ValueError
        If the archive is not of a multi_exit_classifier, something of it is missing, or loading it
        could run code.
    """
    given = {
        "confidence_threshold": confidence_threshold,
        "precision": precision,
        "token_budget": token_budget,
        "confidence": confidence,
        "ensemble": ensemble,
    }
    with archive_folder(archive) as folder:
        classifier = _load(folder, given, device, trust)
    if inference_only:
        classifier.encoder.give_up_weights()
    return classifier


def _load(
    folder: Path, given: Dict[str, Any], device: Union[str, torch.device], trust: bool
) -> ArchivedClassifier:
    """The classifier in a folder, with other settings where they are given, not `None`."""
    config = read_config(folder)
    _refuse(check_contents(folder, config))
    settings = config.get("model", {})
    if settings.get("type") == "from_archive":
        raise ValueError(
            "the archive's model is of type 'from_archive', of "
            f"'{settings.get('archive_file')}': what it is made of is said there only, and labels "
            "may be in another order. Wanted a model trained further by a config of its own, with "
            "an initializer of type 'pretrained', or AllenNLP's load_archive"
        )
    settings = {**settings, **{k: value for k, value in given.items() if value is not None}}
    if settings.get("type") != _MODEL_TYPE:
        raise ValueError(
            f"the archive's model is of type '{settings.get('type')}': wanted '{_MODEL_TYPE}'"
        )
    if "transformer_model" not in settings:
        raise ValueError("the archive's config has no key model.transformer_model")
    transformer_model = settings["transformer_model"]
    if not trust:
        _refuse(check_model_files(transformer_model, folder))
    confidence = settings.get("confidence", "max_probability")
    labels = _labels(folder, settings.get("label_namespace", "labels"), settings.get("num_labels"))
    encoder, exits = build_encoder_and_exits(
        transformer_model,
        len(labels),
        **{name: settings[name] for name in _SETTINGS if name in settings},
        precision=settings.get("precision", "float32"),
        with_correctness=confidence_by_name(confidence).is_learned,
        config_folder=find_config(transformer_model, folder),
        load_weights=False,
    )
    # The reader that AllenNLP's predictors take by default.
    reader = config.get("validation_dataset_reader") or config.get("dataset_reader") or {}
    tokenizer, max_length = _tokenizer(reader, folder, trust)
    classifier = ArchivedClassifier(
        encoder,
        exits,
        labels,
        tokenizer,
        max_length,
        confidence,
        settings.get("ensemble"),
        settings.get("confidence_threshold"),
        settings.get("token_budget"),
    )
    weights = next((folder / name for name in _WEIGHTS if (folder / name).exists()), None)
    if weights is None:
        raise ValueError(f"found no weights: wanted one of {', '.join(_WEIGHTS)}")
    state = read_weights(weights)
    if exits.with_correctness and not any(HEAD in name for name in state):
        raise ValueError(
            "confidence is 'learned', which takes heads, and the archive has none: wanted another "
            "confidence, or a model trained with confidence 'learned'"
        )
    try:
        classifier.load_state_dict(state)
    except RuntimeError as error:
        raise ValueError(f"the archive's weights are not those of its config: {error}") from error
    return classifier.eval().to(device)


_WEIGHTS = ("weights.th", "best.th")


def _labels(folder: Path, namespace: str, num_labels: Optional[int]) -> List[str]:
    """The name of each label; labels that are numbers in the data have no file of names."""
    file = folder / "vocabulary" / f"{namespace}.txt"
    labels: List[str] = []
    if file.exists() or num_labels is None:
        labels = _read(file).split("\n")
        # AllenNLP ends the file with a line break or not, and writes "@@NEWLINE@@" for others.
        labels = labels[:-1] if labels[-1] == "" else labels
        labels = [label.replace("@@NEWLINE@@", "\n") for label in labels]
    return labels + [str(label) for label in range(len(labels), num_labels or 0)]


_PLAIN_READERS = {
    "labeled_tsv": {"encoding", "label_namespace", "max_instances", "with_exit_layers"},
    "text_classification_json": {"max_instances", "skip_label_indexing"},
    "snli": {"max_instances", "collapse_labels"},
}
"""Readers whose tokens are the tokenizer's own, and settings of theirs that do not matter here."""


def _tokenizer(
    reader: Dict[str, Any], folder: Path, trust: bool
) -> Tuple[Optional[PreTrainedTokenizerBase], Optional[int]]:
    """The tokenizer and its `max_length`; `None` if the reader does more than tokenise."""
    kind, settings = reader.get("type"), reader.get("tokenizer") or {}
    if kind not in _PLAIN_READERS or settings.get("type") != "pretrained_transformer":
        return None, None
    others = set(reader) - _PLAIN_READERS[kind] - {"type", "tokenizer", "token_indexers"}
    if others or any(
        (indexer or {}).get("max_length")
        for indexer in (reader.get("token_indexers") or {}).values()
    ):
        return None, None
    max_length = settings.get("max_length")
    if kind != "labeled_tsv" and not settings.get("add_special_tokens", True):
        return None, None
    if kind == "snli" and max_length is not None:
        return None, None  # which is of each text there
    if not trust:
        _refuse(check_tokenizer_files(settings["model_name"], folder))
        key = "dataset_reader.tokenizer.tokenizer_kwargs"
        _refuse(check_tokenizer_kwargs(settings.get("tokenizer_kwargs"), key))
    files = find_tokenizer(settings["model_name"], folder)
    kwargs = {**(settings.get("tokenizer_kwargs") or {}), "trust_remote_code": False}
    return AutoTokenizer.from_pretrained(files, **kwargs), max_length


def _refuse(problems: List[str]) -> None:
    if problems:
        raise ValueError(
            f"the archive is not loaded: {'; '.join(problems)}. If you know who made it: trust=True"
        )


def _read(path: Path) -> str:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return file.read()
    except OSError as error:
        raise ValueError(f"the archive has no {path.name}. {error}") from error
