"""How much memory an image takes is known before it is decoded."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from PIL import Image

from shared.image import ImageLimits, examine_image
from shared.image.formats import FORMATS
from tests.image.pictures import encoded, exif, photo
from tests.image.test_hostile import BOMBS, damaged, sound

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[2]
SMALL = ImageLimits(max_output_pixels=2_000_000)


def noise(width: int, height: int, mode: str = "RGB") -> Image.Image:
    """Return a picture that does not compress, quickly made."""
    return photo(500, 500).resize((width, height), Image.Resampling.NEAREST).convert(mode)


def transparent(width: int, height: int) -> Image.Image:
    """Return a picture of which every pixel is transparent to another degree."""
    picture = noise(width, height)
    picture.putalpha(Image.linear_gradient("L").resize((width, height)))
    return picture


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
    "a transparent png": lambda: encoded(transparent(3000, 2000), "PNG", compress_level=1),
    "a png of few colours": lambda: encoded(noise(3000, 2000).quantize(256), "PNG", transparency=0),
    "a gif": lambda: encoded(noise(3000, 2000).quantize(256), "GIF", transparency=0),
    "a bmp": lambda: encoded(noise(3000, 2000), "BMP"),
    "a tiff": lambda: encoded(noise(3000, 2000), "TIFF", compression="tiff_lzw"),
    "a transparent tiff": lambda: encoded(transparent(3000, 2000), "TIFF", compression="tiff_adobe_deflate"),
    "a webp": lambda: encoded(transparent(3000, 2000), "WEBP", method=0),
    "a lossless webp": lambda: encoded(transparent(3000, 2000), "WEBP", lossless=True, method=0),
    "an avif": lambda: encoded(transparent(3000, 2000), "AVIF", speed=10),
}


@pytest.mark.parametrize("limits", [ImageLimits(), SMALL], ids=["roomy", "small"])
@pytest.mark.parametrize("name", SOURCES)
def test_no_image_takes_more_memory_than_was_foretold(name: str, limits: ImageLimits, tmp_path: Path) -> None:
    """Measured in a process of its own; and the foretold is not idle: of the same order as what was taken."""
    path = tmp_path / "source"
    path.write_bytes(SOURCES[name]())
    command = [sys.executable, "-c", MEASURE, str(path), str(limits.max_output_pixels)]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    foretold, taken = json.loads(run.stdout)
    assert taken <= foretold
    assert foretold <= 4 * taken + 100_000_000


MEASURE = """
import json, re, sys
from pathlib import Path
from shared.image import ImageLimits, examine_image, normalize_image
from tests.image.test_hostile import sound

def most_resident():
    return 1024 * int(re.findall(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[0])

for data in sound().values():
    normalize_image(data)
data = Path(sys.argv[1]).read_bytes()
limits = ImageLimits(max_output_pixels=int(sys.argv[2]))
before = most_resident()
normalize_image(data, limits)
print(json.dumps([examine_image(data, limits).peak_bytes, most_resident() - before]))
"""


def test_what_is_refused_by_its_header_takes_next_to_nothing() -> None:
    """Bombs do not wait for room; nor do they throw anything here."""
    for make in BOMBS.values():
        assert examine_image(make()).peak_bytes < 20_000_000


@pytest.mark.parametrize("kind", sound())
def test_whatever_is_done_to_a_file_its_memory_can_be_foretold(kind: str) -> None:
    """No exception, and never more than the largest image that is read may take."""
    for data in damaged(sound()[kind], seed=3):
        assert examine_image(data).peak_bytes < 900_000_000


def test_every_format_says_what_its_decoder_takes() -> None:
    """The caps on pixels keep all of them in the same memory."""
    assert all(kind.bytes_per_pixel * kind.max_pixels <= 450_000_000 for kind in FORMATS)
