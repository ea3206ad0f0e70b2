"""A DNG's largest preview is sent: upright, in its own colours, and never the sensor's data."""

from __future__ import annotations

import struct
from io import BytesIO

import pytest
from PIL import Image

from shared.errors import UnsupportedFormat
from shared.image import ImageLimits, normalize_image
from tests.image.pictures import exif
from tests.image.raw_files import (
    ALTERNATIVE,
    CFA,
    DNG_VERSION,
    LARGE,
    LINEAR_RAW,
    MAIN,
    MASK,
    PREVIEW,
    PREVIEW_COLOURS,
    RAW,
    RGB,
    SMALL,
    SUB_PAGES,
    THUMBNAIL,
    TRANSPARENCY_MASK,
    YCBCR,
    Page,
    _write,
    dng,
    jpeg,
    page,
)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("chained", [False, True])
@pytest.mark.parametrize("pages", [[RAW, SMALL, LARGE], [LARGE, SMALL, RAW]])
def test_the_largest_preview_is_sent_as_it_is(pages: list[tuple[Page, bytes]], order: str, *, chained: bool) -> None:
    """Wherever it is among the pages."""
    normalized = normalize_image(dng(THUMBNAIL, pages, order, chained=chained))
    assert normalized.data == LARGE[1]
    assert normalized.changes == ("preview-used", "metadata-removed")
    assert normalized.source.media_type == "image/x-adobe-dng"


def test_offsets_of_pages_may_have_the_type_ifd() -> None:
    """IFD is another name for LONG, which libtiff writes; such files were refused as cut short."""
    data = dng(THUMBNAIL, [RAW, LARGE])
    named = data.replace(struct.pack("<HH", SUB_PAGES, 4), struct.pack("<HH", SUB_PAGES, 13))
    assert named != data
    assert normalize_image(named).data == LARGE[1]


@pytest.mark.parametrize("kind", [PREVIEW, ALTERNATIVE])
@pytest.mark.parametrize("photometric", [YCBCR, RGB])
def test_pages_marked_as_previews_are_used(kind: int, photometric: int) -> None:
    """In the colours of a JPEG, or in RGB."""
    preview = page(kind, photometric, LARGE[1], (1_600, 1_200))
    assert normalize_image(dng(THUMBNAIL, [RAW, preview])).data == LARGE[1]


@pytest.mark.parametrize(
    "other",
    [
        page(MAIN, YCBCR, LARGE[1], (1_600, 1_200)),
        page(MASK, YCBCR, LARGE[1], (1_600, 1_200)),
        page(PREVIEW, CFA, LARGE[1], (1_600, 1_200)),
        page(PREVIEW, LINEAR_RAW, LARGE[1], (1_600, 1_200)),
        page(PREVIEW, TRANSPARENCY_MASK, LARGE[1], (1_600, 1_200)),
        page(PREVIEW, YCBCR, LARGE[1][:1_000], (1_600, 1_200)),
        page(PREVIEW, YCBCR, jpeg("blue", 1_023, 768), (1_023, 768)),
        page(PREVIEW, YCBCR, jpeg("blue", 200, 100), (1_600, 1_200)),
    ],
)
def test_neither_a_raw_picture_nor_a_small_preview_is_sent(other: tuple[Page, bytes]) -> None:
    """The raw picture of a DNG may be a JPEG as well; and a small preview is not good enough."""
    assert normalize_image(dng(THUMBNAIL, [other, SMALL])).data == SMALL[1]
    with pytest.raises(UnsupportedFormat, match=r"raw file \(DNG\) without a JPEG preview of at least 1,024"):
        normalize_image(dng(THUMBNAIL, [other, RAW]))


def test_the_first_page_may_be_the_preview() -> None:
    """Phones write it there."""
    entries, pixels = LARGE
    data = dng({}, [RAW])
    body = bytearray(data)
    at = len(body)
    body += pixels
    start = _write(body, "<", {**entries, 273: (at,), 279: (len(pixels),), DNG_VERSION: (0x0104_0000,)})
    struct.pack_into("<I", body, 4, start)
    assert normalize_image(bytes(body)).data == pixels


@pytest.mark.parametrize(("orientation", "size"), [(1, (1_600, 1_200)), (3, (1_600, 1_200)), (6, (1_200, 1_600))])
def test_a_preview_is_rotated_as_its_first_page_states(orientation: int, size: tuple[int, int]) -> None:
    """The first page states the orientation; that of the JPEG was written by another program."""
    preview = page(PREVIEW, YCBCR, jpeg("blue", 1_600, 1_200, exif=exif(8)), (1_600, 1_200))
    normalized = normalize_image(dng({**THUMBNAIL, 274: (orientation,)}, [RAW, preview]))
    assert (normalized.width, normalized.height) == size
    assert ("oriented" in normalized.changes) == (orientation > 1)
    assert b"Exif" not in normalized.data


@pytest.mark.parametrize(("space", "is_told"), [(0, False), (2, False), (3, True), (4, True)])
def test_a_preview_keeps_its_colour_space(space: int, *, is_told: bool) -> None:
    """Adobe RGB and ProPhoto become a profile; no pixel value changes."""
    preview = page(PREVIEW, YCBCR, LARGE[1], (1_600, 1_200), **{str(PREVIEW_COLOURS): space})
    normalized = normalize_image(dng(THUMBNAIL, [RAW, preview]))
    assert ("profile-embedded" in normalized.changes) == is_told
    assert ("icc_profile" in Image.open(BytesIO(normalized.data)).info) == is_told


def test_a_large_preview_is_scaled_down_like_any_jpeg() -> None:
    """The limits are the same."""
    limits = ImageLimits(max_output_bytes=len(LARGE[1]) - 1, max_output_pixels=100_000)
    normalized = normalize_image(dng(THUMBNAIL, [RAW, LARGE]), limits)
    assert normalized.changes == ("preview-used", "resized", "converted", "metadata-removed")
    assert normalized.width * normalized.height <= 100_000


def test_a_circular_chain_of_pages_ends() -> None:
    """A chain of pages may be circular."""
    data = bytearray(dng({}, [RAW, RAW], chained=True))
    (start,) = struct.unpack_from("<I", data, 4)
    last = data.rindex(struct.pack("<HHII", 279, 4, 1, len(RAW[1])))
    struct.pack_into("<I", data, last + 12, start)
    with pytest.raises(UnsupportedFormat, match="DNG"):
        normalize_image(bytes(data))
