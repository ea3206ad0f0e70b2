"""Pillow's AVIF plugin without its EXIF parsing.

When the plugin opens a file, it parses the whole EXIF block, to write the container's rotation into it, and warns of
every invalid entry: thousands of log lines for one file. Only the rotation is needed.
"""

from __future__ import annotations

from PIL import AvifImagePlugin, _avif
from PIL.AvifImagePlugin import AvifImageFile

from shared.image.formats.heif_alpha import with_sized_alpha

_THREADS = 1
"""Several drops are processed at once; more threads for each would cost more CPU time in all."""


class StillImage(AvifImageFile):
    """The first picture of an AVIF; `info["orientation"]` is the container's rotation, as an EXIF orientation."""

    def _open(self) -> None:
        data = with_sized_alpha(self.fp.read() if self.fp else b"")
        self._decoder = _avif.AvifDecoder(data, AvifImagePlugin.DECODE_CODEC_CHOICE, _THREADS)
        self._size, self.n_frames, self._mode, profile, _, orientation, _ = self._decoder.get_info()
        self.is_animated = self.n_frames > 1
        self.info["orientation"] = orientation
        if profile:
            self.info["icc_profile"] = profile
        self.seek(0)
