"""What the ledger notes of uploads, and that none is forgotten that the platform may still apply."""

from __future__ import annotations

import contextlib
import json
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from azure.core.exceptions import HttpResponseError, ResourceExistsError
from azure.storage.blob import BlobServiceClient

from shared.decisions import unsettled_until
from shared.drop import Version
from shared.errors import ITwinBusy
from shared.ledger import LEDGER_CONTAINER, Ledger
from shared.records import Entry, Upload

if TYPE_CHECKING:
    from collections.abc import Iterator

    from local.azurite import Azurite

START = datetime(2026, 11, 23, 12, tzinfo=UTC)


def version(second: int, etag: str = "0x1", blob: str = "a.jpg") -> Version:
    """Return a version that was written in that second."""
    return Version(START + timedelta(seconds=second), etag, blob, f"content {second}")


def upload(of: Version, at: datetime = START) -> Upload:
    """Return what the ledger says of an upload."""
    return Upload(of, at, {"status": "uploaded", "source": {"etag": of.etag}})


CALL_S, UNSETTLED_S = 55.0, 240.0
Bench = tuple[BlobServiceClient, Ledger, str, "Clock"]


@dataclass
class Clock:
    """A clock that is set by hand."""

    now: datetime = START

    def __call__(self) -> datetime:
        """Return the time."""
        return self.now

    def pass_s(self, seconds: float) -> None:
        """Let time pass."""
        self.now += timedelta(seconds=seconds)


@pytest.fixture
def bench(azurite: Azurite) -> Iterator[Bench]:
    """Make a ledger, an iTwin that it does not know, and its clock."""
    clock = Clock()
    with BlobServiceClient.from_connection_string(azurite.connection_string) as storage:
        with contextlib.suppress(ResourceExistsError):
            storage.create_container(LEDGER_CONTAINER)
        yield storage, Ledger(storage, clock, call_s=CALL_S, unsettled_s=UNSETTLED_S), str(uuid.uuid4()), clock


def test_an_upload_is_recorded(bench: Bench) -> None:
    """The next drop sees it, and that the iTwin is free again; during the upload, that it was busy."""
    _, ledger, itwin_id, clock = bench
    assert ledger.read(itwin_id) == Entry()
    call = ledger.begin(itwin_id, Entry(), version(1))
    during = ledger.read(itwin_id)
    assert during.is_busy(clock())
    assert during.upload is None
    ledger.record_upload(itwin_id, call, upload(version(1)))
    after = ledger.read(itwin_id)
    assert (after.upload, after.is_busy(clock()), after.unsettled) == (upload(version(1)), False, {})


def test_only_one_upload_of_an_itwin_begins_at_a_time(bench: Bench) -> None:
    """Another one may have begun since the ledger was read, whether there was an entry or not."""
    _, ledger, itwin_id, _ = bench
    ledger.begin(itwin_id, Entry(), version(1))
    with pytest.raises(ITwinBusy):
        ledger.begin(itwin_id, Entry(), version(2))
    stale = ledger.read(itwin_id)
    ledger.record_failure(itwin_id, ledger.begin(itwin_id, stale, version(1)), is_settled=True)
    with pytest.raises(ITwinBusy):
        ledger.begin(itwin_id, stale, version(2))


def test_a_call_that_ended_too_late_is_noticed(bench: Bench) -> None:
    """An upload that was too slow must not be recorded as the current one: another image may be shown."""
    _, ledger, itwin_id, clock = bench
    slow = ledger.begin(itwin_id, Entry(), version(1))
    clock.pass_s(CALL_S)
    entry = ledger.read(itwin_id)
    assert not entry.is_busy(clock())
    newer = ledger.begin(itwin_id, entry, version(2))
    ledger.record_upload(itwin_id, newer, upload(version(2)))
    with pytest.raises(HttpResponseError):
        ledger.record_upload(itwin_id, slow, upload(version(1)))
    assert ledger.read(itwin_id).upload == upload(version(2))


