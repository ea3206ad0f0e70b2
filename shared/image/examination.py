"""Decides what is learnt of a file before a decoder sees any of it: its format, and whether it is refused at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.errors import CorruptImage
from shared.image.damage import as_corrupt_image
from shared.image.formats.recognition import recognize
from shared.image.refusals import fits_ratio, refuse_ratio, refuse_too_many_pixels

if TYPE_CHECKING:
    from shared.image.formats.recognition import Format
    from shared.image.inspection import Inspection
    from shared.image.model import ImageLimits


def examine(data: bytes, limits: ImageLimits) -> tuple[Format, Inspection]:
    """Recognize and inspect it; raise `DropError` if its structure or its size is a reason to refuse it."""
    kind = recognize(data)
    with as_corrupt_image(kind.name):
        source = kind.inspect(data)
    size = source.header.width, source.header.height
    if 0 in size:
        raise CorruptImage(f"The {kind.name} is damaged: it does not state its size. Save it again.")
    refuse_too_many_pixels(*size, source.weight, kind, limits)
    refuse_ratio(*size, limits)
    return kind, source


def may_pass(source: Inspection, limits: ImageLimits) -> bool:
    """Say whether it appears to be legal, so that its pixels stay untouched once they are found to be intact."""
    return (
        source.fits_as_is
        and source.orientation == 1
        and fits_ratio(source.header.width, source.header.height, limits)
        and source.bytes_that_leave <= limits.max_output_bytes
    )
