"""Adobe RGB that only EXIF states, as cameras do, is what leaves as well: libexif writes it, colour-science judges."""

from __future__ import annotations

import struct
from io import BytesIO
from typing import Any

import pillow_heif
import pytest
import pyvips
import tifffile
from PIL import Image

from tests.matrix.judge import Pixels, as_integers, cells, colour, difference, lab_of, sent

ADOBE_RGB = colour.RGB_COLOURSPACES["Adobe RGB (1998)"]
STORED = as_integers(cells(3), 8)


def noted(stored: Pixels, colour_space: str = "65535", index: str = "R03") -> pyvips.Image:
    """Return a picture of libvips whose EXIF states a colour space and the index of the rules that it follows."""
    image = pyvips.Image.new_from_array(stored).copy(interpretation="srgb" if stored.ndim == 3 else "b-w")
    image.set_type(pyvips.GValue.gstr_type, "exif-ifd2-ColorSpace", colour_space)
    image.set_type(pyvips.GValue.gstr_type, "exif-ifd4-InteroperabilityIndex", index)
    return image


def block() -> bytes:
    """Return what libexif writes."""
    with Image.open(BytesIO(noted(STORED).jpegsave_buffer())) as image:
        return bytes(image.info["exif"])


def as_tiff(stored: Pixels) -> bytes:
    """Return a TIFF, behind which the directories of its EXIF are: that of its rules, and that which leads to them."""

    def written(start: int) -> bytes:
        buffer = BytesIO()
        leading = [(34_664, 4, 1, start, True)]  # it writes no 34,665
        tifffile.imwrite(buffer, stored, photometric="rgb", metadata=None, software=False, extratags=leading)
        return buffer.getvalue().replace(struct.pack("<HHI", 34_664, 4, 1), struct.pack("<HHI", 34_665, 4, 1))

    end = len(written(0))
    rules = struct.pack("<HHHI4sI", 1, 1, 2, 4, b"R03", 0)
    exif = struct.pack("<HHHIHxxHHIII", 2, 0xA001, 3, 1, 0xFFFF, 0xA005, 4, 1, end, 0)
    return written(end + len(rules)) + rules + exif


def as_heic(stored: Pixels, box: bytes = b"colr", primaries: int = 2, transfer: int = 2) -> bytes:
    """Return a HEIC whose container says nothing else of its colours: its numbers stand for "unspecified"."""
    buffer = BytesIO()
    how: dict[str, Any] = {"quality": -1, "chroma": 444, "exif": block(), "matrix_coefficients": 0}
    numbers = {"color_primaries": primaries, "transfer_characteristics": transfer, "full_range_flag": 1}
    pillow_heif.encode("RGB", stored.shape[1::-1], stored.tobytes(), buffer, **how, **numbers)
    data = buffer.getvalue()
    assert b"colrnclx" in data
    return data.replace(b"colrnclx", box + b"nclx")


def as_jpeg(image: pyvips.Image, **options: Any) -> bytes:
    """Return a JPEG with few losses."""
    return bytes(image.jpegsave_buffer(Q=97, subsample_mode="off", **options))


def as_png(image: pyvips.Image, **options: Any) -> bytes:
    """Return a PNG."""
    return bytes(image.pngsave_buffer(**options))


WRITERS: dict[str, Any] = {
    "jpeg": lambda stored: as_jpeg(noted(stored)),
    "png": lambda stored: as_png(noted(stored)),
    "webp": lambda stored: noted(stored).webpsave_buffer(lossless=True),
    "tiff": as_tiff,
    "heic": as_heic,
    "heic without numbers": lambda stored: as_heic(stored, b"free"),
}


@pytest.mark.parametrize("name", WRITERS)
def test_adobe_rgb_stated_by_exif_is_preserved(name: str) -> None:
    """Whether the pixels are sent as they are or re-encoded; without a profile, viewers would assume sRGB, 10 away."""
    normalized, lab, _ = sent(WRITERS[name](STORED))
    assert "profile-embedded" in normalized.changes
    assert "metadata-removed" in normalized.changes
    assert not {"recompressed", "resized"} & set(normalized.changes)
    assert difference(lab, lab_of(STORED / 255, ADOBE_RGB)).max() < 1


@pytest.mark.parametrize("name", ["jpeg", "png"])
def test_grey_in_adobe_rgb_keeps_its_curve(name: str) -> None:
    """A power of 2.2, which differs from sRGB's curve in dark tones."""
    stored = as_integers(cells(1)[..., 0], 8)
    normalized, lab, _ = sent(WRITERS[name](stored))
    assert "profile-embedded" in normalized.changes
    assert difference(lab, lab_of(stored[..., None].repeat(3, axis=-1) / 255, ADOBE_RGB)).max() < 1


@pytest.mark.parametrize(("colour_space", "index"), [("1", "R98"), ("65535", "R98"), ("1", "R03"), ("65535", "THM")])
@pytest.mark.parametrize("write", [as_jpeg, as_png])
def test_adobe_rgb_is_assumed_only_if_exif_states_it_twice(write: Any, colour_space: str, index: str) -> None:
    """Both are required: a colour space other than sRGB, and the rules of DCF's optional colour space."""
    normalized, lab, _ = sent(write(noted(STORED, colour_space, index)))
    assert normalized.changes == ("metadata-removed",)
    assert difference(lab, lab_of(STORED / 255)).max() < 1


def test_the_colour_numbers_of_a_heic_container_take_precedence_over_exif() -> None:
    """But those of its stream do not: x265 writes sRGB there by default."""
    normalized, lab, _ = sent(as_heic(STORED, b"colr", 1, 13))
    assert normalized.changes == ("converted", "metadata-removed")
    assert difference(lab, lab_of(STORED / 255)).max() < 1


@pytest.mark.parametrize("write", [as_jpeg, as_png])
def test_a_profile_takes_precedence_over_exif(write: Any) -> None:
    """A program that converted the colours may have left EXIF as it was."""
    normalized, lab, _ = sent(write(noted(STORED), profile="srgb"))
    assert normalized.changes == ("metadata-removed",)
    assert difference(lab, lab_of(STORED / 255)).max() < 1


def test_the_nonstandard_number_for_adobe_rgb_is_understood() -> None:
    """Some cameras write 2, which EXIF reserves."""
    _, lab, _ = sent(as_jpeg(noted(STORED, "2")))
    assert difference(lab, lab_of(STORED / 255, ADOBE_RGB)).max() < 1
