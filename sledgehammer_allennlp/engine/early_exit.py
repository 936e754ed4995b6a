"""Early exit: a transformer runs instances only as far as the exit rule needs.

The order of events, for any number of instances:

1. If the first exit is over n-grams, it decides for all of them by their token ids. Only those that
   stay active go to the device, and to all that follows.
2. They are sorted by length and split into chunks of about a token budget (`chunks`).
3. A chunk runs to the next exit. Of the exit's layer only the first tokens are computed, all that
   an exit sees; confident instances exit (`exit_decisions`), the others are compacted, and the
   layer is completed for them (`active_instances`). A chunk of few tokens runs the whole layer at
   once, unless it is the last; a single short text runs in ONNX Runtime
   (`encoders.onnx_layers`, `one_text`).
4. Survivors wait until there are enough of them for another chunk (`regrouping`).

Two or three short texts run one after the other, where that is faster. A prediction does not depend
on the rest of the batch, its order or the budget, up to rounding.
"""

from contextlib import contextmanager
from typing import Iterator, List, Optional, Tuple

import torch

from sledgehammer_allennlp.encoders import LayeredEncoder
from sledgehammer_allennlp.encoders.token_batch import TokenBatch
from sledgehammer_allennlp.engine.active_instances import ActiveInstances
from sledgehammer_allennlp.engine.chunks import (
    default_token_budget,
    sort_by_length,
    split_into_chunks,
)
from sledgehammer_allennlp.engine.exit_decisions import ExitDecisions
from sledgehammer_allennlp.engine.exit_rule import ExitRule
from sledgehammer_allennlp.engine.one_text import (
    decide_one_by_ngrams,
    run_one_text,
    runs_one_by_one,
)
from sledgehammer_allennlp.engine.output import EarlyExitOutput
from sledgehammer_allennlp.engine.regrouping import WaitingSurvivors
from sledgehammer_allennlp.exits.classifiers import EMBEDDING_EXIT, ExitClassifiers, ExitScores

FEW_TOKENS = 512
"""
With fewer tokens, reading a layer's weights takes much of its time. First tokens are then not
computed first, because their layer's weights would be read twice for survivors.
"""


def run_early_exit(
    encoder: LayeredEncoder,
    exits: ExitClassifiers,
    rule: ExitRule,
    texts: TokenBatch,
    token_budget: Optional[int] = None,
    record_exits: bool = True,
    forced_exits: Optional[torch.Tensor] = None,
) -> EarlyExitOutput:
    """
    Early exit for any number of instances: each exits at the first exit at which the rule finds
    it confident, or at the one that is given.

    # Parameters

    encoder : `LayeredEncoder`
    exits : `ExitClassifiers`
    rule : `ExitRule`
    texts : `TokenBatch`
        On any device; the output is on it, too.
    token_budget : `int`, optional (default = by device and model, see `default_token_budget`)
        About how many tokens run together, at least one text.
    record_exits : `bool`, optional (default = `True`)
        Whether to give every exit's scores of all instances that reach it.
    forced_exits : `torch.Tensor`, optional (default = `None`)
        `(num_instances,)`, at which exit each instance exits, counted from 0, whatever its
        confidence.

    # Returns

    `EarlyExitOutput`
        In the order of the texts.

    # Raises

    ValueError
        If the device cannot compute in the encoder's precision.
    """
    device = texts.token_ids.device
    is_plain = not record_exits and forced_exits is None
    is_one = is_plain and len(texts) == 1
    if is_plain and not is_one and runs_one_by_one(encoder, exits, rule, texts):
        return EarlyExitOutput.joined(
            [
                run_early_exit(encoder, exits, rule, text, token_budget, False)
                for _, text in split_into_chunks(texts, token_budget=1)  # each by itself
            ]
        )
    decisions = ExitDecisions(exits, rule, record_exits, forced_exits)
    texts = encoder.truncate(texts)
    output, instances = None, None  # which the texts are; `None`: all of them, in order
    at_ngrams = decide_one_by_ngrams(exits, rule, texts, decisions) if is_one else None
    if at_ngrams is None:
        with _inference_mode_without_gradients():
            texts, instances, scores = decide_by_ngrams(texts, exits, decisions)
    else:
        output, scores = at_ngrams
    if output is None and is_one and len(texts):
        output = run_one_text(encoder, exits, rule, texts, scores, decisions)
    if output is not None:
        return output
    with _inference_mode_without_gradients():
        if len(texts):
            order, texts = sort_by_length(texts.to(encoder.device))
            in_order = order.to(encoder.device)
            scores = [
                one and one.map(lambda part: part.to(encoder.device)[in_order]) for one in scores
            ]
            places = order if instances is None else instances[order]
            budget = default_token_budget(encoder) if token_budget is None else token_budget
            _run_layers(encoder, exits, texts, places, scores, decisions, budget)
        output = decisions.output(device)
    return output.as_ordinary_tensors() if output.logits.is_inference() else output


