"""Instances that are still active: their hidden states, and the layers that they run through."""

from typing import List

import torch
import torch.nn.functional as F

from sledgehammer_allennlp.encoders import LayeredEncoder
from sledgehammer_allennlp.encoders.token_batch import Layout, TokenBatch, token_indices
from sledgehammer_allennlp.exits.classifiers import (
    ExitClassifiers,
    ExitScores,
    concatenate_scores,
)


class ActiveInstances:
    """
    A batch of instances on their way through the layers, without padding.

    # Parameters

    encoder : `LayeredEncoder`
    exits : `ExitClassifiers`
    indices : `torch.Tensor`
        `(num_active,)`, which instances of the input these are.
    lengths : `torch.Tensor`
        `(num_active,)`, their numbers of tokens; on the CPU.
    hidden : `torch.Tensor`
        `(num_tokens, hidden_size)`, the hidden states that enter the next layer.
    layer_vectors : `List[torch.Tensor]`
        What the exits mix, one vector a layer so far, each `(num_active, hidden_size)`.
    earlier_scores : `List[ExitScores]`
        Of the exits so far, where a later one depends on them.
    """

    def __init__(
        self,
        encoder: LayeredEncoder,
        exits: ExitClassifiers,
        indices: torch.Tensor,
        lengths: torch.Tensor,
        hidden: torch.Tensor,
        layer_vectors: List[torch.Tensor],
        earlier_scores: List[ExitScores],
    ) -> None:
        self.encoder = encoder
        self.exits = exits
        self.indices = indices
        self.layout = Layout(lengths, hidden.device)
        self.hidden = hidden
        self.layer_vectors = layer_vectors
        self.earlier_scores = earlier_scores

    @classmethod
    def embed(
        cls,
        encoder: LayeredEncoder,
        exits: ExitClassifiers,
        texts: TokenBatch,
        indices: torch.Tensor,
        earlier_scores: List[ExitScores],
    ) -> "ActiveInstances":
        """Texts that are about to enter layer 0."""
        hidden = encoder.embed(texts)
        return cls(encoder, exits, indices, texts.lengths, hidden, [], earlier_scores)

    @classmethod
    def concatenate(cls, batches: List["ActiveInstances"]) -> "ActiveInstances":
        """Batches that have come to the same exit, as one."""
        if len(batches) == 1:
            return batches[0]
        vectors_by_layer = zip(*(batch.layer_vectors for batch in batches))
        scores_by_exit = zip(*(batch.earlier_scores for batch in batches))
        return cls(
            batches[0].encoder,
            batches[0].exits,
            torch.cat([batch.indices for batch in batches]),
            torch.cat([batch.layout.lengths for batch in batches]),
            torch.cat([batch.hidden for batch in batches]),
            [torch.cat(vectors) for vectors in vectors_by_layer],
            [concatenate_scores(scores) for scores in scores_by_exit],
        )

    @property
    def num_tokens(self) -> int:
        """Of all instances together."""
        return self.layout.num_tokens

    def embedding_exit_input(self) -> List[torch.Tensor]:
        """What the exit before layer 0 sees: one vector, `(num_active, hidden_size)`."""
        mean = self._token_means()
        if self.exits.pooling == "mean":
            self.layer_vectors.append(mean)
        return [mean]

    def start_layer(self, i: int) -> None:
        """Computes the keys and values of layer `i`, for all tokens."""
        if self.exits.pooling == "mean" and len(self.layer_vectors) == i:
            self.layer_vectors.append(self._token_means())
        self.keys_values = self.encoder.keys_values(i, self.hidden)

    def run_whole_layer(self, i: int) -> torch.Tensor:
        """Runs layer `i` for all tokens; gives the first ones' output, `(num_active, hidden)`."""
        self.hidden = self.encoder.rows(i, self.hidden, self.layout, self.keys_values, self.layout)
        return self._pooled(self.hidden.index_select(0, self.layout.first_tokens))

    def run_first_tokens(self, i: int) -> torch.Tensor:
        """Layer `i`'s output for the first tokens alone, `(num_active, hidden_size)`."""
        layout = self.layout
        first = self.hidden.index_select(0, layout.first_tokens)
        return self._pooled(
            self.encoder.rows(i, first, layout.of_first_tokens(), self.keys_values, layout)
        )

    def run_other_tokens(self, i: int, first: torch.Tensor) -> None:
        """Completes layer `i`, whose output for the first tokens is `first`."""
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

    def compact(self, active: torch.Tensor, layer_is_started: bool) -> None:
        """
        Takes out all instances but those that stay active.

        # Parameters

        active : `torch.Tensor`
            `(num_still_active,)`, their places among these.
        layer_is_started : `bool`
            Whether keys and values of a layer are still needed.
        """
        texts = active.cpu()
        tokens = token_indices(self.layout.lengths, texts).to(self.hidden.device)
        self.indices = self.indices.index_select(0, active)
        self.layout = Layout(self.layout.lengths[texts], self.hidden.device)
        self.hidden = self.hidden.index_select(0, tokens)
        self.layer_vectors = [vectors.index_select(0, active) for vectors in self.layer_vectors]
        self.earlier_scores = [scores.select(active) for scores in self.earlier_scores]
        if layer_is_started:
            keys, values = self.keys_values
            self.keys_values = keys.index_select(0, tokens), values.index_select(0, tokens)

    def _pooled(self, first: torch.Tensor) -> torch.Tensor:
        """Pools a layer's first tokens, where exits see them pooled; gives `first` as it is."""
        if self.exits.pooling == "first":
            pool = self.encoder.pool if self.exits.pooler is None else self.exits.pooler
            self.layer_vectors.append(pool(first.to(self.exits.dtype)))
        return first

    def _token_means(self) -> torch.Tensor:
        """The means over tokens of what enters the next layer, `(num_active, hidden_size)`."""
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
