"""Reads request bodies into memory, never more than the allowed size."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from starlette.requests import Request


async def read_body(request: Request, max_bytes: int) -> bytes | None:
    """Return the body; None as soon as it exceeds the limit, whether its length was announced or not."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > max_bytes:
            return None
    return bytes(body)


async def read_json(request: Request, max_bytes: int) -> Any:
    """Return the body's JSON, None for an empty one.

    Raises ValueError where it is too large or none, or where no response could ever repeat it: NaN, a lone surrogate.
    """
    body = await read_body(request, max_bytes)
    if body is None:
        raise ValueError(f"The request is larger than {max_bytes} bytes.")
    try:
        found = json.loads(body) if body else None
        json.dumps(found, ensure_ascii=False, allow_nan=False).encode()
    except UnicodeEncodeError as error:
        raise ValueError("The request's JSON contains a lone surrogate.") from error
    except RecursionError as error:
        raise ValueError("The request's JSON is nested too deeply.") from error
    return found
