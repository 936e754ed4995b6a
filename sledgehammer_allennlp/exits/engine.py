"""Running a transformer with exits: all of them for training, or only as far as needed.

How early exit is run, for any number of texts:

1. If the first exit is over n-grams, it decides for all of them by their token ids. Only who stays
   goes to the device, and to all that follows.
2. Texts are sorted by length and cut into chunks of about a token budget.
3. A chunk runs to the next exit. Of the exit's layer only the first tokens are computed, all that
   an exit sees; who is confident leaves, and the layer is completed for the rest. (A chunk of few
   tokens runs the whole layer at once, unless it is the last.)
4. The rest waits until there are enough for another chunk, so that few never run alone.

An answer never depends on what else is in the batch, nor on order or budget.
"""

from contextlib import contextmanager
from dataclasses import dataclass
from typing import Collection, Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple

import torch
import torch.nn.functional as F

from sledgehammer_allennlp.encoders import LayeredEncoder
from sledgehammer_allennlp.encoders.token_batch import Layout, TokenBatch, token_indices
from sledgehammer_allennlp.exits.classifiers import (
    EMBEDDING_EXIT,
    ExitClassifiers,
    Said,
    said_together,
)
from sledgehammer_allennlp.exits.exit_rule import Answer, ExitRule

_CPU_ACTIVATIONS = 3 * 2**20
_GPU_TOKENS = 65536

_FEW_TOKENS = 512
"""
With fewer tokens, reading a layer's weights takes much of its time. First tokens are then not
computed first, because their layer's weights would be read twice for those who stay.
"""


class Reached(NamedTuple):
    """
    Who reached an exit, `texts`, `(num_reached,)`, in no particular order, and what it `said`.
    """

    texts: torch.Tensor
    said: Said

    def in_order(self) -> Said:
        """What was said, in the order of the texts."""
        order = self.texts.argsort()
        return self.said.of(order)


@dataclass
class ExitOutput:
    """
    What `run_to_exits` found, in the order of its input.

    # Parameters

    logits : `torch.Tensor`
        `(num_texts, num_labels)`, of the exit each text left at, before temperature; with an
        ensemble, the logarithms of `probs`.
    probs : `torch.Tensor`
        `(num_texts, num_labels)`, softmax(logits / temperature) of that exit, or the ensemble's.
    confidence : `torch.Tensor`
        `(num_texts,)`, of that exit.
    exit_index : `torch.Tensor`
        `(num_texts,)`, which exit, counted from 0.
    reached : `List[Reached]`
        For each exit, who reached it and what it said. Empty unless asked for.
    """

    logits: torch.Tensor
    probs: torch.Tensor
    confidence: torch.Tensor
    exit_index: torch.Tensor
    reached: List[Reached]

    def as_ordinary_tensors(self) -> "ExitOutput":
        """Copies that can be changed and used with gradients, as those of inference mode cannot."""
        reached = [Reached(texts.clone(), said.each(torch.clone)) for texts, said in self.reached]
        return ExitOutput(
            self.logits.clone(),
            self.probs.clone(),
            self.confidence.clone(),
            self.exit_index.clone(),
            reached,
        )


