"""Whatever valid picture comes in, the output is legal: properties over pictures, formats and limits."""

from __future__ import annotations

import random
import threading
from functools import cache, partial
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from benchmarks.image.encodes import watched_encodes
from shared.errors import AspectRatioRefused, Rejected
from shared.image import ImageLimits, NormalizedImage, normalize_image
from tests.deadlines import HANG_S
from tests.image.pictures import encoded, exif, legal, photo

if TYPE_CHECKING:
    from collections.abc import Callable

FORMATS: dict[str, tuple[str, dict[str, Any], tuple[str, ...]]] = {
    "jpeg": ("JPEG", {}, ("L", "RGB", "CMYK")),
    "progressive": ("JPEG", {"progressive": True}, ("L", "RGB")),
    "png": ("PNG", {}, ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")),
    "gif": ("GIF", {}, ("L", "P", "RGB")),
    "bmp": ("BMP", {}, ("1", "L", "P", "RGB")),
    "tiff": ("TIFF", {"compression": "tiff_lzw"}, ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16")),
    "webp": ("WEBP", {}, ("RGB", "RGBA")),
    "avif": ("AVIF", {"speed": 10}, ("L", "RGB", "RGBA")),
}

pictures = st.tuples(
    st.sampled_from([(kind, mode) for kind, (_, _, modes) in FORMATS.items() for mode in modes]),
    st.integers(1, 300),
    st.integers(1, 300),
    st.integers(1, 8),
    st.booleans(),
)
magics = st.sampled_from([b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"BM", b"II*\0"])
limits = st.builds(
    ImageLimits,
    max_output_pixels=st.sampled_from([1_000, 20_000, 16_000_000]),
    aspect_policy=st.sampled_from(["pad", "crop", "reject"]),
    max_output_bytes=st.sampled_from([6_000, 30_000, 5_000_000]),
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(pictures, limits)
def test_every_output_is_legal(picture: tuple[tuple[str, str], int, int, int, bool], limits: ImageLimits) -> None:
    """JPEG or PNG, within the limits of size and ratio, 8 bits, and decodable to the end by libvips."""
    (name, mode), width, height, orientation, flat = picture
    kind, options, _ = FORMATS[name]
    image = Image.new(mode, (width, height)) if flat else photo(width, height).convert(mode if mode != "I;16" else "I")
    options = {**options, "exif": exif(orientation)} if kind in {"JPEG", "PNG", "WEBP", "AVIF"} else options
    data = encoded(image.convert(mode), kind, **options)
    try:
        normalized = normalize_image(data, limits)
    except AspectRatioRefused:
        assert limits.aspect_policy == "reject"
        assert max(width, height) > 5 * min(width, height)
        return
    assert_legal(normalized, limits)
    assert normalized.source.media_type == f"image/{kind.lower()}"
    assert (normalized.source.width, normalized.source.height) == (width, height)


def assert_legal(normalized: NormalizedImage, limits: ImageLimits) -> None:
    """Check an output against the API's rules, and against its own description."""
    assert len(normalized.data) <= limits.max_output_bytes
    assert normalized.media_type == ("image/png" if normalized.data.startswith(b"\x89PNG") else "image/jpeg")
    width, height = legal(normalized.data)
    assert (normalized.width, normalized.height) == (width, height)
    assert max(width, height) <= limits.max_aspect_ratio * min(width, height)
    assert len(set(normalized.changes)) == len(normalized.changes)


@settings(max_examples=300, deadline=None)
@given(
    st.binary(max_size=200), st.sampled_from([b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"BM", b"II*\0"])
)
def test_any_bytes_are_refused_or_become_legal(data: bytes, magic: bytes) -> None:
    """No other exception escapes, whatever a plugin raises."""
    try:
        normalized = normalize_image(magic + data)
    except Rejected:
        return
    assert_legal(normalized, ImageLimits())


def test_an_output_is_the_same_every_time() -> None:
    """A redelivered drop yields the same bytes, so that checksums can be compared."""
    data = encoded(photo(1000, 900), "TIFF")
    small = ImageLimits(max_output_bytes=100_000)
    assert normalize_image(data, small).data == normalize_image(data, small).data


@pytest.mark.parametrize("max_bytes", [150_000, 300_000, 600_000])
def test_an_output_comes_close_to_the_size_limit(max_bytes: int) -> None:
    """A file that is smaller than necessary is a picture that is worse than necessary."""
    data = encoded(photo(1600, 1200), "TIFF")
    normalized = normalize_image(data, ImageLimits(max_output_bytes=max_bytes))
    assert 0.80 * max_bytes <= len(normalized.data) <= max_bytes


@pytest.mark.parametrize("policy", ["pad", "crop", "reject"])
@pytest.mark.parametrize("size", [(1500, 300), (300, 1500), (1499, 300)])
@pytest.mark.parametrize(
    "limits", [{"max_output_pixels": 100_000}, {"max_output_bytes": 40_000}], ids=["pixels", "bytes"]
)
def test_scaling_down_never_breaks_the_aspect_ratio(limits: dict[str, int], size: tuple[int, int], policy: Any) -> None:
    """Both sides are rounded, and at exactly 5:1 that may make the short side too short."""
    chosen = ImageLimits(aspect_policy=policy, **limits)
    normalized = normalize_image(encoded(photo(*size), "TIFF"), chosen)
    assert normalized.changes == ("resized", "converted")
    assert_legal(normalized, chosen)


@pytest.mark.parametrize("quality", [1, 5, 10, 15, 17, 25, 40, 60, 75])
def test_quality_never_exceeds_that_of_the_source(quality: int) -> None:
    """A JPEG's losses are not undone by more bytes; nor is more lost than necessary."""
    data = encoded(photo(1000, 100), "JPEG", quality=quality)
    normalized = normalize_image(data)
    assert "recompressed" in normalized.changes
    assert luma_table(normalized.data) == luma_table(data)


def test_quality_stays_below_that_of_a_source_with_custom_tables() -> None:
    """Cameras have tables of their own, which match no quality exactly."""
    table = [min(255, 20 + 3 * at) for at in range(64)]
    data = encoded(photo(1000, 100), "JPEG", qtables=[table, table])
    tables = [luma_table(encoded(photo(16, 16), "JPEG", quality=quality)) for quality in range(1, 101)]
    assert luma_table(normalize_image(data).data) == min(size for size in tables if size >= sum(table))


def luma_table(data: bytes) -> int:
    """Return the sum of the first quantization table, which grows as quality falls."""
    start = data.index(b"\xff\xdb") + 5
    return sum(data[start : start + 64])


def test_an_image_is_scaled_down_before_its_quality_falls_below_the_minimum() -> None:
    """A small sharp picture shows more than a large blurred one."""
    data = encoded(photo(1600, 1200), "TIFF")
    normalized = normalize_image(data, ImageLimits(max_output_bytes=60_000))
    assert "resized" in normalized.changes
    assert luma_table(normalized.data) <= luma_table(encoded(photo(16, 16), "JPEG", quality=70))


WIDE, HIGH = 1610, 1403


@cache
def partly_noise(share: float, mode: str = "RGB") -> Image.Image:
    """Return a picture with noise on the left, and flat elsewhere."""
    picture = Image.new("RGB", (WIDE, HIGH), (200, 210, 220))
    picture.paste(photo(int(WIDE * share), HIGH), (0, 0))
    return picture.convert(mode)


@cache
def few_colours() -> Image.Image:
    """Return a picture of 16 colours."""
    return photo(WIDE, HIGH).quantize(16)


def profile(size: int) -> bytes:
    """Return bytes that look like an RGB profile."""
    return bytes(16) + b"RGB " + bytes(16) + b"acsp" + random.Random(1).randbytes(size)  # noqa: S311 - no secret


@pytest.mark.parametrize("max_bytes", [400_000, 700_000, 1_100_000])
@pytest.mark.parametrize(
    ("picture", "options"),
    [
        *((partial(partly_noise, share), {}) for share in (0.1, 0.2, 0.39, 0.6, 1.0)),
        *((partial(partly_noise, share, mode), {}) for share in (0.3, 1.0) for mode in ("L", "RGBA", "P")),
        (partial(partly_noise, 1.0), {"icc_profile": profile(90_000)}),
        (few_colours, {}),
        (partial(photo, WIDE, HIGH, "1"), {}),
    ],
)
def test_no_picture_is_encoded_more_than_twice(
    picture: Callable[[], Image.Image], options: dict[str, Any], max_bytes: int
) -> None:
    """Its size is predicted instead of searched for; failed attempts, as a PNG or a JPEG, count as well."""
    assert 1 <= full_encodes(encoded(picture(), "TIFF", **options), max_bytes) <= 2


def test_a_large_picture_is_encoded_once() -> None:
    """The first encode fits, as far as that can be predicted."""
    assert full_encodes(encoded(photo(2400, 1810), "JPEG", quality=95), 700_000) == 1


def full_encodes(data: bytes, max_bytes: int) -> int:
    """Count the encodes of a legal output, except mosaics, which consist of whole tiles of 32 x 32."""
    limits = ImageLimits(max_output_bytes=max_bytes)
    with watched_encodes() as sizes:
        normalized = normalize_image(data, limits)
    assert_legal(normalized, limits)
    return sum(across % 32 > 0 or down % 32 > 0 for across, down in sizes)


def test_changes_are_reported_in_order() -> None:
    """Even if a flattened picture turned out to be too large only then."""
    picture = photo(600, 600)
    picture.putalpha(Image.linear_gradient("L").resize((600, 600)))
    normalized = normalize_image(encoded(picture, "WEBP", lossless=True), ImageLimits(max_output_bytes=20_000))
    assert normalized.changes == ("resized", "flattened", "converted")


def test_threads_do_not_affect_one_another() -> None:
    """Several drops are processed at once in one process."""
    sources = [encoded(photo(600, 100 + 10 * turn), "TIFF", compression="tiff_lzw") for turn in range(8)]
    alone = [normalize_image(source).data for source in sources]
    together: dict[int, bytes] = {}

    def work(turn: int) -> None:
        together[turn] = normalize_image(sources[turn]).data

    threads = [threading.Thread(target=work, args=(turn,)) for turn in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=HANG_S)
    assert [together[turn] for turn in range(8)] == alone
