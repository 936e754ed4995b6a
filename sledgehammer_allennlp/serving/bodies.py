"""Reading the JSON body of a request, of a bounded size, within a bounded time."""

import asyncio
import json
from typing import Any, NoReturn

from fastapi import Request
from starlette.requests import ClientDisconnect

from sledgehammer_allennlp.serving.refusal import (
    BAD_JSON,
    CLIENT_IS_GONE,
    TOO_LARGE,
    TOO_SLOW,
    Refusal,
)

SECONDS_FOR_A_BODY = 30.0


async def read_json(request: Request, max_bytes: int, seconds: float = SECONDS_FOR_A_BODY) -> Any:
    """
    The JSON value of a request.

    # Raises

    Refusal
        If the body is too large, comes too slowly, or is not JSON.
    """
    try:
        body = await asyncio.wait_for(_read(request, max_bytes), seconds)
    except ClientDisconnect:
        raise Refusal(CLIENT_IS_GONE, "the client is gone") from None
    except asyncio.TimeoutError:
        raise Refusal(TOO_SLOW, f"the body did not come within {seconds:g} s") from None
    if not body:
        raise Refusal(BAD_JSON, "the body is empty: wanted JSON")
    try:
        return json.loads(body, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        what = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise Refusal(BAD_JSON, f"the body is not JSON: {what}") from error


async def _read(request: Request, max_bytes: int) -> bytes:
    length = request.headers.get("content-length", "")
    if length.isascii() and length.isdigit() and len(length) < 20 and int(length) > max_bytes:
        raise _too_large(f"{length} bytes", max_bytes)
    parts = []
    num_bytes = 0
    async for part in request.stream():
        num_bytes += len(part)
        if num_bytes > max_bytes:
            raise _too_large(f"more than {max_bytes} bytes", max_bytes)
        parts.append(part)
    return b"".join(parts)


def _too_large(size: str, max_bytes: int) -> Refusal:
    return Refusal(TOO_LARGE, f"the body has {size}: wanted at most {max_bytes} bytes")


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"it has {name}, which is no number")
