"""The result document: its shape, its name, and that it is always JSON."""

from __future__ import annotations

import hashlib
import json
import uuid
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from azure.storage.blob import BlobServiceClient
from hypothesis import given
from hypothesis import strategies as st

from shared.attempt import Attempt
from shared.drop import Drop, Source, SourceFacts, Version
from shared.errors import CorruptImage, DropError, PlatformResponse, PlatformUnavailable
from shared.image import ImageHeader, NormalizedImage
from shared.itwin_platform import UploadedImage, decipher_response
from shared.records import Recorded, Upload
from shared.results import ImageFacts, Result, ResultStore, Superseded, result_name
from tests.schema import check_result

if TYPE_CHECKING:
    from collections.abc import Iterator

    from azure.storage.blob import ContainerClient

    from local.azurite import Azurite

ITWIN = "b3bd3a79-c5b4-41f5-ba5f-6d8c338d788a"
START = datetime(2026, 11, 23, 12, tzinfo=UTC)
DROP = Drop(ITWIN, "a.heic")
SHA256 = hashlib.sha256(b"in").hexdigest()
VERSION = Version(START, "0x8D", "a.heic", SHA256)
SOURCE = Source(DROP, SourceFacts(VERSION, 2, SHA256, {"job": "17"}), b"in")
IMAGE = ImageFacts.of(
    NormalizedImage(b"out", "image/jpeg", 4, 3, ("converted",), ImageHeader("image/heic", 3, 4)), SOURCE
)
UPLOADED = UploadedImage({"id": "x", "smallImageName": "small_x.jpeg"}, PlatformResponse(201, "c0ffee"))
ATTEMPT = Attempt(DROP, 1, START).at(VERSION, START)
RESULT = Result(ATTEMPT, Recorded(), SOURCE.facts, IMAGE, UPLOADED, START, START + timedelta(seconds=1.5))


@pytest.mark.parametrize("is_labelled", [False, True])
def test_the_digest_is_that_of_what_was_sent(*, is_labelled: bool) -> None:
    """For an image that is passed through, it is that of the drop, unless that was gzipped."""
    source = Source(DROP, SourceFacts(VERSION, 2, SHA256, {}), b"sent", is_labelled_gzip=is_labelled)
    image = NormalizedImage(b"sent", "image/png", 4, 3, (), ImageHeader("image/png", 4, 3))
    assert ImageFacts.of(image, source).sha256 == (hashlib.sha256(b"sent").hexdigest() if is_labelled else SHA256)


def test_the_result_of_an_upload_is_complete() -> None:
    """The platform's object is unchanged at the top, with the app's own fields beside it."""
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
        "firstAttemptAt": "2026-11-23T12:00:00.000Z",
        "startedAt": "2026-11-23T12:00:00.000Z",
        "finishedAt": "2026-11-23T12:00:01.500Z",
        "nextAttemptAt": None,
    }


def test_the_platforms_error_is_kept_unchanged() -> None:
    """Readers of the API's page understand it; what to do about it is in a separate field."""
    error = {"code": "InvalidiTwinsRequest", "message": "No.", "details": [{"code": "InvalidValue"}], "new": 1}
    verdict = decipher_response(422, {"x-correlation-id": "c0ffee"}, json.dumps({"error": error}).encode())
    document = check_result(replace(RESULT, verdict=verdict).document())
    assert document["status"] == "rejected"
    assert document["error"] == error
    assert document["reason"] == str(verdict)
    assert document["response"] == {"httpStatus": 422, "correlationId": "c0ffee"}


# What a platform might send one day, at the names that its page has and at others.
odd_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
own_names = st.sampled_from(["id", "smallImageName", "largeImageUrl", "code", "message", "target", "details", "new"])
odd_object = st.dictionaries(own_names, st.text() | odd_json)


@given(
    st.sampled_from([200, 201, 201, 201, 302, 401, 403, 404, 422, 429, 500]),
    odd_object,
    st.fixed_dictionaries({}, optional={"id": st.text(), "code": st.text(), "message": st.text()}),
)
def test_every_result_is_valid_and_keeps_the_platforms_object_unchanged(
    status: int, odd: dict[str, Any], usual: dict[str, Any]
) -> None:
    """Whatever the platform responds; a response that makes no sense is described in the app's own words."""
    sent = {**odd, **usual}
    body = json.dumps({"image": sent, "error": sent}).encode()
    verdict = decipher_response(status, {}, body)
    document = check_result(replace(RESULT, verdict=verdict).document())
    if document["status"] == "uploaded":
        assert document["image"] == sent
    else:
        assert isinstance(verdict, DropError)
        own = {"code": verdict.code, "message": str(verdict)}
        has_words = isinstance(sent.get("code"), str) and isinstance(sent.get("message"), str)
        assert document["error"] == (sent if has_words else own)


