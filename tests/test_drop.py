"""What counts as a drop, and how it is read."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import socket
import threading
import time
import uuid
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from azure.core.exceptions import AzureError, HttpResponseError
from azure.storage.blob import BlobServiceClient, ContentSettings

from shared.deadline import bounded
from shared.drop import EMPTY_GRACE_S, MAX_READABLE_BYTES, Drop, Source, SourceFacts, Version, read_source
from shared.errors import (
    BlobNameRefused,
    ContainerNotAnITwin,
    DropError,
    DropGone,
    EmptySource,
    NotABlockBlob,
    OutOfTime,
    SourceArchived,
    SourceEncrypted,
    SourceNotReady,
    SourceTooLarge,
    StorageUnavailable,
)
from shared.http_client import HttpClient
from shared.results import result_name
from shared.sdk_transport import StorageTransport
from shared.settings import StorageSettings
from shared.storage import open_blobs, storage_error
from tests.wire import conversing, respond, responding

if TYPE_CHECKING:
    from local.azurite import Azurite

BLOB = "sub folder/größe 100%+#.bin"
ITWIN = "b3bd3a79-c5b4-41f5-ba5f-6d8c338d788a"


@pytest.fixture
def storage(azurite: Azurite) -> BlobServiceClient:
    """Return a client that reads as the app's does."""
    return open_blobs(StorageSettings.from_environ({"DropStorage": azurite.connection_string}))


@pytest.fixture
def container(storage: BlobServiceClient) -> str:
    """Make a container of its own for a test."""
    name = str(uuid.uuid4())
    storage.create_container(name)
    return name


def test_a_container_named_by_a_guid_names_its_itwin() -> None:
    """The container's name is the iTwin ID."""
    assert Drop(ITWIN, "a.jpg").itwin_id == ITWIN


@pytest.mark.parametrize(
    "name", ["photos", ITWIN[:-1], ITWIN + "0", ITWIN.replace("-", ""), ITWIN.replace("b", "g"), ITWIN.upper(), ""]
)
def test_any_other_container_name_is_refused_with_what_is_expected(name: str) -> None:
    """Whoever misspelt an ID learns it."""
    with pytest.raises(ContainerNotAnITwin, match="Expected a GUID in lower case"):
        _ = Drop(name, "a.jpg").itwin_id


@pytest.mark.parametrize(
    "name",
    [
        ".DS_Store",
        "site/.ds_store",
        "Thumbs.db",
        "a/b/desktop.ini",
        "~$plan.png",
        "a.tmp",
        "photo.jpg.part",
        "photo.jpg.partial",
        "photo.jpg.1a2b3c.partial",
        "photo.jpg.crdownload",
        "photo.jpg.part2",
        "site/._photo.jpg",
        "@eaDir/photo.jpg/SYNOPHOTO_THUMB_XL.jpg",
        "__MACOSX/site/photo.jpg",
        "site/.AppleDouble/photo.jpg",
        ".thumbnails/normal/0123.png",
        ".stfolder/marker.png",
        "site/.photo.jpg.icloud",
    ],
)
def test_housekeeping_files_are_ignored(name: str) -> None:
    """Files that systems and copy tools leave behind, in every folder and whatever the case of their names."""
    assert Drop(ITWIN, name).is_housekeeping()


@pytest.mark.parametrize(
    "name",
    [
        "photo.jpg",
        "tmp",
        "a.tmp/photo.jpg",
        "photo.part1.jpg",
        "my~$plan.png",
        "thumbs.db.png",
        "party.png",
        "site.partner",
        "-",
        "_photo.jpg",
        "eaDir/photo.jpg",
        "macosx/photo.jpg",
        "thumbnails/photo.png",
        "icloud.png",
        ".thumbnails.png",
    ],
)
def test_names_that_only_resemble_housekeeping_files_are_drops(name: str) -> None:
    """A name that only looks similar is a drop."""
    assert not Drop(ITWIN, name).is_housekeeping()


