"""What is accepted as an iTwin's image, and what its thumbnail looks like.

Size is judged before content, width and height from the header alone, as the platform does; then the thumbnail needs
the pixels, and an image whose pixels cannot be read is refused as well. "5 MB" is documented neither as decimal nor as
binary: the smaller one holds, since the real platform might refuse what lies between.

A wrong `Content-Type` is 422 and not 415: the API's page lists every status it responds with, 415 is not among them,
and as one of the details it comes together with what else is wrong.
"""

from __future__ import annotations

import io
import struct
from typing import TYPE_CHECKING

from PIL import Image

from local.itwin_platform.errors import Problem

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_IMAGE_BYTES = 5_000_000
MAX_ASPECT_RATIO = 5
MAX_PIXELS = 89_478_485  # not documented; what Pillow reads without a warning
THUMBNAIL_PIXELS = 400  # not documented; the longer side
MEDIA_TYPES = ("image/png", "image/jpeg")

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
JPEG_START, JPEG_END, JPEG_SCAN = 0xD8, 0xD9, 0xDA
JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
JPEG_WITHOUT_LENGTH = frozenset({0x01, *range(0xD0, 0xD8)})


def find_problems(data: bytes, content_type: str | None) -> list[Problem]:
    """Return everything that the header of the image and of the request show to be wrong; no pixel is decoded."""
    return [*_content_type_problems(content_type), *_header_problems(data, media_type(content_type))]


def media_type(content_type: str | None) -> str:
    """Return `image/png` for `Image/PNG; charset=binary`."""
    return (content_type or "").partition(";")[0].strip().lower()


def make_thumbnail(data: bytes) -> bytes:
    """Make the small JPEG; raises ValueError where the pixels cannot be read."""
    try:
        with Image.open(io.BytesIO(data), formats=["PNG", "JPEG"]) as image:
            small = with_eight_bits(image)
            small.thumbnail((THUMBNAIL_PIXELS, THUMBNAIL_PIXELS))
            picture = small.convert("RGBA")
    except Exception as error:  # Pillow's decoders raise a dozen unrelated ones for corrupt content
        raise ValueError(str(error)) from error
    on_white = Image.new("RGBA", picture.size, "white")
    on_white.alpha_composite(picture)
    thumbnail = io.BytesIO()
    on_white.convert("RGB").save(thumbnail, "JPEG", quality=85)
    return thumbnail.getvalue()


def with_eight_bits(image: Image.Image) -> Image.Image:
    """Return a grey image of 16 bits with 8, any other as it is; Pillow's own conversion clips nearly all to white."""
    return image.point(lambda value: value / 256).convert("L") if image.mode.startswith("I;16") else image


def _content_type_problems(content_type: str | None) -> Iterator[Problem]:
    if media_type(content_type) not in MEDIA_TYPES:
        yield Problem("InvalidValue", "The Content-Type header must be image/png or image/jpeg.", "Content-Type")


def _header_problems(data: bytes, declared: str) -> Iterator[Problem]:
    if not data:
        yield Problem("InvalidRequestBody", "The iTwin Image is missing.", "image")
        return
    actual, size = read_header(data)
    if size is None or 0 in size:
        yield Problem("InvalidRequestBody", "The iTwin Image is neither a PNG nor a JPEG that can be read.", "image")
        return
    if declared in MEDIA_TYPES and declared != actual:
        yield Problem("InvalidRequestBody", f"The iTwin Image is {actual} and not {declared}.", "image")
    if max(size) > MAX_ASPECT_RATIO * min(size):
        message = "The width or height dimensions of the image cannot be greater than 5 times the size of each other."
        yield Problem("InvalidValue", message, "image")
    if size[0] * size[1] > MAX_PIXELS:
        yield Problem("InvalidValue", f"The iTwin Image has more than {MAX_PIXELS} pixels.", "image")


def read_header(data: bytes) -> tuple[str | None, tuple[int, int] | None]:
    """Return the media type and (width, height) that the first bytes claim; None for what they do not show.

    Own code, since an image library also wants checksums and pixel data, which the platform's check does not look at.
    """
    if data.startswith(PNG_SIGNATURE):
        return "image/png", _png_size(data)
    if data.startswith(bytes([0xFF, JPEG_START, 0xFF])):
        return "image/jpeg", _jpeg_size(data)
    return None, None


def _png_size(data: bytes) -> tuple[int, int] | None:
    """https://www.w3.org/TR/png-3/#11IHDR: length, type, width and height follow the signature."""
    first_chunk = data[len(PNG_SIGNATURE) : 24]
    if len(first_chunk) < 16 or first_chunk[4:8] != b"IHDR":  # noqa: PLR2004 - the four fields
        return None
    width, height = struct.unpack(">II", first_chunk[8:])
    return width, height


def _jpeg_size(data: bytes) -> tuple[int, int] | None:
    """ITU-T T.81, B.2.2: segments up to the first frame header."""
    at = 2
    while at + 9 <= len(data) and data[at] == 0xFF:  # noqa: PLR2004 - the first byte of every marker
        marker = data[at + 1]
        if marker in {JPEG_SCAN, JPEG_END}:
            return None
        if marker in JPEG_FRAMES:
            height, width = struct.unpack(">HH", data[at + 5 : at + 9])
            return width, height
        if marker == 0xFF:  # noqa: PLR2004 - a fill byte
            at += 1
        elif marker in JPEG_WITHOUT_LENGTH:
            at += 2
        else:
            at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return None
