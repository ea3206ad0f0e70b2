"""Whose turn it is on an iTwin, and that the newest stays whatever happens in between."""

from __future__ import annotations

import contextlib
import uuid
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from azure.core.exceptions import HttpResponseError, ResourceExistsError
from azure.storage.blob import BlobLeaseClient, BlobServiceClient

from shared.drop import Version
from shared.errors import ITwinBusy, PlatformThrottled
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
        yield storage, Ledger(storage, turn_s=15, doubt_s=60), str(uuid.uuid4())


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
        with pytest.raises(HttpResponseError):
            turn.record(upload(version(1)))
    assert book.read(itwin_id).upload == upload(version(2))


def test_a_doubt_is_known_to_all_but_the_version_that_is_in_doubt(
    ledger: tuple[BlobServiceClient, Ledger, str],
) -> None:
    """It lasts as long as the platform may still act on it, survives uploads, and is forgotten afterwards."""
    storage, book, itwin_id = ledger
    with book.turn(itwin_id, Entry()) as turn:
        turn.leave_in_doubt(version(1))
    entry = book.read(itwin_id)
    assert (entry.upload, entry.taken, entry.in_doubt_until(version(1))) == (None, False, None)
    until = entry.in_doubt_until(version(2, "0x2"))
    assert until
    assert timedelta(seconds=50) < until - datetime.now(UTC) <= timedelta(seconds=60)
    with book.turn(itwin_id, entry) as turn:
        turn.record(upload(version(2, "0x2")))
    assert book.read(itwin_id).in_doubt_until(version(3, "0x3")) == until
    entry_blob = storage.get_blob_client(LEDGER_CONTAINER, f"{itwin_id}.json")
    over = until - timedelta(minutes=2)
    text = entry_blob.download_blob().readall().decode().replace(until.isoformat(), over.isoformat())
    entry_blob.upload_blob(text, overwrite=True)
    assert book.read(itwin_id).in_doubt_until(version(3, "0x3")) is None


def test_a_turn_that_was_not_given_back_leaves_a_doubt(ledger: tuple[BlobServiceClient, Ledger, str]) -> None:
    """Its holder crashed, or could write nothing down; nobody knows which version is concerned."""
    storage, book, itwin_id = ledger
    with pytest.raises(HttpResponseError), book.turn(itwin_id, Entry()):
        raise HttpResponseError("storage fails")
    assert book.read(itwin_id).taken
    BlobLeaseClient(storage.get_blob_client(LEDGER_CONTAINER, f"{itwin_id}.json")).break_lease(0)
    assert book.read(itwin_id).in_doubt_until(version(1))


def test_a_doubt_about_a_crash_outlasts_a_turn_in_which_nothing_went_up(
    ledger: tuple[BlobServiceClient, Ledger, str],
) -> None:
    """The platform refuses whoever comes next, and the lease that told of the crash is given back."""
    storage, book, itwin_id = ledger
    with book.turn(itwin_id, Entry()) as turn:
        turn.record(upload(version(1)))
    with pytest.raises(HttpResponseError), book.turn(itwin_id, book.read(itwin_id)):
        raise HttpResponseError("a crash")
    BlobLeaseClient(storage.get_blob_client(LEDGER_CONTAINER, f"{itwin_id}.json")).break_lease(0)
    with pytest.raises(PlatformThrottled), book.turn(itwin_id, book.read(itwin_id)):
        raise PlatformThrottled("429")
    entry = book.read(itwin_id)
    assert (entry.upload, entry.taken) == (upload(version(1)), False)
    assert entry.in_doubt_until(version(2, "0x2"))


def test_what_was_known_long_ago_is_read_again(ledger: tuple[BlobServiceClient, Ledger, str]) -> None:
    """Somebody may have had the turn and crashed meanwhile, which the entry's tag does not tell."""
    storage, book, itwin_id = ledger
    with book.turn(itwin_id, Entry()) as turn:
        turn.record(upload(version(1)))
    entry = book.read(itwin_id)
    with pytest.raises(HttpResponseError), book.turn(itwin_id, entry):
        raise HttpResponseError("a crash")
    BlobLeaseClient(storage.get_blob_client(LEDGER_CONTAINER, f"{itwin_id}.json")).break_lease(0)
    with book.turn(itwin_id, replace(entry, read_at=entry.read_at - 16)) as turn:
        assert turn.entry.in_doubt_until(version(2, "0x2"))
