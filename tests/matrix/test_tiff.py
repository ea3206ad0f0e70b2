"""Every layout of TIFF that tifffile writes leaves in the colours that it was written with, or is refused by name."""

from __future__ import annotations

from io import BytesIO
from itertools import product
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pytest
import tifffile

from tests.matrix.judge import Pixels, as_integers, cells, colours_of, difference, lab_of, sent

if TYPE_CHECKING:
    from collections.abc import Iterator


class Kind(NamedTuple):
    """What the channels are: how many, of which so many are colours, and what the others are."""

    photometric: str
    colours: int
    extra: tuple[str, ...] = ()


KINDS = {
    "grey": Kind("minisblack", 1),
    "white is zero": Kind("miniswhite", 1),
    "grey and alpha": Kind("minisblack", 1, ("unassalpha",)),
    "grey and its alpha": Kind("minisblack", 1, ("assocalpha",)),
    "grey and more": Kind("minisblack", 1, ("unspecified",)),
    "rgb": Kind("rgb", 3),
    "rgb and alpha": Kind("rgb", 3, ("unassalpha",)),
    "rgb and its alpha": Kind("rgb", 3, ("assocalpha",)),
    "rgb and infrared": Kind("rgb", 3, ("unspecified",)),
    "rgb and two more": Kind("rgb", 3, ("unspecified", "unspecified")),
    "rgb, alpha and infrared": Kind("rgb", 3, ("unassalpha", "unspecified")),
    "rgb, its alpha and infrared": Kind("rgb", 3, ("assocalpha", "unspecified")),
    "grey and three more": Kind("minisblack", 1, ("unspecified",) * 3),
    "grey, alpha and six more": Kind("minisblack", 1, ("unassalpha",) + ("unspecified",) * 6),
    "cmyk": Kind("separated", 4),
    "cmyk and a spot colour": Kind("separated", 4, ("unspecified",)),
    "cmyk and alpha": Kind("separated", 4, ("unassalpha",)),
    "cmyk and its alpha": Kind("separated", 4, ("assocalpha",)),
    "cmyk, a spot colour and alpha": Kind("separated", 4, ("unspecified", "unassalpha")),
}
COMPRESSIONS: dict[str, dict[str, Any]] = {
    "none": {},
    "lzw": {"compression": "lzw"},
    "deflate": {"compression": "zlib"},
    "packbits": {"compression": "packbits"},
    "lzw, predicted": {"compression": "lzw", "predictor": True},
}
PIECES: dict[str, dict[str, Any]] = {"strips": {"rowsperstrip": 11}, "tiles": {"tile": (32, 16)}}


def layouts(values: Pixels, kind: Kind, *, planes: bool) -> Iterator[tuple[str, bytes]]:
    """Yield the same pixels in every compression, cut and byte order."""
    for compression, pieces, order in product(COMPRESSIONS, PIECES, "<>"):
        buffer = BytesIO()
        tifffile.imwrite(
            buffer,
            np.moveaxis(values, -1, 0) if planes else (values if values.shape[-1] > 1 else values[..., 0]),
            photometric=kind.photometric,
            planarconfig="separate" if planes else "contig" if values.shape[-1] > 1 else None,
            extrasamples=kind.extra or None,
            byteorder=order,
            metadata=None,
            software=False,
            **COMPRESSIONS[compression],
            **PIECES[pieces],
        )
        yield f"{compression}, {pieces}, {order}", buffer.getvalue()


def expected(values: Pixels, kind: Kind) -> tuple[Pixels, Pixels]:
    """Return the Lab and the alpha that values from 0 to 1 stand for."""
    colours, alpha = values[..., : kind.colours], np.ones(values.shape[:2])
    for number, what in enumerate(kind.extra, kind.colours):
        if what.endswith("alpha"):
            alpha = values[..., number]
    if kind.extra[:1] == ("assocalpha",):
        colours = np.divide(colours, alpha[..., None], where=alpha[..., None] > 0, out=np.zeros_like(colours))
    if kind.photometric == "miniswhite":
        colours = 1 - colours
    elif kind.photometric == "separated":
        colours = (1 - colours[..., :3]) * (1 - colours[..., 3:])
    return lab_of(colours_of(colours)), alpha


@pytest.mark.parametrize("planes", [False, True], ids=["pixels", "planes"])
@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize("name", KINDS)
def test_every_layout_keeps_its_colours(name: str, depth: int, *, planes: bool) -> None:
    """Whatever the compression, the division and the byte order; premultiplied colours lose what their alpha hides."""
    kind = KINDS[name]
    values = cells(kind.colours + len(kind.extra))
    if kind.extra[:1] == ("assocalpha",):
        values[..., : kind.colours] *= values[..., kind.colours :][..., :1]
    stored = as_integers(values, depth)
    lab, alpha = expected(stored / (2**depth - 1), kind)
    for layout, data in layouts(stored, kind, planes=planes):
        normalized, seen, transparency = sent(data)
        assert normalized.media_type == "image/png", layout
        assert abs(transparency - alpha).max() < 0.006, layout
        shown = alpha > (0.5 if kind.extra[:1] == ("assocalpha",) else 0)
        assert difference(seen, lab)[shown].max() < 1.0, layout
