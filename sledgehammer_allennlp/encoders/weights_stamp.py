"""Seeing whether weights have changed since something was made of them."""

from typing import List, Mapping, Optional, Sequence, Tuple

import torch


def stamp_of(
    by_module: Sequence[Mapping[str, Optional[torch.Tensor]]],
) -> List[Tuple[int, object]]:
    """
    Of the parameters of modules, their own dictionaries, because going through modules takes long:
    another one after each change.
    """
    try:
        return [
            (parameter.data_ptr(), parameter._version)
            for parameters in by_module
            for parameter in parameters.values()
            if parameter is not None
        ]
    except RuntimeError:  # tensors of inference mode do not count their changes
        return [(0, object())]
