"""Decides how a file becomes pixels, with no more of them than will be needed, and that a decoder's failure is the file's."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from shared.errors import CorruptImage, DropError
from shared.image import jpeg
from shared.image.picture import Picture

if TYPE_CHECKING:
    from collections.abc import Iterator

    from shared.image.formats import Format
    from shared.image.model import ImageLimits
    from shared.image.survey import Survey


def decode(source: Survey, kind: Format, limits: ImageLimits) -> Picture:
    """Return its pixels."""
    with blaming_the_file(kind.name):
        image = kind.open_image(source)
        profile = image.info.get("icc_profile")
        image.load()
        if isinstance(source, jpeg.JpegSurvey):
            jpeg.refuse_surplus(image)
    return Picture(image, limits, source.orientation, source.quality, profile)


@contextmanager
def blaming_the_file(name: str) -> Iterator[None]:
    """Turn whatever a decoder throws into a refusal.

    ValueError, SyntaxError, struct.error, zlib.error, EOFError, TypeError, IndexError, MemoryError and UnboundLocalError
    have all been seen to come out of Pillow and its plugins for a damaged file.
    """
    try:
        yield
    except DropError:
        raise
    except Exception as error:
        raise CorruptImage(f"The {name} is damaged or cut short: it cannot be decoded. Save it anew.") from error
