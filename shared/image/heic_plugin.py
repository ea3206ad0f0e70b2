"""pi-heif's plugin for Pillow on one thread: several drops are worked on at once, and more would cost 10 % more CPU."""

from __future__ import annotations

from pi_heif import HeifImageFile as StillImage
from pi_heif import options

__all__ = ["StillImage"]

options.DECODE_THREADS = 1
