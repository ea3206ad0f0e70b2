"""Coverage-guided fuzzing of `normalize_image`: `python -m tests.fuzz_normalize_image [seconds] [corpus folder]`.

libFuzzer (through https://github.com/google/atheris) mutates sound files of every kind and keeps what reaches new code
in our own modules; Pillow's C code is reached, but not followed. Every input must end in `ImageRefused` or in an output
that libvips decodes, within 3 s of CPU. A file that breaks this is kept as `crash-*`, and the exit status is not 0.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import atheris  # type: ignore[import-untyped]  # it ships no types

with atheris.instrument_imports(include=["shared.image"]):
    from shared.errors import ImageRefused
    from shared.image import ImageLimits, normalize_image
    from shared.image import remaking as remaking  # noqa: PLC0414 - imported now, so that it is instrumented

from tests.image.pictures import decodable
from tests.image.test_hostile import sound

MAX_CPU_S = 3.0
MAX_INPUT_BYTES = 20_000
LIMITS = ImageLimits(max_source_pixels=1_000_000, max_output_pixels=200_000, max_output_bytes=20_000)


def judge(data: bytes) -> None:
    """Demand a refusal or a legal output, soon."""
    began = time.process_time()
    try:
        normalized = normalize_image(data, LIMITS)
    except ImageRefused:
        pass
    else:
        if decodable(normalized.data) != (normalized.width, normalized.height):
            raise AssertionError("the output is not what it says")
        if len(normalized.data) > LIMITS.max_output_bytes:
            raise AssertionError("the output is too large")
    if time.process_time() - began > MAX_CPU_S:
        raise AssertionError("it took too long")


def fuzz(seconds: int, corpus: Path) -> None:
    """Run libFuzzer, which ends the process."""
    for name, data in sound().items():
        (corpus / name.replace(" ", "-")).write_bytes(data)
    arguments = [f"-max_total_time={seconds}", f"-max_len={MAX_INPUT_BYTES}", "-timeout=30", "-rss_limit_mb=3000"]
    atheris.Setup([sys.argv[0], *arguments, "-print_final_stats=1", str(corpus)], judge)
    atheris.Fuzz()


if __name__ == "__main__":
    fuzz(
        int(sys.argv[1]) if len(sys.argv) > 1 else 30,
        Path(sys.argv[2]) if len(sys.argv) > 2 else Path(tempfile.mkdtemp(prefix="fuzz-")),
    )
