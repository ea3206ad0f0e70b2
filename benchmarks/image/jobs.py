"""Decides what is measured: the jobs, which engines do them, and which ratios are demanded."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

UNCAPPED_PIXELS = 100_000_000
CAPPED_PIXELS = 16_000_000

OURS, POOLED, LIMIT = "ours", "pooled", "limit"
PLAIN, LIBVIPS, SHARP = "straightforward", "libvips", "sharp"
MAGICK, MAGICK_ALONE = "imagemagick", "imagemagick-alone"
ENGINES = {
    LIMIT: "the limit",
    OURS: "ours",
    POOLED: "ours, block pool",
    PLAIN: "Pillow, straightforward",
    LIBVIPS: "libvips",
    SHARP: "sharp",
    MAGICK: "ImageMagick, told",
    MAGICK_ALONE: "ImageMagick, by itself",
}


@dataclass(frozen=True)
class Job:
    """One picture and what to do with it.

    `most` and `most_pooled` are the demanded ratios to the limit, without and with Pillow's block pool.
    """

    name: str
    title: str
    source: str
    most: float | None = None
    most_pooled: float | None = None
    passes: bool = False
    turns: bool = False
    pads: bool = False
    max_output_pixels: int = UNCAPPED_PIXELS
    beats_sharp: bool = False

    @property
    def is_jpeg(self) -> bool:
        """Whether its source is a JPEG."""
        return self.source.endswith(".jpg")

    def as_json(self) -> dict[str, Any]:
        """Return what a worker is told about it."""
        return asdict(self)


JOBS = (
    Job("pass-jpeg", "verify + pass a 12 MP 4.2 MB JPEG", "12mp.jpg", 1.15, passes=True, beats_sharp=True),
    Job("pass-progressive", "the same, progressive", "12mp-progressive.jpg", passes=True, beats_sharp=True),
    Job("pass-png", "verify + pass a 4K PNG", "4k.png", 0.55, passes=True),
    Job("shrink-jpeg", "48 MP 19 MB JPEG, under 5 MB, full size", "48mp.jpg", 1.15, 1.05, beats_sharp=True),
    Job(
        "cap-jpeg",
        "the same with an output cap of 16 MP",
        "48mp.jpg",
        1.15,
        max_output_pixels=CAPPED_PIXELS,
        beats_sharp=True,
    ),
    Job("turn-jpeg", "24 MP JPEG lying on its side", "24mp-turned.jpg", 1.5, 1.25, turns=True, beats_sharp=True),
    Job("pad-jpeg", "10:1 panorama padded to 5:1", "panorama.jpg", 1.5, 1.25, pads=True, beats_sharp=True),
    Job("cmyk-jpeg", "12 MP CMYK JPEG with a profile", "12mp-cmyk.jpg", beats_sharp=True),
    Job("png", "8K RGB PNG 27 MB to JPEG", "8k.png", 1.10),
    Job("tiff", "12 MP TIFF (LZW) to JPEG", "12mp.tiff", 1.10, beats_sharp=True),
    Job("webp", "12 MP WebP to JPEG", "12mp.webp", 1.10, beats_sharp=True),
    Job("avif", "12 MP AVIF to JPEG", "12mp.avif", 1.10, beats_sharp=True),
    Job("heic", "12 MP HEIC to JPEG", "12mp.heic", 1.10),
)
