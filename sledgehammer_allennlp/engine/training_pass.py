"""All exits of every text in one pass, for training."""

from typing import Collection, Dict, List, Optional

import torch

from sledgehammer_allennlp.encoders import LayeredEncoder
from sledgehammer_allennlp.encoders.token_batch import TokenBatch
from sledgehammer_allennlp.engine.active_instances import ActiveInstances
from sledgehammer_allennlp.engine.chunks import sort_by_length
from sledgehammer_allennlp.exits.classifiers import EMBEDDING_EXIT, ExitClassifiers, ExitScores
from sledgehammer_allennlp.exits.entering_states import EnteringStates


def run_exits(
    encoder: LayeredEncoder,
    exits: ExitClassifiers,
    texts: TokenBatch,
    wanted: Optional[Collection[int]] = None,
    encoder_learns: bool = True,
) -> Dict[int, ExitScores]:
    """
    The scores of exits for every text, in one pass without early exit.

    # Parameters

    encoder : `LayeredEncoder`
    exits : `ExitClassifiers`
    texts : `TokenBatch`
    wanted : `Collection[int]`, optional (default = all)
        Which exits, counted from 0. With `use_previous_logits`, those before them are run, too.
    encoder_learns : `bool`, optional (default = `True`)
        Whether the transformer, and a pooler, get gradients.

    # Returns

    `Dict[int, ExitScores]`
        By exit, in the order of the texts.
    """
    num_exits = len(exits.exit_layers)
    wanted = range(num_exits) if wanted is None else wanted
    needed = range(num_exits) if exits.use_previous_logits else wanted
    if len(texts) == 0:
        nothing = torch.zeros(0, exits.num_labels, device=encoder.device, dtype=exits.dtype)
        correctness = nothing.sum(1) if exits.with_correctness else None
        return {exit_index: ExitScores(nothing, correctness) for exit_index in wanted}
    encoder.prepare()
    order, texts = sort_by_length(encoder.truncate(texts))
    with_gradient = encoder_learns and torch.is_grad_enabled()
    with torch.set_grad_enabled(with_gradient):
        batch = ActiveInstances.embed(encoder, exits, texts, order, [])
    scores: Dict[int, ExitScores] = {}

    def score(
        exit_index: int,
        vectors: List[torch.Tensor],
        first: Optional[torch.Tensor],
        entering: Optional[EnteringStates],
    ) -> None:
        earlier = list(scores.values())
        scores[exit_index] = exits.score(exit_index, vectors, first, earlier, entering)

    if exits.ngrams is not None:
        scores[0] = ExitScores(exits.ngrams(texts))
    elif exits.exit_layers[0] == EMBEDDING_EXIT:
        with torch.set_grad_enabled(with_gradient):
            vectors = batch.embedding_exit_input()
            entering = batch.entering_states(0) if 0 in needed else None
        if 0 in needed:
            score(0, vectors, None, entering)
    last_layer = exits.exit_layers[max(wanted)]
    for i in range(last_layer + 1):
        exit_index = exits.exit_layers.index(i) if i in exits.exit_layers else None
        if exit_index not in needed:
            exit_index = None
        with torch.set_grad_enabled(with_gradient):
            entering = None if exit_index is None else batch.entering_states(exit_index)
            batch.start_layer(i)
            first = batch.run_first_tokens(i) if i == last_layer else batch.run_whole_layer(i)
            seen = encoder.seen_by_exits(first)
        if exit_index is not None:
            score(exit_index, batch.layer_vectors, seen.to(exits.dtype), entering)
    in_order = order.argsort().to(encoder.device)
    return {k: scores[k].select(in_order) for k in scores if k in wanted}
