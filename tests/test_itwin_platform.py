"""What the platform's answers mean."""

from __future__ import annotations

import asyncio
import json
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from azure.core.credentials import AccessToken
from hypothesis import given
from hypothesis import strategies as st

from local.processes import wait_until
from local.serving import serve
from shared.credentials import AccessTokens
from shared.errors import (
    DropError,
    NeedsOperator,
    NeedsTime,
    PlatformAnswerUnreadable,
    PlatformForbidden,
    PlatformRedirected,
    PlatformRejected,
    PlatformSilent,
    PlatformThrottled,
    PlatformUnauthorized,
    PlatformUnavailable,
)
from shared.image import ImageHeader, NormalizedImage
from shared.itwin_platform import ITwinPlatform, UploadedImage, decipher_response
from shared.throttle import Throttle

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

IMAGE = NormalizedImage(b"image", "image/png", 1, 1, (), ImageHeader("image/png", 1, 1))
SAMPLES = Path(__file__).parent / "samples" / "itwin_platform"

VERDICTS = {
    "201_uploaded": UploadedImage,
    "401_header_not_found": PlatformUnauthorized,
    "404_itwin_not_found": PlatformRejected,
    "413_request_too_large": PlatformRejected,
    "422_invalid": PlatformRejected,
    "429_too_many_requests": PlatformThrottled,
}


@pytest.mark.parametrize(("sample", "verdict"), VERDICTS.items())
def test_every_answer_on_the_apis_page_is_understood(sample: str, verdict: type) -> None:
    """The page's own JSON, byte for byte, is kept whole."""
    body = (SAMPLES / f"{sample}.json").read_bytes()
    found = decipher_response(int(sample[:3]), {"X-Correlation-Id": "c0ffee"}, body)
    assert type(found) is verdict
    assert found.response
    assert found.response.http_status == int(sample[:3])
    assert found.response.correlation_id == "c0ffee"
    kept = {"image": found.image} if isinstance(found, UploadedImage) else {"error": found.response.error}
    assert kept == json.loads(body)


def test_the_samples_are_all_there_are() -> None:
    """A captured answer without a test would prove nothing."""
    assert {path.stem for path in SAMPLES.glob("*.json")} == set(VERDICTS)


@pytest.mark.parametrize(
    ("status", "verdict"),
    [
        (100, PlatformAnswerUnreadable),
        (200, PlatformAnswerUnreadable),
        (204, PlatformAnswerUnreadable),
        (302, PlatformRedirected),
        (307, PlatformRedirected),
        (308, PlatformRedirected),
        (400, PlatformRejected),
        (403, PlatformForbidden),
        (408, PlatformUnavailable),
        (409, PlatformRejected),
        (415, PlatformRejected),
        (425, PlatformUnavailable),
        (500, PlatformUnavailable),
        (502, PlatformSilent),
        (504, PlatformSilent),
        (503, PlatformUnavailable),
        (599, PlatformUnavailable),
        (0, PlatformAnswerUnreadable),
        (999, PlatformAnswerUnreadable),
    ],
)
def test_statuses_beyond_the_page_are_judged_by_their_class(status: int, verdict: type) -> None:
    """No status is left without a verdict, whatever the body is."""
    body = b"<html>Sorry</html>"
    found = decipher_response(status, {"Content-Type": "text/html"}, body)
    assert type(found) is verdict
    assert found.response
    assert found.response.error is None


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
def test_a_created_that_does_not_hold_what_it_promises_is_not_believed(body: bytes) -> None:
    """A success is one only with the image's JSON; anything else is tried again."""
    assert type(decipher_response(201, {}, body)) is PlatformAnswerUnreadable


def test_a_created_with_fields_unknown_today_is_believed() -> None:
    """Fields may be added at any time."""
    found = decipher_response(201, {}, b'{"image": {"id": "x", "hugeImage": [1], "smallImageUrl": null}, "_links": {}}')
    assert isinstance(found, UploadedImage)
    assert found.image == {"id": "x", "hugeImage": [1], "smallImageUrl": None}


class ReadyToken:
    """A credential that has a token."""

    def get_token(self, *_scopes: str, **_options: Any) -> AccessToken:
        """Return it."""
        return AccessToken("token", int(time.time()) + 3600)


@dataclass
class Drip:
    """A platform that answers at once, and then says its body byte by byte for some ten seconds."""

    hung_up: bool = False

    async def __call__(self, _scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request until whoever made it has gone."""
        while (await receive()).get("more_body"):
            pass
        await send({"type": "http.response.start", "status": 201, "headers": []})
        gone = asyncio.ensure_future(receive())
        for _ in range(200):
            await send({"type": "http.response.body", "body": b" ", "more_body": True})
            await asyncio.wait([gone], timeout=0.05)
            if gone.done():
                self.hung_up = True
                return


def test_an_answer_that_drips_ends_when_the_time_is_over() -> None:
    """Every byte comes in time, and yet the call lasts no longer than one that hears nothing."""
    drip = Drip()
    with serve(drip) as address:
        platform = ITwinPlatform(address, AccessTokens(ReadyToken(), "scope"), Throttle(), timeout_s=1)
        began = time.monotonic()
        with pytest.raises(PlatformSilent, match="did not answer in time"):
            platform.upload_image("b3bd3a79-c5b4-41f5-ba5f-6d8c338d788a", IMAGE)
        assert 0.9 < time.monotonic() - began < 5
        assert wait_until(lambda: drip.hung_up, timeout_s=10)


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
def test_retry_after_is_seconds_or_a_date_or_nothing(headers: dict[str, str], seconds: float | None) -> None:
    """A date is measured from the answer's own Date, so that no clock but the platform's matters."""
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
def test_any_answer_gets_a_verdict_and_never_an_exception(status: int, headers: dict[str, str], body: bytes) -> None:
    """Clients must not assume anything of a failed request's body; the page says so."""
    found = decipher_response(status, headers, body)
    if isinstance(found, UploadedImage):
        assert status == 201
    else:
        assert isinstance(found, DropError)
        assert re.search(str(status), found.message)


def test_what_nobody_uploading_can_fix_is_never_their_fault() -> None:
    """Only a 4xx that no repetition cures is `rejected`."""
    for status in (401, 403, 408, 425, 429, *range(300, 400), *range(500, 600)):
        assert isinstance(decipher_response(status, {}, b""), NeedsTime | NeedsOperator)
