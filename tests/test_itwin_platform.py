"""What the platform's responses mean, and what becomes of an upload."""

from __future__ import annotations

import json
import re
import threading
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.credentials import AccessTokens, Token
from shared.errors import (
    DropError,
    ITwinNotFound,
    NeedsOperator,
    NeedsTime,
    PlatformForbidden,
    PlatformRedirected,
    PlatformRejected,
    PlatformResponseUnreadable,
    PlatformSilent,
    PlatformThrottled,
    PlatformUnauthorized,
    PlatformUnavailable,
    UnexpectedRefusal,
)
from shared.http_client import HttpClient
from shared.image import ImageHeader, NormalizedImage
from shared.itwin_platform import ITwinPlatform, UploadedImage, decipher_response
from shared.throttle import Throttle
from shared.untrusted_json import parse_object
from tests.deadlines import HANG_S, SHORT_S
from tests.wire import conversing, read_request, reset, respond, responding

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator

IMAGE = NormalizedImage(b"image", "image/png", 1, 1, (), ImageHeader("image/png", 1, 1))
SAMPLES = Path(__file__).parent / "samples" / "itwin_platform"

VERDICTS = {
    "201_uploaded": UploadedImage,
    "401_header_not_found": PlatformUnauthorized,
    "404_itwin_not_found": ITwinNotFound,
    "413_request_too_large": PlatformRejected,
    "422_invalid": PlatformRejected,
    "429_too_many_requests": PlatformThrottled,
}


@pytest.mark.parametrize(("sample", "verdict"), VERDICTS.items())
def test_every_response_on_the_apis_page_is_understood(sample: str, verdict: type) -> None:
    """The page's own JSON is kept unchanged."""
    body = (SAMPLES / f"{sample}.json").read_bytes()
    found = decipher_response(int(sample[:3]), {"X-Correlation-Id": "c0ffee"}, body)
    assert type(found) is verdict
    assert found.response
    assert found.response.http_status == int(sample[:3])
    assert found.response.correlation_id == "c0ffee"
    kept = {"image": found.image} if isinstance(found, UploadedImage) else {"error": found.response.error}
    assert kept == json.loads(body)


def test_every_sample_is_tested() -> None:
    """A captured response without a test would prove nothing."""
    assert {path.stem for path in SAMPLES.glob("*.json")} == set(VERDICTS)


@pytest.mark.parametrize(
    ("status", "by_the_platform", "by_others"),
    [
        (100, PlatformResponseUnreadable, PlatformResponseUnreadable),
        (200, PlatformResponseUnreadable, PlatformResponseUnreadable),
        (204, PlatformResponseUnreadable, PlatformResponseUnreadable),
        (302, PlatformRedirected, PlatformRedirected),
        (307, PlatformRedirected, PlatformRedirected),
        (308, PlatformRedirected, PlatformRedirected),
        (400, PlatformRejected, UnexpectedRefusal),
        (401, PlatformUnauthorized, PlatformUnauthorized),
        (402, UnexpectedRefusal, UnexpectedRefusal),
        (403, PlatformForbidden, PlatformForbidden),
        (404, UnexpectedRefusal, UnexpectedRefusal),
        (405, UnexpectedRefusal, UnexpectedRefusal),
        (407, UnexpectedRefusal, UnexpectedRefusal),
        (408, PlatformUnavailable, PlatformUnavailable),
        (409, PlatformUnavailable, PlatformUnavailable),
        (410, UnexpectedRefusal, UnexpectedRefusal),
        (411, UnexpectedRefusal, UnexpectedRefusal),
        (413, PlatformRejected, UnexpectedRefusal),
        (415, PlatformRejected, UnexpectedRefusal),
        (421, UnexpectedRefusal, UnexpectedRefusal),
        (422, PlatformRejected, UnexpectedRefusal),
        (423, PlatformUnavailable, PlatformUnavailable),
        (425, PlatformUnavailable, PlatformUnavailable),
        (429, PlatformThrottled, PlatformThrottled),
        (451, UnexpectedRefusal, UnexpectedRefusal),
        (500, PlatformUnavailable, PlatformUnavailable),
        (502, PlatformSilent, PlatformSilent),
        (503, PlatformUnavailable, PlatformUnavailable),
        (504, PlatformSilent, PlatformSilent),
        (599, PlatformUnavailable, PlatformUnavailable),
        (0, PlatformResponseUnreadable, PlatformResponseUnreadable),
        (999, PlatformResponseUnreadable, PlatformResponseUnreadable),
    ],
)
def test_a_status_is_judged_by_who_sent_it(status: int, by_the_platform: type, by_others: type) -> None:
    """Only the platform's own error object proves that the platform sent it; every status has a verdict."""
    error = {"code": "SomethingElse", "message": "No."}
    for body, verdict in ((json.dumps({"error": error}), by_the_platform), ("<html>Sorry</html>", by_others)):
        found = decipher_response(status, {}, body.encode())
        assert type(found) is verdict
        assert found.response
        assert found.response.error == (error if body.startswith("{") else None)


