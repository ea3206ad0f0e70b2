"""Of every layout of DNG that cameras and converters write, the preview leaves in its colours, and never the raw."""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tifffile

from shared.errors import UnsupportedFormat
from tests.matrix.judge import CELL, Pixels, as_integers, cells, colour, difference, lab_of, sent

if TYPE_CHECKING:
    from collections.abc import Callable

SIDE = 128
"""Of a cell, which makes the picture as long as a preview has to be."""

PICTURE = as_integers(cells(3)[::CELL, ::CELL].repeat(SIDE, axis=0).repeat(SIDE, axis=1), 8)
SMALL = PICTURE[::8, ::8]
SENSOR = as_integers(np.random.default_rng(0).random((768, 1_024)), 16)
CFA, LINEAR_RAW, DEPTH = 32_803, 34_892, 51_177
DNG = (50_706, 1, 4, bytes((1, 4, 0, 0)), True)

JPEG: dict[str, Any] = {"compression": "jpeg", "compressionargs": {"level": 96}, "subsampling": (1, 1)}
PIECES: dict[str, dict[str, Any]] = {
    "alone": {"rowsperstrip": len(PICTURE)},
    "in strips": {"rowsperstrip": 64},
    "in tiles": {"tile": (256, 256)},
    "in strips, of few colours": {"rowsperstrip": 64, "subsampling": (2, 2)},
}
TURNED: dict[int, Callable[[Pixels], Pixels]] = {
    1: lambda picture: picture,
    3: lambda picture: np.rot90(picture, 2),
    6: lambda picture: np.rot90(picture, -1),
    8: np.rot90,
}


class Dng:
    """A DNG that is being written, page by page: those behind the first are its own."""

    def __init__(self, order: str, pages: int) -> None:
        self.buffer = BytesIO()
        self._pages: int | None = pages
        self._writer = tifffile.TiffWriter(self.buffer, byteorder=order)

    def page(self, pixels: Pixels, photometric: Any, kind: int, *tags: tuple[Any, ...], **how: Any) -> None:
        """Write one."""
        first = {"subifds": self._pages, "extratags": [DNG, *tags]} if self._pages else {"extratags": list(tags)}
        self._pages = None
        self._writer.write(
            pixels, photometric=photometric, subfiletype=kind, metadata=None, software=False, **first, **how
        )

    def thumbnail(self, orientation: int = 1) -> None:
        """Write a small picture that is not compressed, as a first page."""
        self.page(SMALL, "rgb", 1, (274, 3, 1, orientation, True))

    def preview(self, space: int = 2, **pieces: Any) -> None:
        """Write the picture as a JPEG, whole or in pieces."""
        self.page(PICTURE, "rgb", 1, (50_970, 4, 1, space, True), **{**JPEG, **pieces})

    def raw(self) -> None:
        """Write what a sensor has seen."""
        self.page(SENSOR, CFA, 0, (33_421, 3, 2, (2, 2), True), (33_422, 1, 4, bytes((0, 1, 1, 2)), True))

    def data(self) -> bytes:
        """Return all of it."""
        self._writer.close()
        return self.buffer.getvalue()


def adobe(order: str, orientation: int = 1, space: int = 2, **pieces: Any) -> bytes:
    """Write a thumbnail first; raw and preview are its own pages."""
    dng = Dng(order, 2)
    dng.thumbnail(orientation)
    dng.raw()
    dng.preview(space, **pieces)
    return dng.data()


def proraw(order: str, **pieces: Any) -> bytes:
    """Write the preview first; a developed raw and a map of depth are its own pages."""
    dng = Dng(order, 2)
    dng.preview(**pieces)
    dng.page(as_integers(1 - PICTURE / 255, 16), LINEAR_RAW, 0, tile=(256, 256))
    dng.page(SENSOR, DEPTH, 0)
    return dng.data()


def lossy(order: str, **pieces: Any) -> bytes:
    """Write a raw that is a JPEG, and larger than the preview."""
    dng = Dng(order, 2)
    dng.thumbnail()
    dng.page((255 - PICTURE).repeat(2, axis=0), LINEAR_RAW, 0, compression="jpeg", tile=(512, 512))
    dng.preview(**pieces)
    return dng.data()


def android(order: str, **pieces: Any) -> bytes:
    """Write the raw first; the preview is its page."""
    dng = Dng(order, 1)
    dng.raw()
    dng.preview(**pieces)
    return dng.data()


LAYOUTS: dict[str, Callable[..., bytes]] = {"adobe": adobe, "proraw": proraw, "lossy": lossy, "android": android}


def demand(data: bytes, picture: Pixels = PICTURE, space: Any = colour.RGB_COLOURSPACES["sRGB"]) -> None:
    """Demand that the preview leaves, and looks as it did."""
    normalized, lab, _ = sent(data)
    assert normalized.changes[0] == "preview-used"
    inside = slice(SIDE // 4, None, SIDE // 2)
    assert difference(lab[inside, inside], lab_of(picture[inside, inside] / 255, space)).max() < 2


@pytest.mark.parametrize("pieces", PIECES.values(), ids=PIECES)
@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_the_preview_is_sent(layout: Callable[..., bytes], pieces: dict[str, Any]) -> None:
    """However its JPEG is divided, in either byte order."""
    demand(layout(">" if "subsampling" in pieces else "<", **pieces))


@pytest.mark.parametrize("pieces", list(PIECES.values())[:2], ids=list(PIECES)[:2])
@pytest.mark.parametrize("orientation", TURNED)
def test_the_preview_is_rotated_as_the_first_page_states(orientation: int, pieces: dict[str, Any]) -> None:
    """A raw picture is stored as the sensor was held."""
    demand(adobe("<", orientation, **pieces), TURNED[orientation](PICTURE))


@pytest.mark.parametrize("pieces", list(PIECES.values())[:2], ids=list(PIECES)[:2])
@pytest.mark.parametrize(("number", "name"), [(2, "sRGB"), (3, "Adobe RGB (1998)"), (4, "ProPhoto RGB")])
def test_the_preview_keeps_its_colours(number: int, name: str, pieces: dict[str, Any]) -> None:
    """PreviewColorSpace states which they are."""
    demand(adobe("<", space=number, **pieces), space=colour.RGB_COLOURSPACES[name])


def test_a_raw_file_without_a_usable_preview_is_refused_with_that_reason() -> None:
    """Its thumbnail is too small to be used."""
    dng = Dng("<", 1)
    dng.thumbnail()
    dng.raw()
    with pytest.raises(UnsupportedFormat, match=r"raw file \(DNG\)"):
        sent(dng.data())
