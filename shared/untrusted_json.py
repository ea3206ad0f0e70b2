"""Strict parsing of JSON and times that others wrote, or may have damaged."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime
from typing import Any

# How deep JSON may be nested: far less than Python can serialize again, wherever on the stack that happens.
MAX_DEPTH = 100


def parse_object(text: str | bytes, *, max_depth: int = MAX_DEPTH) -> dict[str, Any]:
    """Return the JSON object in the text. Raises ValueError if it contains anything else, or is nested too deep.

    Python accepts NaN and Infinity, which RFC 8259 does not allow and other parsers refuse.
    """
    document = _parse(text, max_depth)
    if not isinstance(document, dict):
        raise ValueError("Not a JSON object.")  # noqa: TRY004 - to the caller, whatever else it is makes no difference
    return document


def parse_list(text: str | bytes) -> list[Any]:
    """Return the JSON array in the text, as strictly. Raises ValueError."""
    document = _parse(text, MAX_DEPTH)
    if not isinstance(document, list):
        raise ValueError("Not a JSON array.")  # noqa: TRY004 - as above
    return document


def parse_time(text: str) -> datetime:
    """Return an ISO 8601 time, in UTC.

    Raises ValueError if it is not a time or has no zone, and TypeError if it is not a string.
    """
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError("A time without a zone.")
    try:
        return moment.astimezone(UTC)
    except OverflowError as error:
        raise ValueError("A time before the year 1 or after 9999.") from error


def _parse(text: str | bytes, max_depth: int) -> Any:
    try:
        document = json.loads(text, parse_constant=_refuse, parse_float=_finite)
    except RecursionError as error:
        raise ValueError("JSON that is nested too deep.") from error
    if _is_deeper(document, max_depth):
        raise ValueError("JSON that is nested too deep.")
    return document


def _is_deeper(document: Any, levels: int) -> bool:
    layer = [document] if isinstance(document, dict | list) else []
    for _ in range(levels):
        inner = (value.values() if isinstance(value, dict) else value for value in layer)
        layer = [value for values in inner for value in values if isinstance(value, dict | list)]
        if not layer:
            return False
    return True


def _finite(text: str) -> float:
    number = float(text)
    return number if math.isfinite(number) else _refuse(text)


def _refuse(text: str) -> float:
    raise ValueError(f"{text[:20]} is not a JSON number.")
