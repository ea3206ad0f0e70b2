"""A storage account in memory, as the SDK's clients show it to the app: ETags, conditions, and leases that end."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from email.utils import format_datetime
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Literal

from azure.core.exceptions import (
    HttpResponseError,
    ResourceExistsError,
    ResourceModifiedError,
    ResourceNotFoundError,
)

if TYPE_CHECKING:
    from collections.abc import Callable

# What tells requests apart for whoever lets them fail.
Kind = Literal["unconditional", "conditional", "turn"]

ERRORS: dict[int, type[HttpResponseError]] = {
    304: ResourceModifiedError,
    404: ResourceNotFoundError,
    409: ResourceExistsError,
    412: ResourceModifiedError,
}


def storage_error(status: int, kind: type[HttpResponseError] | None = None) -> HttpResponseError:
    """Return what the SDK raises for such an answer."""
    error = (kind or ERRORS.get(status, HttpResponseError))(f"Storage answered {status}.")
    error.status_code = status
    return error


@dataclass
class Stored:
    """A blob; its lease is that of `holder` until it `ends`, and is known as expired afterwards."""

    content: bytes
    etag: str
    last_modified: datetime
    holder: str | None = None
    ends: datetime | None = None


@dataclass
class Account:
    """All blobs, by container and name. As in Azure, ETags grow from write to write, and dates are in seconds."""

    clock: Callable[[], datetime]
    on_write: Callable[[str, str, bytes], object] = lambda *_: None
    blobs: dict[tuple[str, str], Stored] = field(default_factory=dict)
    writes: int = 0

    def write(self, container: str, name: str, content: bytes) -> Stored:
        """Write a blob whole; its lease stays."""
        self.writes += 1
        old = self.blobs.get((container, name))
        blob = Stored(content, f"0x8DE{self.writes:012X}", self.clock().replace(microsecond=0))
        if old and self.lease_state(old) == "leased":
            blob.holder, blob.ends = old.holder, old.ends
        self.blobs[container, name] = blob
        self.on_write(container, name, content)
        return blob

    def lease_state(self, blob: Stored) -> str:
        """Return what storage says of the blob's lease."""
        if blob.ends is None:
            return "available"
        return "leased" if self.clock() < blob.ends else "expired"


@dataclass(frozen=True)
class BlobService:
    """What stands for the SDK's BlobServiceClient.

    Each request passes `request`, which may do it late or not at all.
    https://learn.microsoft.com/rest/api/storageservices/lease-blob#outcomes-of-use-attempts-on-blobs-by-lease-state
    """

    account: Account
    request: Callable[[Callable[[], Any], Kind], Any]

    def get_container_client(self, container: str) -> SimpleNamespace:
        """Return what makes the clients of a container's blobs."""
        return SimpleNamespace(get_blob_client=lambda name: self.get_blob_client(container, name))

    def get_blob_client(self, container: str, name: str) -> BlobClient:
        """Return the client of a blob, whether there is one or not."""
        return BlobClient(self, container, name)


@dataclass(frozen=True)
class BlobClient:
    """One blob."""

    service: BlobService
    container_name: str
    blob_name: str

    def download_blob(
        self,
        *,
        etag: str | None = None,
        raw_response_hook: Callable[[Any], None] = lambda _: None,
        **_: Any,
    ) -> SimpleNamespace:
        """Read it, unless it still is of the version `etag`."""

        def read() -> tuple[Stored, str]:
            found = self._found()
            if etag == f'"{found.etag}"':
                raise storage_error(304)
            return found, self.service.account.lease_state(found)

        blob, lease_state = self.service.request(read, "unconditional")
        headers = {
            "Content-Length": str(len(blob.content)),
            "Last-Modified": format_datetime(blob.last_modified, usegmt=True),
            "ETag": f'"{blob.etag}"',
        }
        connection = SimpleNamespace(close=lambda: None)
        raw_response_hook(
            SimpleNamespace(
                http_response=SimpleNamespace(status_code=200, headers=headers, internal_response=connection)
            )
        )
        properties = SimpleNamespace(
            etag=f'"{blob.etag}"',
            last_modified=blob.last_modified,
            metadata={},
            lease=SimpleNamespace(state=lease_state),
        )
        return SimpleNamespace(properties=properties, readall=lambda: blob.content)

    def get_blob_properties(self) -> SimpleNamespace:
        """Read all but the content."""
        blob = self.service.request(self._found, "unconditional")
        return SimpleNamespace(etag=f'"{blob.etag}"', last_modified=blob.last_modified)

    def upload_blob(
        self, data: bytes, *, overwrite: bool, etag: str | None = None, lease: Any = None, **_: Any
    ) -> dict[str, Any]:
        """Write it; only over the version `etag`, and only with the lease that there is."""

        def write() -> Stored:
            account = self.service.account
            blob = account.blobs.get((self.container_name, self.blob_name))
            if blob and not overwrite:
                raise storage_error(409)
            holder = blob.holder if blob and account.lease_state(blob) == "leased" else None
            if holder != (lease.id if lease else None):
                raise storage_error(412, HttpResponseError)
            if etag and not (blob and etag == f'"{blob.etag}"'):
                raise storage_error(412)
            return account.write(self.container_name, self.blob_name, data)

        written = self.service.request(write, "conditional" if not overwrite or etag or lease else "unconditional")
        return {"etag": f'"{written.etag}"', "last_modified": written.last_modified}

    @property
    def _client(self) -> SimpleNamespace:
        """What the SDK's BlobLeaseClient, which is the real one, calls."""
        return SimpleNamespace(blob=self)

    def acquire_lease(self, *, duration: int, proposed_lease_id: str, modified_access_conditions: Any, **_: Any) -> Any:
        """Lease it for so many seconds, if it is of the version that is asked for."""

        def acquire() -> None:
            account, blob = self.service.account, self._found()
            if modified_access_conditions.if_match not in (None, f'"{blob.etag}"'):
                raise storage_error(412)
            if account.lease_state(blob) == "leased" and blob.holder != proposed_lease_id:
                raise storage_error(409)
            blob.holder, blob.ends = proposed_lease_id, account.clock() + timedelta(seconds=duration)

        self.service.request(acquire, "turn")
        return {"lease_id": proposed_lease_id}

    def release_lease(self, *, lease_id: str, **_: Any) -> Any:
        """Give the lease back, even when it has expired."""

        def release() -> None:
            blob = self._found()
            if blob.holder != lease_id:
                raise storage_error(409)
            blob.holder = blob.ends = None

        self.service.request(release, "unconditional")
        return {}

    def _found(self) -> Stored:
        blob = self.service.account.blobs.get((self.container_name, self.blob_name))
        if blob is None:
            raise storage_error(404)
        return blob