class _Texts:
    """Texts on their way through the layers, and everything known of them."""

    def __init__(
        self,
        encoder: LayeredEncoder,
        exits: ExitClassifiers,
        instances: torch.Tensor,
        lengths: torch.Tensor,
        hidden: torch.Tensor,
        to_mix: List[torch.Tensor],
        said: List[Said],
    ) -> None:
        self.encoder = encoder
        self.exits = exits
        self.instances = instances  # (texts,): which of the input's texts these are
        self.layout = Layout(lengths, hidden.device)
        self.hidden = hidden  # (tokens, hidden): what enters the next layer
        self.to_mix = to_mix  # what the exits mix, layer by layer, each (texts, hidden)
        self.said = said  # by the exits so far, if anybody will want to know

    @classmethod
    def embedded(
        cls,
        encoder: LayeredEncoder,
        exits: ExitClassifiers,
        texts: TokenBatch,
        instances: torch.Tensor,
        said: List[Said],
    ) -> "_Texts":
        return cls(encoder, exits, instances, texts.lengths, encoder.embed(texts), [], said)

    @classmethod
    def together(cls, parts: List["_Texts"]) -> "_Texts":
        if len(parts) == 1:
            return parts[0]
        return cls(
            parts[0].encoder,
            parts[0].exits,
            torch.cat([part.instances for part in parts]),
            torch.cat([part.layout.lengths for part in parts]),
            torch.cat([part.hidden for part in parts]),
            [torch.cat(vectors) for vectors in zip(*(part.to_mix for part in parts))],
            [said_together(said) for said in zip(*(part.said for part in parts))],
        )

    def embedding_exit_input(self) -> List[torch.Tensor]:
        """What the exit before layer 0 sees: one vector, `(texts, hidden)`."""
        mean = self._token_means()
        if self.exits.pooling == "mean":
            self.to_mix.append(mean)
        return [mean]

    def _token_means(self) -> torch.Tensor:
        """The means over tokens of what is about to enter the next layer, `(texts, hidden)`."""
        layout, dtype = self.layout, self.exits.dtype
        hidden = self.hidden if self.hidden.dtype == torch.float64 else self.hidden.float()
        if layout.num_texts == 1:
            return hidden.mean(0, keepdim=True).to(dtype)
        if not torch.is_grad_enabled():
            # Sums of rows of a table: what an embedding bag computes, too, and the fastest way.
            rows = torch.arange(layout.num_tokens, device=hidden.device)
            return F.embedding_bag(rows, hidden, layout.first_tokens, mode="mean").to(dtype)
        lengths = layout.lengths.to(hidden.device)
        text_of_token = torch.arange(layout.num_texts, device=hidden.device)
        text_of_token = text_of_token.repeat_interleave(lengths)
        sums = hidden.new_zeros(layout.num_texts, hidden.size(1))
        return (sums.index_add(0, text_of_token, hidden) / lengths.unsqueeze(1)).to(dtype)

    def begin_layer(self, i: int) -> None:
        if self.exits.pooling == "mean" and len(self.to_mix) == i:
            self.to_mix.append(self._token_means())
        self.keys_values = self.encoder.keys_values(i, self.hidden)

    def first_tokens(self, i: int) -> torch.Tensor:
        """Layer `i`'s output for the first tokens, `(texts, hidden)`."""
        layout = self.layout
        first = self.hidden.index_select(0, layout.first_tokens)
        return self.encoder.rows(i, first, layout.of_first_tokens(), self.keys_values, layout)

    def note_first_tokens(self, first: torch.Tensor) -> None:
        """Pools the first tokens of a layer, `(texts, hidden)`, where exits see them pooled."""
        if self.exits.pooling == "first":
            pool = self.encoder.pool if self.exits.pooler is None else self.exits.pooler
            self.to_mix.append(pool(first.to(self.exits.dtype)))

    def complete_layer(self, i: int, first: torch.Tensor) -> None:
        """Completes layer `i`, of which the first tokens are known, `(texts, hidden)`."""
        layout = self.layout
        if layout.num_tokens > layout.num_texts:
            others = self.encoder.rows(
                i,
                self.hidden.index_select(0, layout.other_tokens),
                layout.of_other_tokens(),
                self.keys_values,
                layout,
            )
            first = torch.cat([first, others]).index_select(0, layout.from_first_and_others)
        self.hidden = first

    def run_layer(self, i: int) -> torch.Tensor:
        """Runs layer `i` for all tokens and gives its output for the first, `(texts, hidden)`."""
        self.hidden = self.encoder.rows(i, self.hidden, self.layout, self.keys_values, self.layout)
        return self.hidden.index_select(0, self.layout.first_tokens)

    def keep(self, kept: torch.Tensor, layer_begun: bool) -> None:
        """Takes out all texts but `kept`, `(num_kept,)`."""
        texts = kept.cpu()
        tokens = token_indices(self.layout.lengths, texts).to(self.hidden.device)
        self.instances = self.instances.index_select(0, kept)
        self.layout = Layout(self.layout.lengths[texts], self.hidden.device)
        self.hidden = self.hidden.index_select(0, tokens)
        self.to_mix = [vector.index_select(0, kept) for vector in self.to_mix]
        self.said = [said.of(kept) for said in self.said]
        if layer_begun:
            keys, values = self.keys_values
            self.keys_values = keys.index_select(0, tokens), values.index_select(0, tokens)


