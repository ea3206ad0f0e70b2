"""The values of the image work: what goes in along with the bytes, and what comes out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

MediaType = Literal["image/jpeg", "image/png"]
AspectPolicy = Literal["pad", "crop", "reject"]

Change = Literal[
    "preview-used",  # the largest JPEG preview in a camera's raw file was used
    "depth-reduced",  # reduced from more than 8 bits per channel to 8
    "resized",  # scaled down to fit the output's limits
    "colours-converted",  # converted to RGB from CMYK, YCbCr, Lab, linear light or a large profile
    "tone-mapped",  # mapped from HDR (PQ or HLG) to the brightness range of an ordinary screen
    "profile-embedded",  # the file's own colour description was turned into an ICC profile
    "oriented",  # rotated or mirrored as its metadata says
    "cropped",  # the ends of the long side were cut off (ASPECT_POLICY=crop)
    "padded",  # the short side was extended (ASPECT_POLICY=pad)
    "flattened",  # transparency was replaced by white
    "recompressed",  # re-encoded in its own format
    "converted",  # encoded in another format
    "metadata-removed",  # EXIF, GPS, XMP, IPTC, comments, thumbnails, further frames, bytes after the end
]
"""Everything that can be done to an image, in the order in which it is done."""


@dataclass(frozen=True)
class ImageLimits:
    """How large an image may be when it arrives, and what it must fit when it is sent.

    The API refuses more than 5 MB and more than 5:1 (`PUT /itwins/{iTwinId}/image`). Whether its megabyte is decimal
    or binary is not documented, so the smaller one is used.
    """

    max_source_pixels: int = 100_000_000
    max_output_pixels: int = 16_000_000
    aspect_policy: AspectPolicy = "pad"
    max_output_bytes: int = 5_000_000
    max_aspect_ratio: int = 5


@dataclass(frozen=True)
class ImageHeader:
    """What the bytes claim to be. Width and height are in pixels, as stored (before EXIF orientation)."""

    media_type: str
    width: int
    height: int


@dataclass(frozen=True)
class NormalizedImage:
    """An image that the API accepts: JPEG or PNG, small and compact enough, upright, without metadata.

    If nothing had to change, `data` is the same bytes object that came in. `changes` lists what was done, in order.
    """

    data: bytes
    media_type: MediaType
    width: int
    height: int
    changes: tuple[Change, ...]
    source: ImageHeader
