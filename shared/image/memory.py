"""Decides how much memory an image may take, from its header alone: what is known before it is let in.

The peak is that of the step that takes the most, beside the file itself, which the caller has. With P pixels that are
decoded (few more than leave, for a JPEG), and O that leave, padding included ::

    base + 2 x file + max(decoder x P, 8 x P, 4 x P + resizing, 13 x O)

- `decoder`: bytes for each pixel while it is decoded (`recognition`), and what the inspection knows that a decoder
  keeps beside them: the coefficients of a JPEG of several scans, a strip or a tile of a TIFF;
- 8: a palette or 16 bits become channels, while the picture that they were is still there;
- `resizing`: a picture that is as wide as the new one and as high as the old, and the new one; 4 x P more where it may
  be transparent, for its colours are weighed by that;
- 13: a transparent picture, its colours, the ground that they are laid on, and its mask. An opaque one takes 12: it is
  resized where its size was predicted too low.

What is passed on untouched takes a 64th of its pixels, and the coefficients.
"""

from __future__ import annotations

from math import ceil, sqrt
from typing import TYPE_CHECKING

from shared.image.decoding import scale_for
from shared.image.examination import may_pass
from shared.image.refusals import padded

if TYPE_CHECKING:
    from shared.image.formats.recognition import Format
    from shared.image.inspection import Inspection
    from shared.image.model import ImageLimits

_BASE_BYTES = 12_000_000
"""The decoders' tables and buffers, and rows on their way."""

_OUTPUTS = 4
"""What is encoded exists twice for a moment, and may turn out twice as large as it may be."""

_TABLES = 15_000_000
"""What tone mapping looks numbers up in, and the piece of the picture that it works on."""

_WHOLE, _CONVERTED, _OPAQUE, _FLATTENED = 4, 8, 12, 13


def peak_bytes(source: Inspection, kind: Format, limits: ImageLimits) -> int:
    """Return the most bytes that it takes to normalize what was inspected, beside the file itself. Decodes nothing."""
    files = _BASE_BYTES + 2 * len(source.data)
    if may_pass(source, limits):
        return files + source.buffer_bytes + source.pixels // 64
    colours = _TABLES if source.colours and not source.colours.is_srgb else 0
    return files + colours + _OUTPUTS * limits.max_output_bytes + _pixel_bytes(source, kind, limits)


def _pixel_bytes(source: Inspection, kind: Format, limits: ImageLimits) -> int:
    scale = scale_for(source, limits)
    width, height = ceil(source.header.width / scale), ceil(source.header.height / scale)
    pixels = width * height
    decoding = kind.bytes_per_pixel * pixels + source.buffer_bytes
    least = _WHOLE if source.is_opaque else _CONVERTED
    across, down = padded(width, height, limits)
    share = min(1.0, limits.max_output_pixels / (across * down))
    resizing = 0 if share == 1 else ceil(_WHOLE * pixels * (sqrt(share) + share))
    leaving = min(limits.max_output_pixels, across * down)
    return max(decoding, least * pixels + resizing, (_OPAQUE if source.is_opaque else _FLATTENED) * leaving)
