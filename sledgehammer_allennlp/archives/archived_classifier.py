"""A trained model in use without AllenNLP: in a service, say, or with newer libraries."""

from typing import Any, Dict, Iterable, List, Mapping, Optional, Sequence, Tuple, Union

import torch
from torch import nn
from transformers import PreTrainedTokenizerBase

from sledgehammer_allennlp.encoders import LayeredEncoder, TokenBatch
from sledgehammer_allennlp.encoders.cut_texts import CutTexts
from sledgehammer_allennlp.encoders.tokenizing import max_tokens, tokenize
from sledgehammer_allennlp.engine import (
    EarlyExitOutput,
    ExitCombination,
    ExitRule,
    check_ensemble,
    run_early_exit,
)
from sledgehammer_allennlp.engine.chunks import check_token_budget
from sledgehammer_allennlp.engine.combination import add_none_to_older_weights
from sledgehammer_allennlp.engine.exit_rule import abstained, check_abstain_below, check_threshold
from sledgehammer_allennlp.engine.prediction import most_probable_of
from sledgehammer_allennlp.engine.windows import NO_PAIRS, check_windows, read_in_windows
from sledgehammer_allennlp.exits import ExitClassifiers
from sledgehammer_allennlp.exits.confidence import confidence_by_name
from sledgehammer_allennlp.values import short_repr


