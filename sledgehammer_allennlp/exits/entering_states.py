"""What enters the layer of an exit, for what looks at each token."""

from typing import NamedTuple, Optional

import torch

from sledgehammer_allennlp.encoders.token_batch import Layout
from sledgehammer_allennlp.exits.alignment import PairLayout


class EnteringStates(NamedTuple):
    """
    Hidden states, `(num_tokens, hidden_size)`; where each text lies in them; and where the words of
    each text of a pair lie, `None` without an alignment.
    """

    hidden: torch.Tensor
    layout: Layout
    pairs: Optional[PairLayout] = None
