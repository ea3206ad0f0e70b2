"""Turns the exceptions of parsers and decoders into refusals: a decoder's message in our words, and nothing more."""

from __future__ import annotations

import re
from contextlib import contextmanager
from typing import TYPE_CHECKING

from shared.errors import CorruptImage, DropError, UnsupportedFormat

if TYPE_CHECKING:
    from collections.abc import Iterator


_UNSUPPORTED_FEATURE = (
    "The {name} uses a feature that its decoder does not support. Save it as an ordinary JPEG or PNG."
)
_ENDS_EARLY = "The {name} could not be decoded: its data ends too soon. Upload the whole file, or save it again."


@contextmanager
def as_corrupt_image(name: str) -> Iterator[None]:
    """Turn any exception into a refusal.

    For damaged files, Pillow and its plugins have been seen to raise OSError, ValueError, SyntaxError, struct.error,
    zlib.error, EOFError, TypeError, IndexError, RuntimeError, MemoryError and UnboundLocalError.
    """
    try:
        yield
    except DropError:
        raise
    except Exception as error:
        raise _refusal(name, str(error)) from error


_WORDS = (
    (re.compile(r"^unsupported|not supported|not implemented", re.IGNORECASE), UnsupportedFormat, _UNSUPPORTED_FEATURE),
    (re.compile(r"truncated|end of (file|data|input)|not enough|premature", re.IGNORECASE), CorruptImage, _ENDS_EARLY),
)
"""What decoders' messages mean. Any other message means only that the file could not be decoded."""


def _refusal(name: str, said: str) -> DropError:
    for pattern, kind, words in _WORDS:
        if pattern.search(said):
            return kind(words.format(name=name))
    return CorruptImage(f"The {name} could not be decoded. Save it again, or as a JPEG or PNG.")
