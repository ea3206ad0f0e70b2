"""What counts as a drop, and how it is read."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import pytest
from azure.storage.blob import BlobServiceClient

from shared.drop import MAX_READABLE_BYTES, Drop, read_source
from shared.errors import ContainerNotAnITwin, DropGone, SourceTooLarge, StorageForbidden, StorageUnavailable

if TYPE_CHECKING:
    from local.azurite import Azurite

ITWIN = "b3bd3a79-c5b4-41f5-ba5f-6d8c338d788a"


@pytest.fixture
def storage(azurite: Azurite) -> BlobServiceClient:
    """Return a client that reads as the app's does."""
    return BlobServiceClient.from_connection_string(azurite.connection_string, max_single_get_size=MAX_READABLE_BYTES)


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
def test_any_other_container_is_told_what_is_expected(name: str) -> None:
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
    ],
)
def test_housekeeping_files_are_nobodys_drop(name: str) -> None:
    """What systems and copy tools leave behind is skipped, in every folder and case."""
    assert Drop(ITWIN, name).is_housekeeping()


@pytest.mark.parametrize(
    "name",
    ["photo.jpg", "tmp", "a.tmp/photo.jpg", "photo.part1.jpg", "my~$plan.png", "thumbs.db.png", "party.png", "-"],
)
def test_what_somebody_meant_is_not_taken_for_housekeeping(name: str) -> None:
    """A name that only looks similar is a drop."""
    assert not Drop(ITWIN, name).is_housekeeping()


@pytest.mark.parametrize("name", ["results", "azure-webjobs-hosts", "$web", "$logs", "dead-letters", "ledger"])
def test_the_apps_own_containers_are_never_drops(name: str) -> None:
    """A result that raised an event must not make another result."""
    assert Drop(name, f"{ITWIN}/a.jpg.json").is_reserved("results")
    assert not Drop(ITWIN, "results/a.jpg").is_reserved("results")


def test_content_and_version_come_in_one_request(storage: BlobServiceClient, container: str) -> None:
    """Also of a blob that the SDK would otherwise read in pieces: nothing can change in between."""
    blob = storage.get_blob_client(container, "sub folder/größe 100%+#.bin")
    content = bytes(40_000_000)
    written = blob.upload_blob(content, metadata={"job": "17"}, max_concurrency=1)
    requests: list[str] = []
    storage_seen = BlobServiceClient(
        storage.url,
        credential=storage.credential,
        max_single_get_size=MAX_READABLE_BYTES,
        raw_request_hook=lambda request: requests.append(request.http_request.method),
    )
    source = read_source(storage_seen, Drop(container, "sub folder/größe 100%+#.bin"), max_bytes=100_000_000)
    assert source.data == content
    assert source.etag == written["etag"].strip('"')
    assert source.last_modified == written["last_modified"]
    assert source.metadata == {"job": "17"}
    assert requests == ["GET"]


def test_a_blob_over_the_limit_is_described_but_not_read(storage: BlobServiceClient, container: str) -> None:
    """Its content is left where it is; its version is known all the same."""
    written = storage.get_blob_client(container, "big").upload_blob(bytes(1001), metadata={"job": "17"})
    source = read_source(storage, Drop(container, "big"), max_bytes=1000)
    assert (source.data, source.size, source.sha256) == (None, 1001, None)
    assert source.etag == written["etag"].strip('"')
    assert source.last_modified == written["last_modified"]
    assert source.metadata == {"job": "17"}
    with pytest.raises(SourceTooLarge, match=r"1,001 bytes.*MAX_SOURCE_BYTES"):
        source.content()
    assert read_source(storage, Drop(container, "big"), max_bytes=1001).content() == bytes(1001)


@pytest.mark.parametrize(
    ("name", "metadata"), [("site/", {}), ("site", {"hdi_isfolder": "true"}), ("site_$folder$", {})]
)
def test_directory_markers_are_told_from_empty_files(
    storage: BlobServiceClient, container: str, name: str, metadata: dict[str, str]
) -> None:
    """Tools and hierarchical namespaces stand an empty blob for a folder."""
    storage.get_blob_client(container, name).upload_blob(b"", metadata=metadata)
    assert read_source(storage, Drop(container, name), max_bytes=1000).is_directory_marker(Drop(container, name))
    storage.get_blob_client(container, "empty.jpg").upload_blob(b"")
    empty = Drop(container, "empty.jpg")
    assert not read_source(storage, empty, max_bytes=1000).is_directory_marker(empty)


def test_a_blob_that_has_gone_is_said_so(storage: BlobServiceClient, container: str) -> None:
    """Also when its whole container has gone."""
    for drop in (Drop(container, "gone.jpg"), Drop(str(uuid.uuid4()), "gone.jpg")):
        with pytest.raises(DropGone, match="deleted or moved"):
            read_source(storage, drop, max_bytes=1000)


def test_a_missing_role_is_named(storage: BlobServiceClient, container: str) -> None:
    """The operator reads which role the identity lacks."""
    anonymous = BlobServiceClient(storage.url, retry_total=0)
    with pytest.raises(StorageForbidden, match="Storage Blob Data Owner"):
        read_source(anonymous, Drop(container, "a.jpg"), max_bytes=1000)


def test_an_unreachable_account_is_worth_another_try() -> None:
    """Nothing listens there."""
    nowhere = BlobServiceClient("http://127.0.0.1:1/account", retry_total=0)
    with pytest.raises(StorageUnavailable, match="could not be reached"):
        read_source(nowhere, Drop(ITWIN, "a.jpg"), max_bytes=1000)
