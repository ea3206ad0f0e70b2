"""Whose turn it is on an iTwin, and that the newest stays whatever happens in between."""

from __future__ import annotations

import contextlib
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from azure.core.exceptions import ResourceExistsError
from azure.storage.blob import BlobLeaseClient, BlobServiceClient
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.drop import Version
from shared.errors import ITwinBusy, TurnLost
from shared.ledger import LEDGER_CONTAINER, MAX_RANK, Entry, Ledger, Upload

if TYPE_CHECKING:
    from collections.abc import Iterator

    from local.azurite import Azurite

START = datetime(2026, 11, 23, 12, tzinfo=UTC)
SPACING = timedelta(seconds=5)


def version(second: int, etag: str = "0x1", blob: str = "a.jpg") -> Version:
    """Return a version that was written in that second."""
    return Version(START + timedelta(seconds=second), etag, blob)


def upload(of: Version, at: datetime = START) -> Upload:
    """Return what the ledger says of an upload."""
    return Upload(of, at, {"status": "uploaded", "source": {"etag": of.etag}})


@pytest.mark.parametrize(
    ("up", "drop", "superseded"),
    [
        (version(1), version(0), True),
        (version(0), version(1), False),
        (version(0), version(0), False),
        (version(0, "0x2", "b.jpg"), version(0, "0x1", "a.jpg"), True),
        (version(0, "0x1", "b.jpg"), version(0, "0x2", "a.jpg"), False),
        (version(0, "0x2"), version(0, "0x1"), False),  # one blob twice within a second: storage is asked
        (version(0, "0x1"), version(0, "0x2"), False),
    ],
)
def test_a_newer_upload_supersedes_a_drop(up: Version, drop: Version, *, superseded: bool) -> None:
    """By the time of writing, then by ETag; of two versions of one blob within a second, storage has the later."""
    assert upload(up).supersedes(drop) is superseded


def test_an_itwin_rests_after_an_upload() -> None:
    """A burst costs an upload per pause, not one per drop."""
    entry = Entry(upload(version(0), at=START))
    with pytest.raises(ITwinBusy) as busy:
        entry.check_free(version(1), START + timedelta(seconds=2), SPACING)
    assert busy.value.retry_after_s == 3 + 1
    entry.check_free(version(1), START + SPACING, SPACING)
    Entry().check_free(version(1), START, SPACING)


def test_of_those_that_wait_the_younger_come_first() -> None:
    """Then the older find a newer one up and need not be sent; none waits much longer than the others."""
    entry = Entry(taken=True)
    waits_s = []
    for age_s in (0, 1, 20, 10**6, -5):
        with pytest.raises(ITwinBusy) as busy:
            entry.check_free(version(-age_s), START, SPACING)
        waits_s.append(busy.value.retry_after_s)
    assert waits_s == [5, 6, 25, 5 + 5 * MAX_RANK, 5]


@pytest.fixture
def ledger(azurite: Azurite) -> Iterator[tuple[BlobServiceClient, Ledger, str]]:
    """Make a ledger, and an iTwin that it does not know."""
    with BlobServiceClient.from_connection_string(azurite.connection_string) as storage:
        with contextlib.suppress(ResourceExistsError):
            storage.create_container(LEDGER_CONTAINER)
        yield storage, Ledger(storage, turn_s=15), str(uuid.uuid4())


def test_what_is_up_is_written_down(ledger: tuple[BlobServiceClient, Ledger, str]) -> None:
    """Whoever comes next sees it, and that the turn is free again."""
    _, book, itwin_id = ledger
    assert book.read(itwin_id) == Entry()
    with book.turn(itwin_id, Entry()) as turn:
        assert book.read(itwin_id).taken
        turn.record(upload(version(1)))
    entry = book.read(itwin_id)
    assert (entry.upload, entry.taken) == (upload(version(1)), False)


def test_one_has_the_turn_at_a_time(ledger: tuple[BlobServiceClient, Ledger, str]) -> None:
    """Whether the other saw nothing, a free turn or a taken one."""
    _, book, itwin_id = ledger
    with book.turn(itwin_id, Entry()):
        for seen in (Entry(), book.read(itwin_id)):
            with pytest.raises(ITwinBusy), book.turn(itwin_id, seen):
                pytest.fail("Two had the turn.")


def test_nobody_has_a_turn_by_what_was_known_before(ledger: tuple[BlobServiceClient, Ledger, str]) -> None:
    """Between reading and taking the turn a newer image may have gone up."""
    _, book, itwin_id = ledger
    with book.turn(itwin_id, Entry()) as turn:
        stale = book.read(itwin_id)
        turn.record(upload(version(1)))
    with pytest.raises(ITwinBusy), book.turn(itwin_id, stale):
        pytest.fail("An outdated entry was believed.")


