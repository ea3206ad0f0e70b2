"""What queues hold that nobody of the app put there: each message is said once in the log, and none comes back."""

from __future__ import annotations

import base64
import json
import logging
import subprocess
import sys
from functools import partial
from typing import TYPE_CHECKING

import pytest
from azure.storage.queue import QueueClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from local.cloud import RESULTS_CONTAINER, LocalCloud
from local.processes import PROJECT, wait_until
from local.samples import phone_photo
from shared import deliveries
from shared.attempt import Attempt
from shared.clock import utc_now
from shared.drop import Drop
from shared.results import result_name
from tests.deadlines import HANG_S
from tests.drop_bench import PICTURES
from tests.schema import check_result

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.drop_bench import Bench

TAKERS = (
    deliveries.event_undeliverable,
    partial(deliveries.retry_due, deliveries=1),
    deliveries.retry_poisoned,
    deliveries.blob_poisoned,
)
POISON_QUEUES = ("drop-retries-poison", "webjobs-blobtrigger-poison")

FOREIGN = {
    "empty": b"",
    "a word": b"hello",
    "a number": b"1e999",
    "nested too deep": b"[" * 100_000,
    "another app's": b'{"container": "photos", "blob": "a.jpg"}',
    "a number that is none": json.dumps({"drop": {"container": "abc", "blob": "a"}, "number": 1e999}).encode(),
    "the largest there is": json.dumps({"padding": "x" * 48_000}).encode(),
    "a half character": json.dumps({"ContainerName": "abc", "BlobName": "\ud800", "ETag": "x"}).encode(),
    "an event of another kind": b'{"eventType": "Microsoft.Storage.BlobDeleted", "data": {"url": "http://x/y/z"}}',
    "a name that storage cannot have": b'{"ContainerName": "../abc", "BlobName": "a"}',
}


@pytest.mark.parametrize("take", TAKERS)
@pytest.mark.parametrize("body", FOREIGN.values(), ids=FOREIGN.keys())
def test_an_unknown_message_is_logged_and_discarded(
    take: Callable[[bytes, str], None], body: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """Repeating it would not help, and its content is not logged."""
    take(body, "invocation")
    own = [record for record in caplog.records if record.name == deliveries.log.name]  # a cloud logs too
    assert [record.levelno for record in own] == [logging.ERROR]
    assert f"{len(body)} bytes" in caplog.text


@pytest.mark.parametrize("take", TAKERS)
@given(body=st.binary(max_size=200))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
def test_no_message_content_raises_an_exception(take: Callable[[bytes, str], None], body: bytes) -> None:
    """An exception would make the message come back."""
    take(body, "invocation")


def send(cloud: LocalCloud, queue: str, body: bytes) -> None:
    """Put a message on a queue as the host expects it."""
    with QueueClient.from_connection_string(cloud.connection_string, queue) as client:
        client.send_message(base64.b64encode(body).decode())


def waiting(cloud: LocalCloud, *queues: str) -> int:
    """Return how many messages the queues hold."""
    count = 0
    for queue in queues:
        with QueueClient.from_connection_string(cloud.connection_string, queue) as client:
            count += client.get_queue_properties().approximate_message_count or 0
    return count


def test_unknown_messages_are_removed_from_every_queue(cloud: LocalCloud) -> None:
    """Through the host: nothing fails, nothing is poisoned, nothing comes back."""
    bodies = [body for body in FOREIGN.values() if 0 < len(body) < 49_000]
    before, retries = len(cloud.host.lines), waiting(cloud, "drop-retries")  # of other tests, for later
    for queue in ("drop-retries", *POISON_QUEUES):
        for body in bodies:
            send(cloud, queue, body)
    assert wait_until(lambda: waiting(cloud, *POISON_QUEUES) == 0, timeout_s=HANG_S, interval_s=0.1)
    assert wait_until(lambda: waiting(cloud, "drop-retries") <= retries, timeout_s=HANG_S, interval_s=0.1)
    assert not [line for line in cloud.host.lines[before:] if "Exception while executing" in line]


def poison_of(queue: str, drop: Drop, etag: str) -> bytes:
    """Return the message that the host leaves of a drop that crashed its function again and again."""
    if queue.startswith("drop-retries"):
        return Attempt(drop, 1, utc_now(), etag).message().encode()
    message = {"Type": "BlobTrigger", "ContainerName": drop.container, "BlobName": drop.blob, "ETag": f'"{etag}"'}
    return json.dumps(message).encode()


@pytest.mark.parametrize("queue", POISON_QUEUES)
def test_a_poisoned_drop_gets_a_result(cloud: LocalCloud, queue: str) -> None:
    """No drop ends in silence, whichever of its functions failed."""
    drop = Drop(cloud.itwin(), f"{queue}.jpg")
    send(cloud, queue, poison_of(queue, drop, "0x1"))
    results = cloud.drops.get_container_client(RESULTS_CONTAINER)
    name = result_name(drop)
    assert wait_until(
        lambda: name in results.list_blob_names(name_starts_with=drop.container), timeout_s=HANG_S, interval_s=0.1
    )
    result = check_result(json.loads(results.download_blob(name).readall()))
    assert (result["status"], result["error"]["code"]) == ("retrying", "AttemptsInterrupted")
    assert wait_until(lambda: waiting(cloud, *POISON_QUEUES) == 0, timeout_s=HANG_S, interval_s=0.1)


DELIVER = """
import sys
from shared import deliveries
deliveries.retry_due(sys.argv[1].encode(), "invocation", deliveries=int(sys.argv[2]))
"""


@pytest.mark.parametrize(
    ("times", "code"),
    [(1, "InvalidSettings"), (5, "InvalidSettings"), (6, "AttemptsInterrupted"), (150, "AttemptsInterrupted")],
)
def test_a_message_that_was_delivered_too_often_is_handled_as_a_poisoned_one(
    bench: Bench, times: int, code: str
) -> None:
    """The host delivers it 150 times for the sake of the poison queues: a drop that kills the worker would go on."""
    drop = bench.write(PICTURES[0])
    environ = {"DropStorage": bench.environ["DropStorage"], "RESULTS_CONTAINER": bench.services.results_container}
    message = Attempt(drop, 1, utc_now()).message()
    program = [sys.executable, "-c", DELIVER, message, str(times)]
    subprocess.run(program, cwd=PROJECT, env=environ, capture_output=True, check=True)
    result = bench.result(drop)
    assert (result["status"], result["error"]["code"]) == ("retrying", code)
    assert bench.waiting() == 1


def test_an_undeliverable_event_is_recovered(cloud: LocalCloud) -> None:
    """A starting host may refuse its own key for a moment, which Event Grid does not retry."""
    itwin_id = cloud.itwin()
    cloud.event_grid.unsubscribe("drops")
    try:
        drop = cloud.drop(itwin_id, "missed.jpg", phone_photo())
    finally:
        cloud.subscribe()
    data = {"url": cloud.drops.get_blob_client(itwin_id, "missed.jpg").url}
    letter = [{"eventType": "Microsoft.Storage.BlobCreated", "data": data, "deadLetterReason": "x"}]
    letters = cloud.drops.get_container_client("undeliverable")
    letters.upload_blob("DROPS/letter.json", json.dumps(letter))
    assert cloud.result(drop)["status"] == "uploaded"
    assert wait_until(lambda: list(letters.list_blob_names()) == [], timeout_s=HANG_S, interval_s=0.1)
