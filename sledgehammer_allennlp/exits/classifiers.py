"""The classifiers attached to a transformer's layers, and what each of them sees."""

import math
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple, Union

import torch
from torch import nn

from sledgehammer_allennlp.encoders.weights_stamp import stamp_of
from sledgehammer_allennlp.exits.alignment import Alignment
from sledgehammer_allennlp.exits.entering_states import EnteringStates
from sledgehammer_allennlp.exits.pair_texts import PairTexts
from sledgehammer_allennlp.exits.token_features import TokenFeatures
from sledgehammer_allennlp.ngrams.classifier import NgramClassifier
from sledgehammer_allennlp.values import short_repr

FIRST_TOKEN = "first_token"
"""What the last exit can see instead, see `ExitClassifiers`."""

EMBEDDING_EXIT = -1
"""The exit layer of an exit before layer 0."""

POOLINGS = ("mean", "first")
"""What exits can see, see `ExitClassifiers`."""

HEAD = ".correctness."
"""In the names of the weights of a head that gives the probability that its exit is right."""

_EXTRA_STATE = "_extra_state"  # torch's name, in state dicts, for what `get_extra_state` gives


class ExitScores(NamedTuple):
    """
    The scores of an exit: `logits`, `(num_instances, num_labels)`, before any temperature, and
    `correctness`, `(num_instances,)`, its head's probability that it is right; `None` without a
    head. `seen_share`, `(num_instances,)`, of an exit over n-grams: the share of an instance's
    n-grams that it was fitted to.
    """

    logits: torch.Tensor
    correctness: Optional[torch.Tensor] = None
    seen_share: Optional[torch.Tensor] = None

    def map(self, change: Callable[[torch.Tensor], torch.Tensor]) -> "ExitScores":
        """The same, with `change` applied to each tensor: to move it to a device, for example."""
        return ExitScores(*(None if part is None else change(part) for part in self))  # type: ignore[arg-type]

    def select(self, which: Union[torch.Tensor, slice]) -> "ExitScores":
        """The scores of some of the instances, those that `which` has."""
        return self.map(lambda part: part[which])


def concatenate_scores(parts: Sequence[ExitScores]) -> ExitScores:
    """The scores of several batches of instances, `parts`, as of one."""
    together = (None if of_all[0] is None else torch.cat(of_all) for of_all in zip(*parts))
    return ExitScores(*together)  # type: ignore[arg-type]


