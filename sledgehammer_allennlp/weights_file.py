"""Reading a weights file, without running code that it may carry.

A file that `torch.save` wrote is a pickle, and a pickle can name any function to call. Here it may
name only what weights are made of: torch can read so by itself from version 1.13 on, and for those
before it there is an unpickler that accepts nothing else.
"""

import inspect
import os
import pickle
import types
import zipfile
from os import PathLike
from typing import IO, Any, Dict, Union

import torch

_ALLOWED = {
    ("collections", "OrderedDict"),
    ("torch", "BFloat16Storage"),
    ("torch", "BoolStorage"),
    ("torch", "ByteStorage"),
    ("torch", "CharStorage"),
    ("torch", "DoubleStorage"),
    ("torch", "FloatStorage"),
    ("torch", "HalfStorage"),
    ("torch", "IntStorage"),
    ("torch", "LongStorage"),
    ("torch", "ShortStorage"),
    ("torch", "Size"),
    ("torch._utils", "_rebuild_parameter"),
    ("torch._utils", "_rebuild_tensor_v2"),
}

HAS_WEIGHTS_ONLY = "weights_only" in inspect.signature(torch.load).parameters
"""Whether this torch can read tensors only."""


def read_weights(file: Union[str, "PathLike[str]", IO[bytes]], name: str = "") -> Dict[str, Any]:
    """
    The state dict in a file, on the CPU.

    # Parameters

    file : a path, or a binary file that can be sought in
    name : `str`, optional (default = the path)
        What the file is called in error messages.

    # Raises

    ValueError
        If the file has anything but tensors and plain values, or is cut off, or is no weights file.
    FileNotFoundError
        If there is none.
    """
    settings: Dict[str, Any] = {"map_location": "cpu"}
    if HAS_WEIGHTS_ONLY:
        settings["weights_only"] = True
    else:
        settings["pickle_module"] = _WEIGHTS_PICKLE
    try:
        if _is_program(file):
            raise ValueError("It is a TorchScript program.")
        _check_unpacked(file)
        state = torch.load(file, **settings)
    except FileNotFoundError:
        raise
    except Exception as error:  # Of any class: a broken pickle can make its reader fail anyhow.
        raise ValueError(
            f"cannot read the weights '{name or file}': wanted a whole file of tensors and nothing "
            f"else. {error}"
        ) from error
    if not isinstance(state, dict):
        raise ValueError(
            f"cannot read the weights '{name or file}': found a {type(state).__name__}, wanted "
            "tensors by name"
        )
    return state


def _is_program(file: Any) -> bool:
    """Whether a file is of TorchScript, which older versions of torch run instead of reading."""
    if not hasattr(file, "read"):
        with open(file, "rb") as opened:
            return _is_program(opened)
    start = file.tell()
    is_zip = file.read(4) == b"PK\x03\x04"
    file.seek(start)
    if not is_zip:
        return False
    # By torch's own reader, so that it sees what torch will see.
    is_program = "constants.pkl" in torch._C.PyTorchFileReader(file).get_all_records()
    file.seek(start)
    return is_program


def _check_unpacked(file: Any) -> None:
    """
    That the parts of a file take no more than it has: `torch.save` neither compresses them nor lets
    one overlap another, and either way a small file would take all memory.
    """
    if hasattr(file, "read"):
        start = file.tell()
        size = file.seek(0, os.SEEK_END) - start
        file.seek(start)
    else:
        start, size = 0, os.stat(file).st_size
    if not zipfile.is_zipfile(file):
        return
    with zipfile.ZipFile(file) as parts:
        for part in parts.infolist():
            if part.compress_type != zipfile.ZIP_STORED:
                raise ValueError(f"Its part {part.filename[:100]!r} is compressed.")
        total = sum(part.file_size for part in parts.infolist())
    if total > size:
        raise ValueError(f"Its parts have {total:,} bytes together, and the file {size:,}.")
    if hasattr(file, "seek"):
        file.seek(start)


class _WeightsUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"it wants {module}.{name}, which is not of weights")
        return super().find_class(module, name)


def _load(file: Any, **settings: Any) -> Any:
    return _WeightsUnpickler(file, **settings).load()


# The attributes of a `pickle_module` that `torch.load` uses.
_WEIGHTS_PICKLE = types.ModuleType("weights_pickle")
_WEIGHTS_PICKLE.Unpickler = _WeightsUnpickler  # type: ignore[attr-defined]
_WEIGHTS_PICKLE.load = _load  # type: ignore[attr-defined]
_WEIGHTS_PICKLE.UnpicklingError = pickle.UnpicklingError  # type: ignore[attr-defined]
