"""Recognizes a file that was transferred as a text: its line ends were converted, though it has no lines.

FTP in its ASCII mode does so, and version control without attributes. In bytes that look like chance, as compressed
pixels do, it shows: each line feed has a carriage return before it; or of one of the two, or of both together, none is
left, while everything else of the kind is there. Most JPEGs have a table as well that is the same in all of them, and
has a line feed in it.

Bytes that were lost are not missed before there are many others: in some thousands of bytes a single one, in a million
or two a pair. Where a file is known to be damaged, half of that is enough. A pair that is gone from a smaller one
cannot be told from any other damage.
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
"""So many line feeds, each after a carriage return by chance, are in one of 65,000 files that have no others; and not
all of them may be in a note, which is a text."""

_AMONG_BYTES = re.compile(rb"[^\t\r\n -~]\r\n[^\t\r\n -~]")

_MISSED = 12
"""How often a byte must be expected where it is not found: by chance, one of 160,000 is not."""

_MISSED_OF_DAMAGED = 7
"""The same, of a byte or a pair, where a file is known to be damaged."""

_TABLE = re.compile(rb"\x07\x08\t(?:\n|\r\n?)\x0b")
"""What is in the table that JPEGs have for the first coefficient of each block (ITU-T T.81, K.3)."""

_MOST_BYTES = 250
"""How many of the 256 there must be at the least where one is missed: a flat picture has few."""

_PAIR_BYTES = 500_000
_LEAST = 3
"""Of how many bytes a pair is looked for at the least, and how often each other one of its kind must be there."""

_AFTER_RETURN = re.compile(rb"\r(.)", re.DOTALL)


def has_converted_line_ends(data: bytes) -> bool:
    """Say whether bytes that should look like chance have the line ends of a text. Costs next to nothing else."""
    end = min(len(data), _SAMPLE_BYTES)
    table = _TABLE.search(data, 0, end)
    return (table is not None and b"\r" in table[0]) or _were_added(data, end) or _are_gone(data, end)


@contextmanager
def told_of_damage(data: bytes) -> Iterator[None]:
    """Raise another error where a file is found to be damaged, and its line ends say why."""
    try:
        yield
    except CorruptImage:
        if explains_damage(data):
            raise converted() from None
        raise


def explains_damage(data: bytes) -> bool:
    """Say whether a file that is known to be damaged has the line ends of a text, or none."""
    end = min(len(data), _SAMPLE_BYTES)
    returns, feeds, pairs = (data.count(each, 0, end) for each in (b"\r", b"\n", b"\r\n"))
    if returns and feeds:
        return feeds == pairs >= _CERTAIN or (not pairs and returns * feeds >= _MISSED_OF_DAMAGED * end)
    return end >= 256 * _MISSED_OF_DAMAGED and len(set(data[:end])) >= _MOST_BYTES


def converted() -> CorruptImage:
    """Say what happened to it."""
    return CorruptImage(
        "The JPEG was changed by a transfer in text mode, which converts line ends. Transfer it in binary mode."
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
    # One pair may be left: where a return stood before both, the two that are left of them make a new one.
    second = data.find(b"\r\n", data.find(b"\r\n", 0, end) + 1, end)
    if 0 <= second < _PAIR_BYTES:
        return False
    followers = Counter(_AFTER_RETURN.findall(data, 0, second if second >= 0 else end))
    del followers[b"\n"]
    return len(followers) == 255 and min(followers.values()) >= _LEAST  # noqa: PLR2004
