"""What code that has taken over a decoder can still do: each attack is tried from inside, in a real child."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from subprocess import Popen
from typing import TYPE_CHECKING, Any

import pytest

from local.processes import wait_until
from shared.cage import CageLimits, Images
from shared.cage.caged import Cage
from shared.cage.confinement import NOBODY
from shared.errors import CorruptImage, DecoderCrashed, ResourcesExhausted, TooDemanding
from shared.image import ImageLimits
from tests.cage.watching import Watched
from tests.deadlines import HANG_S

if TYPE_CHECKING:
    from collections.abc import Iterator

LIMITS = ImageLimits(max_output_bytes=1_000)
CAGE = CageLimits(budget_bytes=200_000_000, cpu_s=1, wall_s=int(HANG_S))
REACHING = [
    "open",
    "socket",
    "fork",
    "environment",
    "memory of another",
    "signal",
    "signal to all",
    "signal to itself",
    "descriptors",
]
JPEG = b"\xff\xd8\xff\xe0"
SAID = {
    "bytes": len(JPEG),
    "untouched": False,
    "mediaType": "image/jpeg",
    "width": 10,
    "height": 10,
    "changes": ["recompressed"],
    "source": ["image/jpeg", 10, 10],
}


@pytest.fixture(scope="module")
def cage() -> Iterator[Cage]:
    """Run a template whose children do what their file says."""
    cage = Cage(LIMITS, CAGE, "tests.cage.hostile")
    yield cage
    cage.close()


@pytest.fixture
def images(cage: Cage) -> Images:
    """Return the app's side of it."""
    return Images(LIMITS, CAGE, cage)


@pytest.fixture(scope="module")
def victim() -> Iterator[int]:
    """Run a process of the app's own user, with a secret in its environment."""
    with Popen(["sleep", "1000"], env={"SECRET": "told"}) as process:
        yield process.pid
        was_ended = process.poll() is not None
        process.kill()
    assert not was_ended


def order(attack: str, **more: object) -> bytes:
    """Return a file that makes a child attempt an attack."""
    return json.dumps({"attack": attack, **more}).encode()


def saying(said: object, **more: object) -> bytes:
    """Return a file that makes a child send a message."""
    return json.dumps({"says": said, **more}).encode()


@pytest.mark.parametrize("needs", [0, 1_000_000], ids=["examining", "decoding"])
@pytest.mark.parametrize(
    "attack",
    REACHING,
)
def test_a_child_reaches_nothing_but_the_app(images: Images, victim: int, attack: str, needs: int) -> None:
    """No file, no network, no process: neither another one's memory nor its environment, nor a child of its own."""
    with pytest.raises(CorruptImage, match=r"PermissionError|OSError"):
        images.normalize(order(attack, victim=victim, needs=needs))


AS_ANOTHER = """
import json, sys
sys.path[:0] = json.loads(sys.argv[1])
from shared.cage import CageLimits, Images
from shared.cage.caged import Cage
from shared.errors import DropError
from shared.image import ImageLimits
cage = Cage(ImageLimits(), CageLimits(), "tests.cage.hostile")
images = Images(ImageLimits(), CageLimits(), cage)
for attack in sys.argv[3:]:
    try:
        images.normalize(json.dumps({"attack": attack, "victim": int(sys.argv[2])}).encode())
    except DropError as outcome:
        print(outcome)
cage.close()
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else; else all tests run so")
def test_a_child_reaches_nothing_where_the_app_is_not_root_either() -> None:
    """There the child runs as the app's own user, and the system call filter prevents what that user could do."""
    victim = Popen(["sleep", "1000"], env={"SECRET": "told"}, user=NOBODY, group=NOBODY)
    try:
        command = [sys.executable, "-I", "-c", AS_ANOTHER, json.dumps(sys.path), str(victim.pid), *REACHING]
        run = subprocess.run(
            command, cwd="/", user=NOBODY, group=NOBODY, extra_groups=[], capture_output=True, text=True, check=True
        )
        assert victim.poll() is None
    except PermissionError:
        pytest.skip("this Python lies where only root may read it")
    finally:
        victim.kill()
        victim.wait()
    assert len(run.stdout.splitlines()) == len(REACHING)
    assert all(line.startswith(("PermissionError", "OSError")) for line in run.stdout.splitlines()), run.stdout


def test_a_child_cannot_create_code(images: Images) -> None:
    """Memory cannot be made executable."""
    with pytest.raises(CorruptImage, match="PermissionError"):
        images.normalize(order("code"))


def test_a_child_cannot_raise_its_own_limits(images: Images) -> None:
    """Not even to its later limit."""
    with pytest.raises(CorruptImage, match=r"PermissionError|ValueError"):
        images.normalize(order("raise limits"))


# What `malloc` may hold free of a child's memory before it has its file; the limit is what comes on top.
HEAP_MB = 2


@pytest.mark.parametrize("attack", ["memory", "mapped memory"])
@pytest.mark.parametrize(("needs", "most"), [(0, 64), (1_000_000, 34), (200_000_000, 200)])
def test_no_child_uses_more_memory_than_its_limit(images: Images, attack: str, needs: int, most: int) -> None:
    """However it is allocated: neither beyond the limit of the examination, nor beyond what was predicted."""
    with pytest.raises(CorruptImage) as refusal:
        images.normalize(order(attack, needs=needs))
    taken = int(str(refusal.value).split()[-2])
    assert most // 2 < taken <= most + (HEAP_MB if attack == "memory" else 0)


