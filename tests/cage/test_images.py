"""The cage returns what the plain function returns, and accounts for every process."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from local.processes import PROJECT, wait_until
from shared.cage import CageLimits, Images, open_images
from shared.errors import DropError, OutOfTime
from shared.image import ImageLimits, normalize_image
from tests.deadlines import HANG_S
from tests.image.colour_files import LINEAR, big_profile, cicp, numbered, png_of
from tests.image.corpus import KINDS, intact
from tests.image.pictures import encoded, photo
from tests.image.raw_files import LARGE, RAW, THUMBNAIL, dng
from tests.image.tiff_files import fax, tiff_of_planes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from shared.image import NormalizedImage

LIMITS = ImageLimits()
SMALL = ImageLimits(max_output_pixels=5_000)
CAGE = CageLimits(wall_s=int(HANG_S))


@pytest.fixture(scope="module", params=[LIMITS, SMALL], ids=["roomy", "small"])
def images(request: pytest.FixtureRequest) -> Iterator[Images]:
    """Run the real template."""
    images = open_images(request.param, CAGE)
    yield images
    images.close()


def outcome(normalize: object, data: bytes) -> NormalizedImage | tuple[str, str]:
    """Return the image, or the refusal."""
    assert callable(normalize)
    try:
        image: NormalizedImage = normalize(data)
    except DropError as error:
        return error.code, error.message
    return image


@pytest.mark.parametrize("kind", KINDS)
def test_every_file_has_the_same_result_inside_and_outside_the_cage(images: Images, kind: str) -> None:
    """The child imports, opens and builds nothing more; damaged files are refused with the same messages."""
    data = intact()[kind]
    limits = images._limits
    for file in (data, data[: len(data) // 2], data[:20] + b"\xff\xff" + data[22:]):
        assert outcome(images.normalize, file) == outcome(lambda data: normalize_image(data, limits), file)


COLOURS = {
    "a png in pq": lambda: png_of(128, cicp(9, 16), mode="RGB"),
    "a png in hlg": lambda: png_of(128, cicp(9, 18), mode="RGB"),
    "a png of linear light": lambda: png_of(128, LINEAR, mode="RGB"),
    "an avif in p3": lambda: numbered(12, 13),
    "a large profile": lambda: encoded(photo(900, 100), "PNG", icc_profile=big_profile()),
    "a fax": lambda: fax("group4"),
    "a damaged fax": lambda: fax("group3")[:1_000] + bytes(60) + fax("group3")[1_060:],
    "a dng": lambda: dng(THUMBNAIL, [RAW, LARGE]),
    "a tiff of planes": lambda: tiff_of_planes("<", 2, 16, 3),
    "a gif of a part": lambda: encoded(photo(60, 40), "GIF").replace(b"\x3c\0\x28\0", b"\x50\0\x50\0", 1),
}


@pytest.mark.parametrize("kind", COLOURS)
def test_rare_formats_need_nothing_that_the_cage_lacks(images: Images, kind: str) -> None:
    """A process that holds a file loads no module, no codec and no callback."""
    data = COLOURS[kind]()
    limits = images._limits
    made = outcome(images.normalize, data)
    assert made == outcome(lambda data: normalize_image(data, limits), data)
    assert isinstance(made, tuple) == (kind == "a damaged fax")


def test_a_legal_image_is_sent_unchanged() -> None:
    """The bytes are not even copied back."""
    images = open_images(LIMITS, CAGE)
    data = encoded(photo(), "JPEG")
    assert images.normalize(data).data is data
    images.close()


def test_an_attempt_does_not_wait_for_an_image_past_its_deadline(images: Images) -> None:
    """The drop is postponed by message; the process that had its file ends."""
    with pytest.raises(OutOfTime):
        images.normalize(encoded(photo(), "JPEG"), time.monotonic())


def test_simultaneous_files_do_not_affect_one_another(images: Images) -> None:
    """More files than processes, valid and invalid."""
    files = [*intact().values()] * 2
    limits = images._limits
    with ThreadPoolExecutor(8) as pool:
        outcomes = list(pool.map(lambda data: outcome(images.normalize, data), files))
    assert outcomes == [outcome(lambda data: normalize_image(data, limits), data) for data in files]


def test_a_killed_template_is_replaced(others: set[int]) -> None:
    """The next drop is not affected."""
    images = open_images(LIMITS, CAGE)
    data = encoded(photo(), "BMP")
    first = images.normalize(data)
    for template in own_processes(others, "shared.cage.template"):
        os.kill(template, signal.SIGKILL)
    assert images.normalize(data) == first
    images.close()


def test_a_template_without_memory_or_descriptors_is_replaced(others: set[int]) -> None:
    """Its children could not even receive their files: that is not reported as a crash of the decoder."""
    images = open_images(LIMITS, CAGE)
    data = encoded(photo(), "BMP")
    first = images.normalize(data)
    for process in own_processes(others, "shared.cage.template"):
        _, hard = resource.prlimit(process, resource.RLIMIT_AS)
        resource.prlimit(process, resource.RLIMIT_AS, (1_000_000, hard))
    assert images.normalize(data) == first
    assert images.normalize(data) == first
    images.close()


def test_a_template_that_hangs_is_replaced(others: set[int]) -> None:
    """It is killed when its time is over."""
    images = open_images(LIMITS, CageLimits(wall_s=10))
    data = encoded(photo(), "BMP")
    first = images.normalize(data)
    for template in own_processes(others, "shared.cage.template"):
        os.kill(template, signal.SIGSTOP)
    assert images.normalize(data) == first
    images.close()


def test_closing_the_cage_ends_all_of_its_processes(others: set[int]) -> None:
    """Neither the template nor the child that it keeps ready."""
    images = open_images(LIMITS, CAGE)
    images.normalize(encoded(photo(), "BMP"))
    started = own_processes(others, "shared.cage")
    assert len(started) >= 2
    images.close()
    assert wait_until(lambda: not any(is_running(pid) for pid in started), timeout_s=HANG_S)


APP = """
import sys
import time
sys.path[:0] = [{project!r}]
from shared.cage import CageLimits, open_images
from shared.image import ImageLimits
from tests.image.pictures import encoded, photo
images = open_images(ImageLimits(), CageLimits())
images.normalize(encoded(photo(), "BMP"))
print("ready", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("stopped", [False, True], ids=["running", "stopped"])
@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGKILL])
def test_no_process_outlives_the_app(ending: signal.Signals, *, stopped: bool) -> None:
    """However the app ends, and even if the processes hang."""
    command = [sys.executable, "-c", APP.format(project=str(PROJECT))]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as app:
        assert app.stdout
        assert app.stdout.readline() == "ready\n"
        started = descendants(app.pid, "shared.cage")
        for process in started if stopped else ():
            os.kill(process, signal.SIGSTOP)
        app.send_signal(ending)
    assert len(started) >= 2
    assert wait_until(lambda: not any(is_running(pid) for pid in started), timeout_s=HANG_S)


