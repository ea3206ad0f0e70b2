"""Defines harmful corruptions: `python -m benchmarks.image.corruption FOLDER PHOTOS` creates a corpus of them.

Intact JPEGs of every kind are damaged as by disks, cables and interrupted copies: a byte changed, a run zeroed, a run
lost, or the end cut off and an end marker appended. What libvips still decodes, but visibly differently, is harmful;
what no decoder opens, or what cannot be seen, proves nothing about verification and is left out.
"""

from __future__ import annotations

import json
import sys
from io import BytesIO
from pathlib import Path
from random import Random
from typing import Any

from benchmarks.image.inputs import compose, find_photos

HARMFUL = 280
_BUILDS: tuple[dict[str, Any], ...] = (
    {"quality": 90},
    {"quality": 75, "subsampling": 0},
    {"quality": 85, "progressive": True},
    {"quality": 85, "restart_marker_rows": 4},
    {"quality": 92, "subsampling": 1, "optimize": True},
)
_SIZES = (640, 480), (1_200, 900), (1_600, 1_067)
_END = b"\xff\xd9"
_HEADER_BYTES = 1_024
_BLOCK = 8
_VISIBLE_LEVELS = 16
_VISIBLE_SHARE = 0.01


def make_corpus(folder: Path, photos: tuple[Path, ...]) -> None:
    """Write intact and harmful files, the same in every run."""
    folder.mkdir(parents=True, exist_ok=True)
    random = Random(0)  # noqa: S311 - the same corpus in every run
    sound = [_sound(size, build, photos, seed) for seed, size in enumerate(_SIZES) for build in _BUILDS]
    sound.append(_sound(_SIZES[0], {"quality": 85}, photos, 0, mode="L"))
    for number, data in enumerate(sound):
        (folder / f"sound-{number:03}.jpg").write_bytes(data)
    views = [seen(data) for data in sound]
    harmful = 0
    for attempt in range(100 * HARMFUL):
        number = attempt % len(sound)
        damage = _DAMAGES[attempt // len(sound) % len(_DAMAGES)]
        data = damage(sound[number], random)
        if is_harmful(data, views[number]):
            (folder / f"harmful-{harmful:03}-{damage.__name__.strip('_')}.jpg").write_bytes(data)
            harmful += 1
        if harmful == HARMFUL:
            return


def is_harmful(data: bytes, sound: Any) -> bool:
    """Say whether a hundredth of the picture or more differs visibly, in blocks of 8 x 8 pixels."""
    try:
        damaged = seen(data)
    except _vips().Error:
        return False
    if (damaged.width, damaged.height, damaged.bands) != (sound.width, sound.height, sound.bands):
        return False
    differs = ((damaged - sound).abs() > _VISIBLE_LEVELS).bandor()
    return bool(differs.avg() >= _VISIBLE_SHARE * 255)


def _sound(
    size: tuple[int, int], build: dict[str, Any], photos: tuple[Path, ...], seed: int, mode: str = "RGB"
) -> bytes:
    buffer = BytesIO()
    compose(*size, photos, seed).convert(mode).save(buffer, "JPEG", **build)
    return buffer.getvalue()


def _changed(data: bytes, random: Random) -> bytes:
    position = _anywhere(data, random)
    return data[:position] + bytes([data[position] ^ random.randrange(1, 256)]) + data[position + 1 :]


def _zeroed(data: bytes, random: Random) -> bytes:
    position, size = _anywhere(data, random), random.choice((64, 512, 4_096))
    return (data[:position] + bytes(size) + data[position + size :])[: len(data) - len(_END)] + _END


def _lost(data: bytes, random: Random) -> bytes:
    position, size = _anywhere(data, random), random.choice((1, 64, 512, 4_096))
    return data[:position] + data[min(position + size, len(data) - len(_END)) :]


def _cut(data: bytes, random: Random) -> bytes:
    return data[: _anywhere(data, random)] + _END


_DAMAGES = (_changed, _zeroed, _lost, _cut)


def _anywhere(data: bytes, random: Random) -> int:
    """Return an offset within the pixel data."""
    return random.randrange(_HEADER_BYTES, len(data) - len(_END) - 1)


def seen(data: bytes) -> Any:
    """Return the picture as decoded without regard to warnings, one pixel for each 8 x 8."""
    image = _vips().Image.new_from_buffer(data, "", access="sequential", fail_on="none")
    return image.shrink(_BLOCK, _BLOCK).copy_memory()


def _vips() -> Any:
    import pyvips  # noqa: PLC0415 - may be missing

    return pyvips


if __name__ == "__main__":
    make_corpus(Path(sys.argv[1]), tuple(find_photos(Path(sys.argv[2]))))
    sys.stdout.write(json.dumps(sorted(str(path) for path in Path(sys.argv[1]).glob("*.jpg"))))
