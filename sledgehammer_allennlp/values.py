"""Values of settings: whether one is a number, and how it stands in an error message."""

import reprlib
from typing import Any

_short = reprlib.Repr()
_short.maxstring = _short.maxother = _short.maxlong = 200


def is_number(value: Any) -> bool:
    """Whether `value` is a number, which true, false and NaN are not."""
    is_numeric = isinstance(value, (int, float)) and not isinstance(value, bool)
    return is_numeric and value == value  # which NaN is not; math.isnan takes no very large integer


def short_repr(value: Any) -> str:
    """
    `repr(value)`, shortened, whatever the value: of any size, nested as deeply as it may be.
    """
    try:
        return _short.repr(value)
    except ValueError:
        return "an integer of very many digits"  # which Python does not write out
