"""JPEGs that no decoder here reads are refused by the name of their kind."""

from __future__ import annotations

from typing import Any

import pytest

from shared.errors import UnsupportedFormat
from shared.image import normalize_image
from tests.image.pictures import encoded, photo

FRAME = b"\xff\xc0"


@pytest.mark.parametrize(
    ("marker", "kind"),
    [(0xC3, "lossless"), (0xC9, "arithmetic-coded"), (0xCA, "arithmetic-coded"), (0xC5, "hierarchical"), (0xF7, "LS")],
)
def test_an_unsupported_kind_of_jpeg_is_refused_with_a_message_that_names_it(marker: int, kind: str) -> None:
    """One of them at a time; JPEG-LS was called damaged."""
    with pytest.raises(UnsupportedFormat, match=kind):
        normalize_image(encoded(photo(), "JPEG").replace(FRAME, bytes((0xFF, marker))))


def test_a_jpeg_with_two_channels_is_refused_with_a_message_that_names_them() -> None:
    """They are no damage."""
    data = encoded(photo(), "JPEG")
    at = data.index(FRAME)
    header = data[at : at + 9] + b"\2" + data[at + 10 : at + 16]
    with pytest.raises(UnsupportedFormat, match="2 channels"):
        normalize_image(data[:at] + FRAME + b"\0\x0e" + header[4:] + data[at + 19 :])


def test_a_height_that_follows_the_pixels_is_refused_with_that_reason() -> None:
    """Unless it says again what the header said, which changes nothing (DNL; T.81, B.2.5)."""
    data = encoded(photo(), "JPEG")
    at = data.index(FRAME) + 5
    height = b"\xff\xdc\0\4" + data[at : at + 2]
    assert normalize_image(data[:-2] + height + data[-2:]).data == data
    with pytest.raises(UnsupportedFormat, match="height only after"):
        normalize_image(data[:at] + b"\0\0" + data[at + 2 : -2] + height + data[-2:])


class Counted(bytes):
    """A file that knows how often all of it was searched."""

    searches = 0

    def count(self, *asked: Any) -> int:
        """Count what is asked for, and that it was."""
        type(self).searches += len(asked) == 1
        return super().count(*asked)


def test_junk_between_segments_is_searched_in_linear_time() -> None:
    """A few bytes before each of a million segments took time by the square of their number."""
    data = encoded(photo(64, 64), "JPEG")
    searches = []
    for gaps in (1, 100):
        Counted.searches = 0
        file = Counted(data[:20] + b"\n\xff\xfe\0\2" * gaps + data[20:])
        assert normalize_image(file).data == data
        searches.append(Counted.searches)
    assert searches[0] == searches[1] > 0
