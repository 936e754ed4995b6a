"""The classifiers attached to a transformer's layers, and what each of them sees."""

from typing import Any, Dict, List, Optional, Sequence

import torch
from torch import nn

from sledgehammer_allennlp.exits.ngrams import NgramClassifier

EMBEDDING_EXIT = -1
"""The exit layer of an exit before layer 0."""

POOLINGS = ("mean", "first")

_EXTRA_STATE = "_extra_state"  # torch's name, in state dicts, for what `get_extra_state` gives


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
    sees token ids.

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
    ) -> None:
        super().__init__()
        self.exit_layers = list(exit_layers)
        self.pooling = pooling
        self.num_labels = num_labels
        self.pooler: Optional[nn.Module] = None
        if add_pooler:
            self.pooler = nn.Sequential(nn.Linear(hidden_size, hidden_size), nn.Tanh())
        self.classifiers = nn.ModuleList(
            _ExitClassifier(
                # One vector from each layer up to this one: with "mean", of what enters it.
                num_mixed=layer + 1 if layer != EMBEDDING_EXIT else 1,
                mixed_size=hidden_size,
                first_size=hidden_size if pooling == "mean" and layer != EMBEDDING_EXIT else 0,
                normalize=pooling == "mean",
                num_labels=num_labels,
                dropout=dropout,
            )
            if ngrams is None or layer != EMBEDDING_EXIT
            else ngrams
            for layer in self.exit_layers
        )
        self.default_threshold = 1.0
        """At which confidence texts leave if nobody says otherwise; kept with the weights."""

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights, and of what is to be given to the exits."""
        return next(self.parameters()).dtype

    @property
    def ngrams(self) -> Optional[NgramClassifier]:
        """The first exit, if it needs no more than token ids."""
        first = self.classifiers[0]
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
        """Takes the default threshold."""
        self.default_threshold = float(state)

    def _load_from_state_dict(
        self, state_dict: Dict[str, Any], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        if any(name.startswith(prefix) for name in state_dict):
            # Weights may be from before there was a default threshold.
            state_dict.setdefault(prefix + _EXTRA_STATE, torch.ones(()))
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
        start = f"{prefix}classifiers."
        numbers = {
            name[len(start) :].split(".")[0] for name in state_dict if name.startswith(start)
        }
        found = _described(len(numbers), f"{start}0.table" in state_dict)
        wanted = _described(len(self.exit_layers), self.ngrams is not None)
        if numbers and found != wanted:
            errors: List[str] = args[-1]
            errors.append(
                f"the weights are of {found}, and the config asks for {wanted}: exit_layers and "
                "embedding_exit cannot be changed after training"
            )

    def logits(
        self, exit_index: int, to_mix: List[torch.Tensor], first_token: Optional[torch.Tensor]
    ) -> torch.Tensor:
        """
        What an exit says that is not an `NgramClassifier`.

        # Parameters

        exit_index : `int`
            Which exit, counted from 0.
        to_mix : `List[torch.Tensor]`
            The vectors to mix, layer by layer, each `(batch_size, hidden_size)`.
        first_token : `torch.Tensor`, optional
            The first token's output of the exit's layer, `(batch_size, hidden_size)`; needed with
            pooling `"mean"`.

        # Returns

        `torch.Tensor`
            `(batch_size, num_labels)`, before any temperature.
        """
        return self.classifiers[exit_index](to_mix, first_token)


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
        num_labels: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.mix = _Mix(num_mixed)
        self.takes_first_token = first_size > 0
        self.norm = nn.LayerNorm(mixed_size + first_size) if normalize else nn.Identity()
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(mixed_size + first_size, num_labels)

    def forward(
        self, to_mix: List[torch.Tensor], first_token: Optional[torch.Tensor]
    ) -> torch.Tensor:
        mixed = self.mix(to_mix)
        if self.takes_first_token:
            assert first_token is not None
            mixed = torch.cat([mixed, first_token], dim=-1)
        return self.linear(self.dropout(self.norm(mixed)))