@pytest.mark.parametrize("name", ["results", "azure-webjobs-hosts", "$web", "$logs", "undeliverable", "ledger"])
def test_blobs_in_the_apps_own_containers_are_never_drops(name: str) -> None:
    """Otherwise the event of a result would produce another result."""
    assert Drop(name, f"{ITWIN}/a.jpg.json").is_reserved("results")
    assert not Drop(ITWIN, "results/a.jpg").is_reserved("results")


def test_content_and_version_are_read_in_one_request(storage: BlobServiceClient, container: str) -> None:
    """Even for a blob that the SDK would otherwise read in pieces: nothing can change in between."""
    blob = storage.get_blob_client(container, BLOB)
    content = bytes(40_000_000)
    written = blob.upload_blob(content, metadata={"job": "17"}, max_concurrency=1)
    requests: list[str] = []
    storage_seen = BlobServiceClient(
        storage.url,
        credential=storage.credential,
        max_single_get_size=MAX_READABLE_BYTES,
        transport=StorageTransport(HttpClient()),
        raw_request_hook=lambda request: requests.append(request.http_request.method),
    )
    source = read_source(storage_seen, Drop(container, BLOB), max_bytes=100_000_000)
    assert source
    assert source.content() == content
    version = Version(written["last_modified"], written["etag"].strip('"'), BLOB)
    assert source.facts.version == version
    assert source.facts.version.content == source.facts.sha256 == hashlib.sha256(content).hexdigest()
    assert source.facts.metadata == {"job": "17"}
    assert requests == ["GET"]


def test_a_blob_over_the_limit_is_described_but_not_read(storage: BlobServiceClient, container: str) -> None:
    """Its content stays unread; its version is known all the same."""
    written = storage.get_blob_client(container, "big").upload_blob(bytes(1001), metadata={"job": "17"})
    source = read_source(storage, Drop(container, "big"), max_bytes=1000)
    assert source
    etag = written["etag"].strip('"')
    assert (source.facts.size, source.facts.sha256) == (1001, None)
    assert source.facts.version == Version(written["last_modified"], etag, "big")
    assert source.facts.version.content == f"1001 bytes {etag}"
    assert source.facts.metadata == {"job": "17"}
    with pytest.raises(SourceTooLarge, match=r"1,001 bytes.*MAX_SOURCE_BYTES"):
        source.content()
    whole = read_source(storage, Drop(container, "big"), max_bytes=1001)
    assert whole
    assert whole.content() == bytes(1001)


def labelled_gzip(storage: BlobServiceClient, container: str, content: bytes) -> Source:
    """Write a blob with that Content-Encoding and read it as the app does."""
    blob = storage.get_blob_client(container, "labelled.png")
    blob.upload_blob(content, overwrite=True, content_settings=ContentSettings(content_encoding="gzip"))
    source = read_source(storage, Drop(container, blob.blob_name), max_bytes=1000)
    assert source
    return source


@pytest.mark.parametrize("stored", [gzip.compress(bytes(1000), mtime=0), b"not gzipped", b""])
def test_a_blob_labelled_gzip_is_read_as_it_is_stored(
    storage: BlobServiceClient, container: str, stored: bytes
) -> None:
    """Tools for websites set that label; whether it is true turns out when the file is decompressed."""
    source = labelled_gzip(storage, container, stored)
    assert (source.content(), source.is_labelled_gzip) == (stored, True)
    assert (source.facts.size, source.facts.sha256) == (len(stored), hashlib.sha256(stored).hexdigest())


def test_a_blob_without_a_label_is_not_decompressed(storage: BlobServiceClient, container: str) -> None:
    """Whatever it looks like."""
    storage.get_blob_client(container, BLOB).upload_blob(gzip.compress(b"packed", mtime=0))
    source = read_source(storage, Drop(container, BLOB), max_bytes=1000)
    assert source
    assert not source.is_labelled_gzip


