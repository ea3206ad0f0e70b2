"""How a file is dropped and its result awaited: with the storage SDK alone, as any other uploader would."""

from __future__ import annotations

import contextlib
import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from azure.core.exceptions import ResourceExistsError, ResourceNotFoundError

from local.processes import wait_until

if TYPE_CHECKING:
    from datetime import datetime

    from azure.storage.blob import BlobServiceClient

MAX_BLOB_NAME = 1024
FINAL_STATUSES = frozenset({"uploaded", "rejected", "superseded", "failed"})


@dataclass(frozen=True)
class DroppedFile:
    """One version of one blob, as it was uploaded."""

    itwin_id: str
    name: str
    etag: str
    uploaded_at: datetime


def drop_file(storage: BlobServiceClient, itwin_id: str, name: str, content: bytes) -> DroppedFile:
    """Write the blob, and its container where there is none."""
    container = storage.get_container_client(itwin_id)
    with contextlib.suppress(ResourceExistsError):
        container.create_container()
    written = container.get_blob_client(name).upload_blob(content, overwrite=True)
    return DroppedFile(itwin_id, name, str(written["etag"]).strip('"'), written["last_modified"])


def result_name(itwin_id: str, name: str) -> str:
    """Return what a drop's result is called, as docs/recipes.md has it for everybody."""
    plain = f"{itwin_id}/{name}.json"
    if len(plain) <= MAX_BLOB_NAME:
        return plain
    mark = f"~{hashlib.sha256(name.encode()).hexdigest()}.json"
    return plain[: MAX_BLOB_NAME - len(mark)] + mark


def read_result(storage: BlobServiceClient, container: str, drop: DroppedFile) -> dict[str, Any] | None:
    """Return the result document of exactly this drop, or None where it is not there yet."""
    blob = storage.get_blob_client(container, result_name(drop.itwin_id, drop.name))
    try:
        download = blob.download_blob()
        document: dict[str, Any] = json.loads(download.readall())
    except ResourceNotFoundError:
        return None
    etag = (document.get("source") or {}).get("etag")
    if etag is None:  # what could not be read has no ETag: then the later document is this drop's
        return document if download.properties.last_modified >= drop.uploaded_at else None
    return document if str(etag).strip('"') == drop.etag else None


def wait_for_result(
    storage: BlobServiceClient, container: str, drop: DroppedFile, *, timeout_s: float = 30.0, final: bool = True
) -> dict[str, Any] | None:
    """Wait for the drop's result; None when the time was over first, or the last that was seen."""
    seen: dict[str, Any] | None = None

    def arrived() -> bool:
        nonlocal seen
        seen = read_result(storage, container, drop) or seen
        return seen is not None and (not final or seen.get("status") in FINAL_STATUSES)

    wait_until(arrived, timeout_s=timeout_s, interval_s=0.05)
    return seen
