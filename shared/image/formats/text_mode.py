"""Recognizes a file that was transferred in text mode: its line ends were converted, although it is binary.

FTP in ASCII mode does that, and version control without attributes. Compressed pixels look random, so it shows: every
line feed follows a carriage return; or line feeds, carriage returns, or pairs of both are missing altogether, while all
other bytes occur. Most JPEGs also have the same standard table, which contains a line feed.

Missing bytes are noticed only in enough data: a single byte in some thousands of bytes, a pair in a million or two. If
a file is known to be damaged, half of that is enough. In smaller files, a missing pair cannot be told from any other
damage.
"""

from __future__ import annotations

import re
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING

from shared.errors import CorruptImage

if TYPE_CHECKING:
    from collections.abc import Iterator

_SAMPLE_BYTES = 4_000_000
_CERTAIN = 2
"""The number of line feeds, each after a carriage return, that one of 65,000 other files has by chance; and not all of
them may be in a text comment."""

_AMONG_BYTES = re.compile(rb"[^\t\r\n -~]\r\n[^\t\r\n -~]")

_MISSED = 12
"""How often a byte must be expected before its absence means something: by chance, it is absent in one of 160,000."""

_MISSED_OF_DAMAGED = 7
"""The same, for a byte or a pair, if a file is known to be damaged."""

_TABLE = re.compile(rb"\x07\x08\t(?:\n|\r\n?)\x0b")
"""A part of the standard table for the first coefficient of each block (ITU-T T.81, K.3)."""

_MOST_BYTES = 250
"""How many of the 256 byte values must occur before one is missed: a flat picture has few."""

_PAIR_BYTES = 500_000
_LEAST = 3
"""The least number of bytes in which to look for a pair, and how often each similar pair must occur in them."""

_AFTER_RETURN = re.compile(rb"\r(.)", re.DOTALL)


def has_converted_line_ends(data: bytes) -> bool:
    """Say whether bytes that should look random have the line ends of a text file. Takes hardly any time otherwise."""
    end = min(len(data), _SAMPLE_BYTES)
    table = _TABLE.search(data, 0, end)
    return (table is not None and b"\r" in table[0]) or _were_added(data, end) or _are_gone(data, end)


@contextmanager
def explaining_damage(data: bytes) -> Iterator[None]:
    """Raise a more specific error if a file is found to be damaged, and its line ends explain that."""
    try:
        yield
    except CorruptImage:
        if explains_damage(data):
            raise converted() from None
        raise


def explains_damage(data: bytes) -> bool:
    """Say whether a file that is known to be damaged has the line ends of a text file, or none."""
    end = min(len(data), _SAMPLE_BYTES)
    returns, feeds, pairs = (data.count(each, 0, end) for each in (b"\r", b"\n", b"\r\n"))
    if returns and feeds:
        return feeds == pairs >= _CERTAIN or (not pairs and returns * feeds >= _MISSED_OF_DAMAGED * end)
    return end >= 256 * _MISSED_OF_DAMAGED and len(set(data[:end])) >= _MOST_BYTES


def converted() -> CorruptImage:
    """Return the error that says what happened to it."""
    return CorruptImage(
        "The JPEG was changed by a transfer in text mode, which converts line endings. Transfer it in binary mode."
    )


def _were_added(data: bytes, end: int) -> bool:
    first = data.find(b"\n", 0, end)
    if first < 0 or data[first - 1 : first] != b"\r":
        return False
    is_each = _CERTAIN <= data.count(b"\n", 0, end) == data.count(b"\r\n", 0, end)
    return is_each and bool(_AMONG_BYTES.search(data, 0, end))


def _are_gone(data: bytes, end: int) -> bool:
    if data.find(b"\r", 0, end) < 0 or data.find(b"\n", 0, end) < 0:
        return end > 256 * _MISSED and len(set(data[:end])) == 255  # noqa: PLR2004 - all but one
    # One pair may be left: if a return preceded both bytes of a removed pair, the rest forms a new one.
    second = data.find(b"\r\n", data.find(b"\r\n", 0, end) + 1, end)
    if 0 <= second < _PAIR_BYTES:
        return False
    followers = Counter(_AFTER_RETURN.findall(data, 0, second if second >= 0 else end))
    del followers[b"\n"]
    return len(followers) == 255 and min(followers.values()) >= _LEAST  # noqa: PLR2004
