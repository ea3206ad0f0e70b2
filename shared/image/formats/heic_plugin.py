"""pi-heif's plugin for Pillow on one thread, and for the picture alone.

Several drops are worked on at once, and more threads would cost 10 % more CPU. What lies beside the picture is not
wanted, and it is what the plugin reads with the least care.
"""

from __future__ import annotations

from pi_heif import HeifImageFile as StillImage
from pi_heif import options

__all__ = ["StillImage"]

options.DECODE_THREADS = 1
options.THUMBNAILS = options.DEPTH_IMAGES = options.AUX_IMAGES = False
