"""A cloud is found while it runs, and never afterwards, whatever it left."""

from __future__ import annotations

import contextlib
import json
import stat
import threading
from typing import TYPE_CHECKING

import pytest
from starlette.applications import Starlette

from local.serving import LocalCloudError, serve
from local.state import claim_state, find_state
from tests.deadlines import HANG_S

if TYPE_CHECKING:
    from pathlib import Path

STATE = {"pid": 1, "connectionString": "UseDevelopmentStorage=true"}


@pytest.fixture(autouse=True)
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep the state where no developer's cloud has its own."""
    monkeypatch.setenv("LOCAL_CLOUD_FOLDER", str(tmp_path / "state"))
    return tmp_path / "state" / "cloud.json"


def test_a_cloud_can_be_found_from_when_it_is_ready_until_it_ends(file: Path) -> None:
    """One that is still starting has no addresses yet."""
    assert find_state() is None
    with claim_state() as publish:
        assert find_state() is None
        publish({**STATE, "more": "x" * 100})
        publish(STATE)
        assert find_state() == STATE
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert find_state() is None
    assert not file.exists()


def test_the_state_file_of_a_killed_cloud_is_ignored(file: Path) -> None:
    """Even if other programs use its ports by now; and the next cloud can start."""
    file.parent.mkdir()
    with serve(Starlette()) as address:
        file.write_text(json.dumps({**STATE, "identity": address, "platform": address}))
        file.chmod(0o644)
        assert find_state() is None
        with claim_state() as publish:
            publish(STATE)
            assert find_state() == STATE
            assert stat.S_IMODE(file.stat().st_mode) == 0o600


@pytest.mark.parametrize("text", ["", "{", "[]", "\0", '"connectionString"'])
def test_a_damaged_state_file_is_ignored(file: Path, text: str) -> None:
    """It does not prevent a cloud from starting."""
    file.parent.mkdir()
    file.write_text(text)
    assert find_state() is None
    with claim_state():
        assert find_state() is None


def test_only_one_cloud_runs_at_a_time(file: Path) -> None:
    """However many start at once; another one can start when it has ended."""
    ready, done = threading.Barrier(8), threading.Event()
    refusals: list[str] = []

    def start() -> None:
        ready.wait()
        try:
            with claim_state():
                done.wait(HANG_S)
        except LocalCloudError as error:
            refusals.append(str(error))
            if len(refusals) == ready.parties - 1:
                done.set()

    for _ in range(3):
        refusals.clear()
        done.clear()
        threads = [threading.Thread(target=start) for _ in range(ready.parties)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(refusals) == ready.parties - 1
        assert all(refusal.startswith("A local cloud of this project is already running") for refusal in refusals)
        assert not file.exists()


def test_a_cloud_that_starts_as_another_ends_is_found(file: Path) -> None:
    """It does not hold the lock of a file that the other one has deleted."""
    lost: list[bool] = []

    def start_often() -> None:
        for _ in range(30):
            with contextlib.suppress(LocalCloudError), claim_state() as publish:
                publish(STATE)
                lost.append(not file.exists() or find_state() is None)

    threads = [threading.Thread(target=start_often) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(lost) > 30
    assert not any(lost)


def test_looking_for_a_cloud_does_not_keep_one_from_starting() -> None:
    """Both use the same lock."""
    stopping = threading.Event()

    def look() -> None:
        while not stopping.is_set():
            find_state()

    thread = threading.Thread(target=look)
    thread.start()
    try:
        for _ in range(300):
            with claim_state():
                pass
    finally:
        stopping.set()
        thread.join()


def test_a_state_folder_that_cannot_be_used_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message contains its path."""
    (tmp_path / "file").touch()
    monkeypatch.setenv("LOCAL_CLOUD_FOLDER", str(tmp_path / "file"))
    with (
        pytest.raises(
            LocalCloudError,
            match=r"file/cloud\.json cannot be written \(.*\): set LOCAL_CLOUD_FOLDER to a folder of your own\.$",
        ),
        claim_state(),
    ):
        pass
    assert find_state() is None
