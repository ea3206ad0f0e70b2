"""The relay delivers what Event Grid delivers, when and as it does."""

from __future__ import annotations

import json
import re
import threading
import uuid
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from azure.storage.blob import BlobBlock, BlobServiceClient, ContainerClient
from starlette.applications import Starlette
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from local.cloud import DEFAULT_FILTERS
from local.event_grid import (
    AdvancedFilter,
    BlobWrite,
    EventGrid,
    Subscription,
    not_in_containers,
    read_access_line,
)
from local.functions_host.http import parse_blob_url
from local.processes import wait_until
from local.serving import LocalCloudError, serve
from tests.deadlines import HANG_S

if TYPE_CHECKING:
    from collections.abc import Iterator

    from starlette.requests import Request

    from local.azurite import Azurite

IN_CONTAINERS = "/blobServices/default/containers"


@dataclass
class Endpoint:
    """A webhook that remembers what it was sent and answers with the next of `answers`, then 202."""

    answers: list[int] = field(default_factory=list)
    validates: bool = True
    headers: list[dict[str, str]] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)
    url: str = ""

    def app(self) -> Starlette:
        """Make its web app."""

        async def receive(request: Request) -> Response:
            (event,) = await request.json()
            if request.headers["aeg-event-type"] == "SubscriptionValidation":
                code = event["data"]["validationCode"] if self.validates else "something else"
                return JSONResponse({"validationResponse": code})
            self.headers.append(dict(request.headers))
            self.events.append(event)
            return Response(status_code=self.answers.pop(0) if self.answers else 202)

        return Starlette(routes=[Route("/", receive, methods=["POST"])])

    def wait_for(self, count: int) -> list[dict[str, Any]]:
        """Wait for so many events."""
        assert wait_until(lambda: len(self.events) >= count, timeout_s=HANG_S), self.events
        return self.events


@contextmanager
def relay(azurite: Azurite, endpoint: Endpoint, **options: Any) -> Iterator[EventGrid]:
    """Run a relay with one subscription, a thousand times faster than Event Grid."""
    with serve(endpoint.app()) as address, EventGrid(azurite, retry_scale=0.001) as grid:
        endpoint.url = address
        grid.subscribe(Subscription(f"{address}/", **options))
        yield grid


@pytest.fixture
def container(azurite: Azurite) -> Iterator[ContainerClient]:
    """Make a container with a name of its own."""
    with BlobServiceClient.from_connection_string(azurite.connection_string) as blobs:
        yield blobs.create_container(f"drops-{uuid.uuid4()}")


def only(container: ContainerClient) -> dict[str, Any]:
    """Leave out what other tests write."""
    return {"subject_begins_with": f"{IN_CONTAINERS}/{container.container_name}/"}


# What is an event


@pytest.mark.parametrize(
    ("request_line", "status", "write"),
    [
        ("PUT /devstoreaccount1/box/a.png", 201, BlobWrite("PutBlob", "box", "a.png")),
        ("PUT /devstoreaccount1/box/a/b.png?timeout=HANG_S", 201, BlobWrite("PutBlob", "box", "a/b.png")),
        ("PUT /devstoreaccount1/box/a.png?comp=blocklist", 201, BlobWrite("PutBlockList", "box", "a.png")),
        (
            "PUT /devstoreaccount1/box/a.png?sv=2021&sig=x%3D&comp=blocklist",
            201,
            BlobWrite("PutBlockList", "box", "a.png"),
        ),
        ("PUT /devstoreaccount1/box/a.png", 202, BlobWrite("CopyBlob", "box", "a.png")),
        ("PUT /devstoreaccount1/box/a%20b%2B%25%23%3F%C3%BC.png", 201, BlobWrite("PutBlob", "box", "a b+%#?ü.png")),
        ("PUT /devstoreaccount1/box/a%2Fb.png", 201, BlobWrite("PutBlob", "box", "a/b.png")),
        ("PUT /box/a.png", 201, BlobWrite("PutBlob", "box", "a.png")),
        ("PUT /devstoreaccount1/box/a.png", 403, None),
        ("PUT /devstoreaccount1/box/a.png", 409, None),
        ("PUT /devstoreaccount1/box/a.png?comp=block&blockid=AA", 201, None),
        ("PUT /devstoreaccount1/box/a.png?comp=metadata", 200, None),
        ("PUT /devstoreaccount1/box/a.png?comp=lease", 201, None),
        ("PUT /devstoreaccount1/box/a.png?comp=snapshot", 201, None),
        ("PUT /devstoreaccount1/box/a.png?comp=appendblock", 201, None),
        ("PUT //[box/a.png", 400, None),
        ("PUT //a.png", 201, None),
        ("PUT http://[box/a.png?%", 400, None),
        ("PUT /devstoreaccount1/box?restype=container", 201, None),
        ("PUT /devstoreaccount1/queue", 201, None),
        ("PUT /devstoreaccount1/queue/messages/id?popreceipt=x&visibilitytimeout=0", 204, None),
        ("POST /devstoreaccount1/queue/messages", 201, None),
        ("DELETE /devstoreaccount1/box/a.png", 202, None),
        ("GET /devstoreaccount1/box/a.png", 200, None),
    ],
)
def test_only_requests_that_write_a_blob_raise_events(request_line: str, status: int, write: BlobWrite | None) -> None:
    """Everything else in the access log is skipped."""
    line = f'127.0.0.1 - - [23/Nov/2024:19:27:17 +0000] "{request_line} HTTP/1.1" {status} -'
    assert read_access_line(line) == write