@pytest.mark.parametrize(
    ("name", "metadata"),
    [
        ("site/", {}),
        ("site", {"hdi_isfolder": "true"}),
        ("site", {"Hdi_isfolder": "True"}),
        ("site", {"HDI_ISFOLDER": "true"}),
        ("site_$folder$", {}),
    ],
)
def test_folder_markers_are_distinguished_from_empty_files(
    storage: BlobServiceClient, container: str, name: str, metadata: dict[str, str]
) -> None:
    """Tools and hierarchical namespaces represent a folder by an empty blob."""
    storage.get_blob_client(container, name).upload_blob(b"", metadata=metadata)
    marker = read_source(storage, Drop(container, name), max_bytes=1000)
    assert marker
    assert marker.facts.is_directory_marker()
    storage.get_blob_client(container, "empty.jpg").upload_blob(b"")
    empty = read_source(storage, Drop(container, "empty.jpg"), max_bytes=1000)
    assert empty
    assert not empty.facts.is_directory_marker()


@pytest.mark.parametrize("name", ["a.jpg", BLOB, "a", "a\nb.jpg", "a&<b>.jpg"])
def test_an_archived_blob_is_described_but_not_read(storage: BlobServiceClient, container: str, name: str) -> None:
    """Whoever wrote it recognizes its result by the ETag; blobs whose names begin alike are not mistaken for it."""
    blob = storage.get_blob_client(container, name)
    written = blob.upload_blob(b"content", metadata={"job": "17"})
    blob.set_standard_blob_tier("Archive")
    for other in (f"{name}.png", f"{name}/b"):
        storage.get_blob_client(container, other).upload_blob(b"another")
    source = read_source(storage, Drop(container, name), max_bytes=1000)
    assert source
    etag = written["etag"].strip('"')
    assert source.facts.version == Version(written["last_modified"], etag, name)
    assert (source.facts.version.content, source.facts.sha256) == (f"7 bytes {etag}", None)
    assert (source.facts.size, source.facts.metadata) == (7, {"job": "17"})
    with pytest.raises(SourceArchived, match="Rehydrate it"):
        source.content()


LISTING = b"""<?xml version="1.0" encoding="utf-8"?><EnumerationResults><Blobs><Blob><Name>a.jpg</Name><Properties>
<Last-Modified>Mon, 23 Nov 2026 12:00:00 GMT</Last-Modified><Etag>0x1</Etag><Content-Length>7</Content-Length>
<BlobType>BlockBlob</BlobType><AccessTier>Archive</AccessTier></Properties>
</Blob></Blobs><NextMarker /></EnumerationResults>"""
OTHER_LISTING = LISTING.replace(b"a.jpg", b"a.jpg.png")
OWN = "x-ms-request-id: 1"


def storage_that_says(*responses: bytes) -> contextlib.AbstractContextManager[str]:
    """Serve an account that responds so, one after the other."""
    return conversing(responding(*responses))


def opened(address: str) -> BlobServiceClient:
    """Open it as the app does."""
    url = f"{address}/account"
    connection = f"AccountName=account;AccountKey=a2V5;BlobEndpoint={url};QueueEndpoint={url};"
    return open_blobs(StorageSettings.from_environ({"DropStorage": connection}))


def refusal(status: str, code: str) -> bytes:
    """Return what storage says with an error code."""
    return respond(status, b"", f"x-ms-error-code: {code}", OWN)


@pytest.mark.parametrize(
    ("code", "problem"),
    [
        ("BlobArchived", SourceArchived),
        ("BlobBeingRehydrated", SourceNotReady),
        ("BlobUsesCustomerSpecifiedEncryption", SourceEncrypted),
    ],
)
def test_a_blob_that_storage_does_not_give_out_is_known_by_its_listing(code: str, problem: type[DropError]) -> None:
    """Also where a request for its properties would be refused like that for its content."""
    listing = respond("200 OK", LISTING, "Content-Type: application/xml", OWN)
    with storage_that_says(refusal("409 Conflict", code), listing) as address, opened(address) as storage:
        source = read_source(storage, Drop(ITWIN, "a.jpg"), max_bytes=1000)
    assert source
    assert source.facts.version == Version(datetime(2026, 11, 23, 12, tzinfo=UTC), "0x1", "a.jpg")
    with pytest.raises(problem):
        source.content()


