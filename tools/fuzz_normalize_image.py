"""Coverage-guided fuzzing of `normalize_image`: `python -m tools.fuzz_normalize_image [seconds] [folder]`.

libFuzzer (through https://github.com/google/atheris) mutates small intact files of every kind and keeps what reaches
new code in our own modules and in Pillow's Python code; Pillow's C code is run, but its coverage is not measured. A
mutated PNG gets valid checksums, as nothing after them would be reached otherwise.

Every input must end in `ImageRefused` or in an output that libvips decodes, within 3 s of CPU time. Re-encoded output
must decode without a warning; an image that was passed through may cause one, as not every wrong bit in a JPEG can be
found. One in fifty is also processed in the cage, as deployed, and must have the same outcome. A file that breaks these
rules is kept as `crash-*` in the folder, and the exit status is not 0. Inputs that reached new code stay in `corpus`,
where the next run begins.
"""

from __future__ import annotations

import argparse
import itertools
import random
import sys
import tempfile
import time
import zlib
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

try:
    import atheris
except ImportError:
    sys.exit("The fuzzer cannot run here: atheris supports only Linux on x86_64.")

with atheris.instrument_imports(include=["shared", "PIL"]):
    from shared.errors import ImageRefused
    from shared.image import ImageLimits, normalize_image

    # Otherwise imported on first use, too late to be instrumented.
    from shared.image import reencoding as _reencoding
    from shared.image.formats import avif_plugin as _avif_plugin
    from shared.image.formats import heic_plugin as _heic_plugin
    from shared.image.formats import jpeg_integrity as _jpeg_integrity
    from shared.image.formats import png_integrity as _png_integrity
    from shared.image.formats import tiff_plugin as _tiff_plugin

from shared.cage import CageLimits, Images, open_images
from shared.image.formats.png_chunks import SIGNATURE
from shared.image.formats.recognition import FORMATS
from tests.image.corpus import intact
from tests.image.pictures import decodable

if TYPE_CHECKING:
    from shared.image import NormalizedImage

FOLLOWED = (_avif_plugin, _heic_plugin, _jpeg_integrity, _png_integrity, _reencoding, _tiff_plugin)
DEFAULT_S = 30
MAX_CPU_S = 3.0
CHECKSUMMED_SHARE = 0.9
CAGED_EVERY = 50
_COUNT = itertools.count()
MAX_INPUT_BYTES = 20_000
LIMITS = ImageLimits(max_source_pixels=1_000_000, max_output_pixels=50_000, max_output_bytes=5_000)


def judge(data: bytes) -> None:
    """Demand a refusal or a legal output in time; and, for a sample, the same outcome from the cage."""
    began = time.process_time()
    refusal = normalized = None
    try:
        normalized = normalize_image(data, LIMITS)
    except ImageRefused as error:
        refusal = error.code, error.message
    if next(_COUNT) % CAGED_EVERY == 0 and outcome_in_cage(data) != (refusal, normalized):
        raise AssertionError("the cage has another outcome")
    if normalized:
        re_encoded = not {"recompressed", "converted"}.isdisjoint(normalized.changes)
        if decodable(normalized.data, "error" if re_encoded else "none") != (normalized.width, normalized.height):
            raise AssertionError("the output does not match its description")
        if len(normalized.data) > LIMITS.max_output_bytes:
            raise AssertionError("the output is too large")
    if time.process_time() - began > MAX_CPU_S:
        raise AssertionError("it took too long")


def outcome_in_cage(data: bytes) -> tuple[tuple[str, str] | None, NormalizedImage | None]:
    """Return the refusal or the output of the cage, as deployed."""
    try:
        return None, _cage().normalize(data)
    except ImageRefused as error:
        return (error.code, error.message), None


@cache
def _cage() -> Images:
    return open_images(LIMITS, CageLimits())


def mutate(data: bytes, max_bytes: int, _seed: int) -> bytes:
    """Mutate as libFuzzer does; give most PNGs valid checksums."""
    mutated: bytes = atheris.Mutate(data, max_bytes)
    repair = mutated.startswith(SIGNATURE) and random.random() < CHECKSUMMED_SHARE  # noqa: S311 - not a secret
    return with_checksums(mutated) if repair else mutated


def with_checksums(data: bytes) -> bytes:
    """Return a PNG whose chunks all have valid checksums, as far as it consists of chunks."""
    pieces, at = [data[:8]], 8
    while at + 12 <= len(data):
        end = at + 8 + int.from_bytes(data[at : at + 4], "big")
        if end + 4 > len(data):
            break
        pieces += [data[at:end], zlib.crc32(data[at + 4 : end]).to_bytes(4, "big")]
        at = end + 4
    return b"".join((*pieces, data[at:]))


def fuzz(seconds: int, folder: Path) -> None:
    """Run libFuzzer, which ends the process."""
    corpus = folder / "corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    for name, data in intact(small=True).items():
        if len(data) > MAX_INPUT_BYTES:
            raise ValueError(f"libFuzzer would truncate {name}, which has {len(data)} bytes.")
        (corpus / name.replace(" ", "-")).write_bytes(data)
    words = folder / "words"
    words.write_text("".join(f'"{word}"\n' for word in _WORDS))
    arguments = (f"-max_total_time={seconds}", f"-max_len={MAX_INPUT_BYTES}", "-timeout=30", "-rss_limit_mb=3000")
    options = (*arguments, f"-dict={words}", f"-artifact_prefix={folder}/", "-print_final_stats=1", str(corpus))
    sys.stderr.write(f"{len(FORMATS)} formats, {len(FOLLOWED)} plugins and their modules are instrumented.\n")
    atheris.Setup([sys.argv[0], *options], judge, custom_mutator=mutate)
    atheris.Fuzz()


_WORDS = (
    *(rf"\xff\x{code:02x}" for code in (0xC0, 0xC1, 0xC2, 0xC4, 0xD0, 0xD8, 0xD9, 0xDA, 0xDB, 0xDC, 0xDD, 0xE1, 0xEE)),
    *("IHDR", "PLTE", "IDAT", "IEND", "tRNS", "iCCP", "eXIf", "acTL", "fdAT"),
    *("VP8 ", "VP8L", "VP8X", "ANIM", "ANMF", "ALPH", "EXIF", "ICCP"),
    *(
        "ftyp",
        "meta",
        "iprp",
        "ipco",
        "ispe",
        "irot",
        "imir",
        "iloc",
        "iinf",
        "iref",
        "dimg",
        "grid",
        "iovl",
        "auxC",
        "av01",
        "av1C",
    ),
    *("Exif", "II*", "MM", r"\x12\x01", r"\x01\x12", "ICC_PROFILE", "Adobe", "JFIF", "GIF89a", r"!\xf9\x04"),
)
"""The formats' signatures, as a libFuzzer dictionary."""

if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tools.fuzz_normalize_image", description=__doc__)
    parser.add_argument(
        "seconds", nargs="?", type=int, default=DEFAULT_S, help="how long to run (default: %(default)s)"
    )
    parser.add_argument("folder", nargs="?", type=Path, help="the folder for findings (default: a new folder)")
    asked = parser.parse_args()
    fuzz(asked.seconds, asked.folder or Path(tempfile.mkdtemp(prefix="fuzz-")))
