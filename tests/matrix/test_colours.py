"""Whatever a file says of its colours, by CICP or by PNG's older chunks, what leaves shows the same."""

from __future__ import annotations

import struct
import zlib
from io import BytesIO
from typing import Any, NamedTuple

import imagecodecs
import numpy as np
import pillow_heif
import pytest
import tifffile
from PIL import Image, ImageCms

from tests.matrix.judge import HEIGHT, WIDTH, Pixels, as_integers, cells, colour, difference, lab_of, sent


class Stated(NamedTuple):
    """Two numbers of H.273, the chromaticities that the first stands for, and what the second makes of a number."""

    primaries: int
    transfer: int
    chromaticities: Any
    white: Any
    light: Any


def stated(primaries: int, transfer: int, space: str, light: Any = colour.models.eotf_sRGB) -> Stated:
    """Return what colour-science knows of a space, with another curve."""
    known = colour.RGB_COLOURSPACES[space]
    return Stated(primaries, transfer, known.primaries, known.whitepoint, light)


SPACES = {
    "srgb": stated(1, 13, "sRGB"),
    "bt709": stated(1, 1, "sRGB"),
    "unspecified": stated(2, 2, "sRGB"),
    "display p3": stated(12, 13, "Display P3"),
    "bt2020": stated(9, 13, "ITU-R BT.2020"),
    "bt2020 of cameras": stated(9, 14, "ITU-R BT.2020"),
    "smpte 170m": stated(6, 6, "SMPTE 240M"),
    "dci p3": stated(11, 17, "DCI-P3", lambda values: values**2.6),
    "gamma 2.2": stated(1, 4, "sRGB", lambda values: values**2.2),
    "gamma 2.8 of pal": stated(1, 5, "sRGB", lambda values: values**2.8),
    "linear": stated(1, 8, "sRGB", lambda values: values),
    "linear bt2020": stated(9, 8, "ITU-R BT.2020", lambda values: values),
}


def shown(values: Pixels, space: Stated) -> Pixels:
    """Return the Lab of values as a space has them."""
    judge = colour.RGB_Colourspace("", space.chromaticities, space.white)
    return lab_of(space.light(values), judge, is_linear=True)


def png(values: Pixels, *chunks: tuple[bytes, bytes]) -> bytes:
    """Return a PNG with further chunks after its header; 9 times as long as high, so that it has to be padded."""
    data = imagecodecs.png_encode(np.concatenate([values] * 7, axis=1))
    more = b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )
    return bytes(data[:33] + more + data[33:])


def unpadded(image: Pixels) -> Pixels:
    """Return the first of the pictures in what `png` made, without what it was padded with."""
    top = (image.shape[0] - HEIGHT) // 2
    return image[top : top + HEIGHT, :WIDTH]


def heic(values: Pixels, space: Stated, depth: int) -> bytes:
    """Return a HEIC without losses but those of its colours' matrix."""
    buffer = BytesIO()
    pillow_heif.options.SAVE_HDR_TO_12_BIT = depth == 12
    mode = "RGB" if depth == 8 else "RGB;16"
    stored = values if depth == 8 else values.astype(np.uint16) << 16 - depth
    pillow_heif.encode(
        mode,
        values.shape[1::-1],
        stored.tobytes(),
        buffer,
        quality=-1,
        chroma=444,
        color_primaries=space.primaries,
        transfer_characteristics=space.transfer,
        matrix_coefficients=0,
        full_range_flag=1,
    )
    return buffer.getvalue()


def avif(values: Pixels, space: Stated, depth: int) -> bytes:
    """Return an AVIF without losses but those of its colours' matrix."""
    codes = {"primaries": space.primaries, "transfer": space.transfer, "matrix": 0}
    return bytes(imagecodecs.avif_encode(values, 100, bitspersample=depth, pixelformat="444", speed=8, **codes))


def heic_of_a_stream(values: Pixels, space: Stated, depth: int) -> bytes:
    """Return a HEIC that states its colours in its stream alone (VUI), as x265 writes them there too."""
    data = heic(values, space, depth)
    assert data.count(b"colrnclx") == 1
    return data.replace(b"colrnclx", b"freenclx")


@pytest.mark.parametrize("depth", [8, 10, 12])
@pytest.mark.parametrize("name", SPACES)
@pytest.mark.parametrize("write", [avif, heic, heic_of_a_stream])
def test_the_colour_numbers_of_a_container_are_applied(write: Any, name: str, depth: int) -> None:
    """HEIC and AVIF: embedded as a profile, or converted."""
    stored = as_integers(cells(3, 0.2, 0.95), depth)
    normalized, lab, _ = sent(write(stored, SPACES[name], depth))
    assert difference(lab, shown(stored / (2**depth - 1), SPACES[name])).max() < 1
    is_srgb = SPACES[name].transfer in {1, 2, 13} and SPACES[name].primaries in {1, 2}
    assert is_srgb != bool({"profile-embedded", "colours-converted"} & set(normalized.changes))


