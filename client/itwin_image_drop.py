"""Drop an image and wait for its result. Copy this file: it needs only Python 3.11 or later and azure-storage-blob.

    storage = BlobServiceClient("https://ACCOUNT.blob.core.windows.net", credential=DefaultAzureCredential())
    result = drop_and_wait(storage, itwin_id, "north gate/photo.jpg", photo)
    if result["status"] != "uploaded":
        print(result["reason"])

The shape of a result is published as docs/result.schema.json.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from dataclasses import dataclass
from datetime import datetime
from typing import IO, TYPE_CHECKING, Any

from azure.core.exceptions import ResourceNotFoundError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from azure.storage.blob import BlobServiceClient

MAX_BLOB_NAME = 1024
RESULTS_CONTAINER = "results"


@dataclass(frozen=True)
class Drop:
    """One write of one blob. `etag` has no quotes; `written_at` is the Last-Modified that storage gave it."""

    itwin_id: str
    name: str
    etag: str
    sha256: str
    written_at: datetime


def drop_and_wait(
    storage: BlobServiceClient,
    itwin_id: str,
    name: str,
    content: bytes | IO[bytes],
    *,
    metadata: Mapping[str, str] | None = None,
    timeout_s: float = 120.0,
) -> dict[str, Any]:
    """Write the blob and return its final result: `uploaded`, `rejected`, `superseded` or `failed`.

    Raises TimeoutError if there is no final result in time, and azure.core.exceptions.AzureError if storage fails.
    """
    return wait_for_result(storage, drop(storage, itwin_id, name, content, metadata=metadata), timeout_s=timeout_s)


def drop(
    storage: BlobServiceClient,
    itwin_id: str,
    name: str,
    content: bytes | IO[bytes],
    *,
    metadata: Mapping[str, str] | None = None,
) -> Drop:
    """Write the blob, replacing one of the same name. Raises azure.core.exceptions.AzureError."""
    data = content if isinstance(content, bytes) else content.read()
    blob = storage.get_blob_client(itwin_id, name)
    written = blob.upload_blob(data, overwrite=True, metadata=dict(metadata or {}))
    sha256 = hashlib.sha256(data).hexdigest()
    return Drop(itwin_id, name, written["etag"].strip('"'), sha256, written["last_modified"])


def wait_for_result(
    storage: BlobServiceClient,
    drop: Drop,
    *,
    timeout_s: float = 120.0,
    poll_interval_s: float = 1.0,
    results_container: str = RESULTS_CONTAINER,
) -> dict[str, Any]:
    """Return the final result of exactly this drop.

    Raises TimeoutError if there is no final result in time, and azure.core.exceptions.AzureError if storage fails.
    """
    blob = storage.get_blob_client(results_container, result_name(drop.itwin_id, drop.name))
    progress = "no result"
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            download = blob.download_blob()
            result: dict[str, Any] = json.loads(download.readall())
        except ResourceNotFoundError:
            pass
        else:
            if is_result_of(drop, result, download.properties.last_modified):
                if result["status"] != "retrying":
                    return result
                progress = f"no final result, but is being retried: {result['reason']}"
        if time.monotonic() >= deadline:
            raise TimeoutError(f"After {timeout_s:g} s, {drop.itwin_id}/{drop.name} has {progress}")
        time.sleep(poll_interval_s)


def is_result_of(drop: Drop, result: Mapping[str, Any], recorded_at: datetime) -> bool:
    """Whether a result belongs to this drop, and not to an earlier or later write of the same blob.

    `recorded_at` is the Last-Modified of the result itself. Setting a blob's metadata changes its ETag; then its
    content decides. If the blob could never be read, the result has neither; then it must be newer than the drop.
    """
    source = result["source"]
    if source["etag"] is None:
        return recorded_at >= drop.written_at
    if source["etag"] == drop.etag:
        return True
    return source["sha256"] == drop.sha256 and datetime.fromisoformat(source["lastModified"]) >= drop.written_at


def result_name(itwin_id: str, name: str) -> str:
    """Return the name of a blob's result in the results container."""
    mark = f"~{hashlib.sha256(name.encode()).hexdigest()}.json"
    if not {".", ".."}.isdisjoint(re.split(r"[/\\]", name)):  # clients would follow it into another folder
        return f"{itwin_id}/{mark}"
    plain = f"{itwin_id}/{name}.json"
    return plain if len(plain) <= MAX_BLOB_NAME else plain[: MAX_BLOB_NAME - len(mark)] + mark
