"""What it costs to exit, in layer-equivalents."""

from typing import List

from sledgehammer_allennlp.encoders import LayeredEncoder
from sledgehammer_allennlp.exits.alignment import alignment_work
from sledgehammer_allennlp.exits.classifiers import EMBEDDING_EXIT, ExitClassifiers
from sledgehammer_allennlp.exits.token_features import token_features_work


def cost_of_exits(encoder: LayeredEncoder, exits: ExitClassifiers) -> List[float]:
    """
    The cost of exiting at each of `exits`, in layer-equivalents: units of one full transformer
    layer of the `encoder` over the same tokens. Exiting after layer i takes i full layers and the
    first token's share of layer i; exiting before layer 0 takes none: the exit over n-grams
    multiplies next to nothing, where it compares the texts of pairs less than 0.01 of a layer. What
    an exit and those before it compute of each token is added.
    """
    for_tokens = 0.0
    costs = []
    for k, layer in enumerate(exits.exit_layers):
        for_tokens += share_for_tokens(encoder, exits, k)
        cost = 0.0 if layer == EMBEDDING_EXIT else layer + encoder.first_token_share
        costs.append(cost + for_tokens)
    return costs


def share_for_tokens(encoder: LayeredEncoder, exits: ExitClassifiers, k: int) -> float:
    """
    The work of exit `k`, counted from 0, for each token, in layer-equivalents: the products of an
    alignment's linear layers, or those of token features; else 0. Scores between tokens are not
    counted, as in a layer.
    """
    work = 0
    if exits.sees_tokens_at(k):
        if exits.alignment is not None:
            work += alignment_work(encoder.hidden_size, exits.alignment)
        if exits.token_features is not None:
            work += token_features_work(encoder.hidden_size, exits.token_features)
    return work / encoder.work_of_layer
