"""A pretrained transformer that runs one layer at a time, and each layer in two steps.

A layer's first token can be had before its other tokens, for about a sixth of the layer's work:
it needs the keys and values of all tokens, but queries, attention and feed-forward for itself
alone. An exit looks only at first tokens, so instances that exit never pay for the rest.
"""

from copy import copy
from typing import Any, Callable, Dict, Hashable, Optional, Sequence

import numpy as np
import torch
from torch import nn
from transformers import PreTrainedModel

from sledgehammer_allennlp.encoders.attention import attend
from sledgehammer_allennlp.encoders.families import family_of, max_positions_of
from sledgehammer_allennlp.encoders.few_token_embedding import embed_few_tokens, sum_embeddings
from sledgehammer_allennlp.encoders.inference_layers import InferenceLayers
from sledgehammer_allennlp.encoders.layer_parts import EncoderParts
from sledgehammer_allennlp.encoders.layer_products import (
    PRECISIONS,
    AddResidual,
    KeysValues,
    LayerProducts,
    TrainableProducts,
    with_round_number_of_rows,
)
from sledgehammer_allennlp.encoders.onnx_layers import (
    AUTO,
    ONNXRUNTIME,
    TORCH,
    OnnxLayers,
    runs_faster_in_onnx,
    runs_faster_one_by_one,
)
from sledgehammer_allennlp.encoders.onnx_session import AnySession
from sledgehammer_allennlp.encoders.token_batch import Layout, TokenBatch, positions_in_text
from sledgehammer_allennlp.encoders.truncation import truncate_to_positions

HAS_PRETRAINED_POOLER = "has_pretrained_pooler"
"""A key added to the model's configuration when its checkpoint turns out to have no pooler."""

# Since torch 2.4; the functions of before warn, which takes time.
_IS_AUTOCAST_BY_TYPE = hasattr(torch, "get_autocast_dtype")


