"""What Event Grid could not deliver: letters become drops again, and only those of the app's own account."""

from __future__ import annotations

import contextlib
import json
from dataclasses import replace
from typing import Any

import pytest
from azure.core.exceptions import ResourceExistsError
from azure.storage.blob import BlobServiceClient

from shared.drop import Drop
from shared.undeliverable import LETTERS_CONTAINER, blob_at, blob_url, recover_events
from tests.drop_bench import PICTURES, Bench

CREATED = {"eventType": "Microsoft.Storage.BlobCreated"}


def event_of(bench: Bench, container: str, blob: str) -> dict[str, Any]:
    """Return an event about a blob, as far as it is read."""
    url = bench.services.storage.get_blob_client(container, blob).url
    return {"eventType": "Microsoft.Storage.BlobCreated", "data": {"url": url}}


def names(drop: Drop) -> tuple[str, str]:
    """Return what the blob is called."""
    return drop.container, drop.blob


def write_letter(bench: Bench, content: object, name: str = "DROPS/2026/11/27/12/letter.json") -> str:
    """Write a letter, and return its address."""
    with contextlib.suppress(ResourceExistsError):
        bench.storage.create_container(LETTERS_CONTAINER)
    text = content if isinstance(content, bytes) else json.dumps(content).encode()
    bench.storage.get_blob_client(LETTERS_CONTAINER, name).upload_blob(text, overwrite=True)
    return blob_url(event_of(bench, LETTERS_CONTAINER, name))


def has_letter(bench: Bench) -> bool:
    """Whether a letter is left."""
    letters = bench.storage.get_container_client(LETTERS_CONTAINER)
    return any(True for _ in letters.list_blob_names())


def test_the_drops_of_a_dead_letter_are_uploaded_and_the_letter_deleted(bench: Bench) -> None:
    """Whatever their names; blobs that the app itself wrote are not drops."""
    drops = [bench.write(picture) for picture in PICTURES[:2]]
    named = bench.write(PICTURES[2], type(drops[0])(bench.platform.add_itwin(), "gro\u00dfe #1 100%+/a b.png"))
    letter = [event_of(bench, drop.container, drop.blob) for drop in (*drops, named)]
    letter.append(event_of(bench, bench.services.results_container, "x.json"))
    recover_events(write_letter(bench, letter), bench.services)
    assert bench.waiting() == 3
    bench.drain()
    assert [bench.result(drop)["status"] for drop in (*drops, named)] == ["uploaded"] * 3
    assert not has_letter(bench)


def test_a_dead_letter_that_was_already_recovered_is_ignored(bench: Bench) -> None:
    """Its event may arrive twice."""
    letter = write_letter(bench, [])
    for _ in range(2):
        recover_events(letter, bench.services)
    assert bench.waiting() == 0


@pytest.mark.parametrize(
    "letter",
    [
        b"",
        b"{",
        {"data": {}},
        [{**CREATED, "data": {"url": "https://other.blob.core.windows.net/abc/a.jpg"}}],
        [7],
        ["eventType"],
        [{"data": 1}],
        [{**CREATED, "data": 1}],
        [{**CREATED, "data": {"url": 1}}],
        b"[" * 100_000,
    ],
    ids=lambda letter: str(letter)[:40],
)
def test_a_malformed_dead_letter_stays(bench: Bench, letter: object) -> None:
    """None of its references is followed, least of all to another account, and none of it is lost."""
    address = write_letter(bench, letter)
    with pytest.raises(ValueError, match=r"."):
        recover_events(address, bench.services)
    assert has_letter(bench)
    assert bench.waiting() == 0
    write_letter(bench, [])
    recover_events(address, bench.services)


def test_one_unknown_event_does_not_hold_up_the_others(bench: Bench) -> None:
    """Its letter stays for a person to look at."""
    drop = bench.write(PICTURES[0])
    stranger = {**CREATED, "data": {"url": "https://other.blob.core.windows.net/abc/a.jpg"}}
    letter = [stranger, event_of(bench, *names(drop))]
    with pytest.raises(ValueError, match="1 of its events"):
        recover_events(write_letter(bench, letter), bench.services)
    bench.drain()
    assert bench.result(drop)["status"] == "uploaded"
    assert has_letter(bench)