def test_the_apps_own_errors_have_the_same_shape() -> None:
    """The same code can parse both."""
    document = check_result(replace(RESULT, image=None, verdict=CorruptImage("Cut short.")).document())
    assert document["error"] == {"code": "CorruptImage", "message": "Cut short."}
    assert document["response"] is None
    assert document["sent"] is None


def test_facts_that_were_never_read_are_null() -> None:
    """The result of a deleted blob says what is known, and no more."""
    for attempt, known in (
        (Attempt(DROP, 1, START), set()),
        (Attempt(DROP, 1, START, "0x8D"), set()),
        (Attempt(DROP, 1, START, "0x8D", START), {"etag", "lastModified"}),
        (Attempt(DROP, 1, START, 'no"etag', START), {"lastModified"}),
    ):
        gone = replace(RESULT, attempt=attempt, source=None, image=None, verdict=DropError("x"))
        document = check_result(gone.document())
        assert {k for k, v in document["source"].items() if v is not None} == {"container", "blob", "metadata"} | known


def test_the_uploader_can_compute_the_name_of_the_result() -> None:
    """Sub-folders keep their names, so that a system can wait for the result of its own drop."""
    assert result_name(Drop(ITWIN, "site 1/ä+%#.jpg")) == f"{ITWIN}/site 1/ä+%#.jpg.json"


def test_names_too_long_for_a_suffix_stay_distinct() -> None:
    """A blob's name may have 1,024 characters, and so may its result's."""
    names = [result_name(Drop(ITWIN, "n" * 1023 + end)) for end in "ab"]
    assert [len(name) for name in names] == [1024, 1024]
    assert names[0] != names[1]
    assert names[0].endswith(f"n~{hashlib.sha256(b'n' * 1023 + b'a').hexdigest()}.json")


def test_a_superseded_drop_names_the_newer_one() -> None:
    """The uploader learns which image was uploaded instead."""
    newer = Upload(Version(START, "0x9", "b.jpg"), START, {})
    document = check_result(replace(RESULT, image=None, verdict=Superseded(newer)).document())
    assert document["status"] == "superseded"
    assert "b.jpg" in document["reason"]


def test_a_result_that_is_retrying_says_when() -> None:
    """The status `retrying` is not final."""
    document = check_result(
        replace(RESULT, verdict=PlatformUnavailable("x"), next_attempt_at=START + timedelta(minutes=1)).document()
    )
    assert (document["status"], document["nextAttemptAt"]) == ("retrying", "2026-11-23T12:01:00.000Z")


@pytest.fixture
def store(azurite: Azurite) -> Iterator[tuple[ContainerClient, ResultStore]]:
    """Make a results container of its own for a test."""
    with BlobServiceClient.from_connection_string(azurite.connection_string) as storage:
        container = storage.create_container(f"results-{uuid.uuid4()}")
        yield container, ResultStore(storage, container.container_name)


def test_a_result_is_written_as_json(store: tuple[ContainerClient, ResultStore]) -> None:
    """Even if the platform's own JSON contains what UTF-8 cannot encode: it comes back unchanged."""
    container, results = store
    odd = UploadedImage({"id": "ü\ud800"}, PlatformResponse(201))
    assert results.write(DROP, replace(RESULT, verdict=odd).document(), Recorded())
    blob = container.get_blob_client(result_name(DROP))
    assert "ü".encode() in blob.download_blob().readall()
    assert blob.get_blob_properties().content_settings.content_type == "application/json"
    assert results.read(DROP).document["image"] == {"id": "ü\ud800"}
    assert results.read(DROP).version == VERSION


def test_of_two_concurrent_writes_the_final_result_stays(store: tuple[ContainerClient, ResultStore]) -> None:
    """A writer that finds a newer result reads it before it writes again."""
    _, results = store
    retrying = replace(RESULT, verdict=PlatformUnavailable("x"), next_attempt_at=START).document()
    assert results.write(DROP, retrying, Recorded())
    stale = results.read(DROP)
    assert results.write(DROP, RESULT.document(), stale)
    assert not results.write(DROP, retrying, stale)
    assert not results.write(DROP, retrying, Recorded())
    assert results.read(DROP).document["status"] == "uploaded"


@pytest.mark.parametrize(
    "damage",
    [b"", b"{", b"[]", b"null", b"\xff", b'{"status": {}, "source": 1}', b'{"status": "uploaded", "image": NaN}'],
)
def test_a_damaged_result_is_replaced(store: tuple[ContainerClient, ResultStore], damage: bytes) -> None:
    """A manually damaged result neither stops a drop nor counts as final."""
    container, results = store
    container.upload_blob(result_name(DROP), damage, overwrite=True)
    found = results.read(DROP)
    assert not found.is_final
    assert results.write(DROP, RESULT.document(), found)
    assert results.read(DROP).document["status"] == "uploaded"
