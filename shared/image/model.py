"""The values of the image work: what goes in beside the bytes, and what comes out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

MediaType = Literal["image/jpeg", "image/png"]
AspectPolicy = Literal["pad", "crop", "reject"]

Change = Literal[
    "preview-used",  # of a camera's raw file, the largest JPEG that it holds of its picture
    "depth-reduced",  # from more than 8 bits per channel to 8
    "resized",  # fewer pixels, to fit the output's limits
    "colours-converted",  # from CMYK, YCbCr, Lab, linear light or a large profile to RGB
    "tone-mapped",  # from HDR (PQ or HLG) to the brightness of a usual screen
    "profile-embedded",  # the file's own words on its colours made an ICC profile
    "oriented",  # turned or mirrored as its metadata asked
    "cropped",  # the ends of the long side cut off (ASPECT_POLICY=crop)
    "padded",  # the short side made longer (ASPECT_POLICY=pad)
    "flattened",  # transparency laid on white
    "recompressed",  # re-encoded in the format that it had
    "converted",  # encoded in another format than it had
    "metadata-removed",  # EXIF, GPS, XMP, IPTC, comments, thumbnails, further frames, bytes after the end
]
"""Everything that can be done to an image, in the order in which it is done."""


@dataclass(frozen=True)
class ImageLimits:
    """How large an image may be when it comes, and how it is made to fit when it leaves.

    The API refuses more than 5 MB and more than 5:1 (`PUT /itwins/{iTwinId}/image`); whether its megabyte is decimal
    or binary is not documented, so the smaller one holds.
    """

    max_source_pixels: int = 100_000_000
    max_output_pixels: int = 16_000_000
    aspect_policy: AspectPolicy = "pad"
    max_output_bytes: int = 5_000_000
    max_aspect_ratio: int = 5


@dataclass(frozen=True)
class ImageHeader:
    """What the bytes say they are. Width and height in pixels, as stored (before EXIF orientation)."""

    media_type: str
    width: int
    height: int


@dataclass(frozen=True)
class NormalizedImage:
    """An image that the API accepts: JPEG or PNG, small and compact enough, upright, without metadata.

    `data` is the very bytes object that came in where nothing had to change; `changes` lists what was done, in order.
    """

    data: bytes
    media_type: MediaType
    width: int
    height: int
    changes: tuple[Change, ...]
    source: ImageHeader