def test_a_turn_that_ended_too_soon_is_noticed(ledger: tuple[BlobServiceClient, Ledger, str]) -> None:
    """Whoever was too slow must not write down that theirs is up."""
    storage, book, itwin_id = ledger
    with book.turn(itwin_id, Entry()) as turn:
        BlobLeaseClient(storage.get_blob_client(LEDGER_CONTAINER, f"{itwin_id}.json")).break_lease(0)
        with book.turn(itwin_id, book.read(itwin_id)) as newer:
            newer.record(upload(version(2)))
        with pytest.raises(TurnLost):
            turn.record(upload(version(1)))
    assert book.read(itwin_id).upload == upload(version(2))


# A model: storage and the platform are a few fields, every step of an attempt may come at any moment among those of
# the others, and may be the last one of its process. The decisions are the real ones.


@dataclass
class World:
    """One iTwin: its ledger entry with the lease on it, and what the platform shows."""

    entry: Entry = field(default_factory=Entry)
    tags: int = 0
    holder: int | None = None
    shown: Version | None = None
    late: list[Version] = field(default_factory=list)


@dataclass
class Process:
    """One drop and whoever works on it; `seen` is what it knows of the ledger, None between two attempts."""

    number: int
    drop: Version
    again: bool = False
    unsure: bool = False
    ended: bool = False
    seen: Entry | None = None
    uploaded: bool = False


def step(process: Process, world: World, fate: str, by_version: dict[Version, Process]) -> None:
    """Do the next step of an attempt, and let fate strike: a crash, a failure, or an answer that is lost."""
    if fate == "crash":
        # The lease stays behind until it ends by itself; the message comes back.
        process.seen, process.uploaded = None, False
    elif process.seen is None:
        process.seen = world.entry
        decide(process, world, by_version)
    elif world.holder != process.number:
        if world.holder is None and world.entry.tag == process.seen.tag:
            world.holder = process.number
        else:
            process.seen = None  # ITwinBusy
    elif not process.uploaded:
        put(process, world, fate)
    else:
        world.tags += 1
        world.entry = Entry(upload(process.drop), tag=str(world.tags))
        world.holder, process.seen, process.uploaded = None, None, False
        process.ended, process.again, process.unsure = True, False, False


def decide(process: Process, world: World, by_version: dict[Version, Process]) -> None:
    """Go on with the attempt, or end it, as the pipeline does with what it reads of the ledger."""
    up = world.entry.upload
    if up and up.supersedes(process.drop):
        if process.again or process.unsure:
            newer = by_version[up.version]
            newer.ended, newer.again = False, True
        process.ended, process.again, process.unsure, process.seen = True, False, False, None
    elif up and up.version == process.drop and not process.again:
        process.ended, process.unsure, process.seen = True, False, None


def put(process: Process, world: World, fate: str) -> None:
    """Upload: done and answered; done without an answer; not done yet, though nobody waits any more; or refused."""
    if fate in ("works", "silent"):
        world.shown = process.drop
    if fate == "late":
        world.late.append(process.drop)
    if fate == "works":
        process.uploaded = True
    else:
        world.holder, process.seen = None, None
        process.unsure = process.unsure or fate in ("silent", "late")


@given(st.data())
@settings(max_examples=400, deadline=None)
def test_any_interleaving_of_drops_retries_and_crashes_ends_with_the_newest(data: st.DataObject) -> None:
    """Whatever is tried, fails, dies or comes late, in whatever order: at the end the newest drop is shown."""
    count = data.draw(st.integers(1, 4), "drops")
    versions = [version(data.draw(st.integers(0, 2)), f"0x{n}", f"{n}.jpg") for n in range(count)]
    processes = [Process(number, drop) for number, drop in enumerate(versions)]
    by_version = {process.drop: process for process in processes}
    world = World()
    fates = st.sampled_from(
        ["works", "works", "works", "crash", "fails", "silent", "late", "late", "lease ends", "lands"]
    )
    for _ in range(data.draw(st.integers(0, 60), "steps")):
        process, fate = data.draw(st.sampled_from(processes)), data.draw(fates)
        if fate == "lease ends":
            # Only of a holder that has died: a living one gives up before, or notices.
            if world.holder is not None and processes[world.holder].seen is None:
                world.holder = None
        elif fate == "lands":
            land(world)
        elif not process.ended:
            land_before_retry(process, world)
            step(process, world, fate, by_version)
    for _ in range(100):
        for process in processes:
            if world.holder is not None and processes[world.holder].seen is None:
                world.holder = None
            if not process.ended:
                land_before_retry(process, world)
                step(process, world, "works", by_version)
    assert all(process.ended for process in processes)
    assert world.shown == max(versions)


def land(world: World) -> None:
    """Let the platform do at last what it was asked long ago."""
    if world.late:
        world.shown = world.late.pop(0)


def land_before_retry(process: Process, world: World) -> None:
    """Whatever the platform still does, it has done before the next attempt's time has come."""
    if process.seen is None and process.drop in world.late:
        world.late.remove(process.drop)
        world.shown = process.drop
