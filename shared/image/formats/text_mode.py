"""Recognizes a file that was transferred as a text: its line ends were converted, though it has no lines.

FTP in its ASCII mode does so, and version control without attributes. In a file of thousands of bytes that look like
chance, as compressed pixels do, it shows: no line end is left of the kind that was converted, while every other byte is
there; or each is of the kind that it was converted to. A file that is damaged in another way shows neither.
"""

from __future__ import annotations

import re

_SAMPLE_BYTES = 4_000_000
_CERTAIN = 3
"""So many line feeds, each after a carriage return by chance, are in one of 16 million files."""

_FEW_MISSING = 12
"""How often a byte, or a pair, must be expected where it is never found: by chance, one of 160,000 is not."""

_AFTER_RETURN = re.compile(rb"\r(.)", re.DOTALL)


def has_converted_line_ends(data: bytes) -> bool:
    """Say whether bytes that should look like chance have the line ends of a text. Costs next to nothing else."""
    sample = data[:_SAMPLE_BYTES]
    return _were_added(sample) or _are_gone(sample)


def _were_added(sample: bytes) -> bool:
    first = sample.find(b"\n")
    if first < 0 or sample[first - 1 : first] != b"\r":
        return False
    return _CERTAIN <= sample.count(b"\n") == sample.count(b"\r\n")


def _are_gone(sample: bytes) -> bool:
    if b"\r\n" in sample:
        return False
    if len(sample) > 256 * _FEW_MISSING and len(set(sample)) == 255:  # noqa: PLR2004 - all but one
        return b"\r" not in sample or b"\n" not in sample
    followers = _AFTER_RETURN.findall(sample)
    return len(followers) > 256 * _FEW_MISSING and len(set(followers)) == 255  # noqa: PLR2004