def test_a_record_that_the_sdk_sent_twice_is_recognized(bench: Bench) -> None:
    """The first request was carried out but its response lost: the second finds another ETag, which is its own."""
    _, ledger, itwin_id, _ = bench
    call = ledger.begin(itwin_id, Entry(), version(1))
    ledger.record_upload(itwin_id, call, upload(version(1)))
    ledger.record_upload(itwin_id, call, upload(version(1)))
    assert ledger.read(itwin_id).upload == upload(version(1))


@pytest.mark.parametrize("end", ["silence", "crash"])
def test_a_call_without_response_is_unsettled_for_all_other_versions(bench: Bench, end: str) -> None:
    """As long as the platform may still apply it, whatever other uploads there are; afterwards it is forgotten."""
    _, ledger, itwin_id, clock = bench
    silent = ledger.begin(itwin_id, Entry(), version(1))
    if end == "silence":
        ledger.record_failure(itwin_id, silent, is_settled=False)
        assert not ledger.read(itwin_id).is_busy(clock())
    clock.pass_s(CALL_S)
    entry = ledger.read(itwin_id)
    assert unsettled_until(version(1), entry) is None
    until = unsettled_until(version(2), entry)
    assert until == START + timedelta(seconds=CALL_S + UNSETTLED_S)
    ledger.record_upload(itwin_id, ledger.begin(itwin_id, entry, version(2)), upload(version(2)))
    assert unsettled_until(version(3), ledger.read(itwin_id)) == until
    clock.pass_s(UNSETTLED_S)
    assert ledger.read(itwin_id).unsettled == {}


@pytest.mark.parametrize("is_uploaded", [True, False])
def test_a_response_settles_only_its_own_call(bench: Bench, *, is_uploaded: bool) -> None:
    """An earlier call of the same version without a response may still be applied later."""
    _, ledger, itwin_id, clock = bench
    ledger.record_failure(itwin_id, ledger.begin(itwin_id, Entry(), version(1)), is_settled=False)
    until = unsettled_until(version(2), ledger.read(itwin_id))
    clock.pass_s(30)
    second = ledger.begin(itwin_id, ledger.read(itwin_id), version(1))
    if is_uploaded:
        ledger.record_upload(itwin_id, second, upload(version(1)))
    else:
        ledger.record_failure(itwin_id, second, is_settled=True)
    assert unsettled_until(version(2), ledger.read(itwin_id)) == until


def test_an_entry_of_an_earlier_release_is_understood(bench: Bench) -> None:
    """Entries survive deployments: uploads and unsettled calls, with or without a version."""
    storage, ledger, itwin_id, clock = bench
    up = upload(version(1))
    later = {"0x9": 60, "*": 90, "0x7": -1}
    entry = {
        "doubts": {etag: (clock() + timedelta(seconds=s)).isoformat() for etag, s in later.items()},
        "lastModified": up.version.last_modified.isoformat(),
        "etag": up.version.etag,
        "blob": up.version.blob,
        "uploadedAt": up.at.isoformat(),
        "result": up.document,
    }
    storage.get_blob_client(LEDGER_CONTAINER, f"{itwin_id}.json").upload_blob(json.dumps(entry))
    found = ledger.read(itwin_id)
    assert (found.upload, found.busy_until, set(found.unsettled)) == (up, None, {"0x9", "*"})
    assert unsettled_until(version(2, "0x9"), found) == clock() + timedelta(seconds=90)


def test_an_impossibly_late_time_is_not_trusted(bench: Bench) -> None:
    """Otherwise a damaged entry would keep an iTwin busy forever."""
    storage, ledger, itwin_id, clock = bench
    far = "9999-12-31T23:59:59+00:00"
    entry = {"busyUntil": far, "unsettled": {"a": far}}
    storage.get_blob_client(LEDGER_CONTAINER, f"{itwin_id}.json").upload_blob(json.dumps(entry))
    found = ledger.read(itwin_id)
    assert found.busy_until == clock() + timedelta(seconds=CALL_S)
    assert found.unsettled == {"a": clock() + timedelta(seconds=CALL_S + UNSETTLED_S)}