def decide_by_ngrams(
    texts: TokenBatch,
    exits: ExitClassifiers,
    decisions: ExitDecisions,
    instances: Optional[torch.Tensor] = None,
) -> Tuple[TokenBatch, torch.Tensor, List[Optional[ExitScores]]]:
    """
    The exit over n-grams, if there is one.

    # Parameters

    instances : `torch.Tensor`, optional (default = 0, 1, …)
        `(num_texts,)`, on the CPU: which instances the texts are.

    # Returns

    The texts that stay active; which texts of the input they are, `(num_active,)`, on the CPU; and
    a list of their scores, as `ActiveInstances.earlier_scores`.
    """
    if instances is None:
        instances = torch.arange(len(texts))
    if exits.ngrams is None:
        return texts, instances, []
    if len(texts) == 0 or not decisions.needs_scores_of(0):
        return texts, instances, [None]
    logits, seen_share = exits.ngrams.logits_and_seen_share(texts)
    scores = ExitScores(logits, seen_share=seen_share)
    active = decisions.decide(0, instances.to(texts.token_ids.device), [scores])
    kept = decisions.for_later_exits(0, scores)
    if active is None:
        return texts, instances, [kept]
    places = active.cpu()
    return texts.select(places), instances[places], [kept and kept.select(active)]


def _run_layers(
    encoder: LayeredEncoder,
    exits: ExitClassifiers,
    texts: TokenBatch,
    instances: torch.Tensor,
    scores: List[Optional[ExitScores]],
    decisions: ExitDecisions,
    token_budget: int,
) -> None:
    """
    Runs texts, sorted by length, until all have exited. `instances`, `(num_texts,)`, on the CPU,
    are the places of the texts in the input; `scores` those of the exit over n-grams.
    """
    encoder.prepare()
    few_tokens = min(FEW_TOKENS, token_budget // 4)
    num_exits = len(exits.exit_layers)
    waiting = WaitingSurvivors(num_exits)
    for places, chunk in split_into_chunks(texts, token_budget):
        chunk_instances = instances[places].to(chunk.token_ids.device)
        chunk_scores = [one and one.select(places) for one in scores]
        batch: Optional[ActiveInstances] = ActiveInstances.embed(
            encoder, exits, chunk, chunk_instances, chunk_scores
        )
        next_exit = exits.num_fitted
        while batch is not None:
            survivors = run_to_exit(batch, next_exit, decisions, few_tokens)
            if survivors is None:
                break
            next_exit += 1
            waiting.add(next_exit, survivors)
            batch = waiting.take_if_enough(next_exit, more_than=token_budget // 2)
    # All chunks have run: the survivors that still wait go on, however few tokens they have.
    for next_exit in range(1, num_exits):
        batch = waiting.take_if_enough(next_exit, more_than=0)
        if batch is not None:
            survivors = run_to_exit(batch, next_exit, decisions, few_tokens)
            if survivors is not None:
                waiting.add(next_exit + 1, survivors)


def run_to_exit(
    batch: ActiveInstances, exit_index: int, decisions: ExitDecisions, few_tokens: int
) -> Optional[ActiveInstances]:
    """
    Runs instances that have passed exit `exit_index` - 1 up to this exit. Gives the survivors,
    with the exit's layer completed, or `None` if all exit.
    """
    exits = batch.exits
    layer = exits.exit_layers[exit_index]
    if layer == EMBEDDING_EXIT:
        return _decide_by_embeddings(batch, exit_index, decisions)
    needs_scores = decisions.needs_scores_of(exit_index)
    onnx_layers = batch.onnx_layers()
    if onnx_layers is not None:
        first_tokens_first = False
        first, entering = batch.run_block(
            onnx_layers, layer, with_entering=needs_scores and exits.sees_tokens_at(exit_index)
        )
    else:
        first_layer = 0 if exit_index == 0 else exits.exit_layers[exit_index - 1] + 1
        for i in range(first_layer, layer):
            batch.start_layer(i)
            batch.run_whole_layer(i)
        entering = batch.entering_states(exit_index) if needs_scores else None
        batch.start_layer(layer)
        first_tokens_first = decisions.is_last(exit_index) or (
            decisions.may_exit_at(exit_index) and batch.num_tokens >= few_tokens
        )
        run = batch.run_first_tokens if first_tokens_first else batch.run_whole_layer
        first = run(layer)
    if not needs_scores:
        batch.earlier_scores.append(None)
        return batch  # no instance exits here, so the whole layer has run
    seen = batch.encoder.seen_by_exits(first)
    scores = exits.score(
        exit_index, batch.layer_vectors, seen.to(exits.dtype), batch.earlier_scores, entering
    )
    active = decisions.decide(exit_index, batch.indices, [*batch.earlier_scores, scores])
    batch.earlier_scores.append(decisions.for_later_exits(exit_index, scores))
    survivors = _survivors(batch, active)
    if survivors is not None and first_tokens_first:
        survivors.run_all_tokens(layer)
    return survivors


def _decide_by_embeddings(
    batch: ActiveInstances, exit_index: int, decisions: ExitDecisions
) -> Optional[ActiveInstances]:
    """The exit on the mean of the embeddings. Gives the survivors, or `None` if all exit."""
    if not decisions.needs_scores_of(exit_index):
        batch.earlier_scores.append(None)
        return batch
    scores = batch.exits.score(
        exit_index,
        batch.embedding_exit_input(),
        None,
        entering=batch.entering_states(exit_index),
    )
    active = decisions.decide(exit_index, batch.indices, [scores])
    batch.earlier_scores.append(decisions.for_later_exits(exit_index, scores))
    return _survivors(batch, active)


def _survivors(batch: ActiveInstances, active: Optional[torch.Tensor]) -> Optional[ActiveInstances]:
    """Compacts a batch to its active instances; `None` if all exited. `active`: see `decide`."""
    if active is None:
        return batch
    if active.numel() == 0:
        return None
    batch.compact(active)
    return batch


@contextmanager
def _inference_mode_without_gradients() -> Iterator[None]:
    """Inference mode, which spares torch some work, where no gradients are needed."""
    if torch.is_grad_enabled():
        yield
    else:
        with torch.inference_mode():
            yield
