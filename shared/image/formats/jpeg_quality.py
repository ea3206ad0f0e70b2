"""Estimates the quality of a JPEG by comparing its tables with libjpeg's scaled example tables (ITU-T T.81, K.1)."""

from __future__ import annotations

from bisect import bisect_right
from functools import cache

_ANNEX_K_LUMA = bytes.fromhex(
    "100b0a101828333d0c0c0e131a3a3c370e0d1018283945380e11161d335750"
    "3e12162538446d674d182337405168715c31404e5767797865485c5f6270646763"
)
"""The luminance table of K.1, row by row, which is IJG quality 50."""

ANNEX_K_LUMA_SUM = sum(_ANNEX_K_LUMA)


def quality_of(luma_sum: int) -> int:
    """Return the best IJG quality whose luminance table, by its sum, is not finer than the given one."""
    return max(1, bisect_right(range(1, 101), -luma_sum, key=lambda quality: -_luma_sum(quality)))


@cache
def _luma_sum(quality: int) -> int:
    """Return the sum of libjpeg's luminance table for a quality: scaled, and clipped to bytes."""
    scale = table_scale(quality)
    return sum(min(255, max(1, (value * scale + 50) // 100)) for value in _ANNEX_K_LUMA)


def table_scale(quality: int) -> int:
    """Return the percentage by which libjpeg scales its tables for a quality."""
    return 200 - 2 * quality if quality >= 50 else 5_000 // quality  # noqa: PLR2004 - where libjpeg's formula changes
