"""The random numbers that training draws, and how they are kept reproducible."""

import random
from contextlib import contextmanager
from typing import Any, Dict, Iterator

import numpy as np
import torch


def random_state() -> Dict[str, Any]:
    """
    Of this process, on CPUs and the current GPU: plain values and tensors, so that it can be kept
    in a checkpoint.
    """
    kind, keys, *rest = np.random.get_state(legacy=True)
    return {
        "python": random.getstate(),
        "numpy": (kind, np.asarray(keys).tolist(), *rest),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state() if torch.cuda.is_available() else None,
    }


def set_random_state(state: Dict[str, Any]) -> None:
    """Draws from now on what was drawn after `random_state`."""
    random.setstate(state["python"])
    np.random.set_state(state["numpy"])
    set_torchs_random_state(state)


def set_torchs_random_state(state: Dict[str, Any]) -> None:
    """The same for torch alone: for dropout, not for the order of the data."""
    torch.set_rng_state(state["torch"])
    if state["cuda"] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])


@contextmanager
def same_random_numbers_after() -> Iterator[None]:
    """What is drawn after it does not depend on what is drawn in it."""
    state = random_state()
    try:
        yield
    finally:
        set_random_state(state)
