"""What the host delivers, and which attempt at which drop it means.

A message that is not one of the app's, or damaged, is logged and dropped: repeating it would cure nothing.
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

# How often the host tries a blob's event (host.json's `poisonBlobThreshold`), and the app a message.
MAX_DELIVERIES = 5

log = logging.getLogger("itwin_image_drop")


def blob_written(container: str, blob: str, invocation_id: str) -> None:
    """Take in the blob trigger's reference."""
    process_drop(Attempt.event(Drop(container, blob)), open_services(), invocation_id=invocation_id)


def retry_due(body: bytes, invocation_id: str, *, deliveries: int) -> None:
    """Take in a message of the retry queue.

    host.json's `maxDequeueCount` is that of all queues, and high for those of poison, which have no queue behind them:
    so the app itself stops trying a message that came too often.
    """
    if deliveries > MAX_DELIVERIES:
        retry_poisoned(body, invocation_id)
    elif attempt := _attempt(body):
        process_drop(attempt, open_services(), invocation_id=invocation_id)


def blob_poisoned(body: bytes, invocation_id: str) -> None:
    r"""Take in the host's message about a blob whose function failed too often.

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
    """Take in a message of the retry queue whose function failed too often."""
    if attempt := _attempt(body):
        drop_poisoned(attempt, open_services(), invocation_id=invocation_id)


def event_undeliverable(body: bytes, invocation_id: str) -> None:
    """Take in Event Grid's event about a letter: events that it could not deliver.

    Whatever raises is tried again by the host: `maxDequeueCount` times at once, and as poison for a day.
    """
    try:
        letter_url = blob_url(parse_object(body))
    except ValueError:
        _drop_unknown(body)
        return
    try:
        recover_events(letter_url, open_services())
    except ValueError as problem:
        log.error("An undeliverable letter stays in its container: %s (%s)", problem, invocation_id)  # noqa: TRY400


def _attempt(body: bytes) -> Attempt | None:
    try:
        return Attempt.from_message(body)
    except ValueError:
        _drop_unknown(body)
        return None


def _drop_unknown(body: bytes) -> None:
    log.error("A queue message of %d bytes is not one of this app's and was dropped.", len(body))