def test_every_way_to_write_a_blob_raises_one_event(azurite: Azurite, container: ContainerClient) -> None:
    """One request, blocks, and a copy do; metadata, leases and deletions raise none."""
    endpoint = Endpoint()
    with relay(azurite, endpoint, **only(container)):
        blob = container.get_blob_client("one.png")
        blob.upload_blob(b"1")
        blob.set_blob_metadata({"a": "b"})
        blob.acquire_lease().release()
        blocks = container.get_blob_client("blocks.png")
        blocks.stage_block("1", b"1")
        blocks.commit_block_list([BlobBlock("1")])
        copy = container.get_blob_client("copy.png")
        copy.start_copy_from_url(blob.url)
        endpoint.wait_for(3)
        container.upload_blob("last.png", b"1")
        events = endpoint.wait_for(4)
    assert {(event["data"]["api"], parse_blob_url(event["data"]["url"])[1]) for event in events} == {
        ("PutBlob", "one.png"),
        ("PutBlockList", "blocks.png"),
        ("CopyBlob", "copy.png"),
        ("PutBlob", "last.png"),
    }


@pytest.mark.parametrize("name", ["plain.png", "site 1/100% ü+#?&.png", "50%25.png", "a//b/.png", "日本.png"])
def test_an_event_has_event_grids_schema(azurite: Azurite, container: ContainerClient, name: str) -> None:
    """Every field of a BlobCreated event is present and correct, whatever the blob's name."""
    endpoint = Endpoint()
    with relay(azurite, endpoint, **only(container)):
        written = container.get_blob_client(name).upload_blob(b"12345")
        (event,) = endpoint.wait_for(1)
    data = event.pop("data")
    assert event.keys() == {
        "topic",
        "subject",
        "eventType",
        "eventTime",
        "id",
        "dataVersion",
        "metadataVersion",
    }
    assert event["topic"].endswith("/providers/Microsoft.Storage/storageAccounts/devstoreaccount1")
    assert event["subject"] == f"{IN_CONTAINERS}/{container.container_name}/blobs/{name}"
    assert (event["eventType"], event["dataVersion"], event["metadataVersion"]) == (
        "Microsoft.Storage.BlobCreated",
        "",
        "1",
    )
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{7}Z", event["eventTime"])
    assert parse_blob_url(data["url"]) == (container.container_name, name)
    assert data["eTag"] == written["etag"].strip('"')
    assert (data["api"], data["blobType"]) == ("PutBlob", "BlockBlob")
    assert (data["contentType"], data["contentLength"]) == ("application/octet-stream", 5)
    assert {"clientRequestId", "requestId", "sequencer", "storageDiagnostics"} < data.keys()


def test_the_sequencer_orders_writes_of_a_blob(azurite: Azurite, container: ContainerClient) -> None:
    """Comparing it as text tells which write was later."""
    endpoint = Endpoint()
    with relay(azurite, endpoint, **only(container)):
        for number in range(1, 13):
            container.upload_blob("a.png", b"1" * number, overwrite=True)
            endpoint.wait_for(number)
    sequencers = [event["data"]["sequencer"] for event in endpoint.events]
    assert sequencers == sorted(set(sequencers))


# Who is told


