"""Whatever a response of storage holds, the app gets on with it or tries again: no form of it is a bug of the app."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from azure.core.exceptions import AzureError

from shared.attempt import Attempt
from shared.clock import utc_now
from shared.deadline import bounded
from shared.drop import Drop, Version, read_source
from shared.errors import DropError, NeedsOperator, NeedsTime
from shared.ledger import Ledger
from shared.records import Entry, Recorded
from shared.results import ResultStore
from shared.retries import RetryQueue
from shared.settings import StorageSettings
from shared.storage import open_blobs, open_queue, storage_error
from tests.wire import conversing, respond, responding

if TYPE_CHECKING:
    from collections.abc import Callable

ITWIN = "b3bd3a79-c5b4-41f5-ba5f-6d8c338d788a"
DROP = Drop(ITWIN, "a.jpg")
XML = b'<?xml version="1.0"?>'
BODIES = {
    "nothing": b"",
    "a page": b"<html>",
    "text": b"Sorry",
    "JSON": b"{}",
    "half an element": b"<a",
    "another element": XML + b"<a/>",
    "no message": XML + b"<QueueMessagesList/>",
    "an empty message": XML + b"<QueueMessagesList><QueueMessage/></QueueMessagesList>",
    "a message without a time": XML
    + b"<QueueMessagesList><QueueMessage><MessageId>1</MessageId><TimeNextVisible>x</TimeNextVisible></QueueMessage>"
    b"</QueueMessagesList>",
    "an error without a code": XML + b"<Error><Message>No.</Message></Error>",
    "an error of nothing": XML + b"<Error><Code/><Message/></Error>",
    "no UTF-8": bytes(range(256)),
}
STATUSES = [
    "200 OK",
    "201 Created",
    "206 Partial Content",
    "299 Odd",
    "400 Bad",
    "403 No",
    "404 No",
    "409 No",
    "503 No",
]


def read(settings: StorageSettings) -> object:
    """Read a drop."""
    return read_source(open_blobs(settings), DROP, max_bytes=1000)


def read_result(settings: StorageSettings) -> object:
    """Read its result."""
    return ResultStore(open_blobs(settings), "results").read(DROP)


def write_result(settings: StorageSettings) -> object:
    """Write its result."""
    return ResultStore(open_blobs(settings), "results").write(DROP, {"status": "retrying"}, Recorded())


def note(settings: StorageSettings) -> object:
    """Note an upload in the ledger."""
    ledger = Ledger(open_blobs(settings), utc_now, call_s=1, unsettled_s=1)
    return ledger.begin(ITWIN, Entry(), Version(utc_now(), "0x1", "a.jpg", "x"))


def postpone(settings: StorageSettings) -> object:
    """Schedule another attempt."""
    return RetryQueue(lambda: open_queue(settings, "drop-retries"), utc_now).postpone(Attempt.missed(DROP), 1)


def failure(ask: Callable[[StorageSettings], object], url: str) -> DropError | None:
    """Return what becomes of a request to an account, of which there is one try."""
    connection = f"AccountName=account;AccountKey=a2V5;BlobEndpoint={url};QueueEndpoint={url};"
    try:
        with bounded(1.0, lambda: 0.0):
            ask(StorageSettings.from_environ({"DropStorage": connection}))
    except AzureError as error:
        return storage_error(error)
    except DropError as error:
        return error
    return None


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
@pytest.mark.parametrize("ask", [read, read_result, write_result, note, postpone], ids=lambda ask: ask.__name__)
def test_a_response_of_any_form_is_a_failure_of_storage_at_worst(
    ask: Callable[[StorageSettings], object], body: bytes
) -> None:
    """The SDK raises whatever its parsers do; on each of these, the host would have stopped trying the drop."""
    for status in STATUSES:
        response = respond(status, body, "x-ms-request-id: 1", "Content-Type: application/xml")
        with conversing(responding(response), again=True) as address:
            assert isinstance(failure(ask, f"{address}/account"), NeedsTime | NeedsOperator | None)
