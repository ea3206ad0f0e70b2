"""A storage account in memory, with the interface of the SDK's clients: ETags, dates and conditions."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from azure.core.exceptions import (
    HttpResponseError,
    ResourceExistsError,
    ResourceModifiedError,
    ResourceNotFoundError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime

NOT_FOUND = 404
ERRORS: dict[int, type[HttpResponseError]] = {
    304: ResourceModifiedError,
    404: ResourceNotFoundError,
    409: ResourceExistsError,
    412: ResourceModifiedError,
}


def storage_error(status: int, code: str | None = None) -> HttpResponseError:
    """Return the exception that the SDK raises for such a response, with storage's own error code."""
    error = ERRORS.get(status, HttpResponseError)(f"Storage responded with {status}.")
    error.status_code = status
    if code or status == NOT_FOUND:
        error.error_code = code or "BlobNotFound"  # type: ignore[attr-defined]  # as the SDK sets it
    return error


@dataclass(slots=True)
class Stored:
    """A blob; `state` is storage's error code for why it cannot be read, such as `BlobArchived`."""

    content: bytes
    etag: str
    last_modified: datetime
    state: str | None = None


@dataclass
class Account:
    """All blobs, by container and name. As in Azure, ETags grow with each write, and dates are in whole seconds."""

    clock: Callable[[], datetime]
    on_write: Callable[[str, str, bytes], object] = lambda *_: None
    blobs: dict[tuple[str, str], Stored] = field(default_factory=dict)
    writes: int = 0

    def write(self, container: str, name: str, content: bytes) -> Stored:
        """Write a whole blob."""
        blob = self.blobs[container, name] = self._stamped(content)
        self.on_write(container, name, content)
        return blob

    def touch(self, container: str, name: str) -> Stored | None:
        """Set a blob's metadata: a new ETag and date for the same content, without an event; None if it is gone."""
        blob = self.blobs.get((container, name))
        if blob is None:
            return None
        touched = self.blobs[container, name] = self._stamped(blob.content)
        touched.state = blob.state
        return touched

    def _stamped(self, content: bytes) -> Stored:
        self.writes += 1
        return Stored(content, f"0x8DE{self.writes:012X}", self.clock().replace(microsecond=0))


@dataclass(frozen=True)
class BlobService:
    """Replaces the SDK's BlobServiceClient.

    Each request passes through `request`, which may carry it out late or not at all, and is told whether it is
    conditional.
    """

    account: Account
    request: Callable[[Callable[[], Any], bool], Any]

    def get_container_client(self, container: str) -> SimpleNamespace:
        """Return functions that create the clients of a container's blobs, and that list those."""

        def list_blobs(*, name_starts_with: str, **_: Any) -> Iterator[SimpleNamespace]:
            yield from self.request(lambda: self._listed(container, name_starts_with), False)  # noqa: FBT003 - as below

        return SimpleNamespace(
            get_blob_client=lambda name: self.get_blob_client(container, name), list_blobs=list_blobs
        )

    def _listed(self, container: str, prefix: str) -> list[SimpleNamespace]:
        found = sorted((n, b) for (c, n), b in self.account.blobs.items() if c == container and n.startswith(prefix))
        return [
            SimpleNamespace(
                name=name,
                etag=blob.etag,
                last_modified=blob.last_modified,
                size=len(blob.content),
                metadata={},
                blob_tier="Archive" if blob.state else "Hot",
            )
            for name, blob in found
        ]

    def get_blob_client(self, container: str, name: str) -> BlobClient:
        """Return the client of a blob, whether the blob exists or not."""
        return BlobClient(self, container, name)


@dataclass(frozen=True)
class BlobClient:
    """One blob."""

    service: BlobService
    container_name: str
    blob_name: str

    def download_blob(self, *, etag: str | None = None, **_: Any) -> SimpleNamespace:
        """Read it, unless it still has this `etag`."""

        def read() -> Stored:
            found = self._found()
            if etag == f'"{found.etag}"':
                raise storage_error(304)
            if found.state:
                raise storage_error(409, found.state)
            return found

        blob = self.service.request(read, False)  # noqa: FBT003 - a callback's only argument but one
        properties = SimpleNamespace(
            etag=f'"{blob.etag}"',
            last_modified=blob.last_modified,
            metadata={},
            blob_type="BlockBlob",
            copy=SimpleNamespace(status=None),
            content_settings=SimpleNamespace(content_encoding=None),
        )
        return SimpleNamespace(properties=properties, readall=lambda: blob.content)

    def get_blob_properties(self) -> SimpleNamespace:
        """Read its properties."""
        blob = self.service.request(self._found, False)  # noqa: FBT003 - as above
        return SimpleNamespace(etag=f'"{blob.etag}"', last_modified=blob.last_modified)

    def upload_blob(self, data: bytes, *, overwrite: bool, etag: str | None = None, **_: Any) -> dict[str, Any]:
        """Write it; if `etag` is given, only over that version."""

        def write() -> Stored:
            blob = self.service.account.blobs.get((self.container_name, self.blob_name))
            if blob and not overwrite:
                raise storage_error(409)
            if etag and not (blob and etag == f'"{blob.etag}"'):
                raise storage_error(412)
            return self.service.account.write(self.container_name, self.blob_name, data)

        written = self.service.request(write, not overwrite or etag is not None)
        return {"etag": f'"{written.etag}"', "last_modified": written.last_modified}

    def _found(self) -> Stored:
        blob = self.service.account.blobs.get((self.container_name, self.blob_name))
        if blob is None:
            raise storage_error(404)
        return blob
