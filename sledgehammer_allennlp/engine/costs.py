"""What it costs to exit, in layer-equivalents."""

from typing import List

from sledgehammer_allennlp.encoders import LayeredEncoder
from sledgehammer_allennlp.exits.classifiers import EMBEDDING_EXIT, ExitClassifiers


def cost_of_exits(encoder: LayeredEncoder, exits: ExitClassifiers) -> List[float]:
    """
    The cost of exiting at each exit, in layer-equivalents: units of one full transformer layer
    over the same tokens. Exiting after layer i takes i full layers and the first token's share of
    layer i; exiting before layer 0 takes none: the exit over n-grams
    multiplies next to nothing, where it compares the texts of pairs less than 0.01 of a layer.
    """
    return [
        0.0 if layer == EMBEDDING_EXIT else layer + encoder.first_token_share
        for layer in exits.exit_layers
    ]
