"""Instances that are still active: their hidden states, and the layers that they run through."""

from typing import List, Optional, Tuple

import torch

from sledgehammer_allennlp.encoders import LayeredEncoder
from sledgehammer_allennlp.encoders.layer_products import KeysValues
from sledgehammer_allennlp.encoders.onnx_layers import AUTO, OnnxLayers, PaddedTexts
from sledgehammer_allennlp.encoders.token_batch import Layout, TokenBatch, token_indices
from sledgehammer_allennlp.exits.alignment import PairLayout
from sledgehammer_allennlp.exits.classifiers import (
    ExitClassifiers,
    ExitScores,
    concatenate_scores,
)
from sledgehammer_allennlp.exits.entering_states import EnteringStates


class ActiveInstances:
    """
    A batch of instances on their way through the layers, without padding.

    A layer is run by `start_layer` and then either `run_whole_layer`, or `run_first_tokens` and,
    for instances that are still active after the exit, `compact` and `run_all_tokens`. Each of
    them also keeps in `layer_vectors` what the exits mix of this layer.

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
        What the exits mix, one vector a layer so far, each `(num_active, hidden_size)`: with
        pooling `"mean"` the mean over tokens of what enters a layer, with `"first"` the pooled
        first token of what a layer gives.
    earlier_scores : `List[Optional[ExitScores]]`
        Of each exit so far, `None` for one that no later exit depends on.
    sides : `torch.Tensor`, optional
        `(num_tokens,)`, in which text of its pair each token is; on the CPU. Needed by exits with
        an alignment.
    """

    def __init__(
        self,
        encoder: LayeredEncoder,
        exits: ExitClassifiers,
        indices: torch.Tensor,
        lengths: torch.Tensor,
        hidden: torch.Tensor,
        layer_vectors: List[torch.Tensor],
        earlier_scores: List[Optional[ExitScores]],
        sides: Optional[torch.Tensor],
    ) -> None:
        self.encoder = encoder
        self.exits = exits
        self.indices = indices
        self.layout = Layout(lengths, hidden.device)
        self.hidden = hidden
        self._keys_values: Optional[KeysValues] = None  # of the layer that is started
        self.layer_vectors = layer_vectors
        self.earlier_scores = earlier_scores
        self._sides = sides
        self._pair_layout: Optional[PairLayout] = None
        self._padded: Optional[PaddedTexts] = None
        self._onnx_layers: Optional[Tuple[Optional[OnnxLayers]]] = None  # once it is known

    @classmethod
    def embed(
        cls,
        encoder: LayeredEncoder,
        exits: ExitClassifiers,
        texts: TokenBatch,
        indices: torch.Tensor,
        earlier_scores: List[Optional[ExitScores]],
    ) -> "ActiveInstances":
        """Texts that are about to enter layer 0."""
        onnx_layers = _onnx_layers(encoder, exits, texts.lengths)
        hidden = encoder.embed(texts, for_onnx=onnx_layers is not None)
        sides = None if exits.pair_texts is None else exits.pair_texts(texts)
        return cls(encoder, exits, indices, texts.lengths, hidden, [], earlier_scores, sides)

    @classmethod
    def concatenate(cls, batches: List["ActiveInstances"]) -> "ActiveInstances":
        """Batches that have come to the same exit, as one."""
        if len(batches) == 1:
            return batches[0]
        vectors_by_layer = zip(*(batch.layer_vectors for batch in batches))
        scores_by_exit = zip(*(batch.earlier_scores for batch in batches))
        sides = [batch._sides for batch in batches if batch._sides is not None]
        return cls(
            batches[0].encoder,
            batches[0].exits,
            torch.cat([batch.indices for batch in batches]),
            torch.cat([batch.layout.lengths for batch in batches]),
            torch.cat([batch.hidden for batch in batches]),
            [torch.cat(vectors) for vectors in vectors_by_layer],
            [
                # At an exit either all batches have scores or none.
                concatenate_scores([one for one in scores if one is not None])
                if scores[0] is not None
                else None
                for scores in scores_by_exit
            ],
            torch.cat(sides) if sides else None,
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

    def entering_states(self, exit_index: int) -> Optional[EnteringStates]:
        """What enters the next layer, for the exit after it; `None` if that sees no tokens."""
        if not self.exits.sees_tokens_at(exit_index):
            return None
        return self._entering_states(self.hidden)

    def _entering_states(self, hidden: torch.Tensor) -> EnteringStates:
        if self._sides is not None and self._pair_layout is None:
            self._pair_layout = PairLayout(self._sides, self.layout.lengths, self.hidden.device)
        return EnteringStates(self.encoder.seen_by_exits(hidden), self.layout, self._pair_layout)

    def onnx_layers(self) -> Optional[OnnxLayers]:
        """The layers in ONNX Runtime, if these instances are to run there."""
        if self._onnx_layers is None:
            self._onnx_layers = (_onnx_layers(self.encoder, self.exits, self.layout.lengths),)
        return self._onnx_layers[0]

    def run_block(
        self, layers: OnnxLayers, layer: int, with_entering: bool
    ) -> Tuple[torch.Tensor, Optional[EnteringStates]]:
        """
        Runs the layers up to the next exit, after layer `layer`, in ONNX Runtime. Where that is
        the last exit, only first tokens are computed of its layer.

        # Returns

        The first tokens' output, `(num_active, hidden_size)`; and what enters the exit's layer,
        as `entering_states`, `None` if it is not asked for with `with_entering`.
        """
        if self._padded is None:
            self._padded = PaddedTexts(self.layout.lengths)
        pooling = self.exits.pooling
        block = layers.run_to(layer, self.hidden, self._padded, pooling, with_entering)
        entering = None if block.entering is None else self._entering_states(block.entering)
        if pooling == "mean":
            # The exit before layer 0 has had the mean of what enters it.
            known = len(self.layer_vectors) - (layer + 1 - len(block.layer_vectors))
            self.layer_vectors.extend(block.layer_vectors[known:])
        else:
            for vector in block.layer_vectors:
                self._append_pooled(vector)
        self.hidden = block.hidden
        if layer == self.exits.exit_layers[-1]:
            return block.hidden, entering
        if self.layout.num_texts == 1:
            return block.hidden[:1], entering
        return block.hidden.index_select(0, self.layout.first_tokens), entering

    def start_layer(self, i: int) -> None:
        """Computes the keys and values of layer `i`, for all tokens."""
        if self.exits.pooling == "mean" and len(self.layer_vectors) == i:
            self.layer_vectors.append(self._token_means())
        self._keys_values = self.encoder.keys_values(i, self.hidden)

    def run_whole_layer(self, i: int) -> torch.Tensor:
        """Runs layer `i` for all tokens; gives the first ones' output, `(num_active, hidden)`."""
        self.run_all_tokens(i)
        first = self.hidden.index_select(0, self.layout.first_tokens)
        self._append_pooled(first)
        return first

    def run_first_tokens(self, i: int) -> torch.Tensor:
        """Layer `i`'s output for the first tokens alone, `(num_active, hidden_size)`."""
        rows = self.hidden.index_select(0, self.layout.first_tokens)
        first = self._run_rows(i, rows, self.layout.of_first_tokens())
        self._append_pooled(first)
        return first

    def run_all_tokens(self, i: int) -> None:
        """
        Completes layer `i`. First tokens that have run do so again: leaving them out would take
        two copies of all others, which cost more than that in all but the shortest texts.
        """
        self.hidden = self._run_rows(i, self.hidden, self.layout)
        self._keys_values = None

    def compact(self, active: torch.Tensor) -> None:
        """
        Takes out all instances but those that stay active.

        # Parameters

        active : `torch.Tensor`
            `(num_still_active,)`, their positions among these.
        """
        positions = active.cpu()
        kept = token_indices(self.layout.lengths, positions)
        tokens = kept.to(self.hidden.device)
        self.indices = self.indices.index_select(0, active)
        self.layout = Layout(self.layout.lengths[positions], self.hidden.device)
        self._padded = self._onnx_layers = None
        self.hidden = self.hidden.index_select(0, tokens)
        self.layer_vectors = [vectors.index_select(0, active) for vectors in self.layer_vectors]
        self.earlier_scores = [one and one.select(active) for one in self.earlier_scores]
        if self._sides is not None:
            self._sides = self._sides[kept]
            self._pair_layout = None
        if self._keys_values is not None:
            keys, values = self._keys_values
            self._keys_values = keys.index_select(0, tokens), values.index_select(0, tokens)

    def _run_rows(self, i: int, rows: torch.Tensor, rows_layout: Layout) -> torch.Tensor:
        """Layer `i`'s output for some of the tokens, of the shape of `rows`."""
        assert self._keys_values is not None
        return self.encoder.rows(i, rows, rows_layout, self._keys_values, self.layout)

    def _append_pooled(self, first: torch.Tensor) -> None:
        """Keeps a layer's first tokens, pooled, where exits see them so."""
        if self.exits.pooling == "first":
            pool = self.encoder.pool if self.exits.pooler is None else self.exits.pooler
            seen = self.encoder.seen_by_exits(first)
            self.layer_vectors.append(pool(seen.to(self.exits.dtype)))

    def _token_means(self) -> torch.Tensor:
        """The means over tokens of what enters the next layer, `(num_active, hidden_size)`."""
        hidden = self.encoder.seen_by_exits(self.hidden)
        return self.layout.means(hidden).to(self.exits.dtype)


def _onnx_layers(
    encoder: LayeredEncoder, exits: ExitClassifiers, lengths: torch.Tensor
) -> Optional[OnnxLayers]:
    """The layers in ONNX Runtime, if texts of these numbers of tokens are to run there."""
    sees_tokens = exits.alignment is not None or exits.token_features is not None
    if sees_tokens and encoder.runtime == AUTO:
        return None  # What exits compute of tokens takes torch's threads.
    return encoder.onnx_layers(exits.exit_layers, lengths)
