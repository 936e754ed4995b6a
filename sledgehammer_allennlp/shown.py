"""How a value that was not wanted stands in an error message."""

import reprlib
from typing import Any

_short = reprlib.Repr()
_short.maxstring = _short.maxother = _short.maxlong = 200


def shown(value: Any) -> str:
    """
    `repr(value)`, shortened, whatever the value: of any size, nested as deeply as it may be.
    """
    try:
        return _short.repr(value)
    except ValueError:
        return "an integer of very many digits"  # which Python does not write out
