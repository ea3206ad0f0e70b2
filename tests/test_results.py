"""The result document: its shape, its name, and that it is always JSON."""

from __future__ import annotations

import hashlib
import json
import uuid
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from azure.storage.blob import BlobServiceClient
from jsonschema import Draft202012Validator, ValidationError

from shared.drop import Drop, Source
from shared.errors import CorruptImage, DropError, PlatformResponse
from shared.image import ImageHeader, NormalizedImage
from shared.itwin_platform import UploadedImage, decipher_response
from shared.results import Result, ResultStore
from tests.schema import SCHEMA, check_result

if TYPE_CHECKING:
    from local.azurite import Azurite

ITWIN = "b3bd3a79-c5b4-41f5-ba5f-6d8c338d788a"
START = datetime(2026, 11, 23, 12, tzinfo=UTC)
SOURCE = Source(b"in", 2, "0x8D", START, {"job": "17"})
IMAGE = NormalizedImage(b"out", "image/jpeg", 4, 3, ("converted",), ImageHeader("image/heic", 3, 4))
UPLOADED = UploadedImage({"id": "x", "smallImageName": "small_x.jpeg"}, PlatformResponse(201, "c0ffee"))
RESULT = Result(Drop(ITWIN, "a.heic"), SOURCE, IMAGE, UPLOADED, 1, START, START + timedelta(seconds=1.5))


def test_the_schema_is_a_schema() -> None:
    """A schema with a mistake in it would accept everything."""
    Draft202012Validator.check_schema(SCHEMA)


def test_an_upload_tells_the_whole_story() -> None:
    """The platform's object stands unchanged at the top; everything of ours beside it."""
    document = check_result(RESULT.document())
    assert document == {
        "status": "uploaded",
        "image": {"id": "x", "smallImageName": "small_x.jpeg"},
        "reason": None,
        "source": {
            "container": ITWIN,
            "blob": "a.heic",
            "etag": "0x8D",
            "lastModified": "2026-11-23T12:00:00.000Z",
            "bytes": 2,
            "sha256": hashlib.sha256(b"in").hexdigest(),
            "mediaType": "image/heic",
            "width": 3,
            "height": 4,
            "metadata": {"job": "17"},
        },
        "sent": {
            "mediaType": "image/jpeg",
            "bytes": 3,
            "sha256": hashlib.sha256(b"out").hexdigest(),
            "width": 4,
            "height": 3,
            "changes": ["converted"],
        },
        "response": {"httpStatus": 201, "correlationId": "c0ffee"},
        "attempts": 1,
        "startedAt": "2026-11-23T12:00:00.000Z",
        "finishedAt": "2026-11-23T12:00:01.500Z",
        "nextAttemptAt": None,
    }


def test_the_platforms_error_is_kept_whole() -> None:
    """Whoever reads the API's page can read it; what to do about it stands beside."""
    error = {"code": "InvalidiTwinsRequest", "message": "No.", "details": [{"code": "InvalidValue"}], "new": 1}
    verdict = decipher_response(422, {"x-correlation-id": "c0ffee"}, json.dumps({"error": error}).encode())
    document = check_result(replace(RESULT, verdict=verdict).document())
    assert document["status"] == "rejected"
    assert document["error"] == error
    assert document["reason"] == str(verdict)
    assert document["response"] == {"httpStatus": 422, "correlationId": "c0ffee"}


def test_an_error_of_ours_has_the_same_shape() -> None:
    """One reader understands both."""
    document = check_result(replace(RESULT, image=None, verdict=CorruptImage("Cut short.")).document())
    assert document["error"] == {"code": "CorruptImage", "message": "Cut short."}
    assert document["response"] is None
    assert document["sent"] is None


def test_what_was_never_read_is_null() -> None:
    """A result of a blob that has gone says what is known, and no more."""
    document = check_result(replace(RESULT, source=None, image=None, verdict=DropError("x")).document())
    assert {k for k, v in document["source"].items() if v is not None} == {"container", "blob", "metadata"}


@pytest.mark.parametrize(
    "wrong", [{"status": "done"}, {"error": {"code": "x", "message": "y"}}, {"attempts": 0}, {"extra": 1}]
)
def test_the_schema_refuses_what_was_never_promised(wrong: dict[str, object]) -> None:
    """A schema that accepts everything would prove nothing."""
    with pytest.raises(ValidationError):
        check_result({**RESULT.document(), **wrong})


def test_the_name_is_known_to_whoever_dropped_the_blob() -> None:
    """Sub-folders keep their names, so that a system can wait for the result of its own drop."""
    assert replace(RESULT, drop=Drop(ITWIN, "site 1/ä+%#.jpg")).blob_name == f"{ITWIN}/site 1/ä+%#.jpg.json"


def test_names_too_long_for_a_suffix_stay_apart() -> None:
    """A blob's name may have 1,024 characters, and so may its result's."""
    names = [replace(RESULT, drop=Drop(ITWIN, "n" * 1023 + end)).blob_name for end in "ab"]
    assert [len(name) for name in names] == [1024, 1024]
    assert names[0] != names[1]
    assert names[0].endswith(f"n~{hashlib.sha256(b'n' * 1023 + b'a').hexdigest()}.json")


def test_a_result_is_written_as_json_over_an_older_one(azurite: Azurite) -> None:
    """Also where the platform's own JSON holds what UTF-8 cannot: it comes back as it was."""
    storage = BlobServiceClient.from_connection_string(azurite.connection_string)
    container = storage.create_container(f"results-{uuid.uuid4()}")
    store = ResultStore(storage, container.container_name)
    store.write(RESULT)
    odd = UploadedImage({"id": "ü\ud800"}, PlatformResponse(201))
    store.write(replace(RESULT, verdict=odd))
    blob = container.get_blob_client(RESULT.blob_name)
    content = blob.download_blob().readall()
    assert json.loads(content)["image"] == {"id": "ü\ud800"}
    assert "ü".encode() in content
    assert blob.get_blob_properties().content_settings.content_type == "application/json"
