"""A transformer and its exits, from the settings that a config has."""

from typing import Any, Dict, List, Optional, Tuple, Union

from sledgehammer_allennlp.encoders.archived_files import StrPath
from sledgehammer_allennlp.encoders.layered_encoder import LayeredEncoder
from sledgehammer_allennlp.encoders.loading import load_encoder, num_layers_of
from sledgehammer_allennlp.encoders.onnx_layers import AUTO
from sledgehammer_allennlp.encoders.tokenizing import load_tokenizer
from sledgehammer_allennlp.exits.classifiers import (
    EMBEDDING_EXIT,
    FIRST_TOKEN,
    POOLINGS,
    ExitClassifiers,
)
from sledgehammer_allennlp.exits.pair_texts import special_tokens_of
from sledgehammer_allennlp.ngrams.classifier import NgramClassifier
from sledgehammer_allennlp.values import is_number

EMBEDDING_EXITS: Dict[str, Tuple[str, ...]] = {
    "mean": (),
    "ngrams": ("max_n", "num_buckets", "pairs"),
}
"""Exits before layer 0, and the settings that each takes."""

_MAX_SIZE = 4096


def build_encoder_and_exits(
    transformer_model: StrPath,
    num_labels: int,
    exit_layers: Any = "all",
    embedding_exit: Union[str, Dict[str, Any], None] = None,
    pooling: str = "mean",
    dropout: Any = 0.1,
    precision: str = "float32",
    use_previous_logits: Any = False,
    with_correctness: bool = False,
    config_folder: Optional[StrPath] = None,
    load_weights: bool = True,
    alignment: Any = None,
    runtime: str = AUTO,
    last_exit: Optional[str] = None,
    token_features: Any = None,
) -> Tuple[LayeredEncoder, ExitClassifiers]:
    """
    A transformer without the layers that no exit needs, and its exits, not trained yet.

    # Parameters

    transformer_model, config_folder, load_weights
        See `load_encoder`.
    num_labels : `int`
    exit_layers, embedding_exit, pooling, dropout, precision : optional
    use_previous_logits, alignment, runtime, last_exit, token_features : optional
        As in the model's config.
    with_correctness
        See `ExitClassifiers`.

    # Raises

    ValueError
        If a setting has a value that is not possible, or there is no tokenizer beside a model to be
        trained with `alignment`, which has to know its special tokens.
    """
    if not is_number(dropout) or not 0 <= dropout < 1:
        raise ValueError(f"dropout is {dropout!r}: wanted a number from 0 to 1, 1 excluded")
    if pooling not in POOLINGS:
        raise ValueError(f"pooling is {pooling!r}: wanted one of {', '.join(POOLINGS)}")
    if last_exit not in (None, FIRST_TOKEN):
        raise ValueError(f"last_exit is {last_exit!r}: wanted {FIRST_TOKEN!r} or null")
    if not isinstance(use_previous_logits, bool):
        raise ValueError(f"use_previous_logits is {use_previous_logits!r}: wanted true or false")
    check_size_for_tokens("alignment", alignment)
    check_size_for_tokens("token_features", token_features)
    if token_features is not None and alignment is not None:
        raise ValueError(
            f"token_features is {token_features} and alignment is {alignment}, which has features "
            "of each token itself: wanted one of them null"
        )
    first_exit, first_exit_settings = _check_embedding_exit(embedding_exit)
    num_layers = num_layers_of(config_folder or transformer_model)
    layers = check_exit_layers(exit_layers, num_layers, str(transformer_model))
    encoder = load_encoder(
        transformer_model,
        config_folder=config_folder,
        load_weights=load_weights,
        num_layers=layers[-1] + 1,
        keep_pooler=pooling == "first",
        precision=precision,
        runtime=runtime,
    )
    ngrams = None
    if first_exit == "ngrams":
        ngrams = NgramClassifier(num_labels, **first_exit_settings)
    if first_exit is not None:
        layers = [EMBEDDING_EXIT, *layers]
    exits = ExitClassifiers(
        layers,
        encoder.hidden_size,
        num_labels,
        pooling,
        dropout,
        add_pooler=pooling == "first" and not encoder.has_pooler,
        ngrams=ngrams,
        use_previous_logits=use_previous_logits,
        with_correctness=with_correctness,
        alignment=alignment,
        last_exit=last_exit,
        token_features=token_features,
    )
    if exits.pair_texts is not None and load_weights:  # else they are in the weights to be read
        exits.pair_texts.set_special_tokens(special_tokens_of(load_tokenizer(transformer_model)))
    return encoder, exits


def _check_embedding_exit(embedding_exit: Any) -> Tuple[Optional[str], Dict[str, Any]]:
    """The kind of exit before layer 0, if any, and its settings."""
    settings = embedding_exit
    if embedding_exit is None or isinstance(embedding_exit, str):
        settings = {"type": embedding_exit}
    wanted = (
        f"wanted one of {', '.join(EMBEDDING_EXITS)}, or null for none, or with settings "
        'a dictionary such as {"type": "ngrams", "max_n": 2}'
    )
    if not isinstance(settings, dict) or "type" not in settings:
        raise ValueError(f"embedding_exit is {embedding_exit!r}: {wanted}")
    kind = settings["type"]
    settings = {name: value for name, value in settings.items() if name != "type"}
    if kind is not None and (not isinstance(kind, str) or kind not in EMBEDDING_EXITS):
        raise ValueError(f"embedding_exit is {embedding_exit!r}: {wanted}")
    known = EMBEDDING_EXITS[kind] if kind is not None else ()
    for name in settings:
        if name not in known:
            raise ValueError(
                f"embedding_exit of type {kind} has the setting {name!r}: wanted "
                + (f"one of {', '.join(known)}" if known else "none")
            )
    return kind, settings


def check_size_for_tokens(setting: str, size: Any) -> None:
    """
    # Raises

    ValueError
        If the size, `alignment` or `token_features`, is neither a positive integer, 4096 at most,
        nor `None`.
    """
    is_integer = isinstance(size, int) and not isinstance(size, bool)
    if size is not None and (not is_integer or not 1 <= size <= _MAX_SIZE):
        raise ValueError(
            f"{setting} is {size!r}: wanted an integer from 1 to {_MAX_SIZE}, its size, or null "
            "for none"
        )


def check_exit_layers(exit_layers: Any, num_layers: int, transformer_model: str) -> List[int]:
    """
    The layers that have an exit.

    # Raises

    ValueError
        If `exit_layers` is neither `"all"` nor a list of ascending layers of the transformer.
    """
    if exit_layers == "all":
        return list(range(num_layers))
    wanted = (
        f'wanted "all" or an ascending list of layers from 0 to {num_layers - 1}, the last layer '
        f"of '{transformer_model}'"
    )
    if not isinstance(exit_layers, list):
        raise ValueError(f"exit_layers is {exit_layers!r}: {wanted}")
    problem = None
    if not exit_layers:
        problem = "is empty"
    elif any(not isinstance(layer, int) or isinstance(layer, bool) for layer in exit_layers):
        problem = "has something that is not an integer"
    elif min(exit_layers) < 0:
        problem = "has a negative layer (an exit before layer 0 is added by embedding_exit)"
    elif max(exit_layers) >= num_layers:
        problem = f"has layer {max(exit_layers)}, and the model has {num_layers} layers"
    elif len(set(exit_layers)) < len(exit_layers):
        problem = "has a layer twice"
    elif exit_layers != sorted(exit_layers):
        problem = "is not ascending"
    if problem:
        raise ValueError(f"exit_layers {exit_layers} {problem}: {wanted}")
    return list(exit_layers)
