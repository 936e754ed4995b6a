"""Are the sizes that a config asks for those of the archive's weights?

A model is made before its weights are read into it, so sizes such as 10^9 would take all memory
first. Whatever is made has to be in the weights, too: there may be no more numbers than bytes.
"""

from typing import Any, Dict, Iterator, List, Tuple

from transformers import CONFIG_MAPPING

from sledgehammer_allennlp.encoders.families import FAMILIES
from sledgehammer_allennlp.values import is_number, short_repr

MAX_LAYERS = 500
"""Of a transformer; those after the last exit are made, too, and then given up."""

_GIVEN_UP = 64
"""How many times the weights the layers may be that are made and then given up."""
_ANY_MODEL = 1 << 22
"""Numbers that any model may have."""

_SIZES = (
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "hidden_dim",  # DistilBERT's
    "vocab_size",
    "embedding_size",
    "max_position_embeddings",
    "num_hidden_groups",
    "inner_group_num",
)


_MAYBE_NONE = (
    "type_vocab_size",
    # DeBERTa's and MPNet's numbers of distances; below 1 for none of their own
    "max_relative_positions",
    "position_buckets",
    "relative_attention_num_buckets",
    "conv_kernel_size",
    "global_attn_every_n_layers",
    "local_attention",
)
"""Of which 0 or less may be meant to be none."""


def check_model_sizes(
    transformer: Dict[str, Any], settings: Dict[str, Any], num_bytes: int, num_labels: int = 0
) -> List[str]:
    """
    What is wrong with sizes.

    # Parameters

    transformer : `Dict[str, Any]`
        The pretrained model's configuration.
    settings : `Dict[str, Any]`
        At the config's key `model`.
    num_bytes : `int`
        Of the file of weights.
    num_labels : `int`, optional (default = `0`)
        How many names of labels there are.
    """
    problems: List[str] = []
    if str(transformer.get("model_type")) not in FAMILIES:
        return problems  # which is found where settings are checked
    try:
        sizes = _sizes(transformer)
        others = _numbers_and_names(transformer)
    except Exception as error:  # of many kinds: the library does not check what it is given
        return [
            "the pretrained model's config.json is not as its library writes it: wanted a "
            f"configuration. ({type(error).__name__}: {str(error)[:200]})"
        ]
    for name, value in sizes.items():
        may_be_none = name in _MAYBE_NONE
        is_whole = isinstance(value, int) and not isinstance(value, bool)
        if not is_whole or (value < 1 and not may_be_none):
            wanted = "a whole number" if may_be_none else "a number from 1"
            problems.append(
                f"the pretrained model's config.json has the key {name} with {short_repr(value)}: "
                f"wanted {wanted}"
            )
    problems += [
        f"the pretrained model's config.json has the key {name} with {short_repr(value)}: wanted a "
        + ("text" if isinstance(default, str) else "number")
        for name, value, default in others
        if not (isinstance(value, str) if isinstance(default, str) else is_number(value))
    ]
    if problems:
        return problems
    if sizes.get("num_hidden_layers", 0) > MAX_LAYERS:
        problems.append(
            "the pretrained model's config.json has "
            f"{short_repr(sizes['num_hidden_layers'])} layers: wanted at most {MAX_LAYERS}"
        )
    if problems:
        return problems
    for what, numbers, times in _numbers(sizes, settings, num_labels):
        if numbers > max(times * num_bytes, _ANY_MODEL):
            problems.append(
                f"its config asks for {short_repr(numbers)} numbers in {what}, and its weights "
                f"have {num_bytes:,} bytes: wanted the weights of this config"
            )
    return problems


def _sizes(transformer: Dict[str, Any]) -> Dict[str, Any]:
    """Those that the library takes: also by its other names for them, and its defaults."""
    kind = CONFIG_MAPPING[transformer["model_type"]]
    given, default = kind.from_dict(transformer), kind()
    return {
        name: getattr(given, name, None)
        for name in (*_SIZES, *_MAYBE_NONE)
        if hasattr(default, name) or (name in _MAYBE_NONE and hasattr(given, name))
    }


def _numbers_and_names(transformer: Dict[str, Any]) -> List[Tuple[str, Any, Any]]:
    """
    What has to be a number, such as a dropout, or a name, such as an activation's, or fails not
    before a text is predicted: its key, value and default.
    """
    kind = CONFIG_MAPPING[transformer["model_type"]]
    given, default = kind.from_dict(transformer), kind()
    return [
        (name, getattr(given, name, None), value)
        for name, value in vars(default).items()
        if name in transformer and isinstance(value, (float, str))
    ]


def _numbers(
    sizes: Dict[str, int], settings: Dict[str, Any], num_labels: int
) -> Iterator[Tuple[str, int, int]]:
    """What has how many numbers, and how many times the weights it may be."""
    hidden = sizes.get("hidden_size", 1)
    embedded = sizes.get("embedding_size", hidden)
    rows = sizes.get("vocab_size", 1) + sizes.get("max_position_embeddings", 1)
    rows += max(sizes.get("type_vocab_size", 0), 0)
    yield "embeddings", rows * embedded, 1
    distances = ("max_relative_positions", "position_buckets", "relative_attention_num_buckets")
    yield "distances", 2 * max(0, *(sizes.get(name, 0) for name in distances)) * hidden, 1
    inner = sizes.get("intermediate_size", sizes.get("hidden_dim", 1))
    layer = 4 * hidden * hidden + 2 * hidden * inner
    yield "a layer", layer, 1
    layers = sizes.get("num_hidden_layers", 1)
    exit_layers = settings.get("exit_layers")
    num_exits = 1 + (len(exit_layers) if isinstance(exit_layers, list) else layers)
    if "num_hidden_groups" in sizes:  # ALBERT's layers share theirs
        layers = sizes["num_hidden_groups"] * sizes.get("inner_group_num", 1)
    yield "layers", layers * layer, _GIVEN_UP
    given = settings.get("num_labels")
    labels = max(num_labels, given if isinstance(given, int) else 1)
    yield "labels", labels * hidden, 1
    first = settings.get("embedding_exit")
    if isinstance(first, dict) and isinstance(first.get("num_buckets"), int):
        yield "n-grams", first["num_buckets"] * (labels + 1), 1
    # Of each exit, with its hidden layer.
    alignment = settings.get("alignment")
    if isinstance(alignment, int):
        yield "alignments", num_exits * alignment * (3 * hidden + 7 * alignment), 1
    features = settings.get("token_features")
    if isinstance(features, int):
        yield "token features", num_exits * features * (3 * hidden + 2 * features), 1
