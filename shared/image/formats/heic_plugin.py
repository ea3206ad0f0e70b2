"""pi-heif's plugin for Pillow, with one thread, and only for the picture itself.

Several drops are processed at once, and more threads would cost 10 % more CPU time. The other items are not needed, and
the plugin parses them with less care.
"""

from __future__ import annotations

from pi_heif import HeifImageFile, options

options.DECODE_THREADS = 1
options.THUMBNAILS = options.DEPTH_IMAGES = options.AUX_IMAGES = False


class StillImage(HeifImageFile):  # type: ignore[misc]  # it ships no types
    """The picture; grey of more than 8 bits is returned as 16 bits, whatever its depth."""

    def _open(self) -> None:
        super()._open()
        if self.mode.startswith("I;16"):
            self.info["depth"] = 16
