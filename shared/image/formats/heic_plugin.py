"""pi-heif's plugin for Pillow on one thread, and for the picture alone.

Several drops are worked on at once, and more threads would cost 10 % more CPU. What lies beside the picture is not
wanted, and it is what the plugin reads with the least care.
"""

from __future__ import annotations

from pi_heif import HeifImageFile, options

options.DECODE_THREADS = 1
options.THUMBNAILS = options.DEPTH_IMAGES = options.AUX_IMAGES = False


class StillImage(HeifImageFile):  # type: ignore[misc]  # it ships no types
    """The picture; grey of more than 8 bits is handed over as 16, however many they were."""

    def _open(self) -> None:
        super()._open()
        if self.mode.startswith("I;16"):
            self.info["depth"] = 16