def run_all_exits(
    encoder: LayeredEncoder, exits: ExitClassifiers, texts: TokenBatch
) -> torch.Tensor:
    """
    The logits of every exit for every text, in one pass.

    # Returns

    `torch.Tensor`
        `(num_exits, num_texts, num_labels)`, before temperature.
    """
    said = run_exits(encoder, exits, texts)
    return torch.stack([said[exit_index].logits for exit_index in range(len(said))])


def run_exits(
    encoder: LayeredEncoder,
    exits: ExitClassifiers,
    texts: TokenBatch,
    wanted: Optional[Collection[int]] = None,
    encoder_learns: bool = True,
) -> Dict[int, Said]:
    """
    What exits say of every text, in one pass, for training.

    # Parameters

    wanted : `Collection[int]`, optional (default = all)
        Which exits, counted from 0. With `use_previous_logits`, those before them are run, too.
    encoder_learns : `bool`, optional (default = `True`)
        Whether the transformer, and a pooler, get gradients.

    # Returns

    `Dict[int, Said]`
        By exit.
    """
    num_exits = len(exits.exit_layers)
    wanted = range(num_exits) if wanted is None else wanted
    if len(texts) == 0:
        nothing = torch.zeros(0, exits.num_labels, device=encoder.device, dtype=exits.dtype)
        correctness = nothing.sum(1) if exits.with_correctness else None
        return {exit_index: Said(nothing, correctness) for exit_index in wanted}
    encoder.prepare()
    order, texts = _sorted(encoder.fit(texts))
    with_gradient = encoder_learns and torch.is_grad_enabled()
    with torch.set_grad_enabled(with_gradient):
        batch = _Texts.embedded(encoder, exits, texts, order, [])
    found: Dict[int, Said] = {}

    def say(exit_index: int, to_mix: List[torch.Tensor], first: Optional[torch.Tensor]) -> None:
        if exit_index in wanted or exits.use_previous_logits:
            found[exit_index] = exits.say(exit_index, to_mix, first, list(found.values()))

    if exits.ngrams is not None:
        found[0] = Said(exits.ngrams(texts))
    elif exits.exit_layers[0] == EMBEDDING_EXIT:
        with torch.set_grad_enabled(with_gradient):
            to_mix = batch.embedding_exit_input()
        say(0, to_mix, None)
    last_layer = exits.exit_layers[max(wanted)]
    for i in range(last_layer + 1):
        with torch.set_grad_enabled(with_gradient):
            batch.begin_layer(i)
            first = batch.first_tokens(i) if i == last_layer else batch.run_layer(i)
            batch.note_first_tokens(first)
        if i in exits.exit_layers:
            say(exits.exit_layers.index(i), batch.to_mix, first.to(exits.dtype))
    back = order.argsort().to(encoder.device)
    return {k: said.of(back) for k, said in found.items() if k in wanted}