@pytest.mark.parametrize(
    "listing",
    [
        refusal("403 Forbidden", "AuthorizationFailure"),
        respond("200 OK", OTHER_LISTING, OWN, "Content-Type: application/xml"),
    ],
)
def test_a_blob_that_no_listing_describes_is_still_refused_for_its_own_reason(listing: bytes) -> None:
    """Not for that of the listing."""
    archived = refusal("409 Conflict", "BlobArchived")
    with (
        storage_that_says(archived, listing) as address,
        opened(address) as storage,
        pytest.raises(HttpResponseError) as caught,
    ):
        read_source(storage, Drop(ITWIN, "a.jpg"), max_bytes=1000)
    assert type(storage_error(caught.value)) is SourceArchived


def test_an_archived_blob_whose_listing_fails_for_a_moment_is_not_rejected_yet() -> None:
    """Its version is unknown then, so nobody would know whose result it is."""
    archived, busy = refusal("409 Conflict", "BlobArchived"), refusal("503 Busy", "ServerBusy")
    with (
        storage_that_says(archived, busy) as address,
        opened(address) as storage,
        bounded(1.0, lambda: 0.0),  # too little for another try
        pytest.raises(HttpResponseError) as caught,
    ):
        read_source(storage, Drop(ITWIN, "a.jpg"), max_bytes=1000)
    assert type(storage_error(caught.value)) is StorageUnavailable


def test_what_was_written_over_an_archived_blob_meanwhile_is_not_called_archived() -> None:
    """The listing is about the later version, whose own event would count as a duplicate then."""
    hot = respond("200 OK", LISTING.replace(b"Archive<", b"Hot<"), "Content-Type: application/xml", OWN)
    archived = refusal("409 Conflict", "BlobArchived")
    with storage_that_says(archived, hot) as address, opened(address) as storage, pytest.raises(SourceNotReady):
        read_source(storage, Drop(ITWIN, "a.jpg"), max_bytes=1000)


@pytest.mark.parametrize("code", ["ResourceNotFound", "AccountNotFound", "SomethingNew"])
def test_only_storages_own_word_for_it_says_that_a_blob_has_gone(code: str) -> None:
    """Any other 404 may be over in a moment, and the blob is still there."""
    with (
        storage_that_says(refusal("404 Not Found", code)) as address,
        opened(address) as storage,
        pytest.raises(HttpResponseError) as caught,
    ):
        read_source(storage, Drop(ITWIN, "a.jpg"), max_bytes=1000)
    assert type(storage_error(caught.value)) is StorageUnavailable


FIELDS = {
    "ETag": '"0x1"',
    "Last-Modified": "Mon, 23 Nov 2026 12:00:00 GMT",
    "Content-Range": "bytes 0-0/1",
    "x-ms-blob-type": "BlockBlob",
    "x-ms-request-id": "1",
}


def content(**changes: str) -> bytes:
    """Return what storage says about a blob of one byte, with other fields in its header, or without those."""
    fields = {**FIELDS, **{name.replace("_", "-"): value for name, value in changes.items()}}
    return respond("206 Partial Content", b"x", *(f"{name}: {value}" for name, value in fields.items() if value))


@pytest.mark.parametrize("max_bytes", [1000, 0])
@pytest.mark.parametrize(
    "changes",
    [
        {"Last_Modified": "soon"},
        {"Last_Modified": "2026-11-23T12:00:00Z"},
        {"Last_Modified": "Mon, 23 Nov 2026 12:00:00"},
        {"Last_Modified": "Mon, 99 Nov 2026 12:00:00 GMT"},
        {"Last_Modified": "Fri, 31 Dec 9999 23:59:59 -0500"},
        {"Last_Modified": ""},
        {"ETag": '""'},
        {"ETag": 'W/"0x1"'},
        {"ETag": "0x 1"},
        {"ETag": ""},
        {"x_ms_blob_type": "NewBlob"},
        {"Content_Range": "bytes */1"},
    ],
    ids=str,
)
def test_a_header_by_which_a_drop_would_be_misjudged_is_not_storages(max_bytes: int, changes: dict[str, str]) -> None:
    """Neither its version nor its kind is known then: the drop is tried again."""
    with (
        conversing(responding(content(**changes)), again=True) as address,
        opened(address) as storage,
        bounded(1.0, lambda: 0.0),  # too little for another try
        pytest.raises(AzureError) as caught,
    ):
        read_source(storage, Drop(ITWIN, "a.jpg"), max_bytes=max_bytes)
    assert type(storage_error(caught.value)) is StorageUnavailable


