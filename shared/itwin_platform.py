"""The one call to the iTwin Platform, and what its answers mean.

https://developer.bentley.com/apis/iTwins/operations/upload-itwin-image/
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from http.cookiejar import DefaultCookiePolicy
from typing import TYPE_CHECKING, Any

import requests
from requests.adapters import HTTPAdapter
from requests.auth import AuthBase
from urllib3.exceptions import HTTPError, NewConnectionError

from shared.errors import (
    DropError,
    PlatformAnswerUnreadable,
    PlatformForbidden,
    PlatformRedirected,
    PlatformRejected,
    PlatformResponse,
    PlatformSilent,
    PlatformThrottled,
    PlatformUnauthorized,
    PlatformUnavailable,
)
from shared.untrusted_json import parse_object

if TYPE_CHECKING:
    from collections.abc import Mapping

    from shared.credentials import AccessTokens
    from shared.image import NormalizedImage
    from shared.throttle import Throttle

ACCEPT = "application/vnd.bentley.itwin-platform.v1+json"
USER_AGENT = "itwin-image-drop"
IMAGE_FIELDS = ("smallImageName", "smallImageUrl", "largeImageName", "largeImageUrl")
MAX_ANSWER_BYTES = 1_000_000
CONNECTIONS = 32
CONNECT_TIMEOUT_S = 10

CREATED = 201
REQUEST_TIMEOUT = 408
TOO_EARLY = 425
UNAUTHORIZED = 401
FORBIDDEN = 403
NOT_FOUND = 404
TOO_MANY_REQUESTS = 429
BAD_GATEWAY = 502
GATEWAY_TIMEOUT = 504


@dataclass(frozen=True)
class UploadedImage:
    """The platform took the image; `image` is its own JSON object, whole."""

    image: Mapping[str, Any] = field(repr=False)
    response: PlatformResponse


class ITwinPlatform:
    """A client of the API with pooled connections; one for the process, shared by its threads."""

    def __init__(self, api_url: str, tokens: AccessTokens, throttle: Throttle, *, timeout_s: float) -> None:
        self._api_url = api_url
        self._tokens = tokens
        self._throttle = throttle
        self._timeout_s = timeout_s
        self._session = requests.Session()
        self._session.mount(api_url, HTTPAdapter(pool_maxsize=CONNECTIONS))
        self._session.headers.update({"Accept": ACCEPT, "User-Agent": USER_AGENT})
        # A session is shared by threads, and no cookie belongs into a machine's call.
        self._session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))

    def upload_image(self, itwin_id: str, image: NormalizedImage) -> UploadedImage:
        """Make `image` the image of the iTwin, or fail within some `timeout_s`.

        Raises what `decipher_response` finds, PlatformUnavailable where no connection could be made, PlatformSilent
        where no answer came, PlatformThrottled while nothing may be sent, and TokenUnavailable.
        """
        deadline = time.monotonic() + self._timeout_s
        token = self._tokens.get()
        self._throttle.check()
        verdict = self._put(itwin_id, image, token, deadline)
        if isinstance(verdict, PlatformUnauthorized):
            token = self._tokens.renew(token)
            self._throttle.check()
            verdict = self._put(itwin_id, image, token, deadline)
        if isinstance(verdict, PlatformThrottled):
            verdict.retry_after_s = self._throttle.heard(verdict.retry_after_s)
        else:
            self._throttle.passed()
        if isinstance(verdict, DropError):
            raise verdict
        return verdict

    def _put(self, itwin_id: str, image: NormalizedImage, token: str, deadline: float) -> UploadedImage | DropError:
        left_s = max(deadline - time.monotonic(), 0.001)
        try:
            with self._session.put(
                f"{self._api_url}/itwins/{itwin_id}/image",
                data=image.data,
                headers={"Content-Type": image.media_type},
                auth=_BearerAuth(token),
                timeout=(min(CONNECT_TIMEOUT_S, left_s), left_s),
                allow_redirects=False,
                stream=True,
            ) as answer:
                return decipher_response(answer.status_code, answer.headers, _read_body(answer, deadline))
        except (requests.RequestException, HTTPError) as error:
            raise _no_answer(error) from error


def _read_body(answer: requests.Response, deadline: float) -> bytes:
    """Read the body in time; a longer one is cut here, and found unreadable by who reads it."""
    body = bytearray()
    while len(body) < MAX_ANSWER_BYTES:
        if time.monotonic() > deadline:
            raise requests.Timeout
        piece = answer.raw.read1(MAX_ANSWER_BYTES - len(body), decode_content=True)
        if not piece:
            break
        body += piece
    return bytes(body)


class _BearerAuth(AuthBase):
    """Sets the header after `requests` has looked for a `.netrc`, which would replace it."""

    def __init__(self, token: str) -> None:
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._token}"
        return request


def _no_answer(error: Exception) -> DropError:
    """Say what became of a call that nobody answered: whether it got there at all is what matters."""
    reason = getattr(error.args[0], "reason", None) if error.args else None  # urllib3 has it in its MaxRetryError
    if isinstance(reason, NewConnectionError) or isinstance(error, requests.ConnectTimeout):
        message = (
            "No connection to the iTwin Platform could be made: check ITWIN_API_URL and the network if this lasts."
        )
        return PlatformUnavailable(message)
    if isinstance(error, requests.exceptions.SSLError) and "CERTIFICATE_VERIFY_FAILED" in str(reason):
        return PlatformUnavailable("The iTwin Platform's certificate was not accepted: check ITWIN_API_URL.")
    if isinstance(error, requests.Timeout):
        return PlatformSilent("The iTwin Platform did not answer in time.")
    return PlatformSilent("The connection to the iTwin Platform was cut before its answer came.")


def decipher_response(status: int, headers: Mapping[str, str], body: bytes) -> UploadedImage | DropError:
    """Say what an answer to `PUT /itwins/{iTwinId}/image` means; pure, and never raises.

    `headers` are looked up without regard to case. The statuses are those of the API's page, and by RFC 9110 the
    classes they belong to; a body is never counted on.
    """
    lower = {name.lower(): value for name, value in headers.items()}
    document = _object_of(body)
    response = PlatformResponse(
        http_status=status,
        correlation_id=lower.get("x-correlation-id"),
        error=_error_object(document),
        retry_after_s=_retry_after_s(lower),
    )
    if status == CREATED:
        image = _image_object(document)
        if image is not None:
            return UploadedImage(image, response)
    for error, statuses, message in VERDICTS:
        if status in statuses:
            return error(message.format(status=status), response=response)
    return PlatformAnswerUnreadable(
        f"The iTwin Platform answered {status}, which is no HTTP status.", response=response
    )


VERDICTS: tuple[tuple[type[DropError], range | tuple[int, ...], str], ...] = (
    (
        PlatformAnswerUnreadable,
        range(100, 300),
        "The iTwin Platform answered {status}, but not with 201 and the JSON of an uploaded image.",
    ),
    (
        PlatformRedirected,
        range(300, 400),
        (
            "The iTwin Platform answered with a redirect ({status}), which is never followed: "
            "check that ITWIN_API_URL is the API's own address."
        ),
    ),
    (
        PlatformUnauthorized,
        (UNAUTHORIZED,),
        (
            "The iTwin Platform did not accept the access token (401), nor a new one: check ITWIN_LOGIN and "
            "ITWIN_TOKEN_SCOPE; the token must be one that the API's issuer made, or a gateway before it exchanges."
        ),
    ),
    (
        PlatformForbidden,
        (FORBIDDEN,),
        (
            "The iTwin Platform does not let the app change this iTwin (403): give the app's iTwin user a role with "
            "the permission itwins_modify on it, or make it an Organization Administrator."
        ),
    ),
    (
        PlatformRejected,
        (NOT_FOUND,),
        (
            "The iTwin Platform knows no iTwin of this ID, or the app may not see it (404): check the container's "
            "name, and that the app's iTwin user has a role on the iTwin; then drop the image again."
        ),
    ),
    (PlatformThrottled, (TOO_MANY_REQUESTS,), "The iTwin Platform's rate limit is reached (429)."),
    # Of the other 4xx, these two alone say that the same request may succeed later (RFC 9110, 15.5.9; RFC 8470, 5.2).
    (PlatformUnavailable, (REQUEST_TIMEOUT, TOO_EARLY), "The iTwin Platform asked for the request again ({status})."),
    (PlatformRejected, range(400, 500), "The iTwin Platform refused the image ({status})."),
    # These two are said by a gateway, which does not know either.
    (PlatformSilent, (BAD_GATEWAY, GATEWAY_TIMEOUT), "The iTwin Platform did not answer its own gateway ({status})."),
    (PlatformUnavailable, range(500, 600), "The iTwin Platform is not available just now ({status})."),
)


def _object_of(body: bytes) -> Mapping[str, Any]:
    """Return the JSON object of the body; an empty one where it holds none."""
    try:
        return parse_object(body)
    except ValueError:
        return {}


def _image_object(document: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the image where it is what the page promises, of which only the ID can be counted on to be there."""
    image = document.get("image")
    if not isinstance(image, dict) or not isinstance(image.get("id"), str) or not image["id"]:
        return None
    return image if all(isinstance(image.get(name), str | None) for name in IMAGE_FIELDS) else None


def _error_object(document: Mapping[str, Any]) -> Mapping[str, Any] | None:
    error = document.get("error")
    if isinstance(error, dict) and isinstance(error.get("code"), str) and isinstance(error.get("message"), str):
        return error
    return None


def _retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Read Retry-After (RFC 9110, 10.2.3): seconds, or a date that is measured from the answer's own Date."""
    value = headers.get("retry-after", "").strip()
    if value.isascii() and value.isdigit():
        return float(value[:9])
    try:
        delay = parsedate_to_datetime(value) - parsedate_to_datetime(headers.get("date", ""))
    except (ValueError, TypeError, OverflowError):
        return None
    return max(delay.total_seconds(), 0.0)
