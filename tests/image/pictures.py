"""How the pictures of these tests are made, and how they are looked at by a decoder that is not Pillow."""

from __future__ import annotations

from functools import lru_cache
from io import BytesIO
from typing import Any

import pyvips
from PIL import Image, ImageFilter

from shared.errors import ImageRefused
from shared.image import normalize_image
from tests.kept import noted

Pixel = tuple[int, ...]
WIDTH, HEIGHT = 48, 32
_CELL = 16
_LARGE = 100_000
_COLOURS = ((200, 30, 30), (30, 160, 40), (40, 60, 200), (230, 220, 60), (20, 20, 20), (240, 240, 240))


def pattern() -> Image.Image:
    """Return a picture of six cells, each of its own colour, so that no turn or mirroring of it looks like another."""
    image = Image.new("RGB", (WIDTH, HEIGHT))
    image.putdata([pattern_at(x, y) for y in range(HEIGHT) for x in range(WIDTH)])
    return image


def pattern_at(x: int, y: int) -> Pixel:
    """Return the colour of one pixel of the pattern."""
    return _COLOURS[y // _CELL * 3 + x // _CELL]


def photo(width: int = 320, height: int = 240, mode: str = "RGB") -> Image.Image:
    """Return a picture with as much detail as a photo: a small one is always another, large ones take a while."""
    make = _large_photo if width * height > _LARGE else _photo
    return make(width, height).convert(mode)


def _photo(width: int, height: int) -> Image.Image:
    noise = [Image.effect_noise((width, height), spread) for spread in (20, 40, 60)]
    waves = Image.radial_gradient("L").resize((width, height))
    return Image.merge("RGB", [Image.blend(waves, band, 0.3) for band in noise])


_large_photo = lru_cache(32)(_photo)


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    """Return a picture as a file."""
    buffer = BytesIO()
    image.save(buffer, kind, **options)
    return noted(buffer.getvalue())


def exif(orientation: int = 1, **tags: Any) -> bytes:
    """Return an EXIF block with an orientation, a camera and a place."""
    block = Image.Exif()
    block[0x0112] = orientation
    block[0x010F] = "Secret Camera Works"
    block.get_ifd(0x8825)[1] = "N"
    block.get_ifd(0x8825)[2] = (48.0, 8.0, 15.0)
    for tag, value in tags.items():
        block[int(tag)] = value
    return block.tobytes()


def seen(data: bytes) -> tuple[int, int, list[Pixel]]:
    """Return width, height and pixels as libvips sees them, which refuses whatever it has to warn of."""
    image = pyvips.Image.new_from_buffer(data, "", fail_on="warning")
    raw = image.write_to_memory()
    bands = image.bands
    pixels = [tuple(raw[at : at + bands]) for at in range(0, len(raw), bands)]
    return image.width, image.height, pixels


def decodable(data: bytes, fail_on: str = "error") -> tuple[int, int]:
    """Demand of libvips that it decodes to the end, whatever it may have to warn of; return width and height."""
    image = pyvips.Image.new_from_buffer(data, "", fail_on=fail_on)
    image.avg()
    return image.width, image.height


def legal(data: bytes) -> tuple[int, int]:
    """Demand of libvips that it decodes every pixel; return width and height."""
    image = pyvips.Image.new_from_buffer(data, "", fail_on="warning")
    if image.interpretation not in {"srgb", "b-w"} or image.format != "uchar":
        raise AssertionError(f"{image.interpretation} {image.format}")
    image.avg()
    return image.width, image.height


def scenery() -> Image.Image:
    """Return a picture with edges, smooth areas and noise, like a photo."""
    waves = Image.effect_mandelbrot((480, 320), (-2.2, -1.2, 1.0, 1.2), 60)
    smooth = Image.radial_gradient("L").resize((480, 320))
    noise = Image.effect_noise((480, 320), 30).filter(ImageFilter.GaussianBlur(1))
    return Image.merge("RGB", [Image.blend(part, noise, 0.3) for part in (waves, smooth, noise)])


def shows_damage(data: bytes, whole: pyvips.Image) -> bool:
    """Say whether libvips, which repairs what it can, shows one pixel in two hundred clearly differently."""
    try:
        image = pyvips.Image.new_from_buffer(data, "", fail_on="none")
        different = ((image - whole).abs() > 24).bandor()
        return bool(different.avg() / 255 > 0.005)
    except pyvips.Error:
        return True


def is_accepted(data: bytes) -> bool:
    """Say whether the image would be uploaded."""
    try:
        normalize_image(data)
    except ImageRefused:
        return False
    return True
