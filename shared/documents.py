"""The app's own documents in storage: small JSON blobs that are read whole, and written only over what was read.

A blob is replaced as a whole, so that no reader ever sees half a document.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from azure.core import MatchConditions
from azure.core.exceptions import HttpResponseError, ResourceModifiedError, ResourceNotFoundError
from azure.storage.blob import ContentSettings

from shared.sdk_transport import ContentTooLarge, asking, error_code, reading_at_most
from shared.storage import BLOB_STATES

if TYPE_CHECKING:
    from collections.abc import Callable

    from azure.storage.blob import BlobClient, BlobServiceClient

# Far more than a result or a ledger entry, which contains one, ever has.
MAX_DOCUMENT_BYTES = 16_000_000
# For how many documents clients are cached.
RECENT = 64
CONTENT_SETTINGS = ContentSettings(content_type="application/json")


@dataclass(frozen=True)
class Stored:
    """A document in storage: its content, and its ETag, which is None if there is no document.

    Something too large to be a document of the app's has an ETag but no content.
    """

    content: bytes | None = None
    tag: str | None = None


class Overtaken(ResourceModifiedError):
    """Somebody else has written the document since; `found` is what it is now."""

    def __init__(self, found: Stored) -> None:
        super().__init__()
        self.found = found


class Documents:
    """The documents of a container. Every method raises azure.core.exceptions.AzureError if storage fails."""

    def __init__(self, storage: BlobServiceClient, container: str) -> None:
        # A client is slow to create, and a drop needs the same ones several times.
        self._blob: Callable[[str], BlobClient] = lru_cache(RECENT)(
            storage.get_container_client(container).get_blob_client
        )

    def read(self, name: str) -> Stored:
        """Return the document of that name."""
        try:
            with reading_at_most(MAX_DOCUMENT_BYTES):
                download = self._blob(name).download_blob()
                content = download.readall()
        except ResourceNotFoundError:
            return Stored()
        except ContentTooLarge as found:
            return Stored(tag=found.headers["ETag"])
        return Stored(content, download.properties.etag)

    def write(self, name: str, content: bytes, tag: str | None) -> str:
        """Replace the document that has the ETag `tag`, or create it if that is None; return the new ETag.

        Raises Overtaken.
        """
        condition: dict[str, Any] = {"overwrite": False}
        if tag:
            condition = {"overwrite": True, "etag": tag, "match_condition": MatchConditions.IfNotModified}
        try:
            with asking():
                written = self._blob(name).upload_blob(content, content_settings=CONTENT_SETTINGS, **condition)
        except HttpResponseError as error:
            if not is_failed_condition(error):
                raise
            found = self.read(name)
            if found.tag == tag:
                raise  # nobody else has written
            if found.tag and found.content == content:
                return found.tag  # the SDK tried twice, and its first request succeeded: no two writers write the same
            raise Overtaken(found) from error
        return str(written["etag"])


def is_failed_condition(error: HttpResponseError) -> bool:
    """Whether storage refused a write because its condition did not hold, and not because of the blob's state."""
    refusals = (HTTPStatus.CONFLICT, HTTPStatus.PRECONDITION_FAILED)
    return error.status_code in refusals and error_code(error) not in BLOB_STATES