OF_THE_PLATFORM = b'{"error": {"code": "Odd", "message": "No."}}'
OF_OTHERS = (b"", b"<html>Sorry</html>", b'{"message": "No."}', b'{"error": {"code": "Odd"}}')


@pytest.mark.parametrize(
    ("status", "by_the_platform", "by_others"),
    [
        *((status, True, True) for status in (200, 302, 400, 401, 403, 404, 408, 409, 413, 423, 425, 429)),
        (202, False, False),
        *((status, True, False) for status in (500, 501, 503, 505, 507, 511)),
        *((status, False, False) for status in (502, 504, 520, 524, 599, 999)),
    ],
)
def test_only_a_definite_response_settles_an_upload(status: int, *, by_the_platform: bool, by_others: bool) -> None:
    """An image accepted for later processing, or on which a gateway failed, may still be applied."""
    bodies = [(OF_THE_PLATFORM, by_the_platform), *((body, by_others) for body in OF_OTHERS)]
    for (body, is_settled), resent in product(bodies, (False, True)):
        verdict = decipher_response(status, {}, body, resent=resent)
        assert isinstance(verdict, DropError)
        assert verdict.is_settled == (is_settled and not resent)


def test_every_accepted_response_can_be_written_as_json() -> None:
    """JSON nested as deep as Python can just parse is too deep to be written from further down the stack."""
    deep = "[" * 65 + "]" * 65
    verdict = decipher_response(
        404, {}, f'{{"error": {{"code": "iTwinNotFound", "message": "x", "a": {deep}}}}}'.encode()
    )
    assert type(verdict) is UnexpectedRefusal
    with pytest.raises(ValueError, match="too deep"):
        parse_object(f'{{"a": {"[" * 100}{"]" * 100}}}')
    assert parse_object(f'{{"a": {"[" * 99}{"]" * 99}}}')


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>404 Not Found</html>",
        b'{"statusCode": 404, "message": "Resource not found"}',
        b'{"error": "iTwinNotFound"}',
        b'{"error": {"code": "iTwinNotFound"}}',
        b'{"error": {"code": "ResourceNotFound", "message": "Verify the API URL."}}',
    ],
)
def test_a_404_from_anyone_else_is_for_the_operator(body: bytes) -> None:
    """A gateway that lacks the operation, a proxy, a wrong address: the iTwin may well exist."""
    found = decipher_response(404, {}, body)
    assert type(found) is UnexpectedRefusal
    assert "ITWIN_API_URL" in found.message


def test_the_platforms_own_404_is_retried_for_some_minutes() -> None:
    """The iTwin may be new, or the app's role on it; in the end the uploader has to act."""
    found = decipher_response(404, {}, (SAMPLES / "404_itwin_not_found.json").read_bytes())
    assert isinstance(found, NeedsTime)
    assert (found.is_brief, found.status) == (True, "rejected")


def test_a_403_without_the_platforms_own_error_names_no_role() -> None:
    """Otherwise an operator would look for a missing role when a firewall refuses the app."""
    of_the_platform = decipher_response(403, {}, b'{"error": {"code": "Forbidden", "message": "No."}}')
    of_a_gateway = decipher_response(403, {}, b"<html>WAF</html>")
    assert isinstance(of_the_platform, DropError)
    assert isinstance(of_a_gateway, DropError)
    assert "role" in of_the_platform.message
    assert "role" not in of_a_gateway.message


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b'{"image": {"id": "b3bd',
        b"[]",
        b"null",
        b'{"image": null}',
        b'{"image": {}}',
        b'{"image": {"id": 5}}',
        b'{"image": {"id": ""}}',
        b'{"image": {"id": "x", "smallImageUrl": 5}}',
        b'{"image": {"id": "x", "largeImageName": ["y"]}}',
        b'{"image": {"id": "x", "width": NaN}}',
        b'{"image": {"id": "x", "width": 1e999}}',
        b"<html></html>",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"image": {"id": "x"}}' + b" " * 100 + b"}",
    ],
)
def test_a_201_without_a_complete_image_is_not_a_success(body: bytes) -> None:
    """A success requires the image's JSON; anything else is retried."""
    assert type(decipher_response(201, {}, body)) is PlatformResponseUnreadable


