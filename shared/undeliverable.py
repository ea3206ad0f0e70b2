"""Recovers events that Event Grid could not deliver, without human help.

Event Grid writes such events into a container, several of them into one dead letter, and an event about each letter
arrives in a queue. The drops of the events in a letter go to the retry queue, and the letter is deleted. A letter as
Event Grid writes it (https://learn.microsoft.com/azure/event-grid/manage-event-delivery)::

    [
      {
        "eventType": "Microsoft.Storage.BlobCreated",
        "subject": "/blobServices/default/containers/b3bd3a79-c5b4-41f5-ba5f-6d8c338d788a/blobs/site/cam1.jpg",
        "data": {"url": "https://drops.blob.core.windows.net/b3bd3a79-c5b4-41f5-ba5f-6d8c338d788a/site/cam1.jpg"},
        "deadLetterReason": "UndeliverableDueToClientError",
        "lastDeliveryOutcome": "Unauthorized"
      }
    ]

In the CloudEvents schema, `type` stands for `eventType`. Only the event of a blob that was written becomes a drop: that
of a deleted, renamed or moved one would end in a result that is not true. A letter with anything else is kept.
"""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from shared.attempt import Attempt
from shared.deadline import Stopwatch, bounded
from shared.drop import Drop, read_source
from shared.errors import DropGone, SourceTooLarge
from shared.outcome import retried
from shared.sdk_transport import asking
from shared.untrusted_json import parse_list

if TYPE_CHECKING:
    from shared.services import Services

LETTERS_CONTAINER, LETTERS_QUEUE = "undeliverable", "undeliverable-events"
# Event Grid puts up to one megabyte of events into a letter.
MAX_LETTER_BYTES = 4_000_000
BLOB_CREATED = "Microsoft.Storage.BlobCreated"

log = logging.getLogger("itwin_image_drop")


def blob_url(event: Any) -> str:
    """Return the URL of the blob that was written, by an event in either schema. Raises ValueError for any other."""
    try:
        kind, url = event.get("eventType", event.get("type")), event["data"]["url"]
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError("Not an event about a blob.") from error
    if kind != BLOB_CREATED or not isinstance(url, str):
        raise ValueError("Not an event about a blob that was written.")
    return url


def recover_events(letter_url: str, services: Services) -> None:
    """Send the drops in a letter to the retry queue, and delete the letter.

    If it contains anything else, it is kept for an operator to see, but its drops are sent nevertheless. Raises
    ValueError if it is not a letter of this account, and OutOfTime and azure.core.exceptions.AzureError if it should be
    tried again.
    """
    letter = blob_at(letter_url, services)
    if letter.container != LETTERS_CONTAINER:
        raise ValueError("Not an event about a dead letter.")
    clock, stopwatch = services.clock, Stopwatch(services.clock)
    with bounded(stopwatch.deadline, clock.monotonic):
        try:
            read = partial(read_source, services.storage, letter, max_bytes=MAX_LETTER_BYTES)
            source = retried(read, stopwatch, clock)
            content = source.content() if source else b""
        except DropGone:
            return  # it was recovered before
        except SourceTooLarge as error:
            raise ValueError("Too large for a dead letter.") from error
        drops, others = _drops_in(content, services)
        for drop in drops:
            attempt = Attempt.missed(drop)
            retried(partial(services.retries.postpone, attempt, 0), stopwatch, clock)
        log.warning("%d events that could not be delivered were recovered.", len(drops))
        if others:
            raise ValueError(f"{others} of its events are not about blobs that were written to this account.")
        with asking():
            services.storage.get_blob_client(letter.container, letter.blob).delete_blob()


def _drops_in(content: bytes, services: Services) -> tuple[list[Drop], int]:
    """Return the drops that a letter is about, and how many of its events are about something else.

    Raises ValueError if it is not a list of events.
    """
    drops, others = [], 0
    for event in parse_list(content):
        try:
            drop = blob_at(blob_url(event), services)
        except ValueError:
            others += 1
        else:
            if not drop.is_reserved(services.results_container):
                drops.append(drop)
    return drops, others


def blob_at(address: str, services: Services) -> Drop:
    """Return the blob at a URL of the app's own account. Raises ValueError for any other URL."""
    url, account = urlsplit(address), urlsplit(services.storage.url)
    folder = f"{account.path.rstrip('/')}/"
    # Events of writes through the `dfs` endpoint name that endpoint: the same blobs under another host name.
    hosts = account.netloc.lower(), account.netloc.lower().replace(".blob.", ".dfs.", 1)
    if url.netloc.lower() not in hosts or not url.path.startswith(folder):
        raise ValueError("A blob of another account.")
    container, _, blob = url.path.removeprefix(folder).partition("/")
    return Drop.named(container, unquote(blob))
