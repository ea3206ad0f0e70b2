"""Files that cost far more than their headers say, most of them valid, end within the limits and hold nobody up."""

from __future__ import annotations

import os
import re
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TYPE_CHECKING

import pytest

from benchmarks.processes import Peak
from shared.cage import CageLimits, Images
from shared.cage.caged import Cage
from shared.cage.instance import limits_for
from shared.errors import ImageRefused
from shared.image import ImageLimits
from tests.cage.costly import COSTLY, ENDS
from tests.cage.watching import Watched
from tests.deadlines import HANG_S
from tests.image.pictures import encoded, legal, photo

if TYPE_CHECKING:
    from collections.abc import Iterator

LIMITS = ImageLimits()
MIB = 2**20
DEFAULT = limits_for(2_048 * MIB, max_source_bytes=100_000_000)
CAGE = CageLimits(DEFAULT.budget_bytes, DEFAULT.processes, cpu_s=4, wall_s=int(HANG_S))
# What a process has before its file, and the file and the image that it maps.
BESIDE_BYTES = 100_000_000


@pytest.fixture(scope="module")
def cage() -> Iterator[Watched]:
    """Run the real template, as on an instance of 2,048 MB."""
    cage = Cage(LIMITS, CAGE)
    yield Watched(cage)
    cage.close()


@cache
def costly(kind: str) -> bytes:
    """Return one of the files."""
    return COSTLY[kind]()


def outcome(images: Images, data: bytes) -> tuple[str, str]:
    """Return what becomes of a file: an image that the API takes, or the code of a refusal and its words."""
    try:
        image = images.normalize(data)
    except ImageRefused as refusal:
        return refusal.code, refusal.message
    assert legal(image.data) == (image.width, image.height)
    return "image", ""


@pytest.mark.parametrize("kind", COSTLY)
def test_a_costly_file_ends_within_the_limits(cage: Watched, kind: str) -> None:
    """It becomes an image if that can be had within them, and is refused in true words else."""
    began = len(cage.seen)
    code, words = outcome(Images(LIMITS, CAGE, cage), costly(kind))
    assert code in ENDS.get(kind, {"image"})
    assert (code == "TooDemanding") == bool(re.search(r"took more than \d.* (CPU|memory);", words))
    for process in cage.seen[began:]:
        assert process.ended
        assert process.ended.cpu_s <= CAGE.cpu_s + 1.5
        assert process.ended.peak_bytes <= CAGE.budget_bytes + BESIDE_BYTES


def test_costly_files_at_once_hold_nobody_up_and_fit_the_instance(cage: Watched) -> None:
    """On 2,048 MB, of which the host has a fifth, an innocent drop among them is done before the last of them."""
    images, drops = Images(LIMITS, CAGE, cage), [(kind, costly(kind)) for kind in COSTLY]
    drops.insert(CAGE.processes, ("innocent", encoded(photo(), "JPEG")))
    ended: list[str] = []

    def note_end(name: str, data: bytes) -> None:
        outcome(images, data)
        ended.append(name)

    with ThreadPoolExecutor(CAGE.processes) as pool, Peak(os.getpid(), only_decoding=True) as peak:
        for done in [pool.submit(note_end, name, data) for name, data in drops]:
            done.result(HANG_S)
    assert "innocent" in ended[:-1]
    assert peak.bytes < 1_648 * MIB
