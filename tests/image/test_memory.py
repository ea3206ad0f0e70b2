"""How much memory an image takes is predicted before it is decoded."""

from __future__ import annotations

import json
import random
import struct
import sys
import zlib
from contextlib import suppress
from pathlib import Path
from subprocess import PIPE, Popen
from typing import TYPE_CHECKING

import pytest
from PIL import Image

from shared.errors import ImageRefused
from shared.image import ImageLimits, examine_image
from shared.image.formats.recognition import FORMATS
from tests.image.bombs import BOMBS, bomb
from tests.image.colour_files import big_profile, cicp
from tests.image.corpus import KINDS, damaged, intact
from tests.image.pictures import encoded, exif, photo
from tests.image.structures import chunk, png_header
from tests.image.tiff_files import behind_a_thumbnail, tiff
from tests.kept import made_once

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).parents[2]
SMALL = ImageLimits(max_output_pixels=2_000_000)


def noise(width: int, height: int, mode: str = "RGB") -> Image.Image:
    """Return a picture that does not compress, created quickly."""
    return photo(500, 500).resize((width, height), Image.Resampling.NEAREST).convert(mode)


def transparent(width: int, height: int) -> Image.Image:
    """Return a picture whose pixels all have different transparency."""
    picture = noise(width, height)
    picture.putalpha(Image.linear_gradient("L").resize((width, height)))
    return picture