def test_the_app_imports_no_decoder() -> None:
    """This keeps its memory and its start small."""
    imports = "import sys, shared.cage.caged, shared.services; print(*sys.modules, sep='\\n')"
    run = subprocess.run([sys.executable, "-c", imports], cwd=PROJECT, capture_output=True, text=True, check=True)
    assert {"PIL", "PIL.Image", "pi_heif"}.isdisjoint(run.stdout.splitlines())


def test_packages_that_are_only_on_the_apps_path_are_found(tmp_path: Path) -> None:
    """As deployed: they are in `.python_packages`, which the Functions worker puts on `sys.path`."""
    packages = tmp_path / ".python_packages" / "lib" / "site-packages"
    packages.parent.mkdir(parents=True)
    import PIL  # noqa: PLC0415 - where it is, is all that is wanted

    packages.symlink_to(Path(PIL.__file__).parents[1])
    app = f"""
import sys
import time
sys.path[:0] = [{str(PROJECT)!r}, {str(packages)!r}]
from shared.cage import CageLimits, open_images
from shared.image import ImageLimits
images = open_images(ImageLimits(), CageLimits())
print(images.normalize(sys.stdin.buffer.read()).changes)
images.close()
"""
    run = subprocess.run(
        [sys.executable, "-I", "-S", "-c", app],
        input=encoded(photo(), "BMP"),
        capture_output=True,
        check=False,
        cwd=tmp_path,
        env={},
    )
    assert (run.stdout, run.stderr) == (b"('converted',)\n", b"")


WITHOUT = """
import os, socket, sys
del os.memfd_create, os.fork, socket.send_fds
sys.modules["resource"] = sys.modules["fcntl"] = None
sys.path[:0] = [{project!r}]
from shared.cage import CageLimits, open_images
from shared.errors import DropError, OutOfTime
from shared.image import ImageLimits
images = open_images(ImageLimits(), CageLimits(wall_s={wall_s}))
for data in map(bytes.fromhex, sys.stdin.read().split()):
    try:
        print(len(images.normalize(data).data))
    except DropError as error:
        print(error)
assert type(images._processes).__name__ == "PlainProcesses"
images.close()
"""


def test_images_are_processed_where_the_system_cannot_provide_a_cage() -> None:
    """On a system without `memfd_create`, `fork`, `resource` and descriptors over sockets: one process per file."""
    files = [encoded(photo(), "JPEG"), intact()["bmp"], intact()["heic"], b"", encoded(photo(), "JPEG")[:5_000]]
    command = [sys.executable, "-c", WITHOUT.format(project=str(PROJECT), wall_s=int(HANG_S))]
    run = subprocess.run(
        command, input="\n".join(file.hex() or "" for file in files), capture_output=True, text=True, check=True
    )
    expected = [outcome(normalize_image, file) for file in files if file]
    assert run.stdout.splitlines() == [end[1] if isinstance(end, tuple) else str(len(end.data)) for end in expected]


@pytest.fixture
def others() -> set[int]:
    """Return the processes that other tests' clouds and cages have, which may be left running beside this one."""
    return set(descendants(os.getpid(), "shared.cage"))


def own_processes(others: set[int], named: str) -> list[int]:
    """Return the processes of this test alone."""
    return [pid for pid in descendants(os.getpid(), named) if pid not in others]


def descendants(pid: int, named: str) -> list[int]:
    """Return the descendants of a process whose command line contains a name."""
    below: list[int] = []
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, children.read_text().split()):
            below += [child, *descendants(child, "")]
    return [pid for pid in below if named in Path(f"/proc/{pid}/cmdline").read_text()]


def is_running(pid: int) -> bool:
    """Say whether a process exists and is not a zombie."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"