@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize("name", [name for name in SPACES if name != "unspecified"])
def test_the_colour_numbers_of_a_png_are_applied(name: str, depth: int) -> None:
    """Even if it is padded, and whatever other colour chunks it has."""
    stored = as_integers(cells(3, 0.2, 0.95), depth)
    code = bytes((SPACES[name].primaries, SPACES[name].transfer, 0, 1))
    misleading = (b"iCCP", b"p\0\0" + zlib.compress(A_PROFILE)), (b"gAMA", struct.pack(">I", 20_000))
    _, lab, _ = sent(png(stored, (b"cICP", code), *misleading))
    assert difference(unpadded(lab), shown(stored / (2**depth - 1), SPACES[name])).max() < 1


@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize("gamma", [1.0, 1.4, 1.8, 2.2, 2.6, 3.0])
@pytest.mark.parametrize("name", ["sRGB", "Display P3", "Adobe RGB (1998)", "ITU-R BT.2020"])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_the_older_colour_chunks_of_a_png_are_applied(channels: int, name: str, gamma: float, depth: int) -> None:
    """These are gAMA and cHRM, with and without transparency, and for grey, to which cHRM does not apply."""
    space = colour.RGB_COLOURSPACES[name]
    points = np.concatenate([space.whitepoint, np.ravel(space.primaries)])
    chromaticities = struct.pack(">8I", *(round(100_000 * value) for value in points))
    stored = as_integers(cells(channels, 0.2, 0.95), depth)
    _, lab, alpha = sent(png(stored, (b"gAMA", struct.pack(">I", round(100_000 / gamma))), (b"cHRM", chromaticities)))
    values = stored / (2**depth - 1)
    is_grey = channels < 3
    judge = stated(0, 0, "sRGB" if is_grey else name, lambda light: light**gamma)
    if abs(gamma - 2.2) < 0.01 and name == "sRGB":
        judge = SPACES["srgb"]  # what is meant by such a gamma
    colours = values[..., :1].repeat(3, axis=-1) if is_grey else values[..., :3]
    assert difference(unpadded(lab), shown(colours, judge)).max() < 1
    if channels in {2, 4}:
        assert abs(unpadded(alpha) - values[..., -1]).max() < 0.005


@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize("gamma", [None, 1.0, 1.8, 2.6])
@pytest.mark.parametrize("name", ["sRGB", "Display P3", "Adobe RGB (1998)", "ITU-R BT.2020"])
def test_the_chromaticities_and_the_transfer_function_of_a_tiff_are_applied(
    name: str, gamma: float | None, depth: int
) -> None:
    """TIFF 6.0, section 20; without a function the curve is that of sRGB."""
    space = colour.RGB_COLOURSPACES[name]
    points = (318, space.whitepoint), (319, np.ravel(space.primaries))
    stated_by = [(tag, 5, len(part), [n for x in part for n in (round(1e6 * x), 10**6)], True) for tag, part in points]
    if gamma:
        table = np.round(65_535 * (np.arange(2**depth) / (2**depth - 1)) ** gamma).astype(int).tolist()
        stated_by.append((301, 3, len(table), table, True))
    stored = as_integers(cells(3, 0.2, 0.95), depth)
    buffer = BytesIO()
    tifffile.imwrite(buffer, stored, photometric="rgb", extratags=stated_by, metadata=None)
    _, lab, _ = sent(buffer.getvalue())
    judge = SPACES["srgb"] if gamma is None else stated(0, 0, "sRGB", lambda light: light**gamma)
    judge = judge._replace(chromaticities=space.primaries, white=space.whitepoint)
    assert difference(lab, shown(stored / (2**depth - 1), judge)).max() < 1


def test_a_profile_takes_precedence_over_the_older_colour_chunks_of_a_png() -> None:
    """But cICP takes precedence over the profile."""
    stored = as_integers(cells(3, 0.2, 0.95), 8)
    _, lab, _ = sent(png(stored, (b"iCCP", b"p\0\0" + zlib.compress(A_PROFILE)), (b"gAMA", struct.pack(">I", 100_000))))
    assert difference(unpadded(lab), lab_of(stored / 255)).max() < 1