def test_a_201_with_unknown_fields_is_a_success() -> None:
    """Fields may be added at any time."""
    found = decipher_response(201, {}, b'{"image": {"id": "x", "hugeImage": [1], "smallImageUrl": null}, "_links": {}}')
    assert isinstance(found, UploadedImage)
    assert found.image == {"id": "x", "hugeImage": [1], "smallImageUrl": None}


ITWIN_ID = "b3bd3a79-c5b4-41f5-ba5f-6d8c338d788a"
UPLOADED = respond("201 Created", b'{"image": {"id": "x"}}', "X-Correlation-Id: c0ffee")


@dataclass
class Tokens:
    """A source of numbered tokens."""

    fetched: int = 0

    def fetch(self, deadline: float, *, renew: bool) -> Token:  # noqa: ARG002 - as every source
        """Return the next one."""
        self.fetched += 1
        return Token(f"token-{self.fetched}", 3600)


@contextmanager
def platform_at(address: str, *, timeout_s: float = HANG_S, tokens: Tokens | None = None) -> Iterator[ITwinPlatform]:
    """Return the client of a platform that listens there."""
    http = HttpClient(proxy_for=lambda _: None)
    yield ITwinPlatform(address, AccessTokens(tokens or Tokens()), Throttle(), http, timeout_s=timeout_s)
    http.close()


def upload(platform: ITwinPlatform) -> UploadedImage:
    """Upload with all the time that the client has."""
    return platform.upload_image(ITWIN_ID, IMAGE, time.monotonic() + 2 * HANG_S)


def failure(platform: ITwinPlatform) -> DropError:
    """Return what the upload ends in."""
    with pytest.raises(DropError) as caught:
        upload(platform)
    return caught.value


def test_an_upload_is_the_documented_call() -> None:
    """Address, media type, version and token."""
    heard: list[bytes] = []

    def conversation(connection: socket.socket) -> None:
        heard.append(read_request(connection))
        connection.sendall(UPLOADED)

    with conversing(conversation) as address, platform_at(address) as platform:
        uploaded = upload(platform)
    assert uploaded.image == {"id": "x"}
    assert (uploaded.response.correlation_id, uploaded.response.resent) == ("c0ffee", False)
    head, _, body = heard[0].partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    assert lines[0] == f"PUT /itwins/{ITWIN_ID}/image HTTP/1.1"
    assert {
        "Content-Type: image/png",
        "Accept: application/vnd.bentley.itwin-platform.v1+json",
        "Authorization: Bearer token-1",
    } <= set(lines)
    assert body == IMAGE.data


def test_a_rejected_token_is_renewed_once() -> None:
    """A second 401 is for the operator, and the next drop does not renew the token again."""
    refusal, tokens = respond("401 Unauthorized"), Tokens()
    with (
        conversing(responding(refusal, refusal, refusal)) as address,
        platform_at(address, tokens=tokens) as platform,
    ):
        assert [type(failure(platform)) for _ in range(2)] == [PlatformUnauthorized] * 2
    assert tokens.fetched == 2


def test_a_token_is_ready_before_an_upload_begins() -> None:
    """The upload itself fetches none."""
    tokens = Tokens()
    with conversing(responding(UPLOADED)) as address, platform_at(address, tokens=tokens) as platform:
        platform.authorize(time.monotonic() + HANG_S)
        assert tokens.fetched == 1
        upload(platform)
    assert tokens.fetched == 1


def test_an_upload_without_a_response_ends_at_the_timeout_as_silence() -> None:
    """It is unknown whether the image was applied."""
    enough = threading.Event()

    def conversation(connection: socket.socket) -> None:
        read_request(connection)
        enough.wait(HANG_S)

    with conversing(conversation, again=True) as address:
        error = first_of(PlatformSilent, address)
        enough.set()
    assert type(error) is PlatformSilent
    assert re.fullmatch(
        r"The iTwin Platform did not confirm or refuse the image: 127\.0\.0\.1 did not respond within [\d.]+ s\.",
        error.message,
    )


def first_of(verdict: type, address: str) -> DropError:
    """Return how an upload ends for which there is too little time; by its verdict, the request has arrived."""
    for timeout_s in SHORT_S:
        with platform_at(address, timeout_s=timeout_s) as platform:
            error = failure(platform)
        if type(error) is verdict:
            break
    return error


def test_an_upload_ends_by_its_deadline_if_that_is_sooner() -> None:
    """Nothing is sent after it."""
    with platform_at("http://127.0.0.1:1") as platform, pytest.raises(PlatformUnavailable, match="No time was left"):
        platform.upload_image(ITWIN_ID, IMAGE, time.monotonic())


