"""A folder that is watched ends on its iTwins, and no file is taken in half."""

from __future__ import annotations

import os
import signal
import sys
import time
import uuid
from typing import TYPE_CHECKING

import pytest

from local.commands import main
from local.commands.watch import settled_files
from local.processes import PROJECT, Child, wait_until
from local.samples import building_site, encode
from local.terminal import own_command
from tests.deadlines import HANG_S

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from local.cloud import LocalCloud

PHOTO = encode(building_site(320, 240), "JPEG")


def says(child: Child, text: str) -> bool:
    """Wait until it has printed the text."""
    return wait_until(lambda: any(text in line for line in list(child.lines)), timeout_s=HANG_S)


@pytest.fixture
def watching(cloud: LocalCloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Path, Child]]:
    """Watch a folder as a user does."""
    monkeypatch.setenv("LOCAL_CLOUD_FOLDER", str(tmp_path / "state"))
    cloud.publish_state()
    (tmp_path / "drop").mkdir()
    command = [sys.executable, "-m", "local", "watch", str(tmp_path / "drop"), "--min-age", "0"]
    child = Child(command, environment=dict(os.environ), directory=PROJECT)
    assert says(child, "Watching"), child.lines
    yield tmp_path / "drop", child
    child.stop()


def test_new_and_changed_files_are_dropped(cloud: LocalCloud, watching: tuple[Path, Child]) -> None:
    """One folder per iTwin, sub-folders in names, ignored names left out, and Ctrl-C ends it with 0."""
    folder, child = watching
    itwin = cloud.itwin()
    (folder / itwin / "north gate").mkdir(parents=True)
    (folder / "aside.jpg").write_bytes(PHOTO)
    left_alone = ("Thumbs.db", "cam 0.jpg.part", os.fsdecode(b"cam \xff.jpg"), "\x1b[31m.tmp")
    for name in left_alone:
        (folder / itwin / name).write_bytes(PHOTO)
    file = folder / itwin / "north gate" / "cam 1.jpg"
    file.write_bytes(PHOTO)
    assert says(child, f"{itwin}/north gate/cam 1.jpg -> uploaded -> nothing changed"), child.lines
    file.write_bytes(b"broken")
    assert says(child, f"{itwin}/north gate/cam 1.jpg -> rejected -> "), child.lines
    assert cloud.platform.image(itwin) == (PHOTO, "image/jpeg")
    assert list(cloud.drops.get_container_client(itwin).list_blob_names()) == ["north gate/cam 1.jpg"]
    os.kill(child.pid, signal.SIGINT)
    assert wait_until(lambda: child.exit_code == 0, timeout_s=HANG_S)
    skipped = sorted(line for line in child.lines if "skipped" in line)
    by_its_name = "skipped -> its name is that of a system file, a sidecar or an unfinished copy, which the app ignores"
    assert skipped == sorted(
        [
            "aside.jpg -> skipped -> it is not in a folder named by an iTwin ID: use --itwin",
            *(f"{itwin}/{name} -> {by_its_name}" for name in ("Thumbs.db", "cam 0.jpg.part", "\\x1b[31m.tmp")),
            f"{itwin}/cam \\udcff.jpg -> skipped -> its name is not UTF-8, so no blob can have it",
        ]
    )


def test_an_itwins_folder_may_be_named_in_capitals(cloud: LocalCloud, watching: tuple[Path, Child]) -> None:
    """A GUID is not case-sensitive."""
    folder, child = watching
    itwin = cloud.itwin()
    (folder / itwin.upper()).mkdir()
    (folder / itwin.upper() / "cam.jpg").write_bytes(PHOTO)
    assert says(child, f"{itwin}/cam.jpg -> uploaded"), child.lines


def test_an_unknown_itwin_is_not_created_silently(cloud: LocalCloud, watching: tuple[Path, Child]) -> None:
    """A typing error in a folder's name is reported here, as it would be in Azure."""
    folder, child = watching
    itwin = str(uuid.uuid4())
    (folder / itwin).mkdir()
    (folder / itwin / "cam.jpg").write_bytes(PHOTO)
    assert says(child, f"create it with `{own_command()} itwin {itwin}`"), child.lines
    assert itwin not in [known.id for known in cloud.platform.itwins()]


def test_a_file_that_is_still_being_written_waits(tmp_path: Path) -> None:
    """The only sign that a copy is complete is that nothing was written for a while."""
    for name, age_s in (("old.jpg", 60), ("older.jpg", 61), ("new.jpg", 1), (".hidden.jpg", 60)):
        (tmp_path / name).write_bytes(PHOTO)
        os.utime(tmp_path / name, (time.time() - age_s,) * 2)
    found = [file.name for file, _ in settled_files(tmp_path, 10, time.time())]
    assert found == ["older.jpg", "old.jpg"]


def test_a_folder_that_cannot_be_watched_is_reported_in_one_sentence(
    cloud: LocalCloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """No cloud, or no folder; a usage error is reported first, as no running cloud would help."""
    monkeypatch.setenv("LOCAL_CLOUD_FOLDER", str(tmp_path / "state"))
    assert main(["watch", str(tmp_path / "none")]) == 2
    assert capsys.readouterr().err == f"{tmp_path / 'none'} is not a folder.\n"
    assert main(["watch", str(tmp_path)]) == 1
    assert capsys.readouterr().err == f"No local cloud is running: start one with `{own_command()}`.\n"
    cloud.publish_state()
    assert main(["watch", str(tmp_path / "none")]) == 2
    assert capsys.readouterr().err == f"{tmp_path / 'none'} is not a folder.\n"