@pytest.mark.parametrize("attack", ["spin", "spin and ignore the signal"])
@pytest.mark.parametrize(("needs", "most"), [(0, "2 s"), (1_000_000, "1 s")], ids=["examining", "decoding"])
def test_no_child_uses_more_cpu_time_than_its_limit(images: Images, attack: str, needs: int, most: str) -> None:
    """The soft limit ends it, or the hard limit if it ignores the signal."""
    with pytest.raises(TooDemanding, match=f"more than {most} of CPU"):
        images.normalize(order(attack, needs=needs))


@pytest.mark.parametrize("needs", [0, 1_000_000], ids=["examining", "decoding"])
def test_a_child_that_hangs_is_killed(cage: Cage, needs: int) -> None:
    """It uses no CPU time, so the time limit ends it; the drop is retried, as the file may not be at fault."""
    with pytest.raises(ResourcesExhausted, match="after 1 s"):
        Images(LIMITS, replace(CAGE, wall_s=1), cage).normalize(order("wait", needs=needs))


@pytest.mark.parametrize("needs", [0, 1_000_000], ids=["examining", "decoding"])
@pytest.mark.parametrize("attack", ["crash", "abort", "leave", "leave with a status"])
def test_a_crash_is_reported_as_a_crash(images: Images, attack: str, needs: int) -> None:
    """After the second crash, and never as damage."""
    with pytest.raises(DecoderCrashed, match="crashed on the file twice"):
        images.normalize(order(attack, needs=needs))


@pytest.mark.parametrize("needs", [1_000_000, 200_000_000])
def test_a_crash_for_lack_of_memory_is_reported_by_its_cause(images: Images, needs: int) -> None:
    """With more memory, the crash comes later; or it had less memory than predicted."""
    with pytest.raises(TooDemanding, match="Decoding the file took more than 200 MB of memory"):
        images.normalize(order("crash where memory ends", needs=needs))


@pytest.mark.parametrize(
    "said",
    [
        {},
        {"needs": -1},
        {"needs": 2**70},
        {"needs": True},
        {"needs": "1"},
        {"image": None},
        {"image": SAID | {"bytes": 0}},
        {"image": SAID | {"bytes": 1_001}},
        {"image": SAID | {"bytes": len(JPEG), "mediaType": "image/png"}},
        {"image": SAID | {"mediaType": "text/html"}},
        {"image": SAID | {"mediaType": ["image/jpeg"]}},
        {"image": SAID | {"untouched": True}},
        {"image": SAID | {"untouched": True, "changes": []}},
        {"image": SAID | {"changes": []}},
        {"image": SAID | {"width": 0}},
        {"image": SAID | {"width": 51}},
        {"image": SAID | {"height": 1.5}},
        {"image": SAID | {"changes": ["<script>"]}},
        {"image": SAID | {"changes": ["resized"] * 100}},
        {"image": SAID | {"changes": [["resized"]]}},
        {"image": SAID | {"source": ["image/jpeg", 10]}},
        {"image": SAID | {"source": ["\x1b[2J", 10, 10]}},
        {"refused": "InvalidSettings", "message": "open the door"},
        {"refused": "CorruptImage", "message": "x" * 5_000},
        {"refused": "CorruptImage"},
        {"refused": ["CorruptImage"], "message": ""},
        [],
        "image",
    ],
    ids=json.dumps,
)
def test_a_reply_that_no_genuine_child_would_send_is_not_trusted(images: Images, said: Any) -> None:
    """It counts as a crash: the file is refused, and nothing from the message is used."""
    with pytest.raises(DecoderCrashed) as refusal:
        images.normalize(saying(said, leaves=JPEG.hex()))
    assert "door" not in str(refusal.value)


def test_a_childs_message_cannot_control_a_terminal(images: Images) -> None:
    """The message's text is treated as plain text."""
    with pytest.raises(CorruptImage) as refusal:
        images.normalize(saying({"refused": "CorruptImage", "message": "\x1b[2Jhello"}))
    assert str(refusal.value) == "?[2Jhello"


def test_a_valid_reply_of_a_child_is_accepted(images: Images) -> None:
    """This proves that the tests above fail for the reason that they state."""
    image = images.normalize(saying({"image": SAID}, leaves=JPEG.hex(), needs=1))
    assert (image.data, image.media_type, image.width, image.source.width) == (JPEG, "image/jpeg", 10, 10)


@pytest.mark.parametrize("needs", [0, 1_000_000], ids=["examining", "decoding"])
def test_a_child_killed_from_outside_is_not_blamed_on_its_file(cage: Cage, needs: int) -> None:
    """As the system does when memory runs out: that is exhaustion, and the drop is retried later."""
    watched = Watched(cage)
    images = Images(LIMITS, CAGE, watched)
    with ThreadPoolExecutor() as pool:
        outcome = pool.submit(images.normalize, order("wait", needs=needs))
        assert wait_until(lambda: bool(watched.seen), timeout_s=HANG_S)
        os.kill(watched.seen[0]._child.pid, signal.SIGKILL)
        with pytest.raises(ResourcesExhausted, match="killed from outside"):
            outcome.result(HANG_S)
