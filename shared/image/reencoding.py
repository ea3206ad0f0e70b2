"""Decides what is done to an image that cannot be sent as it is: the ordered list of steps."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.image.colour_conversion import convert_colours
from shared.image.decoding import decode
from shared.image.encoding import Encoded, encode, recognize_drawing
from shared.image.transforming import fit_ratio, orient, reduce_depth, resize, unpack_palette

if TYPE_CHECKING:
    from shared.image.formats.recognition import Format
    from shared.image.inspection import Inspection
    from shared.image.model import ImageLimits

STEPS = (
    reduce_depth,
    unpack_palette,
    resize,
    convert_colours,
    recognize_drawing,
    orient,
    fit_ratio,
)
"""Depth and size are reduced first, so that every later step has less to do."""


def reencode(source: Inspection, kind: Format, limits: ImageLimits) -> Encoded:
    """Decode once, change what must change, encode once."""
    picture = decode(source, kind, limits)
    for step in STEPS:
        picture = step(picture)
    return encode(picture)