class LayeredEncoder(nn.Module):
    """
    A pretrained transformer, one layer at a time, over texts without padding.

    Running `embed` and then `layer(0)`, `layer(1)`, … gives the hidden states that the
    transformers library's own forward gives.

    # Parameters

    transformer : `PreTrainedModel`
        A model of one of the supported families, see `families.FAMILIES`.
    num_layers : `int`, optional (default = all layers of the model)
        Layers from this one on are removed from the model.
    keep_pooler : `bool`, optional (default = `True`)
        Whether the pretrained pooler, if there is one, stays in the model.
    precision : `str`, optional (default = `"float32"`)
        Of inference, one of `layer_products.PRECISIONS`. Used in evaluation mode without
        gradients only: training and the weights are as they are.
    runtime : `str`, optional (default = `"auto"`)
        What runs the layers then, one of `onnx_layers.RUNTIMES`, see `onnx_layers`.

    # Raises

    ValueError
        If the model's architecture is not supported, or there is no such precision or runtime.
    """

    def __init__(
        self,
        transformer: PreTrainedModel,
        num_layers: Optional[int] = None,
        keep_pooler: bool = True,
        precision: str = "float32",
        runtime: str = AUTO,
    ) -> None:
        super().__init__()
        config = transformer.config
        self._family = family_of(config)
        self.transformer = transformer
        self._add_residual = AddResidual()
        # AllenNLP's check of the order in which modules run is to see that what is normed is no
        # output of the linear layer that ran before.
        self._to_exits = nn.Identity()
        _keep_buffers_out_of_state_dicts(transformer)
        self.num_layers: int = config.num_hidden_layers if num_layers is None else num_layers
        self.hidden_size: int = config.hidden_size
        self.num_heads: int = config.num_attention_heads
        self.max_positions: int = max_positions_of(config)
        self._layers = self._family.layers(transformer)[: self.num_layers]
        self._family.drop_layers(transformer, self.num_layers)
        parts = self._layers[0]
        # Now, because weights may be given up.
        self.feed_forward_size: int = parts.feed_forward_size
        """How many numbers the feed-forward part of a layer computes for a token within it."""
        self.work_of_layer: int = parts.work
        """The multiply-adds of a layer's products, for one token."""
        self.first_token_share: float = parts.work_of_keys_values / parts.work
        """
        The share of a layer's work that its first token alone takes: the key and value projections
        of all tokens. 1/6 for the usual feed-forward size of four hidden sizes. Products are
        counted; attention scores, which depend on the length, are not.
        """
        self.has_pooler = (
            keep_pooler
            and self._family.pool is not None
            and getattr(config, HAS_PRETRAINED_POOLER, True)
        )
        if not self.has_pooler and self._family.pool is not None:
            transformer.pooler = None
        last_norm = self._last_norm
        norms = [norm for norm in (self.embedding_norm, last_norm) if norm is not None]
        encoder = EncoderParts(
            self._layers, self.num_heads, self.max_positions, precision, last_norm
        )
        self._inference = InferenceLayers(encoder, norms, runtime)

    @property
    def word_embeddings(self) -> torch.Tensor:
        """The embedding of each word piece, `(num_pieces, embedding_size)`."""
        embeddings: torch.Tensor = self.transformer.get_input_embeddings().weight
        return embeddings.detach()

    @property
    def precision(self) -> str:
        """The precision of inference. Can be set at any time."""
        return self._inference.precision

    @precision.setter
    def precision(self, precision: str) -> None:
        self._inference.precision = precision

    @property
    def runtime(self) -> str:
        """What runs the layers at inference. Can be set at any time."""
        return self._inference.runtime

    @runtime.setter
    def runtime(self, runtime: str) -> None:
        self._inference.runtime = runtime

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self._inference.device

    def freeze(self, first_trained: int) -> None:
        """
        Has the weights before the layer `first_trained` get no gradients, those of the embeddings
        included; with `num_layers`, all weights, a pooler's included; with 0, none.

        # Raises

        ValueError
            If a layer before it shares its weights with one from it on (ALBERT).
        """
        if first_trained == 0:
            return
        trained = {
            parameter
            for parts in self._layers[first_trained:]
            for module in parts.modules()
            for parameter in module.parameters()
        }
        if any(
            parameter in trained
            for parts in self._layers[:first_trained]
            for module in parts.modules()
            for parameter in module.parameters()
        ):
            raise ValueError(
                f"trainable is from layer {first_trained} on, and the layers before it share their "
                "weights with it: wanted true or false"
            )
        if first_trained < self.num_layers and self.has_pooler:
            trained |= set(self.transformer.pooler.parameters())
        for parameter in self.transformer.parameters():
            parameter.requires_grad_(parameter in trained)

    def truncate(self, texts: TokenBatch) -> TokenBatch:
        """
        Truncates those of `texts` that are longer than the model has positions, see
        `truncation.truncate_to_positions`.
        """
        return truncate_to_positions(texts, self.max_positions)

    def embed(self, texts: TokenBatch, for_onnx: bool = False) -> torch.Tensor:
        """
        What enters layer 0 of `texts`, `(num_tokens, hidden_size)`; with `for_onnx`, made without
        torch's threads, see `few_token_embedding`.
        """
        ids, types, positions = texts.token_ids, texts.type_ids, self._positions(texts)
        if for_onnx and self._family.is_embedding_a_norm:
            return embed_few_tokens(self.transformer.embeddings, ids, types, positions)
        hidden = self._family.embed(self.transformer, ids, types, positions)
        if self._is_inference and self._inference.has_products:
            return hidden.to(PRECISIONS[self.precision])
        return hidden

    def embed_before_norm(self, text: TokenBatch) -> np.ndarray:
        """
        What `embedding_norm` takes of `text`, on the CPU, or where there is none what enters layer
        0, `(num_tokens, hidden_size)`.
        """
        if not self._family.is_embedding_a_norm:
            hidden: np.ndarray = self.embed(text, for_onnx=True).numpy()
            return hidden
        positions = None if self._family.number_positions is None else self._positions(text)
        embeddings = self.transformer.embeddings
        return sum_embeddings(embeddings, text.token_ids, text.type_ids, positions)

    @property
    def embedding_norm(self) -> Optional[nn.LayerNorm]:
        """The norm of the sum of embeddings, where it alone stands between them and layer 0."""
        if not self._family.is_embedding_a_norm:
            return None
        norm: nn.LayerNorm = self.transformer.embeddings.LayerNorm
        return norm

    def _positions(self, texts: TokenBatch) -> torch.Tensor:
        """As the family's table numbers them, `(num_tokens,)`."""
        positions = positions_in_text(texts.lengths).to(texts.token_ids.device)
        if self._family.number_positions is None:
            return positions
        return self._family.number_positions(self.transformer, texts.token_ids, positions)

    def layer(self, i: int, hidden: torch.Tensor, layout: Layout) -> torch.Tensor:
        """
        The output of layer `i` for all tokens.

        # Parameters

        i : `int`
        hidden : `torch.Tensor`
            What enters the layer, `(num_tokens, hidden_size)`.
        layout : `Layout`
            Of the texts.

        # Returns

        `torch.Tensor`
            `(num_tokens, hidden_size)`
        """
        return self.rows(i, hidden, layout, self.keys_values(i, hidden), layout)

    def keys_values(self, i: int, hidden: torch.Tensor) -> KeysValues:
        """Layer `i`'s keys and values for all tokens, each of the shape of `hidden`."""
        products = self._products(i)
        if isinstance(products, TrainableProducts):
            return products.keys_values(hidden)
        keys, values = products.keys_values(with_round_number_of_rows(hidden))
        return keys[: hidden.size(0)], values[: hidden.size(0)]

    def rows(
        self,
        i: int,
        rows: torch.Tensor,
        rows_layout: Layout,
        keys_values: KeysValues,
        layout: Layout,
    ) -> torch.Tensor:
        """
        The output of layer `i` for some of the tokens.

        # Parameters

        i : `int`
        rows : `torch.Tensor`
            What enters the layer at these tokens, `(num_rows, hidden_size)`.
        rows_layout : `Layout`
            Which texts these tokens belong to: `layout` itself, or its `of_first_tokens()`.
        keys_values : `KeysValues`
            From `keys_values(i, hidden)`, of all tokens.
        layout : `Layout`
            Of all tokens.

        # Returns

        `torch.Tensor`
            `(num_rows, hidden_size)`
        """
        products = self._products(i)
        dropout = self._layers[i].attention_dropout if self.training else 0.0
        if isinstance(products, TrainableProducts):
            context = attend(
                products.query(rows),
                rows_layout,
                keys_values,
                layout,
                self.num_heads,
                dropout,
                products.scorer,
            )
            return products.after_attention(context, rows)
        num_rows = rows.size(0)
        rows = with_round_number_of_rows(rows)
        query = products.query(rows)[:num_rows]
        context = attend(
            query, rows_layout, keys_values, layout, self.num_heads, dropout, products.scorer
        )
        return products.after_attention(with_round_number_of_rows(context), rows)[:num_rows]

    def seen_by_exits(self, hidden: torch.Tensor) -> torch.Tensor:
        """
        The hidden states `hidden`, `(n, hidden_size)`, as exits see them: in a family of pre-norm
        layers through the norm after the last layer, as its own classifiers see the last ones.
        """
        norm = self._last_norm
        if norm is None:
            return hidden
        hidden = self._to_exits(hidden.to(next(norm.parameters()).dtype))
        normed: torch.Tensor = norm(hidden)
        return normed

    @property
    def _last_norm(self) -> Optional[nn.Module]:
        last_norm = self._family.last_norm
        return None if last_norm is None else last_norm(self.transformer)

    def pool(self, first_token: torch.Tensor) -> torch.Tensor:
        """
        The pretrained pooler's output for each text's `first_token`, from and to
        `(num_texts, hidden_size)`.

        # Raises

        ValueError
            If there is no pooler, see `has_pooler`.
        """
        if not self.has_pooler or self._family.pool is None:
            raise ValueError("this encoder has no pretrained pooler")
        return self._family.pool(self.transformer, first_token)

    @property
    def _is_inference(self) -> bool:
        return not self.training and not torch.is_grad_enabled() and not _is_autocast(self.device)

    def _products(self, i: int) -> LayerProducts:
        if self._is_inference:
            products = self._inference.products(i)
            if products is not None:
                return products
        return TrainableProducts(self._layers[i], self._add_residual)

    def prepare(self) -> None:
        """
        Lays out the weights for inference where they are new or have changed. To be called before
        `embed` and `layer`, which without it use the modules; does nothing in training. Nor does it
        where a hook wants to see the modules at work, or they were cast to another type.

        Several threads may call it and run the encoder at the same time, as long as none changes
        its weights, precision, hooks or mode meanwhile.

        Changes through `parameter.data` in evaluation mode cannot be seen: call `forget_layout`.

        # Raises

        ValueError
            If the device cannot compute in `precision`.
        """
        if self._is_inference:
            self._inference.prepare()
        else:
            self._inference.refuse_without_weights()

    def check_inference(self) -> None:
        """
        # Raises

        ValueError
            If the device cannot compute in this precision, or the layers cannot run in the runtime.
        """
        self._inference.check()

    def onnx_layers(
        self, exit_layers: Sequence[int], lengths: torch.Tensor
    ) -> Optional[OnnxLayers]:
        """
        The layers in ONNX Runtime, if texts are to run there; made when they are first needed. To
        be called after `prepare`.

        # Parameters

        exit_layers : `Sequence[int]`
            After which layers there are exits.
        lengths : `torch.Tensor`
            `(num_texts,)`, the tokens of each text.

        # Raises

        ValueError
            If the runtime is `"onnxruntime"`, and these layers cannot run there.
        """
        if not self.runs_in_onnx(lengths):
            return None

        return self.onnx_session(tuple(exit_layers), lambda parts: OnnxLayers(parts, exit_layers))

    def runs_in_onnx(self, lengths: torch.Tensor) -> bool:
        """Whether texts of `lengths` tokens, `(num_texts,)`, are to run in ONNX Runtime."""
        if self.runtime == TORCH or not self._inference.are_ready or not self._is_inference:
            return False
        return self.runtime == ONNXRUNTIME or runs_faster_in_onnx(lengths, self.precision)

    def runs_one_by_one(self, lengths: torch.Tensor) -> bool:
        """
        Whether texts of `lengths` tokens, `(num_texts,)`, are to run one after the other in ONNX
        Runtime. `prepare` need not have been called.
        """
        return (
            runs_faster_one_by_one(lengths, self.precision, self.work_of_layer)
            and self.runtime != TORCH
            and self._is_inference
            and self._inference.can_make_sessions
        )

    def onnx_session(
        self,
        key: Hashable,
        make: Callable[[EncoderParts], AnySession],
        is_current: Callable[[AnySession], bool] = lambda made: True,
    ) -> Optional[AnySession]:
        """
        A session of the layers, made when it is first needed and again when weights have changed;
        `None` if there can be none. To be called after `prepare`.

        # Parameters

        key : `Hashable`
            Its name among the sessions that this encoder keeps.
        make : `Callable[[EncoderParts], OnnxSession]`
        is_current : `Callable[[OnnxSession], bool]`, optional
            Whether one that was made can still be used, for what it has beside the layers.

        # Raises

        ValueError
            If the runtime is `"onnxruntime"`, and these layers cannot run there.
        """
        return self._inference.session(key, make, is_current)

    @torch.no_grad()
    def give_up_weights(self, exit_layers: Sequence[int] = ()) -> None:
        """
        Frees the weights of the layers' products, which inference has laid out in its own way. From
        now on the encoder is for inference only, in the precision and on the device that it has.

        ONNX Runtime would need a second copy: the layers run in torch, unless the runtime is
        `"onnxruntime"` and `exit_layers` are given, after which there are exits.

        # Raises

        RuntimeError
            If the encoder is in training mode.
        """
        if self.training:
            raise RuntimeError("give_up_weights wanted an encoder in evaluation mode")
        self.prepare()
        if self.runtime == ONNXRUNTIME and exit_layers:
            self.onnx_layers(exit_layers, torch.tensor([1]))
        self._inference.give_up_weights()

    def forget_layout(self) -> None:
        """Has the weights laid out anew, after they changed in a way that `prepare` cannot see."""
        self._inference.forget()

    def train(self, mode: bool = True) -> "LayeredEncoder":
        if mode:
            # Trainers may change weights behind the stamp's back.
            self.forget_layout()
        return super().train(mode)

    def state_dict(  # type: ignore[override]
        self, *args: Any, **kwargs: Any
    ) -> Dict[str, Any]:
        self._inference.refuse_without_weights()
        return super().state_dict(*args, **kwargs)

    def __getstate__(self) -> Dict[str, Any]:
        return {**self.__dict__, "_inference": copy(self._inference)}

    def _apply(self, *args: Any, **kwargs: Any) -> "LayeredEncoder":
        self._inference.refuse_without_weights()
        return super()._apply(*args, **kwargs)


def _keep_buffers_out_of_state_dicts(transformer: PreTrainedModel) -> None:
    """
    Buffers of position numbers. Older versions of the transformers library would write them to
    weights files, where newer ones reject them as unexpected keys.
    """
    for module in transformer.modules():
        for name, buffer in list(module.named_buffers(recurse=False)):
            module.register_buffer(name, buffer, persistent=False)


def _is_autocast(device: torch.device) -> bool:
    if _IS_AUTOCAST_BY_TYPE:
        return torch.is_autocast_enabled(device.type)
    if device.type == "cpu":
        return torch.is_autocast_cpu_enabled()
    return torch.is_autocast_enabled()
