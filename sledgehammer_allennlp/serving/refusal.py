"""Why a request is not answered."""

from typing import Dict, Optional

BAD_JSON = 400
TOO_SLOW = 408
TOO_LARGE = 413
BAD_VALUE = 422
OVERLOADED = 429
CLIENT_IS_GONE = 499
"""As nginx writes it. Nobody gets it."""
FAILED = 500
CLOSING = 503


class Refusal(Exception):
    """
    # Parameters

    status : `int`
        Of HTTP.
    message : `str`
        Names the field, its value, and what was wanted.
    retry_after : `int`, optional
        In how many seconds it is worth to try again.
    """

    def __init__(self, status: int, message: str, retry_after: Optional[int] = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.retry_after = retry_after

    def headers(self) -> Dict[str, str]:
        """Of the response."""
        return {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}


def bad_value(message: str) -> Refusal:
    """A field has a value that cannot be answered."""
    return Refusal(BAD_VALUE, message)