def test_a_profile_takes_precedence_over_the_colour_numbers_of_an_avif() -> None:
    """Pillow writes both if it is given a profile."""
    stored = as_integers(cells(3, 0.2, 0.95), 8)
    buffer = BytesIO()
    Image.fromarray(stored).save(buffer, "AVIF", quality=100, subsampling="4:4:4", icc_profile=A_PROFILE)
    data = buffer.getvalue()
    at = data.index(b"nclx")
    both = data[: at + 4] + struct.pack(">HH", 12, 8) + data[at + 8 :]
    _, lab, _ = sent(both)
    assert difference(lab, lab_of(stored / 255)).max() < 2


WHITE_NITS = 203
HDR: dict[str, tuple[int, Any]] = {
    "pq": (16, lambda nits: colour.models.eotf_inverse_ST2084(nits, 10_000)),
    "hlg": (18, lambda nits: colour.models.eotf_inverse_BT2100_HLG(nits, L_B=0, L_W=1_000)),
}
"""The number of H.273 of each, and what of light, in cd/m2, it makes on its way to a file."""


def hdr(write: Any, curve: str, nits: Pixels, space: str, depth: int) -> Any:
    """Return a file of so much light."""
    transfer, encode = HDR[curve]
    primaries = {"sRGB": 1, "Display P3": 12, "ITU-R BT.2020": 9}[space]
    with np.errstate(invalid="ignore"):  # what it computes of both branches, and takes one of
        stored = as_integers(np.clip(encode(nits), 0, 1), depth)
    if write is png:
        return png(stored, (b"cICP", bytes((primaries, transfer, 0, 1))))
    return write(stored, Stated(primaries, transfer, None, None, None), depth)


WRITERS = [(png, 8), (png, 16), (avif, 8), (avif, 10), (avif, 12), (heic, 8), (heic, 10), (heic, 12)]


@pytest.mark.parametrize("space", ["sRGB", "Display P3", "ITU-R BT.2020"])
@pytest.mark.parametrize("curve", HDR)
@pytest.mark.parametrize(("write", "depth"), WRITERS)
def test_light_up_to_reference_white_is_preserved(write: Any, depth: int, curve: str, space: str) -> None:
    """White is 203 cd/m2, or 75 % of HLG; decoders return 8 bits, which costs up to 4 % of a pixel's light."""
    light = cells(3, 0.2, 0.97) ** 2.2
    normalized, lab, _ = sent(hdr(write, curve, WHITE_NITS * light, space, depth))
    lab = unpadded(lab) if write is png else lab
    expected = lab_of(light, colour.RGB_COLOURSPACES[space], is_linear=True)
    assert "tone-mapped" in normalized.changes
    assert abs(luminance(lab) / luminance(expected) - 1).max() < 0.05
    assert difference(lab, expected).max() < 2.5


def luminance(lab: Pixels) -> Pixels:
    """Return the light, of white's, that a lightness stands for."""
    return colour.colorimetry.luminance_CIE1976(lab[..., 0]) / 100


@pytest.mark.parametrize("peak", [400, 700, 4_000])
@pytest.mark.parametrize("curve", HDR)
@pytest.mark.parametrize(("write", "depth"), WRITERS)
def test_highlights_roll_off(write: Any, depth: int, curve: str, peak: int) -> None:
    """Each is brighter than the previous one, grey stays grey, and hues are preserved."""
    if curve == "hlg" and peak > 1_000:  # which it does not hold
        return
    ramp = np.geomspace(1, peak, 8)
    tints = np.array([(1, 1, 1), (1, 0.25, 0.25), (0.25, 1, 0.25), (0.25, 0.25, 1), (1, 0.6, 0.25), (0.25, 0.8, 1)])
    light = ramp[None, :, None] * tints[:, None, :]
    nits = light.repeat(8, axis=0).repeat(8, axis=1)
    _, lab, _ = sent(hdr(write, curve, nits, "sRGB", depth))
    lab = (unpadded(lab) if write is png else lab)[4::8, 4::8]
    assert (np.diff(lab[0, :, 0]) > 1).all()
    assert abs(lab[0, :, 1:]).max() < 1
    shown_hues, hues = hues_of(lab), hues_of(lab_of(light / peak, is_linear=True))
    turned = abs((shown_hues - hues + 180) % 360 - 180)[1:, 3:]
    assert turned.max() < 6


def hues_of(lab: Pixels) -> Pixels:
    """Return the hue of each pixel, in degrees, as IPT has it, which keeps what looks alike together."""
    xyz = colour.Lab_to_XYZ(lab, colour.CCS_ILLUMINANTS["CIE 1931 2 Degree Standard Observer"]["D50"])
    ipt = colour.XYZ_to_IPT(xyz)
    return np.degrees(np.arctan2(ipt[..., 2], ipt[..., 1]))


A_PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
