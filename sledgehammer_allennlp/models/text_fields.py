"""From AllenNLP's text fields to texts without padding."""

import torch
from allennlp.common.checks import ConfigurationError
from allennlp.data import TextFieldTensors

from sledgehammer_allennlp.encoders.token_batch import TokenBatch


def texts_in(tokens: TextFieldTensors) -> TokenBatch:
    """
    The texts of a batch, without padding.

    # Raises

    ConfigurationError
        If the tensors are not those of one plain "pretrained_transformer" indexer.
    """
    indexed = [
        tensors for tensors in tokens.values() if "token_ids" in tensors and "mask" in tensors
    ]
    if len(indexed) != 1 or "offsets" in indexed[0] or "segment_concat_mask" in indexed[0]:
        raise ConfigurationError(
            "multi_exit_classifier needs exactly one token indexer of type "
            f"'pretrained_transformer', without max_length: found indexers {sorted(tokens)} "
            f"with tensors {[sorted(tensors) for tensors in tokens.values()]}"
        )
    tensors = indexed[0]
    token_ids = tensors["token_ids"]
    type_ids = tensors.get("type_ids")
    return TokenBatch.from_padded(
        token_ids,
        tensors["mask"].bool(),
        torch.zeros_like(token_ids) if type_ids is None else type_ids,
    )