@pytest.mark.parametrize(
    ("address", "proxy", "says"),
    [
        ("http://127.0.0.1:1", None, r"127\.0\.0\.1:1.*Connection refused.*ITWIN_API_URL and the network"),
        ("https://api.example", "http://127.0.0.1:1", r"the proxy.*Connection refused.*HTTPS_PROXY"),
    ],
)
def test_a_request_that_was_never_sent_leaves_nothing_unsettled(address: str, proxy: str | None, says: str) -> None:
    """The message says what failed on the way, and which setting to check."""
    http = HttpClient(proxy_for=lambda _: proxy)
    error = failure(ITwinPlatform(address, AccessTokens(Tokens()), Throttle(), http, timeout_s=HANG_S))
    assert type(error) is PlatformUnavailable
    assert re.search(says, error.message)


@pytest.mark.parametrize("status", ["201 Created", "422 Unprocessable Entity"])
def test_an_image_that_was_sent_twice_is_reported_as_such(status: str) -> None:
    """The first request may still be applied, whatever happened to the second."""

    def breaking(connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall(UPLOADED)
        read_request(connection)
        reset(connection)

    body = UPLOADED.partition(b"\r\n\r\n")[2]
    with conversing(breaking, responding(respond(status, body))) as address, platform_at(address) as platform:
        assert not upload(platform).response.resent
        response = upload(platform).response if status.startswith("201") else failure(platform).response
    assert response
    assert response.resent


def test_an_image_that_was_sent_twice_before_its_token_was_renewed_is_reported_as_such() -> None:
    """The response to the last request does not settle the first one."""

    def breaking(connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall(UPLOADED)
        read_request(connection)
        reset(connection)

    body = UPLOADED.partition(b"\r\n\r\n")[2]
    late = responding(respond("401 Unauthorized"), respond("201 Created", body))
    with conversing(breaking, late) as address, platform_at(address) as platform:
        upload(platform)
        assert upload(platform).response.resent


@pytest.mark.parametrize(
    ("status", "verdict"),
    [
        ("201 Created", PlatformResponseUnreadable),
        ("429 Too Many Requests", PlatformThrottled),
        ("404 Not Found", UnexpectedRefusal),
        ("503 Unavailable", PlatformUnavailable),
    ],
)
def test_a_status_counts_even_if_its_body_never_ends(status: str, verdict: type) -> None:
    """Every byte arrives in time, and still the call lasts no longer than one without a response."""

    def drip(connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall(f"HTTP/1.1 {status}\r\nContent-Length: 200\r\n\r\n".encode())
        connection.settimeout(0.05)
        for _ in range(200):
            connection.sendall(b" ")
            with suppress(TimeoutError):
                if not connection.recv(1):
                    return

    with conversing(drip, again=True) as address:
        assert type(first_of(verdict, address)) is verdict


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "7"}, 7),
        ({"retry-after": " 120 "}, 120),
        ({"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT", "Date": "Wed, 21 Oct 2026 07:27:30 GMT"}, 30),
        ({"Retry-After": "Wed, 21 Oct 2026 07:27:00 GMT", "Date": "Wed, 21 Oct 2026 07:27:30 GMT"}, 0),
        ({"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"}, None),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": "-5"}, None),
        ({"Retry-After": "²"}, None),
        ({}, None),
    ],
)
def test_retry_after_may_be_seconds_or_a_date_or_absent(headers: dict[str, str], seconds: float | None) -> None:
    """A date is compared with the response's own Date, so that only the platform's clock matters."""
    found = decipher_response(429, headers, b"")
    assert found.response
    assert found.response.retry_after_s == seconds


@given(
    status=st.integers(-1, 1200),
    headers=st.dictionaries(st.sampled_from(["Retry-After", "Date", "X-Correlation-Id", "Server"]), st.text()),
    body=st.one_of(
        st.binary(),
        st.recursive(
            st.none() | st.integers() | st.text(),
            lambda children: st.dictionaries(st.sampled_from(["image", "error", "id", "code", "message"]), children),
        ).map(lambda document: json.dumps(document).encode()),
    ),
)
def test_any_response_gets_a_verdict_and_never_an_exception(status: int, headers: dict[str, str], body: bytes) -> None:
    """The page says that clients must not assume anything about a failed request's body."""
    found = decipher_response(status, headers, body)
    if isinstance(found, UploadedImage):
        assert status == 201
    else:
        assert isinstance(found, DropError)
        assert re.search(str(status), found.message)


def test_errors_that_the_uploader_cannot_fix_are_never_rejections() -> None:
    """Only what the platform says about the image itself is `rejected`."""
    for status in (401, 403, 408, 409, 423, 425, 429, *range(300, 400), *range(500, 600)):
        assert isinstance(decipher_response(status, {}, b""), NeedsTime | NeedsOperator)
