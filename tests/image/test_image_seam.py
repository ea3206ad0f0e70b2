"""The entry point: what it passes through, converts and refuses."""

from __future__ import annotations

from io import BytesIO

import pytest
from PIL import Image

from shared.errors import CorruptImage, EmptySource, ImageRefused, TooManyPixels, UnsupportedFormat
from shared.image import ImageLimits, normalize_image
from tests.kept import noted


def photo(width: int = 320, height: int = 240) -> Image.Image:
    """Return a picture with as much detail as a photo."""
    return Image.merge("RGB", [Image.effect_noise((width, height), spread) for spread in (20, 40, 60)])


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    """Return a picture as a file."""
    buffer = BytesIO()
    image.save(buffer, kind, **options)
    return noted(buffer.getvalue())


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_a_legal_image_is_sent_unchanged(kind: str) -> None:
    """Without metadata to remove, nothing is copied."""
    data = encoded(photo(), kind)
    normalized = normalize_image(data)
    assert normalized.data is data
    assert normalized.changes == ()


@pytest.mark.parametrize(("kind", "becomes"), [("BMP", "png"), ("TIFF", "png"), ("WEBP", "jpeg"), ("AVIF", "jpeg")])
def test_a_photo_in_another_format_is_converted(kind: str, becomes: str) -> None:
    """The API accepts only JPEG and PNG; lossless sources become a PNG."""
    normalized = normalize_image(encoded(photo(), kind))
    assert (normalized.media_type, normalized.width, normalized.height) == (f"image/{becomes}", 320, 240)
    assert normalized.changes == ("converted",)


def test_a_panorama_is_padded_to_five_to_one() -> None:
    """The default policy keeps all of the picture."""
    normalized = normalize_image(encoded(photo(1000, 100), "JPEG"))
    assert (normalized.width, normalized.height) == (1000, 200)
    assert normalized.changes == ("padded", "recompressed")


@pytest.mark.parametrize(
    ("data", "refusal", "word"),
    [
        (b"", EmptySource, "empty"),
        (b"%PDF-1.7\n", UnsupportedFormat, "PDF"),
        (b"<!DOCTYPE html><html>", UnsupportedFormat, "HTML"),
        (b"<?xml version='1.0'?><svg xmlns='http://www.w3.org/2000/svg'/>", UnsupportedFormat, "SVG"),
        (b"8BPS\0\1", UnsupportedFormat, "Photoshop"),
        (b"\0\0\0\x18ftypmp42", UnsupportedFormat, "video"),
        (b"hello", UnsupportedFormat, "text"),
        (encoded(photo(), "TIFF", big_tiff=True), UnsupportedFormat, "BigTIFF"),
        (encoded(photo(), "TIFF", tiffinfo={254: 1}), UnsupportedFormat, "preview"),
        (b"II*\0\x10\0\0\0CR\2\0", UnsupportedFormat, "camera's raw"),
        (bytes(100), UnsupportedFormat, "zeros"),
        (b"\xff\xd8\xff", CorruptImage, "cut short"),
    ],
)
def test_a_refusal_says_what_the_file_is(data: bytes, refusal: type[ImageRefused], word: str) -> None:
    """The uploader can act on the message alone."""
    with pytest.raises(refusal, match=word):
        normalize_image(data)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "AVIF"])
def test_a_file_that_is_cut_short_is_refused(kind: str) -> None:
    """Half an upload is not an image."""
    data = encoded(photo(), kind)
    with pytest.raises(CorruptImage):
        normalize_image(data[: len(data) // 2])


def test_too_many_pixels_are_refused_undecoded() -> None:
    """The header is enough to refuse it."""
    with pytest.raises(TooManyPixels, match="at most 0"):
        normalize_image(encoded(photo(), "PNG"), ImageLimits(max_source_pixels=1000))