@pytest.mark.parametrize(
    "kind",
    [
        {"eventType": "Microsoft.Storage.BlobDeleted"},
        {"eventType": "Microsoft.Storage.BlobRenamed"},
        {"eventType": "Microsoft.Storage.BlobTierChanged"},
        {"eventType": "Microsoft.Storage.DirectoryCreated"},
        {"eventType": "Microsoft.EventGrid.SubscriptionDeletedEvent"},
        {"eventType": "microsoft.storage.blobcreated"},
        {"eventType": None, "type": "Microsoft.Storage.BlobCreated"},
        {"type": "Microsoft.Storage.BlobDeleted"},
        {},
    ],
    ids=str,
)
def test_only_a_written_blob_is_a_drop(bench: Bench, kind: dict[str, Any]) -> None:
    """The result of a deleted one would say that a drop was lost; the letter stays, and tells a person why."""
    drop = bench.write(PICTURES[0])
    event = {"data": event_of(bench, *names(drop))["data"], **kind}
    with pytest.raises(ValueError, match="1 of its events are not about blobs that were written"):
        recover_events(write_letter(bench, [event]), bench.services)
    assert (bench.waiting(), has_letter(bench)) == (0, True)
    bench.storage.get_container_client(LETTERS_CONTAINER).delete_blob("DROPS/2026/11/27/12/letter.json")


def test_a_dead_letter_in_the_cloudevents_schema_is_recovered_too(bench: Bench) -> None:
    """Its events have `type` where Event Grid's own have `eventType`."""
    drop = bench.write(PICTURES[0])
    event = {"specversion": "1.0", "type": "Microsoft.Storage.BlobCreated", "deadletterreason": "MaxDeliveryAttempts"}
    event["data"] = event_of(bench, *names(drop))["data"]
    recover_events(write_letter(bench, [event]), bench.services)
    bench.drain()
    assert (bench.result(drop)["status"], has_letter(bench)) == ("uploaded", False)


def test_no_dead_letter_is_lost_while_storage_refuses_the_app(bench: Bench) -> None:
    """The host's attempts are over within a second, and Event Grid does not write the letter again."""
    drop = bench.write(PICTURES[0])
    letter = write_letter(bench, [event_of(bench, *names(drop))])
    ends_at = bench.clock.monotonic() + 30
    bench.hinder = lambda _: "refused" if bench.clock.monotonic() < ends_at else None
    recover_events(letter, bench.services)
    bench.drain()
    assert bench.result(drop)["status"] == "uploaded"
    assert not has_letter(bench)


def test_events_of_either_endpoint_belong_to_the_account(bench: Bench) -> None:
    """A blob written through `dfs` is named by that endpoint."""
    url = "https://drops.blob.core.windows.net"
    with BlobServiceClient(url, credential="a2V5") as storage:
        services = replace(bench.services, storage=storage)
        for host in ("drops.blob.core.windows.net", "drops.dfs.core.windows.net", "Drops.Blob.core.windows.net"):
            assert blob_at(f"https://{host}/abc/a%20%231%25.jpg", services) == Drop("abc", "a #1%.jpg")
        for host in ("drops.blob.core.windows.net.example.com", "drops2.blob.core.windows.net"):
            with pytest.raises(ValueError, match="account"):
                blob_at(f"https://{host}/abc/a.jpg", services)


def test_only_blobs_in_the_dead_letter_container_are_read(bench: Bench) -> None:
    """Write access to the queue does not suffice to have another blob read."""
    drop = bench.write(PICTURES[0])
    with pytest.raises(ValueError, match="letter"):
        recover_events(blob_url(event_of(bench, drop.container, drop.blob)), bench.services)
    assert bench.last_modified(drop)
