"""The session that runs a single text to the exits that it reaches, see `one_text_graph`."""

from typing import Dict, List, NamedTuple, Optional, Sequence

import numpy as np
from torch import nn

from sledgehammer_allennlp.encoders import LayeredEncoder
from sledgehammer_allennlp.encoders.layer_parts import EncoderParts
from sledgehammer_allennlp.encoders.onnx_session import OnnxSession
from sledgehammer_allennlp.encoders.token_batch import TokenBatch
from sledgehammer_allennlp.exits.classifiers import ExitClassifiers
from sledgehammer_allennlp.exits.pair_texts import FIRST, SECOND, PairTexts

EMBEDDED, FITTED, BOUND, LOGITS = "embedded", "fitted", "bound", "logits"
"""
What `LayeredEncoder.embed_before_norm` gives, `(1, tokens, hidden_size)`; the logits of exits that
are fitted, `(exits, labels)`; below which confidence the text goes on, `(1,)`; and the output, the
logits of all exits that it reached, `(exits, labels)`, zeros of those that are not asked.
"""
WORDS = ("first", "second")
"""The positions of the words of each text of a pair, `(words,)`."""

_NO_BOUND = np.array([2.0], np.float32)
_IS_ASKED, _IS_NOT_ASKED = np.array(True), np.array(False)
_ROUNDING = 1e-5
"""By which the graph's confidence may be off."""


def asked(k: int) -> str:
    """The name of the input that says whether exit `k`, before the last, is asked, `()`."""
    return f"asked_{k}"


def weights_at(k: int) -> str:
    """
    The name of the input with which exit `k`, before the last, combines the logits so far,
    `(1, k + 1)`.
    """
    return f"weights_{k}"


class WordsOfPair(NamedTuple):
    """The positions of the words of each text of a pair, `(num_words,)`; none is empty."""

    first: np.ndarray
    second: np.ndarray

    @classmethod
    def of(cls, pair_texts: PairTexts, pair: TokenBatch) -> "Optional[WordsOfPair]":
        """Of a single pair; `None` where a text has no words."""
        sides = pair_texts(pair).numpy()
        first, second = np.flatnonzero(sides == FIRST), np.flatnonzero(sides == SECOND)
        return cls(first, second) if len(first) and len(second) else None


class OneTextSession(OnnxSession):
    """
    A session with its own copy of the weights of layers and exits.

    # Parameters

    encoder : `EncoderParts`
    embedding_norm : `nn.LayerNorm`, optional
        What stands between what is fed and layer 0.
    exits : `ExitClassifiers`
        With pooling `"mean"`, in float32.
    """

    def __init__(
        self,
        encoder: EncoderParts,
        embedding_norm: Optional[nn.LayerNorm],
        exits: ExitClassifiers,
    ) -> None:
        from sledgehammer_allennlp.engine.one_text_graph import OneTextGraph

        graph = OneTextGraph(encoder, embedding_norm, exits)
        self._exits, self._stamp = exits, exits.stamp()
        super().__init__(graph.build())

    @classmethod
    def of(cls, encoder: LayeredEncoder, exits: ExitClassifiers) -> "Optional[OneTextSession]":
        """
        That of an encoder that is prepared and exits; `None` if the layers cannot run there.

        # Raises

        ValueError
            If they cannot, and the runtime is `"onnxruntime"`.
        """
        return encoder.onnx_session(
            "one text",
            lambda parts: cls(parts, encoder.embedding_norm, exits),
            lambda made: made._exits is exits and made._stamp == exits.stamp(),
        )

    def logits(
        self,
        embedded: np.ndarray,
        fitted: Sequence[Optional[List[float]]],
        words: Optional[WordsOfPair],
        weights: Sequence[Sequence[float]],
        are_asked: Sequence[bool],
        threshold: Optional[float],
    ) -> List[List[float]]:
        """
        The logits of the exits that a text reached, of each a list; of one that is not asked, 0.
        It may have gone too far by an exit whose confidence is only just at the threshold.

        # Parameters

        embedded : `np.ndarray`
            `(tokens, hidden_size)`, see `LayeredEncoder.embed_before_norm`.
        fitted : `Sequence[Optional[List[float]]]`
            The logits of fitted exits, `None` where no other depends on them.
        words : `WordsOfPair`, optional
            Needed by an alignment.
        weights : `Sequence[Sequence[float]]`
            Of each exit, with which weights it combines its logits and those before.
        are_asked : `Sequence[bool]`
            Of each exit; the last is asked in any case.
        threshold : `float`, optional
            At which it stops; `None` for the last exit.
        """
        num_fitted, last = len(fitted), len(weights) - 1
        bound = _NO_BOUND if threshold is None else np.array([threshold - _ROUNDING], np.float32)
        feeds: Dict[str, np.ndarray] = {EMBEDDED: embedded[None], BOUND: bound}
        if num_fitted:
            nothing = [0.0] * self._exits.num_labels
            feeds[FITTED] = np.array([one or nothing for one in fitted], np.float32)
        if words is not None:
            feeds.update(words._asdict())
        for k in range(num_fitted, last):
            feeds[asked(k)] = _IS_ASKED if are_asked[k] else _IS_NOT_ASKED
            feeds[weights_at(k)] = np.array([weights[k][: k + 1]], np.float32)
        logits: List[List[float]] = self.run([LOGITS], feeds)[0].tolist()
        return logits
