"""The client: one file to copy, which finds the result of exactly one drop."""

from __future__ import annotations

import ast
import io
import json
import sys
import uuid
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from azure.storage.blob import BlobServiceClient

from client.itwin_image_drop import Drop, drop, drop_and_wait, is_result_of, result_name, wait_for_result
from local.processes import PROJECT
from local.samples import building_site, encode
from shared import drop as app_drop
from shared import results
from tests.schema import check_result

if TYPE_CHECKING:
    from collections.abc import Iterator

    from local.azurite import Azurite
    from local.cloud import LocalCloud

CLIENT = PROJECT / "client" / "itwin_image_drop.py"
ITWIN = "b3bd3a79-c5b4-41f5-ba5f-6d8c338d788a"
PHOTO = encode(building_site(320, 240), "JPEG")
WRITTEN_AT = datetime(2026, 11, 23, 12, tzinfo=UTC)
DROP = Drop(ITWIN, "a.jpg", "0x8D", "ab" * 32, WRITTEN_AT)
NAMES = ("a b.jpg", "folder/" + "x" * 1013 + ".jpg", "y" * 1024, "a/../b.jpg", "..", "a\\.\\b.jpg")


def test_the_client_needs_only_the_storage_sdk() -> None:
    """It can therefore be copied as it is."""
    imports = [
        node for node in ast.walk(ast.parse(CLIENT.read_text())) if isinstance(node, ast.Import | ast.ImportFrom)
    ]
    modules = {node.module or "" if isinstance(node, ast.ImportFrom) else node.names[0].name for node in imports}
    assert {module for module in modules if module.partition(".")[0] not in sys.stdlib_module_names} == {
        "azure.core.exceptions",
        "azure.storage.blob",
    }


def test_a_drop_is_written_and_its_result_returned(cloud: LocalCloud) -> None:
    """The metadata put on the blob comes back with the outcome."""
    photo = io.BytesIO(PHOTO)
    result = check_result(drop_and_wait(cloud.drops, cloud.itwin(), "gate/a.jpg", photo, metadata={"order": "4711"}))
    assert (result["status"], result["source"]["metadata"]) == ("uploaded", {"order": "4711"})


def test_a_drop_that_replaces_another_gets_its_own_result(cloud: LocalCloud) -> None:
    """Not the one that already exists."""
    itwin = cloud.itwin()
    assert drop_and_wait(cloud.drops, itwin, "a.jpg", PHOTO)["status"] == "uploaded"
    assert drop_and_wait(cloud.drops, itwin, "a.jpg", b"not an image")["status"] == "rejected"


def test_a_drop_whose_metadata_was_set_gets_its_result(cloud: LocalCloud) -> None:
    """Setting metadata changes the ETag that the client was given, but not the content."""
    itwin = cloud.itwin()
    written = drop(cloud.drops, itwin, "a.jpg", PHOTO)
    cloud.drops.get_blob_client(itwin, "a.jpg").set_blob_metadata({"seen": "yes"})
    assert wait_for_result(cloud.drops, written)["status"] == "uploaded"


@pytest.mark.parametrize(
    ("source", "recorded_after_s", "is_own"),
    [
        ({"etag": "0x8D"}, 1, True),
        ({"etag": "0x9", "sha256": "cd" * 32}, 1, False),
        ({"etag": "0x9", "sha256": "ab" * 32}, 1, True),
        ({"etag": "0x9", "sha256": "ab" * 32, "lastModified": "2026-11-23T12:00:09.000Z"}, 10, True),
        ({"etag": "0x9", "sha256": "ab" * 32, "lastModified": "2026-11-23T11:59:59.000Z"}, 1, False),
        ({"etag": "0x9", "sha256": None}, 1, False),
        ({"etag": None, "lastModified": None}, 0, True),
        ({"etag": None, "lastModified": None}, -1, False),
    ],
)
def test_a_result_belongs_to_a_drop_by_etag_or_by_content(
    source: dict[str, object], recorded_after_s: int, *, is_own: bool
) -> None:
    """An earlier write of the same content is another drop; a drop that nobody could read is matched by its time."""
    result = {"source": {"sha256": None, "lastModified": "2026-11-23T12:00:00.000Z", **source}}
    assert is_result_of(DROP, result, WRITTEN_AT + timedelta(seconds=recorded_after_s)) is is_own


@pytest.mark.parametrize("name", NAMES)
def test_the_client_finds_the_result_where_the_app_writes_it(name: str) -> None:
    """The rule for its name is published, so it must be the app's own."""
    assert result_name(ITWIN, name) == results.result_name(app_drop.Drop(ITWIN, name))


@pytest.fixture
def storage(azurite: Azurite) -> Iterator[BlobServiceClient]:
    """Storage that no app reads."""
    with BlobServiceClient.from_connection_string(azurite.connection_string) as client:
        yield client


def test_a_timeout_reports_what_is_known(storage: BlobServiceClient) -> None:
    """The error says whether the app never responded or is still retrying."""
    container = storage.create_container(f"results-{uuid.uuid4()}")
    waits: dict[str, Any] = {"timeout_s": 0, "results_container": container.container_name}
    with pytest.raises(TimeoutError, match=rf"^After 0 s, {ITWIN}/a.jpg has no result$"):
        wait_for_result(storage, DROP, **waits)
    retrying = {
        "status": "retrying",
        "reason": "The platform responded with 503.",
        "source": {"etag": "0x8D", "sha256": None},
    }
    container.upload_blob(result_name(ITWIN, "a.jpg"), json.dumps(retrying))
    with pytest.raises(TimeoutError, match=r"has no final result, but is being retried: The platform responded"):
        wait_for_result(storage, DROP, **waits)
    with pytest.raises(TimeoutError, match=r"has no result$"):
        wait_for_result(storage, replace(DROP, etag="0x9", sha256="cd" * 32), **waits)
