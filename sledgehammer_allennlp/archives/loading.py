"""Loading a trained model without AllenNLP, and without running any code of its archive.

For example,

    classifier = load_archived_classifier("runs/mine/model.tar.gz", confidence_threshold=0.9)
    classifier.predict(["A quick answer, please."])
"""

import logging
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping, Optional, Union

import torch

from sledgehammer_allennlp.archives.archived_classifier import ArchivedClassifier
from sledgehammer_allennlp.archives.contents import find_weights, read_config, settings_of_model
from sledgehammer_allennlp.archives.extraction import archive_folder
from sledgehammer_allennlp.archives.reader_tokenizer import tokenizer_of_reader
from sledgehammer_allennlp.archives.safety_checks import check_contents, check_model_files
from sledgehammer_allennlp.encoders.archived_files import StrPath, find_config
from sledgehammer_allennlp.engine.one_text import make_session_of_one_text
from sledgehammer_allennlp.exits import build_encoder_and_exits
from sledgehammer_allennlp.exits.classifiers import HEAD
from sledgehammer_allennlp.exits.confidence import confidence_by_name
from sledgehammer_allennlp.old_names import moved
from sledgehammer_allennlp.values import short_repr
from sledgehammer_allennlp.weights_file import read_weights

logger = logging.getLogger(__name__)

_EXIT_SETTINGS = (
    "exit_layers",
    "embedding_exit",
    "pooling",
    "last_exit",
    "dropout",
    "use_previous_logits",
    "alignment",
    "token_features",
)


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
    abstain_below: Optional[float] = None,
    runtime: Optional[str] = None,
    windows: Optional[Mapping[str, int]] = None,
    max_length: Optional[int] = None,
) -> ArchivedClassifier:
    """
    A trained model, without AllenNLP. No code of the archive is run: weights are read as tensors
    only, files are written into a temporary folder only, and the tokenizer is one of those that
    read text files.

    # Parameters

    archive : `str`
        A `model.tar.gz`, or the folder of a training run.
    confidence_threshold, precision, token_budget, confidence, ensemble : optional
    abstain_below, runtime, windows : optional
        (default = what the archive has)
        As in the model's config.
    max_length : `int`, optional (default = what the archive has)
        As in the config of the reader's tokenizer: of a text no more tokens are read, special ones
        included. Windows want more than the model has positions for.
    device : optional (default = `"cpu"`)
    inference_only : `bool`, optional (default = `False`)
        Whether to give up the weights of which there is a copy for inference, see
        `LayeredEncoder.give_up_weights`: less memory, no training.
    trust : `bool`, optional (default = `False`)
        Whether other tokenizers of the transformers library may be loaded, which may unpickle
        files, and what the archive lacks be read from where its config points. Programs in the
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
        "runtime": runtime,
        "abstain_below": abstain_below,
        "windows": windows,
    }
    with archive_folder(archive) as folder:
        classifier = _load(folder, given, device, trust)
    if max_length is not None:
        if type(max_length) is not int or max_length < 3:
            raise ValueError(f"max_length is {short_repr(max_length)}: wanted a number from 3 on")
        classifier.max_length = max_length
    if inference_only:
        make_session_of_one_text(classifier.encoder, classifier.exits)
        classifier.encoder.give_up_weights(classifier.exits.exit_layers)
    return classifier


def _load(
    folder: Path, given: Dict[str, Any], device: Union[str, torch.device], trust: bool
) -> ArchivedClassifier:
    """The classifier in a folder, with other settings where they are given, not `None`."""
    config = read_config(folder)
    _refuse(check_contents(folder, config), advice="")
    settings = {
        **settings_of_model(config),
        **{name: value for name, value in given.items() if value is not None},
    }
    transformer_model = settings["transformer_model"]
    _refuse(check_model_files(transformer_model, folder), trust)
    confidence = settings.get("confidence", "max_probability")
    labels = _labels(folder, settings.get("label_namespace", "labels"), settings.get("num_labels"))
    with _in_our_words("cannot make the model of the archive's config"):
        encoder, exits = build_encoder_and_exits(
            transformer_model,
            len(labels),
            **{name: settings[name] for name in _EXIT_SETTINGS if name in settings},
            precision=settings.get("precision", "float32"),
            runtime=settings.get("runtime", "auto"),
            with_correctness=confidence_by_name(confidence).is_learned,
            config_folder=find_config(transformer_model, folder),
            load_weights=False,
        )
    tokenizer = tokenizer_of_reader(config)
    if tokenizer is not None:
        _refuse(tokenizer.problems(folder), trust)
    classifier = ArchivedClassifier(
        encoder,
        exits,
        labels,
        None if tokenizer is None else tokenizer.load(folder),
        None if tokenizer is None else tokenizer.max_length,
        confidence,
        settings.get("ensemble"),
        settings.get("confidence_threshold"),
        settings.get("token_budget"),
        settings.get("abstain_below"),
        settings.get("windows"),
    )
    state = read_weights(find_weights(folder))
    if exits.with_correctness and not any(HEAD in name for name in state):
        raise ValueError(
            "confidence is 'learned', which takes heads, and the archive has none: wanted another "
            "confidence, or a model trained with confidence 'learned'"
        )
    with _in_our_words("the archive's weights are not those of its config"):
        classifier.load_state_dict(state)
    return classifier.eval().to(device)


@contextmanager
def _in_our_words(what: str) -> Iterator[None]:
    """Makes a `ValueError` that says what of any other, of a library or of ours."""
    try:
        yield
    except Exception as error:
        raise ValueError(f"{what}: {_shortened(str(error))}") from error


def _shortened(text: str) -> str:
    return text if len(text) <= 4000 else f"{text[:4000]} …"


def _labels(folder: Path, namespace: str, num_labels: Optional[int]) -> List[str]:
    """The name of each label; labels that are numbers in the data have no file of names."""
    is_number = isinstance(num_labels, int) and not isinstance(num_labels, bool)
    if num_labels is not None and not is_number:
        raise ValueError(
            f"config key model.num_labels is {short_repr(num_labels)}: wanted a number of labels"
        )
    file = folder / "vocabulary" / f"{namespace}.txt"
    labels: List[str] = []
    if file.exists() or num_labels is None:
        labels = _read(file).split("\n")
        # AllenNLP ends the file with a line break or not, and writes "@@NEWLINE@@" for others.
        labels = labels[:-1] if labels[-1] == "" else labels
        labels = [label.replace("@@NEWLINE@@", "\n") for label in labels]
    return labels + [str(label) for label in range(len(labels), num_labels or 0)]


def _refuse(
    problems: List[str],
    trust: bool = False,
    advice: str = ". If you know who made it: trust=True",
) -> None:
    """Raises for problems, or, where the archive is trusted, says what is done in spite of them."""
    for problem in problems if trust else ():
        logger.warning("the archive is trusted, although %s", problem)
    if problems and not trust:
        raise ValueError(f"the archive is not loaded: {'; '.join(problems)}{advice}")


def _read(path: Path) -> str:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return file.read()
    except OSError as error:
        raise ValueError(f"the archive has no {path.name}. {error}") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"the archive's {path.name} is not UTF-8: {error}") from error


def __getattr__(name: str) -> Any:
    return moved(__name__, name)