def run_to_exits(
    encoder: LayeredEncoder,
    exits: ExitClassifiers,
    rule: ExitRule,
    texts: TokenBatch,
    token_budget: Optional[int] = None,
    record_reached: bool = True,
    leave_at: Optional[torch.Tensor] = None,
) -> ExitOutput:
    """
    Early exit for any number of texts: each leaves at the first exit that is good enough by the
    rule, or where it is told to.

    # Parameters

    rule : `ExitRule`
    texts : `TokenBatch`
        On any device; the answers are on it, too.
    token_budget : `int`, optional (default = by device and model, see `default_token_budget`)
        About how many tokens run together, at least one text.
    record_reached : `bool`, optional (default = `True`)
        Whether to give what every exit says of all who reached it.
    leave_at : `torch.Tensor`, optional (default = `None`)
        `(num_texts,)`, at which exit each text leaves, counted from 0, whatever its confidence.
    """
    if token_budget is None:
        token_budget = default_token_budget(encoder)
    device = texts.token_ids.device
    with _no_bookkeeping():
        leaving = _Leaving(exits, rule, record_reached, leave_at)
        texts, staying, said = _leave_by_ngrams(encoder.fit(texts), exits, leaving)
        if len(texts):
            order, texts = _sorted(texts.to(encoder.device))
            said = [one.each(lambda part: part.to(encoder.device)) for one in said]
            said = [one.of(order.to(encoder.device)) for one in said]
            _run_layers(encoder, exits, texts, staying[order], said, leaving, token_budget)
        output = leaving.output(device)
    return output.as_ordinary_tensors() if output.logits.is_inference() else output


def _leave_by_ngrams(
    texts: TokenBatch, exits: ExitClassifiers, leaving: "_Leaving"
) -> Tuple[TokenBatch, torch.Tensor, List[Said]]:
    """
    Lets texts leave whose n-grams are enough, if there is such an exit. Gives those that stay,
    which texts of the input they are, `(num_staying,)`, on the CPU, and what was said of them, if
    anybody will want to know.
    """
    everyone = torch.arange(len(texts))
    if exits.ngrams is None or len(texts) == 0 or leaving.ignores(0):
        return texts, everyone, []
    device = texts.token_ids.device
    said = Said(exits.ngrams(texts))
    stay = leaving.decide(0, everyone.to(device), [said])
    kept = [said] if leaving.looks_back else []
    if stay is None:
        return texts, everyone, kept
    staying = stay.cpu()
    return texts.select(staying), staying, [one.of(stay) for one in kept]


