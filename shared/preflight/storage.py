"""Checks of the drop account: what the app may read and write there, its queues, and the event subscription."""

from __future__ import annotations

import time
import uuid
from contextlib import suppress
from typing import TYPE_CHECKING

from azure.core.exceptions import ResourceExistsError, ResourceNotFoundError
from azure.storage.blob import StorageErrorCode

from shared.drop import ITWIN_ID, Drop
from shared.preflight.report import CheckFailed
from shared.results import result_name
from shared.retries import RETRY_QUEUE
from shared.storage import open_blobs, open_queue
from shared.undeliverable import LETTERS_QUEUE

if TYPE_CHECKING:
    from shared.settings import StorageSettings

# Where the host puts messages that it stopped trying, for the app to take back.
POISON_QUEUES = ("webjobs-blobtrigger-poison", f"{RETRY_QUEUE}-poison", f"{LETTERS_QUEUE}-poison")
# Its name is not an iTwin ID, so that a probe is rejected and nothing is sent to the iTwin Platform.
PROBE_CONTAINER = "preflight"
PROBE_INTERVAL_S = 0.5
# How long a probe is hidden, and when it expires if it could not be deleted.
PROBE_HIDDEN_S, PROBE_LIFE_S = 60, 90


def check_reading(storage: StorageSettings, itwin_id: str | None) -> str:
    """Read a blob that does not exist, in the container of the iTwin if one is named."""
    container = itwin_id if itwin_id and ITWIN_ID.fullmatch(itwin_id) else PROBE_CONTAINER
    with open_blobs(storage) as blobs:
        try:
            # A caller without permission gets the same refusal for a blob that does not exist.
            blobs.get_blob_client(container, str(uuid.uuid4())).download_blob()
        except ResourceNotFoundError as error:
            code = getattr(error, "error_code", None)
            if container == itwin_id and code == StorageErrorCode.CONTAINER_NOT_FOUND:
                message = f"There is no container {itwin_id}: create it, and drop images there."
                raise CheckFailed(message) from error
            if code not in (StorageErrorCode.BLOB_NOT_FOUND, StorageErrorCode.CONTAINER_NOT_FOUND):
                raise  # not a response of a storage account
    if container == itwin_id:
        return f"The app may read what is dropped into {itwin_id}."
    return "The app may read blobs of the drop account."


def check_writing(storage: StorageSettings, container: str) -> str:
    """Write an empty blob into the container, and delete it."""
    name = f".preflight/{uuid.uuid4()}"
    with open_blobs(storage) as blobs:
        blob = blobs.get_blob_client(container, name)
        try:
            blob.upload_blob(b"", overwrite=False)
        except ResourceNotFoundError as error:
            otherwise = ", or correct RESULTS_CONTAINER" if container == storage.results_container else ""
            message = f"The container {container!r} does not exist: deploy the infrastructure again{otherwise}."
            raise CheckFailed(message) from error
        blob.delete_blob()
    return f"The app may write to the container {container!r}."


def check_queues(storage: StorageSettings) -> str:
    """Send a message to the retry queue that nobody receives, and delete it; count those that wait."""
    waiting = _count_messages(storage, RETRY_QUEUE)
    with open_queue(storage, RETRY_QUEUE) as queue:
        probe = queue.send_message("preflight", visibility_timeout=PROBE_HIDDEN_S, time_to_live=PROBE_LIFE_S)
        queue.delete_message(probe)
    return f"The app may send and receive messages. About {waiting} drops are waiting in {RETRY_QUEUE} to be retried."


def check_poison_queues(storage: StorageSettings) -> str:
    """Look for messages that the host stopped trying."""
    counts = {name: _count_messages(storage, name) for name in POISON_QUEUES}
    left = ", ".join(f"about {count} in {name}" for name, count in counts.items() if count)
    if left:
        raise CheckFailed(
            f"Drops on which the app failed repeatedly are still in poison queues: {left}. The log says what failed "
            "(alert `poison` in the runbook); once that is fixed, they are retried within ten minutes, or run "
            "`python -m shared.replay`."
        )
    return f"There are no messages in {', '.join(POISON_QUEUES[:-1])} or {POISON_QUEUES[-1]}."


def _count_messages(storage: StorageSettings, name: str) -> int:
    with open_queue(storage, name) as queue:
        try:
            return queue.get_queue_properties().approximate_message_count or 0
        except ResourceNotFoundError as error:
            message = f"The queue {name!r} does not exist: deploy the infrastructure again."
            raise CheckFailed(message) from error


def check_events(storage: StorageSettings, timeout_s: float) -> str:
    """Drop a probe and wait for its result: the app cannot see the event subscription itself."""
    probe = Drop(PROBE_CONTAINER, f"{uuid.uuid4()}.probe")
    began = time.monotonic()
    with open_blobs(storage) as blobs:
        with suppress(ResourceExistsError):
            blobs.create_container(PROBE_CONTAINER)
        dropped = blobs.get_blob_client(probe.container, probe.blob)
        result = blobs.get_blob_client(storage.results_container, result_name(probe))
        dropped.upload_blob(b"", overwrite=False)
        try:
            while not result.exists():
                if time.monotonic() - began > timeout_s:
                    raise CheckFailed(
                        f"A drop had no result after {timeout_s:.0f} s: check that the drop account's event "
                        "subscription exists and names the function process_drop and this app's key blobs_extension, "
                        "look for its events in the container undeliverable, and read the log."
                    )
                time.sleep(PROBE_INTERVAL_S)
        finally:
            for blob in (dropped, result):
                with suppress(ResourceNotFoundError):
                    blob.delete_blob()
    took_s = time.monotonic() - began
    return f"A drop reached the function and got its result within {took_s:.0f} s: the event subscription works."
