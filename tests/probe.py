"""The probe app in a running host, and what its functions said."""

from __future__ import annotations

import json
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import requests
from azure.storage.blob import BlobServiceClient, ContainerClient
from azure.storage.queue import QueueServiceClient

from local.host_process import HostProcess
from local.processes import wait_until
from tests.deadlines import HANG_S

if TYPE_CHECKING:
    from local.azurite import Azurite

PROBE = Path(__file__).parent / "apps" / "probe"
TRIGGER_QUEUE = "azure-webjobs-blobtrigger-local"
QUEUE = "probe-messages"


class Probe:
    """A running host with the probe app, and what its functions said."""

    def __init__(self, host_account: Azurite, data_account: Azurite, *, visibility_timeout_s: float) -> None:
        self.lines: list[str] = []
        self.blobs = BlobServiceClient.from_connection_string(data_account.connection_string)
        self.data_queues = QueueServiceClient.from_connection_string(data_account.connection_string)
        self.host_queues = QueueServiceClient.from_connection_string(host_account.connection_string)
        self.host = HostProcess(
            PROBE,
            {
                "AzureWebJobsStorage": host_account.connection_string,
                "DropStorage": data_account.connection_string,
                "PROBE_QUEUE": QUEUE,
                "PYTHON_THREADPOOL_THREAD_COUNT": "16",
            },
            visibility_timeout_s=visibility_timeout_s,
            on_line=self.lines.append,
        )

    def __enter__(self) -> Self:
        self.host.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.host.stop()
        self.blobs.close()
        self.data_queues.close()
        self.host_queues.close()

    def container(self) -> ContainerClient:
        """Make a container of its own for a test."""
        return self.blobs.create_container(str(uuid.uuid4()))

    def drop(self, container: ContainerClient, name: str, *, function: str = "on_blob") -> None:
        """Write a blob and tell the host of it, as Event Grid does."""
        container.upload_blob(name, b"content")
        assert self.notify(container, name, function=function).status_code == 202

    def notify(self, container: ContainerClient, name: str, *, function: str = "on_blob") -> requests.Response:
        """Send the event of a blob that is there or not."""
        return self.post([event(container.get_blob_client(name).url)], function=function)

    def post(self, body: object, *, function: str = "on_blob", kind: str = "Notification") -> requests.Response:
        """Call the webhook with the right key."""
        return requests.post(self.host.webhook(function), json=body, headers={"aeg-event-type": kind}, timeout=HANG_S)

    def said(self, **facts: Any) -> list[dict[str, Any]]:
        """Return what was said so far with these facts in it."""
        return read_said(self.lines, **facts)

    def wait_for(self, count: int = 1, **facts: Any) -> list[dict[str, Any]]:
        """Wait until these facts were said so often."""
        assert wait_until(lambda: len(self.said(**facts)) >= count, timeout_s=HANG_S), self.lines[-20:]
        return self.said(**facts)

    def wait_until_idle(self) -> None:
        """Wait until no trigger message is left."""
        queue = self.host_queues.get_queue_client(TRIGGER_QUEUE)
        assert wait_until(
            lambda: queue.get_queue_properties().approximate_message_count == 0, timeout_s=HANG_S, interval_s=0.1
        )

    def take_poison(self, queue: str) -> str:
        """Wait for a poison message, take it away and return its content."""
        client = self.data_queues.get_queue_client(queue)
        assert wait_until(
            lambda: queue in [found.name for found in self.data_queues.list_queues()] and bool(client.peek_messages()),
            timeout_s=HANG_S,
            interval_s=0.1,
        )
        message = client.receive_message()
        assert message is not None
        client.delete_message(message)
        return str(message.content)


def event(url: str) -> dict[str, Any]:
    """Make what the webhook reads of a BlobCreated event."""
    return {
        "id": str(uuid.uuid4()),
        "eventType": "Microsoft.Storage.BlobCreated",
        "eventTime": "2024-01-01T00:00:00.0000000Z",
        "data": {"api": "PutBlob", "eTag": "0x8D", "blobType": "BlockBlob", "url": url},
    }


def read_said(lines: list[str], **facts: Any) -> list[dict[str, Any]]:
    """Return what the probe app said with these facts in it."""
    said = [json.loads(line.partition("PROBE ")[2]) for line in list(lines) if "PROBE " in line]
    return [one for one in said if facts.items() <= one.items()]
