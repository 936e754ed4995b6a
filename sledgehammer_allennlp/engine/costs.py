"""What it costs to exit, in layer-equivalents."""

from typing import List

from sledgehammer_allennlp.encoders import LayeredEncoder
from sledgehammer_allennlp.exits.alignment import alignment_work
from sledgehammer_allennlp.exits.classifiers import EMBEDDING_EXIT, ExitClassifiers


def cost_of_exits(encoder: LayeredEncoder, exits: ExitClassifiers) -> List[float]:
    """
    The cost of exiting at each of `exits`, in layer-equivalents: units of one full transformer
    layer of the `encoder` over the same tokens. Exiting after layer i takes i full layers and the
    first token's share of layer i; exiting before layer 0 takes none: the exit over n-grams
    multiplies next to nothing, where it compares the texts of pairs less than 0.01 of a layer. The
    alignments of an exit and of those before it are added.
    """
    alignments = 0
    costs = []
    for k, layer in enumerate(exits.exit_layers):
        alignments += exits.alignment is not None and k >= exits.num_fitted
        cost = 0.0 if layer == EMBEDDING_EXIT else layer + encoder.first_token_share
        costs.append(cost + alignments * alignment_share(encoder, exits))
    return costs


def alignment_share(encoder: LayeredEncoder, exits: ExitClassifiers) -> float:
    """
    The work of an exit's alignment, in layer-equivalents: the products of its linear layers for
    each token. 0 without alignment. Scores between tokens are not counted, as in a layer.
    """
    if exits.alignment is None:
        return 0.0
    return alignment_work(encoder.hidden_size, exits.alignment) / encoder.work_of_layer
