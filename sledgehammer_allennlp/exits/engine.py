"""Running a transformer with exits: all of them for training, or only as far as needed.

Exit by exit, instances that are confident enough leave the batch and the rest go on, in smaller
and shorter tensors. An answer never depends on what else is in the batch.
"""

from dataclasses import dataclass
from typing import List, Optional, Tuple

import torch

from sledgehammer_allennlp.encoders import LayeredEncoder
from sledgehammer_allennlp.exits.classifiers import EMBEDDING_EXIT, ExitClassifiers
from sledgehammer_allennlp.exits.confidence import ConfidenceMeasure


@dataclass
class ExitOutput:
    """
    What `run_to_exits` found, in the order of its input.

    # Parameters

    logits : `torch.Tensor`
        `(batch_size, num_labels)`, of the exit each instance left at, before temperature.
    probs : `torch.Tensor`
        `(batch_size, num_labels)`, softmax(logits / temperature) of that exit.
    confidence : `torch.Tensor`
        `(batch_size,)`, of that exit.
    exit_index : `torch.Tensor`
        `(batch_size,)`, which exit, counted from 0.
    reached : `List[Tuple[torch.Tensor, torch.Tensor]]`
        For each exit, which instances reached it, `(num_reached,)`, and its logits for them,
        `(num_reached, num_labels)`.
    """

    logits: torch.Tensor
    probs: torch.Tensor
    confidence: torch.Tensor
    exit_index: torch.Tensor
    reached: List[Tuple[torch.Tensor, torch.Tensor]]


class _Batch:
    """The instances still in the computation, and everything known of them."""

    def __init__(
        self,
        encoder: LayeredEncoder,
        exits: ExitClassifiers,
        token_ids: torch.Tensor,
        mask: torch.Tensor,
        type_ids: torch.Tensor,
    ) -> None:
        self.encoder = encoder
        self.exits = exits
        self.to_mix: List[torch.Tensor] = []
        """What the exits mix, layer by layer, each `(batch_size, hidden_size)`."""
        token_ids, mask, type_ids = encoder.fit(token_ids, mask, type_ids)
        self.hidden = encoder.embed(token_ids, type_ids)  # (batch, tokens, hidden)
        self.mask = mask  # (batch, tokens)
        self._note_padding()

    def embedding_exit_input(self) -> List[torch.Tensor]:
        """What the exit before layer 0 sees: one vector, `(batch, hidden)`."""
        mean = self._token_mean()
        if self.exits.pooling == "mean":
            self.to_mix.append(mean)
        return [mean]

    def _token_mean(self) -> torch.Tensor:
        """The mean over tokens of what is about to enter the next layer, `(batch, hidden)`."""
        weights = self.mask.to(self.hidden.dtype)
        weights = weights / weights.sum(1, keepdim=True).clamp(min=1)
        return torch.bmm(weights.unsqueeze(1), self.hidden).squeeze(1)

    def begin_layer(self, i: int) -> None:
        if self.exits.pooling == "mean" and len(self.to_mix) == i:
            self.to_mix.append(self._token_mean())
        self.keys_values = self.encoder.keys_values(i, self.hidden)

    def first_token(self, i: int) -> torch.Tensor:
        """Layer `i`'s output for the first token, `(batch, 1, hidden)`."""
        return self.encoder.rows(i, self.hidden[:, :1], self.keys_values, self.attention_mask)

    def note_first_token(self, first_token: torch.Tensor) -> None:
        """Pools the first token of a layer, `(batch, 1, hidden)`, where exits see it pooled."""
        if self.exits.pooling == "first":
            pool = self.encoder.pool if self.exits.pooler is None else self.exits.pooler
            self.to_mix.append(pool(first_token[:, 0]))

    def other_tokens(self, i: int, first_token: torch.Tensor) -> None:
        """Completes layer `i`, of which the first token is known."""
        if self.hidden.size(1) > 1:
            others = self.encoder.rows(i, self.hidden[:, 1:], self.keys_values, self.attention_mask)
            first_token = torch.cat([first_token, others], dim=1)
        self.hidden = first_token

    def all_tokens(self, i: int) -> None:
        """Runs layer `i`, begun already, for all tokens."""
        self.hidden = self.encoder.rows(i, self.hidden, self.keys_values, self.attention_mask)

    def keep(self, kept: torch.Tensor, layer_begun: bool) -> None:
        """Takes out all instances but `kept`, `(num_kept,)`, and columns that are now padding."""
        mask = self.mask[kept]
        num_tokens = int(mask.any(0).nonzero().max()) + 1
        self.mask = mask[:, :num_tokens]
        self.hidden = self.hidden[kept, :num_tokens]
        self.to_mix = [vector[kept] for vector in self.to_mix]
        if layer_begun:
            keys, values = self.keys_values
            self.keys_values = keys[kept, :num_tokens], values[kept, :num_tokens]
        self._note_padding()

    def _note_padding(self) -> None:
        self.attention_mask = None if bool(self.mask.all()) else self.mask