@pytest.mark.parametrize(
    ("advanced", "passes"),
    [
        (AdvancedFilter("StringIn", "data.api", ("PutBlob", "CopyBlob")), True),
        (AdvancedFilter("StringIn", "data.api", ("putblob",)), True),
        (AdvancedFilter("StringIn", "data.api", ("PutBlockList",)), False),
        (AdvancedFilter("StringNotIn", "data.api", ("PutBlob",)), False),
        (AdvancedFilter("StringBeginsWith", "subject", (f"{IN_CONTAINERS}/other/", f"{IN_CONTAINERS}/BOX/")), True),
        (AdvancedFilter("StringBeginsWith", "subject", (f"{IN_CONTAINERS}/bo/",)), False),
        (AdvancedFilter("StringEndsWith", "subject", (".png", ".jpg")), True),
        (AdvancedFilter("StringNotEndsWith", "subject", (".gif", ".png")), False),
        (AdvancedFilter("StringContains", "subject", ("/SITE/",)), True),
        (AdvancedFilter("StringNotContains", "subject", ("/site/",)), False),
        (not_in_containers("results/", "azure-webjobs-"), True),
        (not_in_containers("results/", "box/"), False),
        (not_in_containers("bo"), False),
        (not_in_containers("bo/"), True),
    ],
)
def test_advanced_filters_decide_as_event_grid_does(advanced: AdvancedFilter, passes: bool) -> None:  # noqa: FBT001 - a table
    """One matching value is enough, none may match if the filter is negated, and case does not matter."""
    write = BlobWrite("PutBlob", "box", "site/a.png")
    assert advanced.matches(write) is passes
    assert Subscription("http://x", advanced_filters=(advanced,)).wants(write) is passes


@pytest.mark.parametrize(
    "options",
    [
        {"included_event_types": ("Microsoft.Storage.BlobDeleted",)},
        {"subject_begins_with": f"{IN_CONTAINERS}/other"},
        {"subject_ends_with": ".jpg"},
    ],
)
def test_an_event_with_another_type_or_subject_is_not_delivered(options: dict[str, Any]) -> None:
    """The simple filters are applied before the advanced ones."""
    write = BlobWrite("PutBlob", "box", "a.png")
    assert Subscription("http://x").wants(write)
    assert not Subscription("http://x", **options).wants(write)


def test_the_default_subscription_excludes_what_the_cloud_writes_itself() -> None:
    """Results, dead letters and the host's containers never trigger the function."""
    subscription = Subscription("http://x", advanced_filters=DEFAULT_FILTERS)
    assert subscription.wants(BlobWrite("PutBlob", "resultsets", "a.png"))
    for own in ("results", "undeliverable", "azure-webjobs-hosts", "azure-webjobs-secrets"):
        assert not subscription.wants(BlobWrite("PutBlob", own, "a.png")), own


def test_a_subscription_has_at_most_25_filter_values() -> None:
    """Event Grid refuses more."""
    with pytest.raises(LocalCloudError, match="at most 25 filter values, not 26"):
        Subscription("http://x", advanced_filters=(not_in_containers(*map(str, range(26))),))


# How it is delivered


def test_an_endpoint_that_does_not_validate_gets_no_subscription(azurite: Azurite) -> None:
    """A wrong code, a failure and no response are each reported in one sentence."""
    with serve(Endpoint(validates=False).app()) as address, EventGrid(azurite) as grid:
        for url in (f"{address}/", f"{address}/nowhere"):
            with pytest.raises(
                LocalCloudError, match="'drops' could not be created: its endpoint responded to the validation"
            ):
                grid.subscribe(Subscription(url))
    with EventGrid(azurite) as grid, pytest.raises(LocalCloudError, match="gave no valid response"):
        grid.subscribe(Subscription(f"{address}/"))


def test_a_delivery_has_event_grids_headers(azurite: Azurite, container: ContainerClient) -> None:
    """The webhook reads aeg-event-type; the others say what was delivered and how often."""
    endpoint = Endpoint(answers=[503])
    with relay(azurite, endpoint, name="my-drops", **only(container)):
        container.upload_blob("a.png", b"1")
        endpoint.wait_for(2)
    wanted = {
        "aeg-event-type": "Notification",
        "aeg-subscription-name": "MY-DROPS",
        "aeg-data-version": "",
        "aeg-metadata-version": "1",
        "content-type": "application/json; charset=utf-8",
    }
    assert [headers["aeg-delivery-count"] for headers in endpoint.headers] == ["0", "1"]
    assert all(wanted.items() <= headers.items() for headers in endpoint.headers)


