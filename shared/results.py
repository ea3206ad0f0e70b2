"""The result document: what it says about a drop, its name, and where it is written.

Its shape is published as `docs/result.schema.json`.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from shared.decisions import replaces
from shared.documents import Documents, Overtaken
from shared.drop import MAX_BLOB_NAME, Drop, is_current
from shared.errors import DropError, DropGone
from shared.records import Recorded, Status, legal_etag

if TYPE_CHECKING:
    from collections.abc import Mapping

    from azure.storage.blob import BlobServiceClient

    from shared.attempt import Attempt
    from shared.documents import Stored
    from shared.drop import Source, SourceFacts
    from shared.image import ImageHeader, NormalizedImage
    from shared.itwin_platform import UploadedImage
    from shared.records import Upload


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
        self._documents = Documents(storage, container)

    def read(self, drop: Drop) -> Recorded:
        """Return what is recorded about the blob's last version."""
        return _recorded(self._documents.read(result_name(drop)))

    def write(self, drop: Drop, document: Mapping[str, Any], recorded: Recorded, *, is_replay: bool = False) -> bool:
        """Replace what is `recorded` by the document; False if that, or a result written since, must be kept."""
        text = json.dumps(document, ensure_ascii=False, indent=2, allow_nan=False)
        # A lone surrogate, which untrusted JSON may contain, becomes its JSON escape sequence.
        content = text.encode(errors="backslashreplace")
        new = Recorded(document)
        while replaces(new, recorded, is_current=self._is_current(drop, new, recorded), is_replay=is_replay):
            try:
                self._documents.write(result_name(drop), content, recorded.tag)
            except Overtaken as error:
                recorded = _recorded(error.found)
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


def _recorded(stored: Stored) -> Recorded:
    """Parse a result; one of impossible size counts as damaged."""
    return Recorded(tag=stored.tag) if stored.content is None else Recorded.from_json(stored.content, stored.tag)


def _timestamp(moment: datetime) -> str:
    """Format a time by RFC 3339, in UTC with milliseconds."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