@pytest.mark.parametrize(
    "changes",
    [
        {"Date": "soon"},
        {"Date": "Mon, 99 Nov 2026 12:00:00 GMT"},
        {"Content_MD5": "?"},
        {"x_ms_creation_time": "soon"},
        {"x_ms_tag_count": "many"},
        {"x_ms_server_encrypted": "perhaps"},
        {"x_ms_lease_state": "odd"},
        {"x_ms_blob_committed_block_count": "x"},
        {"x_ms_copy_completion_time": "soon"},
        {"x_ms_blob_type": ""},
    ],
    ids=str,
)
def test_a_header_that_the_app_does_not_need_may_say_anything(changes: dict[str, str]) -> None:
    """The SDK fails on any that it cannot parse, as on a bug."""
    with storage_that_says(content(**changes)) as address, opened(address) as storage:
        source = read_source(storage, Drop(ITWIN, "a.jpg"), max_bytes=1000)
    assert source
    assert source.content() == b"x"
    source.facts.check_complete(datetime(2026, 11, 24, tzinfo=UTC))


@pytest.mark.parametrize(("status", "problem"), [("failed", EmptySource), ("aborted", EmptySource), ("success", None)])
def test_a_copy_that_failed_is_named_as_the_reason_for_an_empty_blob(
    status: str, problem: type[DropError] | None
) -> None:
    """Nobody else would know why a blob that was copied is empty."""
    headers = "ETag: 0x1", "Last-Modified: Mon, 23 Nov 2026 12:00:00 GMT", f"x-ms-copy-status: {status}", OWN
    empty = respond("200 OK", b"", "x-ms-blob-type: BlockBlob", *headers)
    no_range = refusal("416 Range Not Satisfiable", "InvalidRange")
    with storage_that_says(no_range, empty) as address, opened(address) as storage:
        source = read_source(storage, Drop(ITWIN, "a.jpg"), max_bytes=1000)
    assert source
    if problem is None:
        source.facts.check_complete(datetime(2026, 11, 24, tzinfo=UTC))
    else:
        with pytest.raises(problem, match="the copy to it failed or was aborted"):
            source.facts.check_complete(datetime(2026, 11, 23, 12, tzinfo=UTC))
    replace(source.facts, size=1).check_complete(datetime(2026, 11, 23, 12, tzinfo=UTC))


def test_a_known_version_is_not_read_again(storage: BlobServiceClient, container: str) -> None:
    """A duplicate delivery reads no content; a newer version is read."""
    blob = storage.get_blob_client(container, "a.jpg")
    etag = blob.upload_blob(b"old")["etag"].strip('"')
    assert read_source(storage, Drop(container, "a.jpg"), max_bytes=1000, unless_etag=etag) is None
    blob.upload_blob(b"new", overwrite=True)
    newer = read_source(storage, Drop(container, "a.jpg"), max_bytes=1000, unless_etag=etag)
    assert newer
    assert newer.content() == b"new"


def test_a_deleted_blob_is_reported_as_deleted(storage: BlobServiceClient, container: str) -> None:
    """Even if its whole container is gone."""
    for drop in (Drop(container, "gone.jpg"), Drop(str(uuid.uuid4()), "gone.jpg")):
        for max_bytes in (1000, 0):
            with pytest.raises(DropGone, match="deleted or moved"):
                read_source(storage, drop, max_bytes=max_bytes)


def test_the_later_of_two_versions_compares_as_greater() -> None:
    """Within a second ETags decide, so that every instance decides the same way."""
    early, late = datetime(2026, 11, 23, tzinfo=UTC), datetime(2026, 11, 24, tzinfo=UTC)
    assert Version(early, "0x9", "z") < Version(late, "0x1", "a")
    assert Version(early, "0x1", "z") < Version(early, "0x2", "a")