@pytest.mark.parametrize("answers", [[500], [404, 408, 429], [302], [503, 503, 503, 503]])
def test_a_temporary_failure_is_retried_with_the_same_event(
    azurite: Azurite, container: ContainerClient, answers: list[int]
) -> None:
    """Delivery is at least once, and the ID stays the same."""
    endpoint = Endpoint(answers=list(answers))
    with relay(azurite, endpoint, **only(container)):
        container.upload_blob("a.png", b"1")
        events = endpoint.wait_for(len(answers) + 1)
    assert len({event["id"] for event in events}) == 1


def test_an_endpoint_that_is_down_gets_its_events_later(azurite: Azurite, container: ContainerClient) -> None:
    """A refused connection is a failed attempt like any other."""
    endpoint = Endpoint()
    with EventGrid(azurite, retry_scale=0.005) as grid:
        with serve(endpoint.app()) as address:
            grid.subscribe(Subscription(f"{address}/", **only(container)))
        container.upload_blob("a.png", b"1")
        with serve(endpoint.app(), int(address.rpartition(":")[2])):
            endpoint.wait_for(1)


@pytest.mark.parametrize(
    ("answers", "options", "reason", "outcome"),
    [
        ([400], {}, "UndeliverableDueToClientError", "BadRequest"),
        ([503, 401], {}, "UndeliverableDueToClientError", "Unauthorized"),
        ([403], {}, "UndeliverableDueToClientError", "Forbidden"),
        ([413], {}, "UndeliverableDueToClientError", "PayloadTooLarge"),
        ([503, 503, 503], {"max_delivery_attempts": 3}, "MaxDeliveryAttemptsExceeded", "Busy"),
        ([404], {"time_to_live_s": 5.0}, "TimeToLiveExceeded", "NotFound"),
    ],
)
def test_an_undeliverable_event_becomes_a_dead_letter(  # noqa: PLR0917 - a table
    azurite: Azurite,
    container: ContainerClient,
    answers: list[int],
    options: dict[str, Any],
    reason: str,
    outcome: str,
) -> None:
    """The event, with why, how often and when, is in the dead-letter container, under the subscription's name."""
    letters = f"letters-{uuid.uuid4()}"
    endpoint = Endpoint(answers=list(answers))
    with (
        BlobServiceClient.from_connection_string(azurite.connection_string) as blobs,
        relay(azurite, endpoint, dead_letter_container=letters, **options, **only(container)),
    ):
        container.upload_blob("a.png", b"1")
        box = blobs.get_container_client(letters)
        assert wait_until(lambda: box.exists() and any(box.list_blob_names()), timeout_s=HANG_S)
        (name,) = box.list_blob_names()
        (letter,) = json.loads(box.download_blob(name).readall())
    assert re.fullmatch(r"DROPS/\d{4}/\d{1,2}/\d{1,2}/\d{1,2}/[-0-9a-f]{36}\.json", name)
    assert letter["deadLetterReason"] == reason
    assert (letter["deliveryAttempts"], letter["lastDeliveryOutcome"]) == (len(answers), outcome)
    assert letter["publishTime"] <= letter["lastDeliveryAttemptTime"]
    assert letter["data"] == endpoint.events[0]["data"]
    assert len(endpoint.events) == len(answers)


def test_a_deleted_subscription_gets_no_more_events(azurite: Azurite, container: ContainerClient) -> None:
    """Another one still does."""
    endpoint, other = Endpoint(), Endpoint()
    with relay(azurite, endpoint, **only(container)) as grid, serve(other.app()) as address:
        grid.subscribe(Subscription(f"{address}/", name="other", **only(container)))
        grid.unsubscribe("drops")
        container.upload_blob("a.png", b"1")
        other.wait_for(1)
    assert endpoint.events == []


def test_a_blob_that_was_deleted_before_its_delivery_raises_no_event(
    azurite: Azurite, container: ContainerClient
) -> None:
    """Its ETag is no longer known, and its subscriber would find nothing."""
    endpoint = Endpoint()
    written = threading.Event()

    def delete_at_once(line: str) -> None:
        if "gone.png" in line and '"PUT ' in line:
            container.delete_blob("gone.png")
            written.set()

    azurite.watch(delete_at_once)
    try:
        with relay(azurite, endpoint, **only(container)):
            container.upload_blob("gone.png", b"1")
            assert written.wait(HANG_S)
            container.upload_blob("stays.png", b"1")
            endpoint.wait_for(1)
    finally:
        azurite.unwatch(delete_at_once)
    assert [parse_blob_url(event["data"]["url"])[1] for event in endpoint.events] == ["stays.png"]