class ExitClassifiers(nn.Module):
    """
    One classifier for each exit: a learned mix of vectors from several layers, dropout, and one
    linear layer. With pooling `"mean"` there is a layer normalization before the dropout, because
    means over tokens are small and differ in size from layer to layer; with `"first"` there is
    none, as in the paper.

    With h_-1 the embedding output and h_j the output of layer j, the exit after layer i sees

    - with pooling `"first"` (Schwartz et al. 2020, section 3): p_0 … p_i mixed, where p_j is the
      pooler's output for the first token of h_j;
    - with pooling `"mean"`: the means over tokens of h_-1 … h_i-1 mixed, and beside it the first
      token of h_i. All of it is known once layer i has computed its first token.

    The mix is Σ_j w_j · x_j with w of unit L2 norm, learned for each exit. An exit before layer 0
    sees the mean over tokens of h_-1, with either pooling, or it is an `NgramClassifier`, which
    sees token ids. With `use_previous_logits`, the logits of the earlier exits, before temperature,
    are appended to what an exit sees (section 3.1 there).

    With pooling `"mean"` and `last_exit` `"first_token"`, the exit after the last layer sees its
    first token alone, as in plain fine-tuning. The means are of word pieces more than of what the
    layers make of them, and the last exit need not be early.

    With `alignment`, every exit that is no `NgramClassifier` also sees how the texts of a pair
    match in the hidden states that enter its layer, see `Alignment`. With pooling `"mean"` and
    `token_features`, every exit that sees means also sees features of each token that enters its
    layer, see `TokenFeatures`. With either, what such an exit sees is normalized, and before the
    linear layer there is a hidden layer of the same size, with GELU.

    # Parameters

    exit_layers : `Sequence[int]`
        Ascending layers; -1 for the exit before layer 0.
    hidden_size : `int`
    num_labels : `int`
    pooling : `str`
        `"mean"` or `"first"`.
    dropout : `float`
    add_pooler : `bool`, optional (default = `False`)
        Whether to add a pooler, for pooling `"first"` on a transformer that has none.
    ngrams : `NgramClassifier`, optional (default = `None`)
        The exit before layer 0, if it is not to see the mean over tokens.
    use_previous_logits : `bool`, optional (default = `False`)
        Whether an exit sees the logits of those before it.
    with_correctness : `bool`, optional (default = `False`)
        Whether each exit has a small head, one linear layer, that gives the probability that the
        exit is right (Xin et al. 2021). What the exit sees gets no gradient from it.
    alignment : `int`, optional (default = `None`)
        The size of the alignment of the texts of a pair.
    token_features : `int`, optional (default = `None`)
        The size of the features of each token; of no effect with pooling `"first"`, and where no
        exit sees means.
    last_exit : `str`, optional (default = `None`)
        `"first_token"`, or `None` for what the others see.
    """

    def __init__(
        self,
        exit_layers: Sequence[int],
        hidden_size: int,
        num_labels: int,
        pooling: str,
        dropout: float,
        add_pooler: bool = False,
        ngrams: Optional[NgramClassifier] = None,
        use_previous_logits: bool = False,
        with_correctness: bool = False,
        alignment: Optional[int] = None,
        last_exit: Optional[str] = None,
        token_features: Optional[int] = None,
    ) -> None:
        super().__init__()
        self.exit_layers = list(exit_layers)
        self.use_previous_logits = use_previous_logits
        self.with_correctness = with_correctness
        self.pooling = pooling
        self.num_labels = num_labels
        self.alignment = alignment
        self.pair_texts = None if alignment is None else PairTexts()
        self.pooler: Optional[nn.Module] = None
        if add_pooler:
            self.pooler = nn.Sequential(nn.Linear(hidden_size, hidden_size), nn.Tanh())
        self.classifiers = nn.ModuleList(
            _ExitClassifier(
                num_mixed=self._num_mixed(layer, last_exit),
                mixed_size=hidden_size,
                first_size=hidden_size if pooling == "mean" and layer != EMBEDDING_EXIT else 0,
                normalize=pooling == "mean",
                num_previous=k * num_labels if use_previous_logits else 0,
                num_labels=num_labels,
                dropout=dropout,
                with_correctness=with_correctness,
                alignment=alignment,
                token_features=token_features if self._sees_means(layer, last_exit) else None,
            )
            if ngrams is None or layer != EMBEDDING_EXIT
            else ngrams
            for k, layer in enumerate(self.exit_layers)
        )
        have_features = any(
            isinstance(classifier, _ExitClassifier) and classifier.token_features is not None
            for classifier in self.classifiers
        )
        self.token_features = token_features if have_features else None
        self._hooks = [
            hooks
            for module in self.classifiers.modules()
            for hooks in (module._forward_hooks, module._forward_pre_hooks)
        ]
        self._parameters_of_exits = [
            module._parameters
            for classifier in self.classifiers
            if classifier is not ngrams
            for module in classifier.modules()
        ]
        self.default_threshold = 1.0
        """The confidence threshold where no other is set; kept with the weights."""

    def _sees_means(self, layer: int, last_exit: Optional[str]) -> bool:
        return self.pooling == "mean" and self._num_mixed(layer, last_exit) > 0

    def _num_mixed(self, layer: int, last_exit: Optional[str]) -> int:
        """How many vectors the exit after a layer mixes."""
        if layer == EMBEDDING_EXIT:
            return 1
        is_last = layer == self.exit_layers[-1]
        if is_last and last_exit == FIRST_TOKEN and self.pooling == "mean":
            return 0
        return layer + 1  # one from each layer up to this one: with "mean", of what enters it

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights, and of what the exits take."""
        # Not the first of all parameters, which would be looked for among all modules.
        last = self._classifier(len(self.exit_layers) - 1)
        return last.linear.weight.dtype  # type: ignore[union-attr,return-value]

    def _classifier(self, k: int) -> Optional[nn.Module]:
        """`self.classifiers[k]`, which takes ten times as long."""
        return self.classifiers._modules[str(k)]

    def sees_tokens_at(self, k: int) -> bool:
        """Whether exit `k`, from 0, computes something of each token that enters its layer."""
        classifier = self._classifier(k)
        return isinstance(classifier, _ExitClassifier) and classifier.sees_tokens

    @property
    def has_hooks(self) -> bool:
        """Whether somebody wants to see an exit, or a module within it, at work."""
        return any(self._hooks)

    def stamp(self) -> List[Tuple[int, object]]:
        """Another one after each change of the weights of exits that are trained."""
        return stamp_of(self._parameters_of_exits)

    @property
    def min_seen_share(self) -> float:
        """Of how many of its n-grams an instance must be known to exit at the exit over n-grams."""
        return 0.0 if self.ngrams is None else self.ngrams.min_seen_share

    @property
    def ngrams(self) -> Optional[NgramClassifier]:
        """The first exit, if it needs no more than token ids."""
        first = self._classifier(0)
        return first if isinstance(first, NgramClassifier) else None

    @property
    def num_fitted(self) -> int:
        """How many exits, counted from the first, are fitted and so have no part in training."""
        return 0 if self.ngrams is None else 1

    # Not a buffer, which would be rounded when the model is cast, and moved to devices that may
    # have no float64.
    def get_extra_state(self) -> torch.Tensor:
        """The default threshold, `()`."""
        return torch.tensor(self.default_threshold, dtype=torch.float64)

    def set_extra_state(self, state: torch.Tensor) -> None:
        """
        Takes the default threshold.

        # Raises

        ValueError
            If it is not a number from 0 to 1.
        """
        try:
            threshold = float(state)
        except (TypeError, ValueError, RuntimeError):  # by versions of torch
            threshold = math.nan
        if not 0 <= threshold <= 1:
            raise ValueError(
                f"the default threshold among the weights is {short_repr(state)}: wanted a number "
                "from 0 to 1"
            )
        self.default_threshold = threshold

    def _load_from_state_dict(
        self, state_dict: Dict[str, Any], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        if any(name.startswith(prefix) for name in state_dict):
            # Weights may be from before there was a default threshold.
            state_dict.setdefault(prefix + _EXTRA_STATE, torch.ones(()))
        start = f"{prefix}classifiers."
        heads = [name for name in state_dict if name.startswith(start) and HEAD in name]
        if not self.with_correctness:
            # Of no use to another measure of confidence, with which an archive may be loaded.
            for name in heads:
                del state_dict[name]
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
        numbers = {
            name[len(start) :].split(".")[0] for name in state_dict if name.startswith(start)
        }
        found = _described(len(numbers), f"{start}0.table" in state_dict)
        wanted = _described(len(self.exit_layers), self.ngrams is not None)
        errors: List[str] = args[-1]
        if numbers and found != wanted:
            errors.append(
                f"the weights are of {found}, and the config asks for {wanted}: exit_layers and "
                "embedding_exit cannot be changed after training"
            )
        elif numbers and self.with_correctness and not heads:
            errors.append(
                'confidence "learned" needs heads on the exits, which are trained with it: wanted '
                'an archive that was trained with confidence "learned"'
            )
        elif numbers:
            errors += (
                _size_errors(state_dict, start, "alignment", self.alignment)
                or _size_errors(state_dict, start, "token_features", self.token_features)
                or self._errors_of_last_exit(state_dict, start)
            )

    def _errors_of_last_exit(self, state_dict: Dict[str, Any], start: str) -> List[str]:
        """What is wrong if weights are of a last exit that sees something else."""
        found = state_dict.get(f"{start}{len(self.exit_layers) - 1}.norm.weight")
        wanted = getattr(self.classifiers[-1].norm, "weight", None)
        if found is None or wanted is None or found.shape == wanted.shape:
            return []
        return [
            f"the weights are of a last exit that sees {len(found)} numbers, and the config asks "
            f"for one that sees {len(wanted)}: last_exit cannot be changed after training"
        ]

    def score(
        self,
        exit_index: int,
        layer_vectors: List[torch.Tensor],
        first_token: Optional[torch.Tensor],
        previous: Sequence[Optional[ExitScores]] = (),
        entering: Optional[EnteringStates] = None,
    ) -> ExitScores:
        """
        The scores of an exit that is not an `NgramClassifier`.

        # Parameters

        exit_index : `int`
            Which exit, counted from 0.
        layer_vectors : `List[torch.Tensor]`
            The vectors to mix, layer by layer, each `(batch_size, hidden_size)`.
        first_token : `torch.Tensor`, optional
            The first token's output of the exit's layer, `(batch_size, hidden_size)`; needed with
            pooling `"mean"`.
        previous : `Sequence[Optional[ExitScores]]`
            The scores of the exits before this one; needed with `use_previous_logits`.
        entering : `EnteringStates`, optional
            What enters the exit's layer; needed with `alignment` and `token_features`.
        """
        logits = [one.logits for one in previous if one] if self.use_previous_logits else []
        return self.classifiers[exit_index](layer_vectors, first_token, logits, entering)


def _size_errors(
    state_dict: Dict[str, Any], start: str, setting: str, size: Optional[int]
) -> List[str]:
    """What is wrong if weights have another `setting`, `alignment` or `token_features`."""
    found = {
        int(weights.shape[0])
        for name, weights in state_dict.items()
        if name.startswith(start)
        and name.endswith(f".{setting}.project.weight")
        and isinstance(weights, torch.Tensor)
        and weights.dim() == 2
    }
    if found == (set() if size is None else {size}):
        return []
    sizes = " and ".join(map(str, sorted(found))) or "null"
    return [
        f"the weights are of {setting} {sizes}, and the config asks for "
        f"{'null' if size is None else size}: {setting} cannot be changed after training"
    ]


def _described(num_exits: int, with_ngrams: bool) -> str:
    return f"{num_exits} exits" + ", the first over n-grams" * with_ngrams


class _Mix(nn.Module):
    """Σ_j w_j · x_j with w of unit L2 norm. A single vector has nothing to be mixed with."""

    def __init__(self, num_vectors: int) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.ones(num_vectors)) if num_vectors > 1 else None

    def forward(self, vectors: List[torch.Tensor]) -> torch.Tensor:
        if self.weights is None:
            return vectors[0]
        weights = self.weights / self.weights.norm()
        stacked = torch.stack(vectors)  # (vectors, batch, hidden)
        return (weights @ stacked.flatten(1)).view(stacked.shape[1:])


class _ExitClassifier(nn.Module):
    def __init__(
        self,
        num_mixed: int,
        mixed_size: int,
        first_size: int,
        normalize: bool,
        num_previous: int,
        num_labels: int,
        dropout: float,
        with_correctness: bool,
        alignment: Optional[int],
        token_features: Optional[int],
    ) -> None:
        super().__init__()
        self.alignment: Optional[Alignment] = None
        self.token_features: Optional[TokenFeatures] = None
        size = first_size + (mixed_size if num_mixed else 0)
        if alignment is not None:
            self.alignment = Alignment(mixed_size, alignment, dropout)
            size += self.alignment.output_size
        if token_features is not None:
            self.token_features = TokenFeatures(mixed_size, token_features)
            size += self.token_features.output_size
        self.mix = _Mix(num_mixed) if num_mixed else None
        self.takes_first_token = first_size > 0
        inner_size = token_features if alignment is None else alignment
        has_norm = normalize or inner_size is not None
        # AllenNLP's check of the order in which modules run is to see that what is normed is no
        # output of the encoder's module that ran before.
        self.first_token = nn.Identity()
        self.norm = nn.LayerNorm(size) if has_norm else nn.Identity()
        self.dropout = nn.Dropout(dropout)
        size += num_previous
        self.hidden: Optional[nn.Module] = None
        if inner_size is not None:
            inner = nn.Linear(size, inner_size)
            self.hidden = nn.Sequential(inner, nn.GELU(), nn.Dropout(dropout))
            size = inner_size
        self.linear = nn.Linear(size, num_labels)
        self.correctness = nn.Linear(size, 1) if with_correctness else None

    @property
    def sees_tokens(self) -> bool:
        return self.alignment is not None or self.token_features is not None

    def forward(
        self,
        layer_vectors: List[torch.Tensor],
        first_token: Optional[torch.Tensor],
        previous: List[torch.Tensor],
        entering: Optional[EnteringStates],
    ) -> ExitScores:
        parts = [] if self.mix is None else [self.mix(layer_vectors)]
        if self.takes_first_token:
            assert first_token is not None
            parts.append(self.first_token(first_token))
        if self.alignment is not None:
            assert entering is not None and entering.pairs is not None
            parts.append(self.alignment(entering.hidden, entering.pairs))
        if self.token_features is not None:
            assert entering is not None
            parts.append(self.token_features(entering.hidden, entering.layout))
        seen = self.norm(torch.cat(parts, dim=-1) if len(parts) > 1 else parts[0])
        if previous:
            seen = torch.cat([seen, *(logits.to(seen.dtype) for logits in previous)], dim=-1)
        seen = self.dropout(seen)
        if self.hidden is not None:
            seen = self.hidden(seen)
        logits = self.linear(seen)
        if self.correctness is None:
            return ExitScores(logits)
        return ExitScores(logits, self.correctness(seen.detach()).squeeze(-1).sigmoid())
