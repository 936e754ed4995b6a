"""A session of ONNX Runtime, and those that are kept."""

import os
from typing import Any, Callable, Dict, Hashable, List, Optional, Sequence, TypeVar

import numpy as np
import torch

from sledgehammer_allennlp.encoders.locks import fork_safe_lock

# Of all that are kept, because what has locks could not be copied.
_MAKING = fork_safe_lock()


class OnnxSession:
    """
    A model that ONNX Runtime runs on the CPU, with as many threads as torch has. May be used by
    several threads.

    # Parameters

    model : `bytes`
        As ONNX Runtime reads it.
    """

    def __init__(self, model: bytes) -> None:
        import onnxruntime  # not installed everywhere

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        # Its threads wait for the next run by spinning, and keep torch's from the cores.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        self._session = onnxruntime.InferenceSession(
            model, options, providers=["CPUExecutionProvider"]
        )
        self._process = os.getpid()

    @property
    def is_of_this_process(self) -> bool:
        """Not after a fork, which takes no threads along."""
        return self._process == os.getpid()

    def run(self, outputs: Sequence[str], feeds: Dict[str, np.ndarray]) -> List[np.ndarray]:
        """The outputs of these names, computed from the inputs, by their names."""
        found: List[np.ndarray] = self._session.run(outputs, feeds)
        return found


AnySession = TypeVar("AnySession", bound=OnnxSession)


class KeptSessions:
    """Sessions that were made, by keys. May be used by several threads."""

    def __init__(self) -> None:
        self._made: Dict[Hashable, Any] = {}

    def __len__(self) -> int:
        return len(self._made)

    def find(self, key: Hashable, is_current: Callable[[AnySession], bool]) -> Optional[AnySession]:
        """The session of this key, if it is of this process and can still be used."""
        made: Optional[AnySession] = self._made.get(key)
        usable = made is not None and made.is_of_this_process and is_current(made)
        return made if usable else None

    def find_or_make(
        self,
        key: Hashable,
        make: Callable[[], AnySession],
        is_current: Callable[[AnySession], bool],
    ) -> AnySession:
        """`find`, or what `make` makes, which takes its place."""
        with _MAKING:
            session = self.find(key, is_current)
            if session is None:
                session = self._made[key] = make()
            return session