def tiff_of_one_strip(side: int) -> bytes:
    """Return an RGB TIFF of one strip, which libtiff decompresses as a whole; runs of 128 zeros (PackBits)."""
    pixels = b"\x81\0" * (3 * side * side // 128)
    shape = {256: (side,), 257: (side,), 258: (8,) * 3, 259: (32_773,), 262: (2,), 277: (3,), 278: (side,)}
    return tiff({**shape, 273: (8,), 279: (len(pixels),)}, pixels)


def tiff_of_planes(side: int, planes: int, depth: int = 8) -> bytes:
    """Return a TIFF with separate planes, each of runs of 128 zeros (PackBits)."""
    size = 2 * side * side * depth // 8 // 128
    shape = {
        256: (side,),
        257: (side,),
        258: (depth,) * planes,
        259: (32_773,),
        262: (2,),
        277: (planes,),
        278: (side,),
    }
    pieces = {273: tuple(8 + plane * size for plane in range(planes)), 279: (size,) * planes, 284: (2,)}
    return tiff({**shape, **pieces}, b"\x81\0" * (planes * size // 2))


def tiff_of_many_channels(side: int, count: int, rows: int, photometric: int = 2) -> bytes:
    """Return a TIFF of 16-bit channels, by default RGB with additional ones, of runs of 128 zeros (PackBits)."""
    size = 4 * rows * side * count // 128
    shape = {256: (side,), 257: (side,), 258: (16,) * count, 259: (32_773,), 277: (count,), 278: (rows,)}
    shape[262] = (photometric,)
    starts = tuple(8 + strip * size for strip in range(side // rows))
    extra = {273: starts, 279: (size,) * len(starts), 338: (2, *(0,) * (count - 4))}
    return tiff({**shape, **extra}, b"\x81\0" * (len(starts) * size // 2))


def bmp_of_empty_alpha(width: int, height: int) -> bytes:
    """Return a BMP of noise whose header states an alpha channel (version 3), and whose pixels have none."""
    pixels = noise(width, height, "RGBA").split()
    stored = Image.merge("RGBA", (*pixels[:3], Image.new("L", (width, height)))).tobytes("raw", "BGRA", 0, -1)
    masks = 0xFF0000, 0xFF00, 0xFF, 0xFF000000
    header = struct.pack("<IiiHHIIiiII4I", 56, width, height, 1, 32, 3, 0, 0, 0, 0, 0, *masks)
    return b"BM" + struct.pack("<IHHI", 14 + len(header) + len(stored), 0, 0, 14 + len(header)) + header + stored


def deep_png(width: int, height: int, extra: bytes) -> bytes:
    """Return a PNG of 16-bit RGB noise."""
    rows = b"".join(b"\0" + random.Random(row).randbytes(6 * width) for row in range(20)) * (height // 20)  # noqa: S311
    data = png_header(width, height, 16, 2) + extra + chunk(b"IDAT", zlib.compress(rows, 1))
    return data + chunk(b"IEND", b"")


SOURCES: dict[str, Callable[[], bytes]] = {
    "a jpeg that passes": lambda: encoded(noise(4000, 3000), "JPEG", quality=70),
    "a jpeg that passes without its metadata": lambda: encoded(noise(4000, 3000), "JPEG", quality=70, exif=exif()),
    "a progressive jpeg that passes": lambda: encoded(
        noise(3000, 2000), "JPEG", quality=50, progressive=True, subsampling=0
    ),
    "a jpeg on its side": lambda: encoded(noise(4000, 3000), "JPEG", exif=exif(6)),
    "a progressive jpeg on its side": lambda: encoded(
        noise(4000, 3000), "JPEG", progressive=True, subsampling=0, exif=exif(6)
    ),
    "a panorama": lambda: encoded(noise(9000, 600), "JPEG"),
    "a thread": lambda: encoded(noise(60_000, 3), "JPEG"),
    "a cmyk jpeg": lambda: encoded(noise(3000, 2000, "CMYK"), "JPEG"),
    "a png of colours": lambda: encoded(noise(3000, 2000), "PNG", compress_level=1),
    "a png of 16 bits": lambda: encoded(noise(3000, 2000, "L").convert("I").convert("I;16"), "PNG", compress_level=1),
    "a png of 16 bits of light": lambda: deep_png(3_000, 2_000, chunk(b"gAMA", struct.pack(">I", 100_000))),
    "a png in pq": lambda: deep_png(3_000, 2_000, cicp(9, 16)),
    "a png in hlg": lambda: deep_png(3_000, 2_000, cicp(9, 18)),
    "a png with a large profile": lambda: encoded(noise(9_000, 600), "PNG", icc_profile=big_profile(3_900_000)),
    "a transparent png": lambda: encoded(transparent(3000, 2000), "PNG", compress_level=1),
    "a png of few colours": lambda: encoded(noise(2000, 1500).quantize(256), "PNG", transparency=0),
    "a gif": lambda: encoded(noise(2000, 1500).quantize(256), "GIF", transparency=0),
    "a bmp": lambda: encoded(noise(3000, 2000), "BMP"),
    "a bmp of empty alpha": lambda: bmp_of_empty_alpha(3000, 2000),
    "a tiff": lambda: encoded(noise(3000, 2000), "TIFF", compression="tiff_lzw"),
    "a transparent tiff": lambda: encoded(transparent(3000, 2000), "TIFF", compression="tiff_adobe_deflate"),
    "a tiff of grey and transparency": lambda: encoded(noise(5000, 4000, "LA"), "TIFF", compression="packbits"),
    "a tiff of one strip": lambda: tiff_of_one_strip(9_344),
    "a tiff behind its thumbnail": lambda: behind_a_thumbnail(encoded(noise(6000, 4000, "RGBA"), "TIFF")),
    "a tiff of planes": lambda: tiff_of_planes(4_992, 3),
    "a tiff of deep planes": lambda: tiff_of_planes(3_008, 4, depth=16),
    "a tiff of many channels": lambda: tiff_of_many_channels(3_008, 8, rows=32),
    "a tiff of many channels in one strip": lambda: tiff_of_many_channels(3_008, 5, rows=3_008),
    "a tiff of inks and transparency": lambda: tiff_of_many_channels(3_008, 5, rows=32, photometric=5),
    "a webp": lambda: encoded(transparent(2000, 1500), "WEBP", method=0),
    "a lossless webp": lambda: encoded(transparent(2000, 1500), "WEBP", lossless=True, method=0),
    "an avif": lambda: encoded(transparent(2000, 1500), "AVIF", speed=10),
}


@made_once
def source(name: str) -> bytes:
    """Return one of the sources, which take longer to create than to read."""
    return SOURCES[name]()


@pytest.fixture(scope="module")
def scale() -> Iterator[Popen[str]]:
    """Run a process that has decoded every format, and measures each given file in a child of its own."""
    with Popen([sys.executable, "-c", MEASURE], cwd=ROOT, stdin=PIPE, stdout=PIPE, text=True) as process:
        yield process


@pytest.mark.parametrize("limits", [ImageLimits(), SMALL], ids=["roomy", "small"])
@pytest.mark.parametrize("name", SOURCES)
def test_no_image_takes_more_memory_than_was_predicted(
    name: str, limits: ImageLimits, scale: Popen[str], tmp_path: Path
) -> None:
    """And the prediction is not useless: it is of the same order as the memory used."""
    path = tmp_path / "source"
    path.write_bytes(source(name))
    print(json.dumps([str(path), limits.max_output_pixels]), file=scale.stdin, flush=True)
    predicted, taken = json.loads(scale.stdout.readline() if scale.stdout else "")
    assert taken <= predicted
    assert predicted <= 4 * taken + 100_000_000


MEASURE = """
import json, os, re, sys
from pathlib import Path
from shared.image import ImageLimits, examine_image, normalize_image
from tests.image.corpus import intact

def most_resident():
    return 1024 * int(re.findall(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[0])

def measure(path, max_output_pixels):
    data = Path(path).read_bytes()
    limits = ImageLimits(max_output_pixels=max_output_pixels)
    before = most_resident()
    normalize_image(data, limits)
    taken = most_resident() - before
    print(json.dumps([examine_image(data, limits).peak_bytes, taken]), flush=True)

for data in intact().values():
    normalize_image(data)
for line in sys.stdin:
    if not os.fork():
        measure(*json.loads(line))
        os._exit(0)
    if os.wait()[1]:
        sys.exit("the measurement failed")
"""


def test_a_file_refused_by_its_header_takes_almost_no_memory() -> None:
    """Bombs do not wait for room: they are refused before, or take no more than a small picture."""
    for name in BOMBS:
        with suppress(ImageRefused):
            assert examine_image(bomb(name)).peak_bytes < 20_000_000


@pytest.mark.parametrize("kind", KINDS)
def test_the_memory_of_any_mutated_file_is_predicted(kind: str) -> None:
    """Never more than the largest image that is read may take."""
    for data in damaged(intact()[kind], seed=3):
        with suppress(ImageRefused):
            assert examine_image(data).peak_bytes < 900_000_000


def test_every_format_states_the_memory_of_its_decoder() -> None:
    """The caps on pixels keep all of them in the same memory."""
    assert all(kind.bytes_per_pixel * kind.max_pixels <= 450_000_000 for kind in FORMATS)
