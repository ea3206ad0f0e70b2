"""What counts as a drop, and how its content is read: once, with its ETag, in one request."""

from __future__ import annotations

import fnmatch
import hashlib
import re
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from azure.core import MatchConditions
from azure.core.exceptions import (
    HttpResponseError,
    ResourceModifiedError,
    ResourceNotFoundError,
    ResourceNotModifiedError,
)

from shared.errors import (
    BlobNameRefused,
    ContainerNotAnITwin,
    DropGone,
    EmptySource,
    NotABlockBlob,
    SourceArchived,
    SourceEncrypted,
    SourceNotReady,
    SourceTooLarge,
    UnsupportedFormat,
)
from shared.sdk_transport import ContentTooLarge, asking, error_code, reading_at_most, total_bytes

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from azure.storage.blob import BlobServiceClient

    from shared.errors import DropError

ITWIN_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")

# https://learn.microsoft.com/rest/api/storageservices/naming-and-referencing-containers--blobs--and-metadata
CONTAINER_NAME = re.compile(r"(?=.{3,63}\Z)\$?[a-z0-9](-?[a-z0-9])*")
MAX_BLOB_NAME = 1024

# Files and folders that desktops, browsers and copy tools leave next to the user's own files.
HOUSEKEEPING_NAMES = (".ds_store", "._*", "thumbs.db", "desktop.ini", "~$*", "*.tmp", "*.crdownload", "*.icloud")
HOUSEKEEPING_FOLDERS = ("@eadir", "__macosx", ".appledouble", ".thumbnails", ".stfolder")
PARTIAL_SUFFIX = re.compile(r"\.part(ial|\d+)?$")

# Containers that Azure or the app itself keeps in a storage account, in addition to the results.
RESERVED_CONTAINERS = ("$*", "azure-webjobs-*", "ledger", "undeliverable")

# The largest value of MAX_SOURCE_BYTES: what the SDK is told to read in one request.
MAX_READABLE_BYTES = 2_000_000_000

BLOCK_BLOB, PENDING = "BlockBlob", "pending"
# How a copy ends that has left an empty blob behind.
LOST_COPIES = ("failed", "aborted")
# How long an empty blob is given, since its writer may be about to write the content.
EMPTY_GRACE_S = 10.0

NOT_MODIFIED = 304
FORBIDDEN = 403
ARCHIVE = "Archive"
# What storage says if there is no such blob; any other 404 says nothing about it.
GONE = ("BlobNotFound", "ContainerNotFound")

# Storage's own codes for a blob whose content it does not give out; it does tell everything else about it.
UNREADABLE: Mapping[str, tuple[type[DropError], str]] = {
    "BlobArchived": (
        SourceArchived,
        "The blob is in the archive tier. Rehydrate it, then write it again: rehydration raises no event of its own.",
    ),
    "BlobBeingRehydrated": (SourceNotReady, "The blob is being rehydrated from the archive tier."),
    "BlobUsesCustomerSpecifiedEncryption": (
        SourceEncrypted,
        "The blob is encrypted with its writer's own key, which the app does not have. Write it without one.",
    ),
}

GZIP_LABELS = ("gzip", "x-gzip")
PLAIN_LABELS = ("", "identity")
# How much is told of another label, which may be of any length.
MAX_LABEL = 40


@dataclass(frozen=True)
class Drop:
    """The name of a dropped blob; `Source` is one version of it."""

    container: str
    blob: str

    @classmethod
    def named(cls, container: object, blob: object) -> Drop:
        """Return the drop that a message names. Raises ValueError if storage does not allow such a name."""
        if not (isinstance(container, str) and CONTAINER_NAME.fullmatch(container)):
            raise ValueError("Not a container's name.")
        if not (isinstance(blob, str) and 0 < len(blob) <= MAX_BLOB_NAME):
            raise ValueError("Not a blob's name.")
        blob.encode()  # UnicodeEncodeError, a ValueError, for a lone surrogate
        return cls(container, blob)

    def names_an_itwin(self) -> bool:
        """Whether the container's name is a GUID in lower case with hyphens, as iTwin IDs are."""
        return bool(ITWIN_ID.fullmatch(self.container))

    @property
    def itwin_id(self) -> str:
        """The iTwin ID, which is the container's name.

        Raises ContainerNotAnITwin if it is not one.
        """
        if not self.names_an_itwin():
            message = (
                f"The container's name {self.container!r} is not an iTwin ID, so nothing was uploaded. "
                "Expected a GUID in lower case, such as 'b3bd3a79-c5b4-41f5-ba5f-6d8c338d788a': "
                "check the ID, create a container with that name and drop the image there."
            )
            raise ContainerNotAnITwin(message)
        return self.container

    def leads_elsewhere(self) -> bool:
        """Whether clients would treat the name as a path that leads out of its folder or even its container."""
        return not {".", ".."}.isdisjoint(re.split(r"[/\\]", self.blob))

    def is_housekeeping(self) -> bool:
        """Whether the name is that of a system file, a sidecar or an unfinished copy, which nobody drops on purpose."""
        *folders, name = self.blob.lower().split("/")
        if PARTIAL_SUFFIX.search(name) or not set(folders).isdisjoint(HOUSEKEEPING_FOLDERS):
            return True
        return any(fnmatch.fnmatchcase(name, pattern) for pattern in HOUSEKEEPING_NAMES)

    def is_reserved(self, results_container: str) -> bool:
        """Whether the container belongs to the app or to Azure: its blobs are never drops."""
        own = (results_container, *RESERVED_CONTAINERS)
        return any(fnmatch.fnmatchcase(self.container, name) for name in own)


