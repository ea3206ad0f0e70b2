"""What Event Grid could not deliver is taken up without a person.

It writes such events into a container, a letter for several of them, and an event about each letter comes by a queue.
The events in a letter count as events: their drops go to the retry queue, and the letter is deleted. A letter as Event
Grid writes it (https://learn.microsoft.com/azure/event-grid/manage-event-delivery)::

    [
      {
        "eventType": "Microsoft.Storage.BlobCreated",
        "subject": "/blobServices/default/containers/b3bd3a79-c5b4-41f5-ba5f-6d8c338d788a/blobs/site/cam1.jpg",
        "data": {"url": "https://drops.blob.core.windows.net/b3bd3a79-c5b4-41f5-ba5f-6d8c338d788a/site/cam1.jpg"},
        "deadLetterReason": "UndeliverableDueToClientError",
        "lastDeliveryOutcome": "Unauthorized"
      }
    ]
"""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from shared.attempt import Attempt
from shared.drop import Drop, read_source
from shared.errors import DropGone

if TYPE_CHECKING:
    from collections.abc import Iterator

    from shared.services import Services

LETTERS_CONTAINER, LETTERS_QUEUE = "undeliverable", "undeliverable-events"
# Event Grid puts up to a megabyte of events into a letter.
MAX_LETTER_BYTES = 4_000_000

log = logging.getLogger("itwin_image_drop")


def blob_url(event: Any) -> str:
    """Return the address of the blob that an event is about. Raises ValueError where it is not such an event."""
    try:
        url = event["data"]["url"]
    except (KeyError, TypeError) as error:
        raise ValueError("Not an event of a blob.") from error
    if not isinstance(url, str):
        raise ValueError("Not an event of a blob.")  # noqa: TRY004 - every way to be none is the same to the caller
    return url


def recover_events(letter_url: str, services: Services) -> None:
    """Send the drops in a letter to the retry queue, and delete the letter.

    Raises ValueError where it is not a letter of this account, SourceTooLarge, and
    azure.core.exceptions.AzureError.
    """
    letter = _blob_at(letter_url, services)
    if letter.container != LETTERS_CONTAINER:
        raise ValueError("Not an event of a letter.")
    try:
        source = read_source(services.storage, letter, max_bytes=MAX_LETTER_BYTES)
    except DropGone:
        return  # it has been taken up
    drops = list(_drops_in(source.content() if source else b"", services))
    for drop in drops:
        services.retries.postpone(Attempt.missed(drop, services.clock.now()), 0)
    services.storage.get_blob_client(letter.container, letter.blob).delete_blob()
    log.warning("%d events that could not be delivered were recovered.", len(drops))


def _drops_in(content: bytes, services: Services) -> Iterator[Drop]:
    """Yield the drops that a letter tells of. Raises ValueError where it is not a list of events."""
    events = json.loads(content)
    if not isinstance(events, list):
        raise ValueError("Not a list of events.")  # noqa: TRY004 - as above
    for event in events:
        drop = _blob_at(blob_url(event), services)
        if not drop.is_reserved(services.results_container):
            yield drop


def _blob_at(address: str, services: Services) -> Drop:
    """Return the blob at an address, which is one of the app's own account. Raises ValueError."""
    url, account = urlsplit(address), urlsplit(services.storage.url)
    folder = f"{account.path.rstrip('/')}/"
    if url.netloc != account.netloc or not url.path.startswith(folder):
        raise ValueError("A blob of another account.")
    container, _, blob = url.path.removeprefix(folder).partition("/")
    return Drop.named(container, unquote(blob))
