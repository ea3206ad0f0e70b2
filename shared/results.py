"""The result document: what it says of a drop, what it is called, and where it is written.

Its shape is published as `docs/result.schema.json`.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal

from azure.core import MatchConditions
from azure.core.exceptions import HttpResponseError, ResourceNotFoundError
from azure.storage.blob import ContentSettings

from shared.decisions import replaces
from shared.drop import MAX_BLOB_NAME, Drop, Version
from shared.errors import DropError, DropGone
from shared.untrusted_json import parse_object, parse_time

if TYPE_CHECKING:
    from azure.storage.blob import BlobServiceClient

    from shared.drop import Source, SourceFacts
    from shared.image import ImageHeader, NormalizedImage
    from shared.itwin_platform import UploadedImage
    from shared.ledger import Upload
    from shared.retries import Attempt

Status = Literal["uploaded", "rejected", "superseded", "retrying", "failed"]
FINAL = ("uploaded", "rejected", "superseded", "failed")

CONTENT_SETTINGS = ContentSettings(content_type="application/json")
# RFC 9110, 8.8.3: anything else must not get into a header
ETAG = re.compile(r"[\x21\x23-\x7e]+")
# For how many drops the clients are kept.
RECENT = 64
CONFLICT = 409
PRECONDITION_FAILED = 412


def result_name(drop: Drop) -> str:
    """Return the document's name in the results container: `{container}/{blob}.json`.

    Where that is longer than a blob's name may be, the blob's name is cut and told apart by its SHA-256; one that would
    lead elsewhere is left out but for that.
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
    """What is told of an image: what the dropped file was, and what was to be sent of it."""

    header: ImageHeader
    media_type: str
    size: int
    sha256: str
    width: int
    height: int
    changes: tuple[str, ...]

    @classmethod
    def of(cls, image: NormalizedImage, source: Source) -> ImageFacts:
        """Return what is told of `image`, which was made of `source`."""
        is_untouched = image.data is source.content()
        sha256 = source.facts.sha256 if is_untouched else None
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
    """How an attempt at a drop ended; what was not reached is None.

    `recorded` is the result that stood there before. `next_attempt_at` is set where an error does not end the drop.
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
        """One word for how the drop ended, or that it did not."""
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
            return {"reason": f"A newer image of this iTwin is already up: {verdict.by.version.blob!r}."}
        return {"image": verdict.image, "reason": None}

    def _source(self) -> dict[str, Any]:
        """Say what is known of the blob; of a version that could not be read now, what is recorded of it.

        Where a blob has gone of which no version is known, the one that is recorded has gone with it.
        """
        drop, source, header = self.attempt.drop, self.source, self.image.header if self.image else None
        version = self.attempt.version
        fields: dict[str, Any] = {
            "container": drop.container,
            "blob": drop.blob,
            "etag": _legal_etag(version.etag) if version else None,
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
        """Say what was made of the source; None where nothing could be."""
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


@dataclass(frozen=True)
class Recorded:
    """What the results container holds for a blob: the document, and the ETag of the blob that holds it.

    A document that somebody damaged counts as none; one that is not there has no `tag` either.
    """

    document: Mapping[str, Any] = field(default_factory=dict)
    tag: str | None = None

    @classmethod
    def from_json(cls, text: bytes, tag: str | None = None) -> Recorded:
        """Read what the results container holds."""
        try:
            return cls(parse_object(text), tag)
        except ValueError:
            return cls(tag=tag)

    @property
    def drop(self) -> Drop | None:
        """Which blob it speaks of; None where it is damaged."""
        try:
            return Drop.named(self.source.get("container"), self.source.get("blob"))
        except ValueError:
            return None

    @property
    def status(self) -> object:
        """How the drop ended, or that it did not."""
        return self.document.get("status")

    @property
    def is_final(self) -> bool:
        """Whether the drop has ended."""
        return self.status in FINAL

    @property
    def etag(self) -> str | None:
        """The ETag of that version; None where it was not known."""
        return _legal_etag(self.source.get("etag"))

    @property
    def version(self) -> Version | None:
        """Return which version it speaks of; None where that was not known."""
        source, last_modified = self.source, _moment(self.source.get("lastModified"))
        if not (last_modified and self.etag):
            return None
        sha256, size = source.get("sha256"), source.get("bytes")
        content = sha256 if isinstance(sha256, str) else f"{size} bytes {self.etag}" if size else ""
        return Version(last_modified, self.etag, str(source.get("blob")), content)

    @property
    def attempts(self) -> int:
        """How many attempts were made when it was written."""
        attempts = self.document.get("attempts")
        return attempts if isinstance(attempts, int) else 0

    @property
    def finished_at(self) -> datetime | None:
        """When it was written."""
        return _moment(self.document.get("finishedAt"))

    @property
    def next_attempt_at(self) -> datetime | None:
        """When a message comes that makes the next attempt."""
        return _moment(self.document.get("nextAttemptAt"))

    @property
    def source(self) -> Mapping[str, Any]:
        """What it says of the blob."""
        source = self.document.get("source")
        return source if isinstance(source, Mapping) else {}


class ResultStore:
    """The results container. Every method raises azure.core.exceptions.AzureError where storage fails."""

    def __init__(self, storage: BlobServiceClient, container: str) -> None:
        self._storage = storage
        results = storage.get_container_client(container)
        # A client is slow to make, and a drop needs it twice.
        self._blob = lru_cache(RECENT)(lambda drop: results.get_blob_client(result_name(drop)))

    def read(self, drop: Drop) -> Recorded:
        """Return what is recorded of the blob's last version."""
        try:
            download = self._blob(drop).download_blob()
            text = download.readall()
        except ResourceNotFoundError:
            return Recorded()
        return Recorded.from_json(text, download.properties.etag)

    def write(self, drop: Drop, document: Mapping[str, Any], recorded: Recorded, *, is_replay: bool = False) -> bool:
        """Write the document over what is `recorded`; False where that, or what came after it, must stay.

        A blob is replaced as a whole, so that no reader ever sees half a document.
        """
        text = json.dumps(document, ensure_ascii=False, indent=2, allow_nan=False)
        # A lone surrogate, which untrusted JSON may hold, becomes the escape that JSON has for it.
        data = text.encode(errors="backslashreplace")
        new = Recorded(document)
        while replaces(new, recorded, is_current=self._is_current(drop, new, recorded), is_replay=is_replay):
            condition: dict[str, Any] = {"overwrite": False}
            if recorded.tag:
                condition = {"overwrite": True, "etag": recorded.tag, "match_condition": MatchConditions.IfNotModified}
            try:
                self._blob(drop).upload_blob(data, content_settings=CONTENT_SETTINGS, **condition)
            except HttpResponseError as error:
                if error.status_code not in (CONFLICT, PRECONDITION_FAILED):
                    raise
                found = self.read(drop)
                if found.tag == recorded.tag:
                    raise  # nobody else wrote: somebody has a lease or a policy on it
                recorded = found
            else:
                return True
        return False

    def _is_current(self, drop: Drop, new: Recorded, old: Recorded) -> bool:
        """Ask storage which version it has, where only storage can tell the later of two."""
        if not (new.version and new.version.ties_with(old.version)):
            return False
        try:
            properties = self._storage.get_blob_client(drop.container, drop.blob).get_blob_properties()
        except ResourceNotFoundError:
            return False
        return bool(properties.etag.strip('"') == new.etag)


def _timestamp(moment: datetime) -> str:
    """RFC 3339 in UTC, with milliseconds."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _legal_etag(etag: object) -> str | None:
    return etag if isinstance(etag, str) and ETAG.fullmatch(etag) else None


def _moment(text: Any) -> datetime | None:
    try:
        return parse_time(text)
    except (TypeError, ValueError):
        return None