@pytest.mark.parametrize(
    ("name", "blob"),
    [
        ("", "a"),
        ("Upper", "a"),
        ("../results", "a"),
        ("a" * 64, "a"),
        ("abc\n", "a"),
        (None, "a"),
        ("abc", ""),
        ("abc", "b" * 1025),
        ("abc", "\ud800"),
        ("abc", ["a"]),
    ],
)
def test_a_name_that_storage_cannot_have_is_not_a_drop(name: object, blob: object) -> None:
    """A message may contain anything."""
    with pytest.raises(ValueError, match=r"name|surrogates"):
        Drop.named(name, blob)
    assert Drop.named("abc", "ö/b" * 300).blob == "ö/b" * 300


@pytest.mark.parametrize("name", ["../a.jpg", "./a.jpg", "a/../../ledger/b", "..", "a/.", "..\\a.jpg"])
def test_a_name_with_dot_segments_is_never_requested(name: str) -> None:
    """Clients interpret them as paths: such a blob could be one in another container."""
    nowhere = BlobServiceClient("http://127.0.0.1:1/account", retry_total=0, transport=StorageTransport(HttpClient()))
    with pytest.raises(BlobNameRefused, match=r"another name"):
        read_source(nowhere, Drop(ITWIN, name), max_bytes=1000)
    assert not result_name(Drop(ITWIN, name)).replace("/~", "").strip("0123456789abcdef-").removesuffix(".json")


def test_dots_within_a_segment_are_ordinary_characters() -> None:
    """They are ordinary letters there."""
    assert not any(Drop(ITWIN, name).leads_elsewhere() for name in ("a..jpg", ".hidden", "...", "a/..b/c.jpg"))


@pytest.mark.parametrize(
    ("changed", "error"),
    [
        ({"is_being_copied": True}, SourceNotReady),
        ({"blob_type": "AppendBlob"}, NotABlockBlob),
        ({"blob_type": "PageBlob"}, NotABlockBlob),
        ({"size": 0}, SourceNotReady),
    ],
    ids=str,
)
def test_an_event_may_come_before_the_content(changed: dict[str, Any], error: type[DropError]) -> None:
    """The app waits for content that is still to come; if it cannot know when that is complete, the writer is told."""
    written_at = datetime(2026, 11, 23, tzinfo=UTC)
    facts = SourceFacts(Version(written_at, "0x1", "a.jpg"), 5, None, {})
    facts.check_complete(written_at)
    with pytest.raises(error):
        replace(facts, **changed).check_complete(written_at)
    replace(facts, size=0).check_complete(written_at + timedelta(seconds=EMPTY_GRACE_S))


def test_a_body_that_arrives_byte_by_byte_is_read_only_until_the_deadline() -> None:
    """Each byte is in time, but the end would never come: the attempt goes back to the queue."""
    size, sent = 100_000, 0
    ends = threading.Event()
    head = (
        f"HTTP/1.1 206 Partial Content\r\nContent-Length: {size}\r\nContent-Range: bytes 0-{size - 1}/{size}\r\n"
        "ETag: 0x1\r\nx-ms-blob-type: BlockBlob\r\nLast-Modified: Mon, 23 Nov 2026 12:00:00 GMT\r\n\r\n"
    )

    def drip(listener: socket.socket) -> None:
        nonlocal sent
        connection, _ = listener.accept()
        with connection, contextlib.suppress(OSError):
            connection.recv(65536)
            connection.sendall(head.encode())
            while sent < size and not ends.wait(0.01):
                connection.sendall(b"x")
                sent += 1

    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = threading.Thread(target=drip, args=[listener])
        server.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/account"
        settings = StorageSettings.from_environ(
            {"DropStorage": f"AccountName=account;AccountKey=a2V5;BlobEndpoint={url};QueueEndpoint={url};"}
        )
        try:
            with (
                open_blobs(settings) as drops,
                bounded(time.monotonic() + 0.5, time.monotonic),
                pytest.raises(OutOfTime),
            ):
                read_source(drops, Drop(ITWIN, "a.jpg"), max_bytes=size)
        finally:
            ends.set()
            server.join()
    assert 0 < sent < size
