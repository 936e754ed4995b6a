"""Settings of the model, checked: the number of labels, and which layers are trained."""

from typing import Any, Optional

from allennlp.common.checks import ConfigurationError
from allennlp.data import Vocabulary


def check_num_labels(num_labels: Optional[int], vocab: Vocabulary, namespace: str) -> int:
    """
    How many labels the model has: by default as many as the vocabulary has in a namespace.

    # Raises

    ConfigurationError
        If there is none, there are fewer than in the vocabulary, or the namespace has entries that
        are no labels.
    """
    known = vocab.get_vocab_size(namespace)
    if known and vocab.is_padded(namespace):
        raise ConfigurationError(
            f"label_namespace is '{namespace}', in which the vocabulary has entries for "
            "padding and unknown labels: wanted a name that ends in 'labels' or 'tags', or one "
            "listed in the vocabulary's non_padded_namespaces"
        )
    if num_labels is None:
        num_labels = known
    if num_labels < max(known, 1):
        raise ConfigurationError(
            f"num_labels is {num_labels}, and the vocabulary has {known} labels in namespace "
            f"'{namespace}': wanted at least one label, and at least as many as "
            "the vocabulary has"
        )
    return num_labels


def check_trainable(trainable: Any, num_layers: int) -> int:
    """
    The first layer that is trained; 0 if the embeddings are, too; `num_layers` if none is.

    # Raises

    ValueError
        If `trainable` is neither true nor false nor `{"from_layer": n}`, with n one of the layers.
    """
    if isinstance(trainable, bool):
        return 0 if trainable else num_layers
    if isinstance(trainable, dict) and set(trainable) == {"from_layer"}:
        layer = trainable["from_layer"]
        if isinstance(layer, int) and not isinstance(layer, bool) and 0 < layer < num_layers:
            return layer
    raise ValueError(
        f"trainable is {trainable!r}: wanted true, false, or "
        f'{{"from_layer": n}} with n from 1 to {num_layers - 1}, the last layer in use'
    )