@dataclass(frozen=True, order=True)
class Version:
    """One version of one blob; of two in the same container, the greater was written later.

    `last_modified` and `etag` are those with which the content was first read: setting a blob's metadata or properties
    changes both but not the content. `content` identifies the bytes: their SHA-256 in hexadecimal, or the length and
    ETag of a blob that is too large to read; "" if an earlier release did not record it. Last-Modified has whole
    seconds; within one second, ETags and then names decide, so that every instance decides alike.
    """

    last_modified: datetime
    etag: str
    blob: str
    content: str = field(default="", compare=False)

    def has_content_of(self, other: Version) -> bool:
        """Whether both have the same bytes and the same name, whenever they were written."""
        return self.blob == other.blob and self.content == other.content != ""

    def ties_with(self, other: Version | None) -> bool:
        """Whether the same blob was written twice within a second, so that only storage knows which write was later."""
        same = other is not None and (other.blob, other.last_modified) == (self.blob, self.last_modified)
        return same and other is not None and other.etag != self.etag


@dataclass(frozen=True)
class SourceFacts:
    """What is known about a version besides its bytes; `sha256` is None if it was too large to read."""

    version: Version
    size: int
    sha256: str | None
    metadata: Mapping[str, str]
    blob_type: str = BLOCK_BLOB
    is_being_copied: bool = False
    has_lost_copy: bool = False

    def is_directory_marker(self) -> bool:
        """Whether this is an empty blob with which tools and hierarchical namespaces represent a folder."""
        named_so = self.version.blob.endswith(("/", "_$folder$"))
        # The names of metadata are case-insensitive, and some tools capitalize those that they send.
        marked_so = any(
            (name.lower(), value.lower()) == ("hdi_isfolder", "true") for name, value in self.metadata.items()
        )
        return self.size == 0 and (named_so or marked_so)

    def check_complete(self, now: datetime) -> None:
        """Raise SourceNotReady if the content is not there yet, and NotABlockBlob if there is no way to tell.

        Raise EmptySource if there will be none: the copy that was to bring it has failed.
        A copy raises its event when it starts; some tools create an empty blob first and write its content later.
        """
        if self.blob_type != BLOCK_BLOB:
            message = (
                f"The blob is of the type {self.blob_type}, whose content is written after its event is raised. "
                "Write a block blob, as upload tools do by default."
            )
            raise NotABlockBlob(message)
        if self.is_being_copied:
            raise SourceNotReady("The blob is still being copied.")
        if self.size == 0 and self.has_lost_copy:
            raise EmptySource("The blob is empty, because the copy to it failed or was aborted. Copy it again.")
        age_s = (now - self.version.last_modified).total_seconds()
        if self.size == 0 and age_s < EMPTY_GRACE_S:
            raise SourceNotReady("The blob was created empty a moment ago.", retry_after_s=EMPTY_GRACE_S)


class Source:
    """One version of a dropped blob: what storage says about it, and its stored bytes until they are released.

    `is_labelled_gzip` says that they are labelled as gzip, which may be wrong; `other_label` is a Content-Encoding that
    the app does not decode, and which may be wrong as well. `problem` says why storage did not give
    them out; if there are none and no problem, they were too many.
    """

    def __init__(
        self,
        drop: Drop,
        facts: SourceFacts,
        data: bytes | None,
        *,
        is_labelled_gzip: bool = False,
        other_label: str = "",
        problem: DropError | None = None,
    ) -> None:
        self.drop = drop
        self.facts = facts
        self.is_labelled_gzip = is_labelled_gzip
        self.other_label = other_label
        self._data = data
        self._problem = problem

    def content(self) -> bytes:
        """Return the bytes. Raises SourceTooLarge, or the problem, if they were not read."""
        if self._problem:
            raise self._problem
        if self._data is None:
            message = (
                f"The blob has {self.facts.size:,} bytes, more than MAX_SOURCE_BYTES allows. "
                "Send a smaller image, or ask the operator to raise that setting."
            )
            raise SourceTooLarge(message)
        return self._data

    def not_supported(self, error: UnsupportedFormat) -> UnsupportedFormat:
        """Return the error for content in no supported format, which a label that is right may explain."""
        if not self.other_label:
            return error
        return UnsupportedFormat(
            f"{error.message} The blob's Content-Encoding is {self.other_label!r}, and only gzip is decoded: "
            "if that is right, write the image without one."
        )

    def take(self) -> bytes:
        """Return the bytes like `content`, and release them: the caller then has the only reference."""
        content = self.content()
        self.release()
        return content

    def release(self) -> None:
        """Release the bytes, even while this object is still referenced."""
        self._data = None


