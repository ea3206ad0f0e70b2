"""Creates the pictures to measure, once: `python -m benchmarks.image.inputs FOLDER PHOTO_FOLDER`.

Photos are tiled at their original size until the job's size is filled: their noise and detail stay as the camera made
them. Without photos, pictures with a sensor's kind of noise are drawn.
"""

from __future__ import annotations

import json
import sys
from functools import cache
from io import BytesIO
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

from PIL import Image, ImageChops, ImageCms, ImageDraw, ImageFilter

if TYPE_CHECKING:
    from collections.abc import Callable

_PATCH = 1_200, 900
_MIN_PHOTO_PIXELS = 2_000_000
_MIN_PHOTO_BITS = 1.3
"""Bytes per pixel: more strongly compressed photos have lost the noise that makes encoding hard."""

_DRAWN = 6
_GRAIN = 1.5
_NO_PHOTOS = "abstract"
_ORIENTATION, _MAKE, _GPS_IFD = 0x0112, 0x010F, 0x8825


def make_all(folder: Path, photos: list[Path]) -> list[str]:
    """Create every missing picture; return the names of those that cannot be created here."""
    folder.mkdir(parents=True, exist_ok=True)
    missing = []
    for name, make in _PICTURES.items():
        if not (folder / name).exists():
            try:
                data = make(tuple(photos))
            except ImportError:
                missing.append(name)
            else:
                (folder / name).write_bytes(data)
    return missing


def compose(width: int, height: int, photos: tuple[Path, ...], seed: int = 0) -> Image.Image:
    """Return a picture of that size, filled with patches of the photos."""
    sources = range(len(photos) or _DRAWN)
    random = Random(seed)  # noqa: S311 - the same pictures in every run
    canvas = Image.new("RGB", (width, height))
    for top in range(0, height, _PATCH[1]):
        for left in range(0, width, _PATCH[0]):
            source = _source(photos, random.choice(sources))
            x, y = (random.randrange(max(1, size - patch)) for size, patch in zip(source.size, _PATCH, strict=True))
            canvas.paste(source.crop((x, y, x + _PATCH[0], y + _PATCH[1])), (left, top))
    return canvas


def find_photos(folder: Path) -> list[Path]:
    """Return the JPEGs of a folder that are large, and only slightly compressed."""
    photos = []
    for path in sorted(folder.rglob("*.jpg")):
        if path.is_file() and not path.is_symlink() and _NO_PHOTOS not in path.parts:
            with Image.open(path) as image:
                pixels = image.width * image.height
            if pixels >= _MIN_PHOTO_PIXELS and path.stat().st_size * 8 >= _MIN_PHOTO_BITS * pixels:
                photos.append(path)
    return photos


@cache
def _source(photos: tuple[Path, ...], number: int) -> Image.Image:
    return Image.open(photos[number]).convert("RGB") if photos else _drawn(number)


def _drawn(seed: int) -> Image.Image:
    """Draw light, shapes, texture at every scale, and noise that grows finer than a pixel."""
    random = Random(seed)  # noqa: S311 - the same pictures in every run
    size = 2_400, 1_800
    channels = []
    for _ in range(3):
        layer = Image.radial_gradient("L").resize(size)
        for coarseness in (120, 30, 8, 3):
            noise = Image.effect_noise((size[0] // coarseness, size[1] // coarseness), 40).resize(size)
            layer = ImageChops.add(layer, noise, 1, -128)
        channels.append(layer)
    picture = Image.merge("RGB", channels)
    draw = ImageDraw.Draw(picture)
    for _ in range(60):
        x, y, radius = random.randrange(size[0]), random.randrange(size[1]), random.randrange(10, 240)
        colour = random.randrange(256), random.randrange(256), random.randrange(256)
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), colour)
    grain = Image.merge("RGB", [Image.effect_noise(size, 14) for _ in range(3)])
    return ImageChops.add(picture.filter(ImageFilter.GaussianBlur(0.7)), grain, 1, -128)


