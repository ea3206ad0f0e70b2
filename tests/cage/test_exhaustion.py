"""An instance that runs out of something is never a file's fault: the drop is tried again, and nothing leaks."""

from __future__ import annotations

import errno
import gzip
import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any, NoReturn

import pytest

from local.processes import PROJECT
from local.samples import building_site, encode
from shared.cage.conversation import refusal_of
from shared.cage.work import normalize_file, unpack_file
from shared.errors import EXHAUSTION, ResourcesExhausted
from shared.image import ImageLimits

if TYPE_CHECKING:
    from collections.abc import Callable

LACKING_DESCRIPTORS = """
import json, os, resource
from local.samples import building_site, encode
from shared.cage import CageLimits, open_images
from shared.errors import DropError
from shared.image import ImageLimits
from shared.outcome import drop_error

picture = encode(building_site(64, 48), "GIF")
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))

def ends_as(images):
    try:
        return images.normalize(picture).media_type
    except (DropError, OSError, MemoryError) as error:
        return drop_error(error).code

def take_all_but(spare):
    held = []
    try:
        while True:
            held.append(os.open("/dev/null", os.O_RDONLY))
    except OSError:
        for descriptor in held[:spare]:
            os.close(descriptor)
        return held[spare:]

found = []
for is_warm, most in ((False, 10), (True, 6)):
    for spare in range(most):
        images = open_images(ImageLimits(), CageLimits(wall_s=60))
        if is_warm:
            ends_as(images)
        before = len(os.listdir("/proc/self/fd"))
        held = take_all_but(spare)
        lacking = ends_as(images)
        for descriptor in held:
            os.close(descriptor)
        after = len(os.listdir("/proc/self/fd")) - before
        found.append((is_warm, spare, lacking, ends_as(images), after))
        images.close()
print(json.dumps(found))
"""


def outcomes(program: str) -> list[Any]:
    """Return what the program prints as JSON."""
    ended = subprocess.run([sys.executable, "-c", program], cwd=PROJECT, capture_output=True, text=True, check=True)
    found: list[Any] = json.loads(ended.stdout)
    return found


def test_a_file_for_which_there_are_no_descriptors_is_tried_again() -> None:
    """Wherever they run out: it becomes an image, or the instance was exhausted; afterwards, all is as before."""
    found = outcomes(LACKING_DESCRIPTORS)
    assert {lacking for _, _, lacking, _, _ in found} == {"ResourcesExhausted", "image/png"}
    assert {afterwards for *_, afterwards, _ in found} == {"image/png"}
    leaked = [(is_warm, spare, after) for is_warm, spare, lacking, _, after in found if after > 3 * (not is_warm)]
    assert leaked == []


LACKING_ADDRESSES = """
import json, resource
from pathlib import Path
from local.samples import building_site, encode
from shared.cage import CageLimits, open_images
from shared.errors import DropError
from shared.image import ImageLimits
from shared.outcome import drop_error

picture = encode(building_site(64, 48), "GIF")
open_images(ImageLimits(), CageLimits()).close()
found = []
for spare in (0, 1, 2, 4, 8, 16, 32):
    images = open_images(ImageLimits(), CageLimits(wall_s=60))
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + spare * 2**20, resource.RLIM_INFINITY))
    try:
        images.prepare()
        found.append(images.normalize(picture).media_type)
    except (DropError, OSError, MemoryError) as error:
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        found.append(drop_error(error).code)
    resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    images.close()
print(json.dumps(found))
"""


def test_an_app_without_memory_for_a_thread_or_a_process_tries_again() -> None:
    """A thread that cannot be started is Python's RuntimeError, and no bug."""
    found = outcomes(LACKING_ADDRESSES)
    assert set(found) <= {"ResourcesExhausted", "image/png"}
    assert "ResourcesExhausted" in found


def failing(number: int) -> Callable[[bytes], NoReturn]:
    """Return what cannot take an image, for the system lacks something."""

    def take(_: bytes) -> NoReturn:
        raise OSError(number, "As the system says.")

    return take


@pytest.mark.parametrize("number", EXHAUSTION, ids=errno.errorcode.get)
def test_what_a_process_lacks_is_not_the_files_fault(number: int) -> None:
    """A full disk, above all: it is neither damage nor a bug."""
    picture = encode(building_site(64, 48), "GIF")
    said = normalize_file(picture, ImageLimits(), lambda _: None, failing(number))
    assert said in ({"exhausted": "OSError"}, {"exhausted": "BlockingIOError"})
    assert type(refusal_of(said)) is ResourcesExhausted


def test_what_unpacking_lacks_is_not_the_files_fault() -> None:
    """The same for a file that is stored gzipped."""
    assert unpack_file(gzip.compress(b"x"), 10, failing(errno.ENOSPC)) == {"exhausted": "OSError"}