def run_all_exits(
    encoder: LayeredEncoder,
    exits: ExitClassifiers,
    token_ids: torch.Tensor,
    mask: torch.Tensor,
    type_ids: torch.Tensor,
) -> torch.Tensor:
    """
    The logits of every exit for every instance, in one pass.

    # Parameters

    token_ids, mask, type_ids : `torch.Tensor`
        Each `(batch_size, num_tokens)`, padded on the right; `mask` is boolean.

    # Returns

    `torch.Tensor`
        `(num_exits, batch_size, num_labels)`, before temperature.
    """
    batch = _Batch(encoder, exits, token_ids, mask, type_ids)
    logits = []
    if exits.exit_layers[0] == EMBEDDING_EXIT:
        logits.append(exits.logits(0, batch.embedding_exit_input(), None))
    for i in range(exits.exit_layers[-1] + 1):
        batch.begin_layer(i)
        if i == exits.exit_layers[-1]:
            first_token = batch.first_token(i)
        else:
            batch.all_tokens(i)
            first_token = batch.hidden[:, :1]
        batch.note_first_token(first_token)
        if i in exits.exit_layers:
            logits.append(exits.logits(len(logits), batch.to_mix, first_token[:, 0]))
    return torch.stack(logits)


def run_to_exits(
    encoder: LayeredEncoder,
    exits: ExitClassifiers,
    temperatures: torch.Tensor,
    measure: ConfidenceMeasure,
    threshold: float,
    token_ids: torch.Tensor,
    mask: torch.Tensor,
    type_ids: torch.Tensor,
) -> ExitOutput:
    """
    Early exit for a batch of any size: each instance leaves at the first exit whose confidence
    is at least `threshold`, and at the last exit if there is none.

    A threshold of 1 means the last exit for every instance; a threshold of 0 the first, save for
    instances with logits that are not numbers, which never count as confident.

    # Parameters

    temperatures : `torch.Tensor`
        `(num_exits,)`
    measure : `ConfidenceMeasure`
    threshold : `float`
        In [0, 1].
    token_ids, mask, type_ids : `torch.Tensor`
        Each `(batch_size, num_tokens)`, padded on the right; `mask` is boolean.
    """
    batch = _Batch(encoder, exits, token_ids, mask, type_ids)
    leaving = _Leaving(exits, temperatures, measure, threshold, token_ids.size(0), mask.device)
    if exits.exit_layers[0] == EMBEDDING_EXIT:
        stay = leaving.decide(exits.logits(0, batch.embedding_exit_input(), None))
        if stay is not None:
            if stay.numel() == 0:
                return leaving.output()
            batch.keep(stay, layer_begun=False)
    for i in range(exits.exit_layers[-1] + 1):
        batch.begin_layer(i)
        if i not in exits.exit_layers:
            batch.all_tokens(i)
            batch.note_first_token(batch.hidden[:, :1])
            continue
        first_token = batch.first_token(i)
        batch.note_first_token(first_token)
        stay = leaving.decide(exits.logits(leaving.next_exit, batch.to_mix, first_token[:, 0]))
        if stay is not None:
            if stay.numel() == 0:
                break
            batch.keep(stay, layer_begun=True)
            first_token = first_token[stay]
        batch.other_tokens(i, first_token)
    return leaving.output()


class _Leaving:
    """Who left where, and with what answer."""

    def __init__(
        self,
        exits: ExitClassifiers,
        temperatures: torch.Tensor,
        measure: ConfidenceMeasure,
        threshold: float,
        batch_size: int,
        device: torch.device,
    ) -> None:
        self.temperatures = temperatures
        self.measure = measure
        self.threshold = threshold
        self.num_exits = len(exits.exit_layers)
        self.next_exit = 0
        self.remaining = torch.arange(batch_size, device=device)
        self.reached: List[Tuple[torch.Tensor, torch.Tensor]] = []
        self.left: List[Tuple[torch.Tensor, ...]] = []

    def decide(self, logits: torch.Tensor) -> Optional[torch.Tensor]:
        """
        Lets the confident of the remaining instances leave at the next exit.

        Returns which of the remaining instances stay, as positions among them, or `None` if all
        do.
        """
        exit_index, self.next_exit = self.next_exit, self.next_exit + 1
        self.reached.append((self.remaining, logits))
        is_last = self.next_exit == self.num_exits
        if self.threshold >= 1 and not is_last:
            return None
        probs = (logits / self.temperatures[exit_index]).softmax(-1)
        confidence = self.measure(probs).clamp(0, 1)
        if is_last:
            leaves = torch.ones_like(self.remaining, dtype=torch.bool)
        else:
            # A comparison with NaN is false, so NaN never leaves.
            leaves = confidence >= self.threshold
        leaving = leaves.nonzero().squeeze(1)
        if leaving.numel() == 0 and not is_last:
            return None
        self.left.append(
            (
                self.remaining[leaving],
                logits[leaving],
                probs[leaving],
                confidence[leaving],
                torch.full_like(leaving, exit_index),
            )
        )
        stay = (~leaves).nonzero().squeeze(1)
        self.remaining = self.remaining[stay]
        return stay

    def output(self) -> ExitOutput:
        instances, *answers = (torch.cat(pieces) for pieces in zip(*self.left))
        order = instances.argsort()
        logits, probs, confidence, exit_index = (answer[order] for answer in answers)
        return ExitOutput(logits, probs, confidence, exit_index, self.reached)


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