class ArchivedClassifier(nn.Module):
    """
    A trained transformer with exits, its labels and its tokenizer.

    # Parameters

    encoder : `LayeredEncoder`
    exits : `ExitClassifiers`
    labels : `List[str]`
        The name of each label.
    tokenizer : `PreTrainedTokenizerBase`, optional
        Needed by `predict`.
    max_length : `int`, optional (default = what the tokenizer says its model takes)
        Longer texts are truncated.
    confidence : `str`, optional (default = `"max_probability"`)
        A registered measure of confidence.
    ensemble : optional (default = `None`)
        See `check_ensemble`.
    confidence_threshold : `float`, optional (default = that kept with the weights, or `1.0`)
        In [0, 1]; can be set at any time.
    token_budget : `int`, optional (default = by device)
        About how many tokens run through a layer together.
    abstain_below : `float`, optional (default = `None`)
        In [0, 1]. Below this confidence an answer is "none of these", see `as_dicts`.
    windows : optional (default = `None`)
        How longer texts are read, see `engine.windows`. Of a text no more than `max_length` tokens.
    """

    def __init__(
        self,
        encoder: LayeredEncoder,
        exits: ExitClassifiers,
        labels: List[str],
        tokenizer: Optional[PreTrainedTokenizerBase] = None,
        max_length: Optional[int] = None,
        confidence: str = "max_probability",
        ensemble: Any = None,
        confidence_threshold: Optional[float] = None,
        token_budget: Optional[int] = None,
        abstain_below: Optional[float] = None,
        windows: Any = None,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.exits = exits
        self.labels = labels
        self.tokenizer = tokenizer
        self.max_length = max_length
        self.confidence_threshold = confidence_threshold
        self._measure = confidence_by_name(confidence)
        self._ensemble = check_ensemble(ensemble, len(exits.exit_layers))
        self._token_budget = check_token_budget(token_budget)
        self.abstain_below = check_abstain_below(abstain_below)
        self.windows = check_windows(windows, encoder.max_positions, self._measure, exits.alignment)
        self.temperatures: torch.Tensor
        self.register_buffer("temperatures", torch.ones(len(exits.exit_layers)))
        self.combination = ExitCombination(len(exits.exit_layers))
        self._register_load_state_dict_pre_hook(add_none_to_older_weights)

    @property
    def confidence_threshold(self) -> float:
        """The confidence at which texts exit, in [0, 1]; `None` sets the default."""
        if self._confidence_threshold is None:
            return self.exits.default_threshold
        return self._confidence_threshold

    @confidence_threshold.setter
    def confidence_threshold(self, threshold: Optional[float]) -> None:
        self._confidence_threshold = None if threshold is None else check_threshold(threshold)

    def rule(self) -> ExitRule:
        """By which texts exit, with today's threshold."""
        return ExitRule(
            self.temperatures,
            self._measure,
            self.confidence_threshold,
            self._ensemble,
            self.combination.weights,
            self.exits.min_seen_share,
        )

    def forward(self, texts: TokenBatch) -> EarlyExitOutput:
        """
        Early exit for any number of `texts`, see `engine.early_exit`, and of their windows, see
        `engine.windows`.
        """
        rule = self.rule()

        def run(texts: TokenBatch) -> EarlyExitOutput:
            return run_early_exit(
                self.encoder, self.exits, rule, texts, self._token_budget, record_exits=False
            )

        if self.windows is None:
            return run(texts)
        return read_in_windows(run, texts, self.windows, rule, len(self.exits.exit_layers))

    def predict(self, texts: Sequence[Union[str, Tuple[str, str]]]) -> List[Dict[str, Any]]:
        """
        Classifies any number of texts, or of pairs of texts.

        # Returns

        `List[Dict[str, Any]]`
            For each text what `allennlp predict` writes: `logits`, `probs`, `confidence`,
            `exit_layer`, `label`; with `abstain_below` also `best_label`; with windows also
            `windows` and `windows_read`.

        # Raises

        ValueError
            If `texts` is something else, or both texts and pairs, or the archive has no tokenizer.
        """
        first, second = _texts_and_second_texts(texts)
        tokens = self.tokenize(first, second)
        if not first:
            return []
        with torch.no_grad():
            output = self(tokens)
        return as_dicts(output, self.exits.exit_layers, self.labels, self.abstain_below)

    def tokenize(
        self,
        texts: Sequence[str],
        second_texts: Optional[Sequence[str]] = None,
        cut: Optional[CutTexts] = None,
    ) -> TokenBatch:
        """
        `texts`, or pairs of these and `second_texts`, as the archive's reader tokenises them; see
        `encoders.tokenizing`. `cut` counts those that are truncated.

        # Raises

        ValueError
            If the archive has no tokenizer, or there are pairs and windows.
        """
        if self.windows is not None and second_texts is not None:
            raise ValueError(NO_PAIRS)
        return tokenize(self._known_tokenizer, texts, second_texts, self.max_length, cut)

    @property
    def max_tokens(self) -> int:
        """Of a text, or of a pair together; more are cut off. Raises as `tokenize` does."""
        limit = max_tokens(self._known_tokenizer, self.max_length)
        return min(limit, self.encoder.max_positions) if self.windows is None else limit

    @property
    def _known_tokenizer(self) -> PreTrainedTokenizerBase:
        if self.tokenizer is None:
            raise ValueError(
                "how the archive's reader makes tokens is not known without AllenNLP: wanted a "
                "TokenBatch, given to this classifier as to a function"
            )
        return self.tokenizer


def _texts_and_second_texts(texts: Any) -> Tuple[List[str], Optional[List[str]]]:
    wanted = "wanted a list of texts, or of pairs of texts"
    if isinstance(texts, str):
        raise ValueError(f"found a text, {texts[:60]!r}: {wanted}")
    if isinstance(texts, (bytes, Mapping)) or not isinstance(texts, Iterable):
        raise ValueError(f"found {short_repr(texts)}: {wanted}")
    texts = list(texts)
    is_text = [isinstance(text, str) for text in texts]
    if all(is_text):
        return texts, None
    if any(is_text):
        raise ValueError(f"found texts and pairs of texts: {wanted}, one kind in a call")
    for text in texts:
        if not isinstance(text, (tuple, list)) or [type(part) for part in text] != [str, str]:
            raise ValueError(f"found {short_repr(text)}: {wanted}")
    return [text[0] for text in texts], [text[1] for text in texts]


def as_dicts(
    output: EarlyExitOutput,
    exit_layers: Sequence[int],
    labels: Sequence[str],
    abstain_below: Optional[float] = None,
) -> List[Dict[str, Any]]:
    """
    The prediction for each text, of plain Python types.

    # Parameters

    output : `EarlyExitOutput`
    exit_layers : `Sequence[int]`
    labels : `Sequence[str]`
        The name of each label.
    abstain_below : `float`, optional (default = `None`)
        If given, `label` is `None` where confidence is below it, and `best_label` is the most
        probable label in any case.
    """
    answers = [
        {
            "logits": logits,
            "probs": probs,
            "confidence": confidence,
            "exit_layer": exit_layers[exit_index],
            "label": labels[most_probable_of(logits, probs)],
        }
        for logits, probs, confidence, exit_index in zip(
            output.logits.tolist(),
            output.probs.tolist(),
            output.confidence.tolist(),
            output.exit_index.tolist(),
        )
    ]
    if output.windows is not None:
        numbers, exits = output.windows
        for answer, number, num_read in zip(answers, numbers.tolist(), exits.sum(1).tolist()):
            answer.update(windows=number, windows_read=num_read)
    if abstain_below is not None:
        abstains = abstained(output.confidence, abstain_below).tolist()
        for answer, is_none in zip(answers, abstains):
            answer["best_label"] = answer["label"]
            answer["label"] = None if is_none else answer["label"]
    return answers
