"""The result document: what it says about a drop, its name, and where it is written.

Its shape is published as `docs/result.schema.json`.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from azure.core import MatchConditions
from azure.core.exceptions import HttpResponseError, ResourceNotFoundError
from azure.storage.blob import ContentSettings

from shared.decisions import replaces
from shared.drop import MAX_BLOB_NAME, Drop, is_current
from shared.errors import DropError, DropGone
from shared.records import NOTHING, Recorded, Status, legal_etag
from shared.sdk_transport import MAX_DOCUMENT_BYTES, ContentTooLarge, reading_at_most
from shared.storage import is_overtaken

if TYPE_CHECKING:
    from collections.abc import Mapping

    from azure.storage.blob import BlobServiceClient

    from shared.attempt import Attempt
    from shared.drop import Source, SourceFacts
    from shared.image import ImageHeader, NormalizedImage
    from shared.itwin_platform import UploadedImage
    from shared.records import Upload


CONTENT_SETTINGS = ContentSettings(content_type="application/json")
# For how many drops clients are cached.
RECENT = 64


def result_name(drop: Drop) -> str:
    """Return the document's name in the results container: `{container}/{blob}.json`.

    If that is too long, it is truncated and made unique by the SHA-256 of the blob's name. A blob's name that would
    lead into another folder is replaced by its SHA-256.
    """
    mark = f"~{hashlib.sha256(drop.blob.encode()).hexdigest()}.json"
    if drop.leads_elsewhere():
        return f"{drop.container}/{mark}"
    name = f"{drop.container}/{drop.blob}.json"
    return name if len(name) <= MAX_BLOB_NAME else name[: MAX_BLOB_NAME - len(mark)] + mark


@dataclass(frozen=True)
class Superseded:
    """Nothing was sent: a newer drop of the same iTwin is up."""

    by: Upload


@dataclass(frozen=True)
class ImageFacts:
    """What a result says about an image: what the dropped file was, and what was made of it to be sent."""

    header: ImageHeader
    media_type: str
    size: int
    sha256: str
    width: int
    height: int
    changes: tuple[str, ...]

    @classmethod
    def of(cls, image: NormalizedImage, source: Source) -> ImageFacts:
        """Return the facts about `image`, which was made from `source`."""
        sha256 = None if image.changes or source.is_labelled_gzip else source.facts.sha256
        return cls(
            image.source,
            image.media_type,
            len(image.data),
            sha256 or hashlib.sha256(image.data).hexdigest(),
            image.width,
            image.height,
            tuple(image.changes),
        )


@dataclass(frozen=True)
class Result:
    """How an attempt at a drop ended; what it did not get to is None.

    `recorded` is the result that existed before. `next_attempt_at` is set if an error does not end the drop.
    """

    attempt: Attempt
    recorded: Recorded
    source: SourceFacts | None
    image: ImageFacts | None
    verdict: UploadedImage | Superseded | DropError
    started_at: datetime
    finished_at: datetime
    next_attempt_at: datetime | None = None

    @property
    def status(self) -> Status:
        """How the drop ended, or `retrying`."""
        if isinstance(self.verdict, DropError):
            return "retrying" if self.next_attempt_at else self.verdict.status
        return "superseded" if isinstance(self.verdict, Superseded) else "uploaded"

    def document(self) -> dict[str, Any]:
        """Return the result as JSON, in the shape of `docs/result.schema.json`."""
        return {
            "status": self.status,
            **self._verdict(),
            "source": self._source(),
            "sent": self._sent(),
            "response": self._response(),
            "attempts": self.attempt.number,
            "firstAttemptAt": _timestamp(self.attempt.first_at),
            "startedAt": _timestamp(self.started_at),
            "finishedAt": _timestamp(self.finished_at),
            "nextAttemptAt": _timestamp(self.next_attempt_at) if self.next_attempt_at else None,
        }

    def _verdict(self) -> dict[str, Any]:
        verdict = self.verdict
        if isinstance(verdict, DropError):
            own_error = {"code": verdict.code, "message": verdict.message}
            platform_error = verdict.response.error if verdict.response else None
            return {"error": platform_error or own_error, "reason": verdict.message}
        if isinstance(verdict, Superseded):
            return {"reason": f"A newer image of this iTwin has already been uploaded: {verdict.by.version.blob!r}."}
        return {"image": verdict.image, "reason": None}

    def _source(self) -> dict[str, Any]:
        """Return what is known about the blob; for a version that could not be read now, what is recorded about it.

        If a blob was deleted before any version of it was known, the recorded version was deleted with it.
        """
        drop, source, header = self.attempt.drop, self.source, self.image.header if self.image else None
        version = self.attempt.version
        fields: dict[str, Any] = {
            "container": drop.container,
            "blob": drop.blob,
            "etag": legal_etag(version.etag) if version else None,
            "lastModified": _timestamp(version.last_modified) if version else None,
            "bytes": source.size if source else None,
            "sha256": source.sha256 if source else None,
            "mediaType": header.media_type if header else None,
            "width": header.width if header else None,
            "height": header.height if header else None,
            "metadata": dict(source.metadata) if source else {},
        }
        has_gone = self.attempt.etag is None and isinstance(self.verdict, DropGone)
        if source is None and self.recorded.etag and (has_gone or self.attempt.etag == self.recorded.etag):
            fields |= {name: value for name, value in self.recorded.source.items() if name in fields}
        return fields

    def _sent(self) -> dict[str, Any] | None:
        """Return what was made of the source; None if nothing could be made of it."""
        image = self.image
        if image is None:
            return None
        return {
            "mediaType": image.media_type,
            "bytes": image.size,
            "sha256": image.sha256,
            "width": image.width,
            "height": image.height,
            "changes": list(image.changes),
        }

    def _response(self) -> dict[str, Any] | None:
        response = None if isinstance(self.verdict, Superseded) else self.verdict.response
        if response is None:
            return None
        return {"httpStatus": response.http_status, "correlationId": response.correlation_id}


class ResultStore:
    """The results container. Every method raises azure.core.exceptions.AzureError if storage fails."""

    def __init__(self, storage: BlobServiceClient, container: str) -> None:
        self._storage = storage
        results = storage.get_container_client(container)
        # A client is slow to create, and a drop needs it twice.
        self._blob = lru_cache(RECENT)(lambda drop: results.get_blob_client(result_name(drop)))

    def read(self, drop: Drop) -> Recorded:
        """Return what is recorded about the blob's last version; a document of impossible size counts as damaged."""
        try:
            with reading_at_most(MAX_DOCUMENT_BYTES):
                download = self._blob(drop).download_blob()
                text = download.readall()
        except ResourceNotFoundError:
            return NOTHING
        except ContentTooLarge as damaged:
            return Recorded(tag=damaged.headers["ETag"])
        return Recorded.from_json(text, download.properties.etag)

    def write(self, drop: Drop, document: Mapping[str, Any], recorded: Recorded, *, is_replay: bool = False) -> bool:
        """Replace what is `recorded` by the document; False if that, or a result written since, must be kept.

        A blob is replaced as a whole, so that no reader ever sees half a document.
        """
        text = json.dumps(document, ensure_ascii=False, indent=2, allow_nan=False)
        # A lone surrogate, which untrusted JSON may contain, becomes its JSON escape sequence.
        data = text.encode(errors="backslashreplace")
        new = Recorded(document)
        while replaces(new, recorded, is_current=self._is_current(drop, new, recorded), is_replay=is_replay):
            condition: dict[str, Any] = {"overwrite": False}
            if recorded.tag:
                condition = {"overwrite": True, "etag": recorded.tag, "match_condition": MatchConditions.IfNotModified}
            try:
                self._blob(drop).upload_blob(data, content_settings=CONTENT_SETTINGS, **condition)
            except HttpResponseError as error:
                if not is_overtaken(error):
                    raise
                found = self.read(drop)
                if found.tag == recorded.tag:
                    raise  # nobody else has written
                if found.document == document:
                    return True  # the SDK tried twice, and its first request succeeded
                recorded = found
            else:
                return True
        return False

    def _is_current(self, drop: Drop, new: Recorded, old: Recorded) -> bool:
        """Whether storage still has the new version; it is asked only if both have the same Last-Modified."""
        if not (new.version and old.version and new.version.ties_with(old.version)):
            return False
        size = new.source.get("bytes")
        max_bytes = size if isinstance(size, int) else 0
        try:
            return is_current(self._storage, drop, new.version, old.version, max_bytes=max_bytes)
        except DropGone:
            return False


def _timestamp(moment: datetime) -> str:
    """Format a time by RFC 3339, in UTC with milliseconds."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