def _jpeg(
    width: int, height: int, megabytes: float, quality: int, orientation: int = 1, **options: Any
) -> Callable[..., bytes]:
    """Create a JPEG of at most that many bytes, with the metadata of a phone."""

    def make(photos: tuple[Path, ...]) -> bytes:
        exif = Image.Exif()
        exif[_MAKE], exif[_ORIENTATION] = "A camera", orientation
        exif.get_ifd(_GPS_IFD).update({1: "N", 2: (60.0, 10.0, 0.0), 3: "E", 4: (24.0, 50.0, 0.0)})
        picture = _soft_enough(width, height, megabytes, photos, "JPEG", quality=quality)
        return _save(picture, "JPEG", quality=quality, exif=exif, **options)

    return make


def _png(width: int, height: int, megabytes: float) -> Callable[..., bytes]:
    return lambda photos: _save(_soft_enough(width, height, megabytes, photos, "PNG"), "PNG")


def _soft_enough(
    width: int, height: int, megabytes: float, photos: tuple[Path, ...], kind: str, **options: Any
) -> Image.Image:
    """Return a picture with a file of that size: as soft as from a small lens, with a sensor's grain."""

    def soften(softness: float, part: int) -> Image.Image:
        picture = compose(round(width / part / softness), round(height / part / softness), photos)
        picture = picture.resize((width // part, height // part), Image.Resampling.BICUBIC)
        if kind == "PNG" or softness == 1:
            return picture
        grain = Image.effect_noise(picture.size, _GRAIN)
        return ImageChops.add(picture, Image.merge("RGB", [grain] * 3), 1, -128)

    def fits(picture: Image.Image, part: int) -> bool:
        return len(_save(picture, kind, **options)) * part**2 <= megabytes * 1e6

    softness = 1.0
    while not fits(soften(softness, 4), 4):
        softness *= 1.06
    while not fits(picture := soften(softness, 1), 1):
        softness *= 1.04
    return picture


def _cmyk(photos: tuple[Path, ...]) -> bytes:
    """Create a CMYK JPEG with the press profile that libvips includes."""
    import pyvips  # noqa: PLC0415 - may be missing

    picture = compose(4_032, 3_024, photos)
    image = pyvips.Image.new_from_memory(picture.tobytes(), *picture.size, 3, "uchar").copy(interpretation="srgb")
    return bytes(image.icc_export(output_profile="cmyk").jpegsave_buffer(Q=80))


def _heic(photos: tuple[Path, ...]) -> bytes:
    import pillow_heif  # noqa: PLC0415 - the only encoder; only benchmarks have it

    pillow_heif.register_heif_opener()
    return _save(compose(4_032, 3_024, photos), "HEIF", quality=60)


def _other(kind: str, **options: Any) -> Callable[..., bytes]:
    return lambda photos: _save(compose(4_032, 3_024, photos), kind, **options)


def _srgb(_photos: tuple[Path, ...]) -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def _save(picture: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


_PICTURES: dict[str, Callable[..., bytes]] = {
    "12mp.jpg": _jpeg(4_032, 3_024, 4.2, 96),
    "12mp-progressive.jpg": _jpeg(4_032, 3_024, 4.4, 96, progressive=True),
    "48mp.jpg": _jpeg(8_064, 6_048, 19, 97),
    "24mp-turned.jpg": _jpeg(6_000, 4_000, 9.5, 97, orientation=6),
    "panorama.jpg": _jpeg(15_000, 1_500, 8, 97),
    "4k.png": _png(3_840, 2_160, 4.9),
    "8k.png": _png(7_680, 4_320, 28),
    "12mp-cmyk.jpg": _cmyk,
    "12mp.tiff": _other("TIFF", compression="tiff_lzw"),
    "12mp.webp": _other("WEBP", quality=85, method=2),
    "12mp.avif": _other("AVIF", quality=70, speed=8),
    "12mp.heic": _heic,
    "srgb.icc": _srgb,
}

if __name__ == "__main__":
    found = find_photos(Path(sys.argv[2]))
    unmade = make_all(Path(sys.argv[1]), found)
    sys.stdout.write(json.dumps({"photos": [path.name for path in found], "unmade": unmade}))
