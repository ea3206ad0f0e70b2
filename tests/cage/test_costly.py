"""Files that cost far more than their headers suggest end within the limits and delay no others; most are valid."""

from __future__ import annotations

import os
import re
import signal
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
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

    from shared.cage.caged import CagedProcess

LIMITS = ImageLimits()
MIB = 2**20
DEFAULT = limits_for(2_048 * MIB, max_source_bytes=100_000_000)
CAGE = CageLimits(DEFAULT.budget_bytes, DEFAULT.processes, cpu_s=4, wall_s=int(HANG_S))
# What a process has before its file, and the file and the image that it maps.
BESIDE_BYTES = 100_000_000


@dataclass
class Crowd:
    """All files at once, and an innocent one among them: what became of each, in the order in which they ended."""

    outcomes: dict[str, tuple[str, str]] = field(default_factory=dict)
    processes: dict[str, list[CagedProcess]] = field(default_factory=dict)
    peak_bytes: int = 0


@pytest.fixture(scope="module")
def crowd() -> Iterator[Crowd]:
    """Run the real template, as on an instance of 2,048 MB, and give it all of them."""
    crowd, watched = Crowd(), Watched(Cage(LIMITS, CAGE))
    images, drops = Images(LIMITS, CAGE, watched), [(kind, make()) for kind, make in COSTLY.items()]
    drops.insert(CAGE.processes, ("innocent", encoded(photo(), "JPEG")))

    def send(name: str, data: bytes) -> None:
        crowd.outcomes[name] = outcome(images, data)

    with ThreadPoolExecutor(CAGE.processes) as pool, Peak(os.getpid(), only_decoding=True) as peak:
        for done in [pool.submit(send, name, data) for name, data in drops]:
            done.result(HANG_S)
    crowd.processes = {name: watched.seen_with[data] for name, data in drops}
    crowd.peak_bytes = peak.bytes
    yield crowd
    watched.close()


def outcome(images: Images, data: bytes) -> tuple[str, str]:
    """Return what becomes of a file: an image that the API takes, or the code of a refusal and its words."""
    try:
        image = images.normalize(data)
    except ImageRefused as refusal:
        return refusal.code, refusal.message
    assert legal(image.data) == (image.width, image.height)
    return "image", ""


@pytest.mark.parametrize("kind", COSTLY)
def test_a_costly_file_stays_within_the_limits(crowd: Crowd, kind: str) -> None:
    """It becomes an image if the limits allow; otherwise it is refused for the true reason."""
    code, words = crowd.outcomes[kind]
    assert code in ENDS.get(kind, {"image"})
    assert (code == "TooDemanding") == bool(re.search(r"took more than \d.* (CPU time|memory);", words))
    assert crowd.processes[kind]
    for process in crowd.processes[kind]:
        assert process.ended
        # What it takes to be gone comes on top, unless the limit itself has ended it.
        assert process.ended.cpu_s < 1.25 * CAGE.cpu_s or process.ended.signal == signal.SIGXCPU
        assert process.ended.peak_bytes <= CAGE.budget_bytes + BESIDE_BYTES


def test_simultaneous_costly_files_delay_no_other_drop_and_fit_the_instance(crowd: Crowd) -> None:
    """On 2,048 MB, of which the host has a fifth, an innocent drop among them is done before the last of them."""
    assert crowd.outcomes["innocent"] == ("image", "")
    assert "innocent" in list(crowd.outcomes)[:-1]
    assert CAGE.budget_bytes / 4 < crowd.peak_bytes < 1_648 * MIB  # of what nobody looked at nothing was seen
