"""Decides what is refused because of its size, before anything is decoded, and what size an aspect ratio requires."""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING

from shared.errors import AspectRatioRefused, TooManyPixels

if TYPE_CHECKING:
    from shared.image.formats.recognition import Format
    from shared.image.model import ImageLimits

LONGEST_SIDE = 100_000


def refuse_too_many_pixels(width: int, height: int, weight: int, kind: Format, limits: ImageLimits) -> None:
    """Refuse more pixels than the setting allows, or than the format's decoder has memory for.

    Each row takes memory as well, whatever its width: 1 x 60,000,000 pixels would take 1.7 GB.
    """
    if max(width, height) > LONGEST_SIDE:
        raise TooManyPixels(
            f"The {kind.name} has {width} x {height} pixels; at most {LONGEST_SIDE:,} on a side are supported. "
            "Send one that is cropped or smaller."
        )
    allowed = min(limits.max_source_pixels, kind.max_pixels) / weight
    if width * height > allowed:
        raise TooManyPixels(
            f"The {kind.name} has {width} x {height} pixels, {width * height / 1e6:,.1f} million; "
            f"at most {allowed / 1e6:,.1f} million of this kind are supported. Send a smaller one."
        )


def refuse_ratio(width: int, height: int, limits: ImageLimits) -> None:
    """Refuse a long strip if the policy is neither to pad nor to crop it."""
    if limits.aspect_policy == "reject" and not fits_ratio(width, height, limits):
        raise AspectRatioRefused(
            f"The image is {width} x {height} pixels; its long side may be at most {limits.max_aspect_ratio} times the "
            "short one. Crop or pad it to that."
        )


def padded(width: int, height: int, limits: ImageLimits) -> tuple[int, int]:
    """Return the size after the short side is padded, or the size as it is if nothing is padded."""
    if limits.aspect_policy != "pad":
        return width, height
    return max(width, ceil(height / limits.max_aspect_ratio)), max(height, ceil(width / limits.max_aspect_ratio))


def fits_ratio(width: int, height: int, limits: ImageLimits) -> bool:
    """Say whether the aspect ratio is within the limit."""
    return max(width, height) <= limits.max_aspect_ratio * min(width, height)