def read_source(
    drops: BlobServiceClient, drop: Drop, *, max_bytes: int, unless_etag: str | None = None
) -> Source | None:
    """Read content, ETag, Last-Modified and metadata in one request; for a larger blob, everything but the content.

    A blob whose content storage does not give out is described as well, by a second request.
    Returns None if the blob still has the ETag `unless_etag`.
    `drops` must be a client as `shared.storage` opens it.
    Raises BlobNameRefused, DropGone, OutOfTime, and azure.core.exceptions.AzureError if storage fails.
    """
    if drop.leads_elsewhere():
        message = "A part of the blob's name is '.' or '..', so it was not read. Drop it again under another name."
        raise BlobNameRefused(message)
    condition: dict[str, Any] = {}
    if unless_etag is not None:
        condition = {"etag": f'"{unless_etag}"', "match_condition": MatchConditions.IfModified}
    try:
        blob = drops.get_blob_client(drop.container, drop.blob)
        # Decompressed by the SDK, content could have any size, and a wrong label would make it unreadable.
        with reading_at_most(max_bytes):
            download = blob.download_blob(max_concurrency=1, decompress=False, **condition)
            data = download.readall()
    except ContentTooLarge as stopped:
        return _unread_source(drop, stopped.headers)
    except (ResourceModifiedError, ResourceNotModifiedError) as error:
        if error.status_code != NOT_MODIFIED or unless_etag is None:
            raise
        # The SDK raises one for the status 304 and the other for the error code that may come with it.
        return None
    except ResourceNotFoundError as error:
        if error_code(error) not in GONE:
            raise
        message = "The blob was deleted or moved before it could be uploaded. Drop it again if it is still needed."
        raise DropGone(message) from error
    except HttpResponseError as error:
        state = UNREADABLE.get(error_code(error))
        source = _withheld_source(drops, drop, *state) if state else None
        if source is None:
            raise
        return source

    properties = download.properties
    sha256 = hashlib.sha256(data).hexdigest()
    version = Version(properties.last_modified, properties.etag.strip('"'), drop.blob, sha256)
    kind = str(getattr(properties.blob_type, "value", properties.blob_type) or BLOCK_BLOB)
    copied = properties.copy.status == PENDING, properties.copy.status in LOST_COPIES
    facts = SourceFacts(version, len(data), sha256, dict(properties.metadata or {}), kind, *copied)
    label = (properties.content_settings.content_encoding or "").strip().lower()
    other_label = "" if label in (*PLAIN_LABELS, *GZIP_LABELS) else label[:MAX_LABEL]
    return Source(drop, facts, data, is_labelled_gzip=label in GZIP_LABELS, other_label=other_label)


def is_current(drops: BlobServiceClient, drop: Drop, version: Version, rival: Version, *, max_bytes: int) -> bool:
    """Whether storage still has the version, of at most `max_bytes`, and not its `rival` of the same second.

    If the blob now has an ETag that neither of them had, the content decides; if they have the same content too, their
    own ETags do. Raises what `read_source` raises.
    """
    source = read_source(drops, drop, max_bytes=max_bytes, unless_etag=version.etag)
    if source is None:
        return True
    found = source.facts.version
    if found.etag == rival.etag or not version.has_content_of(found):
        return False
    return version > rival or not rival.has_content_of(found)


def _withheld_source(drops: BlobServiceClient, drop: Drop, problem: type[DropError], message: str) -> Source | None:
    """Return what a listing says about a blob that cannot be read; None if it is not in there, or may not be listed.

    A request for its properties would be refused as well if the blob is encrypted with its writer's own key.
    """
    container = drops.get_container_client(drop.container)
    try:
        with asking():
            # The first name that begins with the blob's own is that one.
            listed = container.list_blobs(name_starts_with=drop.blob, include=["metadata"], results_per_page=1)
            found = next(listed, None)
    except HttpResponseError as error:
        if error.status_code != FORBIDDEN:
            raise
        return None
    if found is None or found.name != drop.blob:
        return None
    if found.blob_tier != ARCHIVE and problem is not SourceEncrypted:
        raise SourceNotReady("The blob was written again while it was being read.")
    etag = found.etag.strip('"')
    version = Version(found.last_modified, etag, drop.blob, f"{found.size} bytes {etag}")
    facts = SourceFacts(version, found.size, None, dict(found.metadata or {}))
    return Source(drop, facts, None, problem=problem(message))


def _unread_source(drop: Drop, headers: Mapping[str, str]) -> Source:
    prefix = "x-ms-meta-"
    size, etag = total_bytes(headers), headers["ETag"].strip('"')
    version = Version(parsedate_to_datetime(headers["Last-Modified"]), etag, drop.blob, f"{size} bytes {etag}")
    metadata = {name[len(prefix) :]: value for name, value in headers.items() if name.lower().startswith(prefix)}
    kind, is_being_copied = headers.get("x-ms-blob-type", BLOCK_BLOB), headers.get("x-ms-copy-status") == PENDING
    return Source(drop, SourceFacts(version, size, None, metadata, kind, is_being_copied), None)
