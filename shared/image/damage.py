"""Turns what a parser or a decoder throws for a damaged file into one error."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from shared.errors import CorruptImage, DropError

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def as_corrupt_image(name: str) -> Iterator[None]:
    """Turn whatever is thrown into a refusal.

    OSError, ValueError, SyntaxError, struct.error, zlib.error, EOFError, TypeError, IndexError, RuntimeError,
    MemoryError and UnboundLocalError have all been seen to come out of Pillow and its plugins for a damaged file.
    """
    try:
        yield
    except DropError:
        raise
    except Exception as error:
        raise CorruptImage(
            f"The {name} cannot be decoded: it is damaged, cut short or of an unusual kind. Save it again."
        ) from error
