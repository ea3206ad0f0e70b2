"""What the host delivers, and which attempt at which drop it stands for.

A message that is damaged or not one of the app's is logged and discarded: repeating it would not help.
"""

from __future__ import annotations

import logging
from dataclasses import replace

from shared.attempt import Attempt
from shared.dead_letters import drop_poisoned
from shared.drop import Drop
from shared.pipeline import process_drop
from shared.services import open_services
from shared.undeliverable import blob_url, recover_events
from shared.untrusted_json import parse_object

# How often the host tries an event (host.json's `poisonBlobThreshold`), and how often the app accepts a message.
MAX_DELIVERIES = 5

log = logging.getLogger("itwin_image_drop")


def blob_written(container: str, blob: str, invocation_id: str) -> None:
    """Process the blob to which the blob trigger refers."""
    process_drop(Attempt.event(Drop(container, blob)), open_services(), invocation_id=invocation_id)


def retry_due(body: bytes, invocation_id: str, *, deliveries: int) -> None:
    """Process a message of the retry queue.

    host.json's `maxDequeueCount` applies to all queues, and is high for the sake of the poison queues, which have no
    further queue behind them: so the app itself stops trying a message that was delivered too often.
    """
    if deliveries > MAX_DELIVERIES:
        retry_poisoned(body, invocation_id)
    elif attempt := _attempt(body):
        process_drop(attempt, open_services(), invocation_id=invocation_id)


def blob_poisoned(body: bytes, invocation_id: str) -> None:
    r"""Process the host's message about a blob whose function failed too often.

    Its shape is that of `BlobTriggerMessage` in the host's storage extension::

        {
          "Type": "BlobTrigger",
          "FunctionId": "Host.Functions.process_drop",
          "BlobType": "BlockBlob",
          "ContainerName": "b3bd3a79-c5b4-41f5-ba5f-6d8c338d788a",
          "BlobName": "site/cam1.jpg",
          "ETag": "\"0x8DE2B1\""
        }
    """
    try:
        message = parse_object(body)
        etag = message.get("ETag")
        drop = Drop.named(message["ContainerName"], message["BlobName"])
    except (ValueError, KeyError):
        _drop_unknown(body)
        return
    attempt = replace(Attempt.event(drop), etag=etag.strip('"') if isinstance(etag, str) else None)
    drop_poisoned(attempt, open_services(), invocation_id=invocation_id)


def retry_poisoned(body: bytes, invocation_id: str) -> None:
    """Process a message of the retry queue whose function failed too often."""
    if attempt := _attempt(body):
        drop_poisoned(attempt, open_services(), invocation_id=invocation_id)


def event_undeliverable(body: bytes, invocation_id: str) -> None:
    """Process Event Grid's event about a dead letter, which holds events that it could not deliver.

    If this raises, the host tries again: `maxDequeueCount` times at once, and from the poison queue for a day.
    """
    try:
        letter_url = blob_url(parse_object(body))
    except ValueError:
        _drop_unknown(body)
        return
    try:
        recover_events(letter_url, open_services())
    except ValueError as problem:
        log.error("A dead letter stays in its container: %s (%s)", problem, invocation_id)  # noqa: TRY400


def _attempt(body: bytes) -> Attempt | None:
    try:
        return Attempt.from_message(body)
    except ValueError:
        _drop_unknown(body)
        return None


def _drop_unknown(body: bytes) -> None:
    log.error("A queue message of %d bytes is not one of this app's and was discarded.", len(body))