def _run_layers(
    encoder: LayeredEncoder,
    exits: ExitClassifiers,
    texts: TokenBatch,
    instances: torch.Tensor,
    said: List[Said],
    leaving: "_Leaving",
    token_budget: int,
) -> None:
    """
    Runs texts, sorted by length, until all have left. `instances`, `(num_texts,)`, on the CPU, says
    which texts of the input they are, and `said` is what was said of them before.
    """
    encoder.prepare()
    few_tokens = min(_FEW_TOKENS, token_budget // 4)
    waiting: List[List[_Texts]] = [[] for _ in exits.exit_layers]
    start = 0
    for chunk_instances, chunk in _chunks(instances, texts, token_budget):
        these = slice(start, start + len(chunk))
        start += len(chunk)
        said_of_these = [one.of(these) for one in said]
        batch: Optional[_Texts] = _Texts.embedded(
            encoder, exits, chunk, chunk_instances, said_of_these
        )
        next_exit = exits.num_fitted
        while batch is not None:
            batch = _run_to_next_exit(batch, next_exit, leaving, few_tokens)
            next_exit += 1
            if batch is not None:
                waiting[next_exit].append(batch)
                batch = _enough(waiting[next_exit], token_budget // 2)
    for next_exit in range(1, len(waiting)):
        batch = _enough(waiting[next_exit], 0)
        if batch is not None:
            batch = _run_to_next_exit(batch, next_exit, leaving, few_tokens)
            if batch is not None:
                waiting[next_exit + 1].append(batch)


def default_token_budget(encoder: LayeredEncoder) -> int:
    """
    About how many tokens run together: on a CPU so many that the widest of what a layer computes
    stays in the caches, 1024 for BERT-base and 2048 for a MiniLM; on a GPU many.
    """
    if encoder.device.type == "cpu":
        return _CPU_ACTIVATIONS // encoder.feed_forward_size
    return _GPU_TOKENS


@contextmanager
def _no_bookkeeping() -> Iterator[None]:
    """Inference mode, which spares torch some work, if nobody needs gradients."""
    if torch.is_grad_enabled():
        yield
    else:
        with torch.inference_mode():
            yield


def _sorted(texts: TokenBatch) -> Tuple[torch.Tensor, TokenBatch]:
    """The texts by ascending length, and which texts of the input they are, `(num_texts,)`."""
    if len(texts) == 1:
        return torch.zeros(1, dtype=torch.long), texts
    order = texts.lengths.sort(stable=True).indices
    return order, texts.select(order)


def _chunks(
    order: torch.Tensor, texts: TokenBatch, token_budget: int
) -> Iterator[Tuple[torch.Tensor, TokenBatch]]:
    """The texts in chunks of at most the budget, and which texts of the input they are."""
    device = texts.token_ids.device
    sizes: List[List[int]] = []  # texts and tokens of each chunk
    for length in texts.lengths.tolist():
        if not sizes or sizes[-1][1] + length > token_budget:
            sizes.append([0, 0])
        sizes[-1][0] += 1
        sizes[-1][1] += length
    num_texts, num_tokens = [size[0] for size in sizes], [size[1] for size in sizes]
    for instances, token_ids, type_ids, lengths in zip(
        order.split(num_texts),
        texts.token_ids.split(num_tokens),
        texts.type_ids.split(num_tokens),
        texts.lengths.split(num_texts),
    ):
        yield instances.to(device), TokenBatch(token_ids, type_ids, lengths)


def _enough(waiting: List[_Texts], num_tokens: int) -> Optional[_Texts]:
    """All that wait, together, if they have more than this number of tokens, and nobody waits."""
    if sum(part.layout.num_tokens for part in waiting) <= num_tokens:
        return None
    batch = _Texts.together(waiting)
    waiting.clear()
    return batch


def _run_to_next_exit(
    batch: _Texts, exit_index: int, leaving: "_Leaving", few_tokens: int
) -> Optional[_Texts]:
    """
    Runs texts that have passed exit `exit_index` - 1 up to this exit. Gives those that stay, with
    the exit's layer completed, or `None` if all leave.
    """
    exits = batch.exits
    layer = exits.exit_layers[exit_index]
    if layer == EMBEDDING_EXIT:
        if leaving.ignores(exit_index):
            return batch
        said = exits.say(exit_index, batch.embedding_exit_input(), None)
        stay = leaving.decide(exit_index, batch.instances, [said])
        batch.said = [said] if leaving.looks_back else []
        return _those_who_stay(batch, stay, layer_begun=False)
    first_layer = 0 if exit_index == 0 else exits.exit_layers[exit_index - 1] + 1
    for i in range(first_layer, layer):
        batch.begin_layer(i)
        batch.note_first_tokens(batch.run_layer(i))
    batch.begin_layer(layer)
    first_tokens_first = exit_index == leaving.last_exit or (
        not leaving.all_stay_at(exit_index) and batch.layout.num_tokens >= few_tokens
    )
    first = batch.first_tokens(layer) if first_tokens_first else batch.run_layer(layer)
    batch.note_first_tokens(first)
    if leaving.ignores(exit_index):
        return batch
    said = exits.say(exit_index, batch.to_mix, first.to(exits.dtype), batch.said)
    stay = leaving.decide(exit_index, batch.instances, [*batch.said, said])
    if leaving.looks_back:
        batch.said.append(said)
    remaining = _those_who_stay(batch, stay, layer_begun=first_tokens_first)
    if remaining is not None and first_tokens_first:
        remaining.complete_layer(layer, first if stay is None else first.index_select(0, stay))
    return remaining


def _those_who_stay(
    batch: _Texts, stay: Optional[torch.Tensor], layer_begun: bool
) -> Optional[_Texts]:
    if stay is None:
        return batch
    if stay.numel() == 0:
        return None
    batch.keep(stay, layer_begun)
    return batch


class _Leaving:
    """Who left where, and with what answer."""

    def __init__(
        self,
        exits: ExitClassifiers,
        rule: ExitRule,
        record_reached: bool,
        leave_at: Optional[torch.Tensor],
    ) -> None:
        self.rule = rule
        self.looks_back = rule.looks_back or exits.use_previous_logits
        self.num_labels = exits.num_labels
        self.last_exit = len(exits.exit_layers) - 1
        self.record_reached = record_reached
        self.leave_at = leave_at
        self.reached: List[List[Reached]] = [[] for _ in exits.exit_layers]
        self.left: List[Tuple[torch.Tensor, ...]] = []

    def all_stay_at(self, exit_index: int) -> bool:
        """Whether nobody leaves at an exit, whatever it says."""
        may_leave_early = self.leave_at is not None or not self.rule.never_early
        return not may_leave_early and exit_index != self.last_exit

    def ignores(self, exit_index: int) -> bool:
        """Whether nobody wants to know what an exit says."""
        return self.all_stay_at(exit_index) and not (self.record_reached or self.looks_back)

    def decide(
        self, exit_index: int, instances: torch.Tensor, said: Sequence[Said]
    ) -> Optional[torch.Tensor]:
        """
        Lets the confident of those who reached an exit leave.

        # Parameters

        exit_index : `int`
        instances : `torch.Tensor`
            Who reached it, `(num_reached,)`.
        said : `Sequence[Said]`
            What it says of them, last, and before it what earlier exits said, if anybody looks
            back.

        # Returns

        `torch.Tensor`, optional
            Which of those stay, as positions among them, or `None` if all do.
        """
        if self.record_reached:
            self.reached[exit_index].append(Reached(instances, said[-1]))
        if self.all_stay_at(exit_index):
            return None
        answer = self.rule.answer(said, exit_index)
        answers = (instances, *answer, torch.full_like(instances, exit_index))
        if exit_index == self.last_exit:
            self.left.append(answers)
            return instances[:0]
        leaves = self._who_leaves(exit_index, instances, answer)
        leaving = leaves.nonzero().squeeze(1)
        if leaving.numel() == 0:
            return None
        if leaving.numel() == leaves.numel():
            self.left.append(answers)
            return instances[:0]
        self.left.append(tuple(part.index_select(0, leaving) for part in answers))
        return leaves.logical_not().nonzero().squeeze(1)

    def _who_leaves(self, exit_index: int, instances: torch.Tensor, answer: Answer) -> torch.Tensor:
        if self.leave_at is not None:
            return self.leave_at.to(instances.device)[instances] == exit_index
        # A comparison with NaN is false, so NaN never leaves.
        return answer.confidence >= self.rule.threshold

    def output(self, device: torch.device) -> ExitOutput:
        nothing = self.rule.temperatures.new_zeros(0, self.num_labels, device=device)
        nobody = torch.zeros(0, dtype=torch.long, device=device)
        self.left.append((nobody, nothing, nothing, nothing.sum(1), nobody))
        instances, *answers = (_on(device, pieces) for pieces in zip(*self.left))
        order = instances.argsort()
        logits, probs, confidence, exit_index = (answer[order] for answer in answers)
        reached = []
        if self.record_reached:
            for at_exit in self.reached:
                on_device = [
                    Reached(texts.to(device), said.each(lambda part: part.to(device)))
                    for texts, said in at_exit
                ]
                on_device = on_device or [Reached(nobody, Said(nothing))]
                texts, said = zip(*on_device)
                reached.append(Reached(torch.cat(texts), said_together(said)))
        return ExitOutput(logits, probs, confidence, exit_index, reached)


def _on(device: torch.device, pieces: Sequence[torch.Tensor]) -> torch.Tensor:
    return torch.cat([piece.to(device) for piece in pieces])


def cost_of_exits(encoder: LayeredEncoder, exits: ExitClassifiers) -> List[float]:
    """
    What it costs to leave at each exit, in layer-equivalents: units of one full transformer layer
    over the same tokens. Leaving after layer i takes i full layers and the first token's share of
    layer i; leaving before layer 0 takes none.
    """
    return [
        0.0 if layer == EMBEDDING_EXIT else layer + encoder.first_token_share
        for layer in exits.exit_layers
    ]
