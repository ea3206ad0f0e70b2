"""What a write is, how Azurite's access log tells of it, and how its event reads."""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import parse_qs, quote, unquote

from local.azurite import ACCOUNT

if TYPE_CHECKING:
    from datetime import datetime

    from azure.storage.blob import BlobProperties

BLOB_CREATED = "Microsoft.Storage.BlobCreated"
TOPIC = (
    "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/local"
    f"/providers/Microsoft.Storage/storageAccounts/{ACCOUNT}"
)

_ACCESS = re.compile(r'"PUT (?P<target>\S+) HTTP/[\d.]+" (?P<status>\d{3}) ')


@dataclass(frozen=True)
class BlobWrite:
    """One successful request that made or replaced a blob."""

    api: Literal["PutBlob", "PutBlockList", "CopyBlob"]
    container: str
    blob: str

    @property
    def subject(self) -> str:
        """The event's subject; names stand in it as they are, without percent-encoding."""
        return f"/blobServices/default/containers/{self.container}/blobs/{self.blob}"


def read_access_line(line: str) -> BlobWrite | None:
    """Return the write that a line of Azurite's access log tells of; None for everything else."""
    found = _ACCESS.search(line)
    if found is None:
        return None
    path, _, query_text = found["target"].partition("?")  # whatever is sent: nothing here may be refused
    query = parse_qs(query_text)
    # The account is in the path, or in the host's name, which the log does not have.
    container, _, blob = path.removeprefix("/").removeprefix(f"{ACCOUNT}/").partition("/")
    if not (container and blob) or "restype" in query:
        return None
    match (query.get("comp", [""])[0], found["status"]):
        case ("", "201"):
            return BlobWrite("PutBlob", unquote(container), unquote(blob))
        case ("blocklist", "201"):
            return BlobWrite("PutBlockList", unquote(container), unquote(blob))
        case ("", "202"):
            return BlobWrite("CopyBlob", unquote(container), unquote(blob))
    return None


def blob_created_event(
    write: BlobWrite,
    properties: BlobProperties,
    *,
    account_url: str,
    event_id: str,
    sequence: int,
    published: datetime,
) -> dict[str, Any]:
    """Make the event in Event Grid's schema; `account_url` ends without a slash.

    The address is percent-encoded, so that every name survives the webhook's parsing. In Azure a `#` has been seen to
    come as it is, and to cut the name there: https://github.com/Azure/azure-sdk-for-net/issues/23634.
    """
    request_id = f"{event_id[:-6]}000000"
    return {
        "topic": TOPIC,
        "subject": write.subject,
        "eventType": BLOB_CREATED,
        "eventTime": timestamp(published),
        "id": event_id,
        "data": {
            "api": write.api,
            "clientRequestId": str(uuid.uuid4()),
            "requestId": request_id,
            "eTag": str(properties.etag).strip('"'),
            "contentType": properties.content_settings.content_type or "application/octet-stream",
            "contentLength": properties.size,
            "blobType": str(getattr(properties.blob_type, "value", properties.blob_type)),
            "url": f"{account_url}/{quote(write.container)}/{quote(write.blob)}",
            "sequencer": f"{sequence:048x}",
            "storageDiagnostics": {"batchId": str(uuid.uuid4())},
        },
        "dataVersion": "",
        "metadataVersion": "1",
    }


def timestamp(moment: datetime) -> str:
    """Format a time as Event Grid does, with seven decimals."""
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%f") + "0Z"
