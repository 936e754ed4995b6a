"""What an exit sees of each token: features, of which it takes the mean and the maximum.

The mean of hidden states is linear in them, so an exit that sees no more cannot tell one telling
word from many that are a little telling. With the maximum of features over the tokens it can (Shen
et al. 2018, "Baseline Needs More Love", on word embeddings; Zaheer et al. 2017, "Deep Sets").
"""

import torch
from torch import nn

from sledgehammer_allennlp.encoders.token_batch import Layout


class TokenFeatures(nn.Module):
    """
    With h the hidden states of the tokens of a text, special ones included, c = ReLU(W · h + b);
    and the output is the mean and the maximum of c over them.

    # Parameters

    hidden_size : `int`
    size : `int`
        Of c.
    """

    def __init__(self, hidden_size: int, size: int) -> None:
        super().__init__()
        self.project = nn.Linear(hidden_size, size)
        nn.init.normal_(self.project.weight, std=hidden_size**-0.5)
        nn.init.zeros_(self.project.bias)
        # A module, for AllenNLP's check of what stands between a linear layer and a normalization.
        self.activation = nn.ReLU()

    @property
    def output_size(self) -> int:
        """The size of the output for each text."""
        return 2 * self.project.out_features

    def forward(self, hidden: torch.Tensor, layout: Layout) -> torch.Tensor:
        """
        The mean and the maximum, `(num_texts, 2 * size)`.

        # Parameters

        hidden : `torch.Tensor`
            `(num_tokens, hidden_size)`.
        layout : `Layout`
            Where the texts lie in it.
        """
        features = self.activation(self.project(hidden.to(self.project.weight.dtype)))
        means = layout.means(features).to(features.dtype)
        return torch.cat([means, layout.maxima(features)], dim=-1)


def token_features_work(hidden_size: int, size: int) -> int:
    """The multiply-adds of features of this size, for one token."""
    return hidden_size * size
