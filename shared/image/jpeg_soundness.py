"""Decides whether the pixels of a JPEG are all there, while it decodes them.

libjpeg repairs what it can, Pillow does not look at its warnings, and a picture that is half grey passes. libjpeg can
be starved, though: it stops where its data end and says how much it has taken. So each run of entropy-coded data (from
one marker to the next) is handed over without the marker behind it, and some zeros after it:

- a sound run is complete when its data are used up, and the zeros are skipped as what stands between markers;
- where too little was left of it, the decoder takes the zeros for pixels and gets stuck in the middle of them;
- where there was too much, it was complete before its last bytes came.

Measured on TODO
"""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING, Literal

from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile

from shared.errors import CorruptImage

if TYPE_CHECKING:
    from collections.abc import Iterator

    from shared.image.jpeg import JpegSurvey

_TAIL_BYTES = 4
"""A picture that is complete before the last so many bytes of its run had too many."""

_SPARE = bytes(8)
"""libjpeg fills a register of 64 bits before it looks at the first of them."""

_PROBE = bytes(3)
_PROBES = 8

_MAX_CHECKED_RUNS = 1_024
"""Restart markers may stand after every 8 x 8 pixels; where there are more, only every so manieth run is checked."""

_TELLING_BITS = 9
_TELLING_BYTES = 8
"""Where every unit of a run has more bits than a byte, some bytes complete none, which shows that it still goes on."""


def pass_on(source: JpegSurvey) -> bytes:
    """Return the file without its metadata, once it is found sound.

    All of it is decoded, in grey at an eighth of its size: a third of the cost of the whole, and every bit is read.
    """
    decode(source, 8, "L")
    return source.lossless()


def decode(source: JpegSurvey, scale: int = 1, mode: Literal["L"] | None = None) -> Image.Image:
    """Decode exactly what belongs to the picture, at 1, 1/2, 1/4 or 1/8 of its size; refuse it where it is damaged."""
    view = memoryview(source.data)
    start = source.scans[0].start
    header = b"".join(view[piece : min(end, start)] for piece, end in source.kept if piece < start)
    image = JpegImageFile(BytesIO(header))
    image.draft(mode, (max(1, source.header.width // scale), max(1, source.header.height // scale)))
    feeder = _Feeder(image)
    try:
        feeder.give(header)
        for run_start, run_end, telling in _runs(source):
            feeder.give(view[start:run_start])
            _give_run(feeder, view[run_start:run_end], telling=telling)
            start = run_end
        feeder.give(view[start : source.end])
    finally:
        feeder.close()
    if not feeder.finished:
        raise _too_little()
    return image


class _Feeder:
    """A decoder that is handed its data bit by bit, which Pillow's own loop does not allow."""

    def __init__(self, image: JpegImageFile) -> None:
        ((name, extents, _, arguments),) = image.tile
        image.load_prepare()
        image.tile, image.readonly = [], 0  # or Pillow would copy every pixel before it saves them
        self._decoder = Image._getdecoder(image.mode, name, arguments, image.decoderconfig)  # noqa: SLF001 - as above
        self._decoder.setimage(image.im, extents)
        self._left = b""
        self.finished = False

    def give(self, data: bytes | memoryview) -> int:
        """Hand over `data`; return how many bytes the decoder has left until more of them come."""
        if self.finished or not data:
            return len(self._left)
        block = self._left + data if self._left else data
        taken, error = self._decoder.decode(block)
        if error:
            raise CorruptImage("The JPEG is damaged: it cannot be decoded. Save it anew.")
        self.finished = taken < 0
        self._left = b"" if self.finished else bytes(block[taken:])
        return len(self._left)

    def close(self) -> None:
        self._decoder.cleanup()


def _runs(source: JpegSurvey) -> Iterator[tuple[int, int, bool]]:
    """Yield the start and end of each run, or of several where there are too many, and whether it tells its end."""
    at_once = 1 + sum(scan.restarts for scan in source.scans) // _MAX_CHECKED_RUNS
    for scan in source.scans:
        start = scan.start
        for index, marker in enumerate(scan.markers(source.data), 1):
            if index % at_once == 0:
                yield start, marker, scan.unit_bits >= _TELLING_BITS
                start = marker + 2
        yield start, scan.end, scan.unit_bits >= _TELLING_BITS and not source.is_one_run


def _give_run(feeder: _Feeder, run: memoryview, *, telling: bool) -> None:
    last = max(0, len(run) - (_TELLING_BYTES if telling else _TAIL_BYTES))
    feeder.give(run[:last])
    if feeder.finished:
        raise _too_much()
    waits = [feeder.give(run[at : at + 1]) for at in range(last, len(run))]
    if telling and not any(waits):
        raise _too_much()
    feeder.give(_SPARE)
    if any([feeder.give(_PROBE) for _ in range(_PROBES)]):  # noqa: C419 - all of them, whatever comes of the first
        raise _too_little()


def _too_much() -> CorruptImage:
    return CorruptImage("The JPEG is damaged: it holds more data than its picture needs. Save it anew.")


def _too_little() -> CorruptImage:
    return CorruptImage("The JPEG is damaged: a part of its pixels is missing. Save it anew.")
