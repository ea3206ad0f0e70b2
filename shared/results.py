"""The result document: what it says of a drop, what it is called, and how it is written.

Its shape is published as `docs/result.schema.json`.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from azure.storage.blob import ContentSettings

from shared.errors import DropError

if TYPE_CHECKING:
    from datetime import datetime

    from azure.storage.blob import BlobServiceClient

    from shared.drop import Drop, Source
    from shared.image import NormalizedImage
    from shared.itwin_platform import UploadedImage

Status = Literal["uploaded", "rejected", "superseded", "retrying", "failed"]

# https://learn.microsoft.com/rest/api/storageservices/naming-and-referencing-containers--blobs--and-metadata
MAX_BLOB_NAME = 1024
CONTENT_SETTINGS = ContentSettings(content_type="application/json")


@dataclass(frozen=True)
class Result:
    """How a drop ended: `verdict` is the platform's success or the error; what was not reached is None."""

    drop: Drop
    source: Source | None
    image: NormalizedImage | None
    verdict: UploadedImage | DropError
    attempts: int
    started_at: datetime
    finished_at: datetime

    @property
    def status(self) -> Status:
        """One word for how the drop ended."""
        return self.verdict.status if isinstance(self.verdict, DropError) else "uploaded"

    @property
    def blob_name(self) -> str:
        """The document's name in the results container: `{container}/{blob}.json`.

        Where that is longer than a blob's name may be, the blob's name is cut and told apart by its SHA-256.
        """
        name = f"{self.drop.container}/{self.drop.blob}.json"
        if len(name) <= MAX_BLOB_NAME:
            return name
        mark = f"~{hashlib.sha256(self.drop.blob.encode()).hexdigest()}.json"
        return name[: MAX_BLOB_NAME - len(mark)] + mark

    def document(self) -> dict[str, Any]:
        """Return the result as JSON, in the shape of `docs/result.schema.json`."""
        verdict = self.verdict
        head: dict[str, Any]
        if isinstance(verdict, DropError):
            own_error = {"code": verdict.code, "message": verdict.message}
            platform_error = verdict.response.error if verdict.response else None
            head = {"status": self.status, "error": platform_error or own_error, "reason": verdict.message}
        else:
            head = {"status": self.status, "image": verdict.image, "reason": None}
        return {
            **head,
            "source": self._source(),
            "sent": self._sent(),
            "response": self._response(),
            "attempts": self.attempts,
            "startedAt": _timestamp(self.started_at),
            "finishedAt": _timestamp(self.finished_at),
            "nextAttemptAt": None,
        }

    def _source(self) -> dict[str, Any]:
        source, header = self.source, self.image.source if self.image else None
        return {
            "container": self.drop.container,
            "blob": self.drop.blob,
            "etag": source.etag if source else None,
            "lastModified": _timestamp(source.last_modified) if source else None,
            "bytes": source.size if source else None,
            "sha256": source.sha256 if source else None,
            "mediaType": header.media_type if header else None,
            "width": header.width if header else None,
            "height": header.height if header else None,
            "metadata": dict(source.metadata) if source else {},
        }

    def _sent(self) -> dict[str, Any] | None:
        """Say what was made of the source; None where nothing could be."""
        image, source = self.image, self.source
        if image is None or source is None:
            return None
        untouched = image.data is source.data
        return {
            "mediaType": image.media_type,
            "bytes": len(image.data),
            "sha256": source.sha256 if untouched else hashlib.sha256(image.data).hexdigest(),
            "width": image.width,
            "height": image.height,
            "changes": list(image.changes),
        }

    def _response(self) -> dict[str, Any] | None:
        response = self.verdict.response
        if response is None:
            return None
        return {"httpStatus": response.http_status, "correlationId": response.correlation_id}


class ResultStore:
    """The results container."""

    def __init__(self, storage: BlobServiceClient, container: str) -> None:
        self._container = storage.get_container_client(container)

    def write(self, result: Result) -> None:
        """Write the document, over an older one of the same name. Raises azure.core.exceptions.AzureError."""
        text = json.dumps(result.document(), ensure_ascii=False, indent=2)
        # A lone surrogate, which foreign JSON may hold, becomes the escape that JSON has for it.
        data = text.encode(errors="backslashreplace")
        self._container.upload_blob(result.blob_name, data, overwrite=True, content_settings=CONTENT_SETTINGS)


def _timestamp(moment: datetime) -> str:
    """RFC 3339 in UTC, with milliseconds."""
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
