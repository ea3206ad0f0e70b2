"""The one call to the iTwin Platform, and what its responses mean.

https://developer.bentley.com/apis/iTwins/operations/upload-itwin-image/
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from shared.errors import (
    DropError,
    ITwinNotFound,
    PlatformForbidden,
    PlatformRedirected,
    PlatformRejected,
    PlatformResponse,
    PlatformResponseUnreadable,
    PlatformSilent,
    PlatformThrottled,
    PlatformUnauthorized,
    PlatformUnavailable,
    ResourcesExhausted,
    UnexpectedRefusal,
)
from shared.http_client import NoResponse, retry_after_s
from shared.untrusted_json import parse_object

if TYPE_CHECKING:
    from collections.abc import Mapping

    from shared.credentials import AccessTokens
    from shared.http_client import Sender
    from shared.image import NormalizedImage
    from shared.throttle import Throttle

ACCEPT = "application/vnd.bentley.itwin-platform.v1+json"
IMAGE_FIELDS = ("smallImageName", "smallImageUrl", "largeImageName", "largeImageUrl")

# What the platform says about the image itself: the request, its size, its media type, its content.
ABOUT_THE_IMAGE = (400, 413, 415, 422)
ITWIN_NOT_FOUND = "iTwinNotFound"
# A result holds what the platform says, and the ledger the result: there must be room for both to be read again.
MAX_DEPTH = 64


@dataclass(frozen=True)
class UploadedImage:
    """The platform accepted the image; `image` is its own JSON object, unchanged."""

    image: Mapping[str, Any] = field(repr=False)
    response: PlatformResponse


class ITwinPlatform:
    """A client of the API; one for the process, shared by its threads."""

    def __init__(
        self, api_url: str, tokens: AccessTokens, throttle: Throttle, http: Sender, *, timeout_s: float
    ) -> None:
        self._api_url = api_url
        self._tokens = tokens
        self._throttle = throttle
        self._http = http
        self._timeout_s = timeout_s

    def authorize(self, deadline: float) -> None:
        """Obtain an access token in advance, so that an upload does not have to wait for one.

        `deadline` is an instant of `time.monotonic`. Raises TokenUnavailable and TokenServiceUnavailable.
        """
        self._tokens.get(deadline)

    def upload_image(self, itwin_id: str, image: NormalizedImage, deadline: float) -> UploadedImage:
        """Make `image` the image of the iTwin, or fail by the `deadline` and within `timeout_s`.

        Raises what `decipher_response` returns, PlatformUnavailable if nothing was sent, PlatformSilent if there was no
        response, PlatformThrottled while nothing may be sent, and what `authorize` raises.
        """
        deadline = min(deadline, time.monotonic() + self._timeout_s)
        token = self._tokens.get(deadline)
        self._throttle.check()
        verdict = self._put(itwin_id, image, token, deadline)
        if isinstance(verdict, PlatformUnauthorized) and (renewed := self._tokens.renew(token, deadline)):
            self._throttle.check()
            resent = verdict.response is not None and verdict.response.resent
            verdict = self._put(itwin_id, image, renewed, deadline, resent=resent)
            if isinstance(verdict, PlatformUnauthorized):
                self._tokens.refused(renewed)
        if isinstance(verdict, PlatformThrottled):
            verdict.retry_after_s = self._throttle.throttled(verdict.retry_after_s)
        else:
            self._throttle.succeeded()
        if isinstance(verdict, DropError):
            raise verdict
        return verdict

    def _put(
        self, itwin_id: str, image: NormalizedImage, token: str, deadline: float, *, resent: bool = False
    ) -> UploadedImage | DropError:
        """Send it; `resent` says that the platform may still apply an earlier request of this upload."""
        try:
            response = self._http.send(
                "PUT",
                f"{self._api_url}/itwins/{itwin_id}/image",
                headers={"Accept": ACCEPT, "Content-Type": image.media_type, "Authorization": f"Bearer {token}"},
                body=image.data,
                deadline=deadline,
            )
        except NoResponse as error:
            if error.may_have_arrived or resent:
                raise PlatformSilent(
                    f"The iTwin Platform did not confirm or refuse the image: {error.message}"
                ) from error
            if error.cause == "exhausted":
                raise ResourcesExhausted(error.message) from error
            message = f"The iTwin Platform could not be reached: {error.message}{error.advice('ITWIN_API_URL')}"
            raise PlatformUnavailable(message) from error
        resent |= response.resent
        return decipher_response(response.status, response.headers, response.body, resent=resent)


def decipher_response(
    status: int, headers: Mapping[str, str], body: bytes, *, resent: bool = False
) -> UploadedImage | DropError:
    """Return what a response to `PUT /itwins/{iTwinId}/image` means; pure, and never raises.

    Header names are case-insensitive; `resent` is passed on. The statuses are those on the API's page and, by RFC 9110,
    the classes they belong to. A body is not required, but only the platform's own error object proves that a response
    is from the platform itself.
    """
    lower = {name.lower(): value for name, value in headers.items()}
    document = _object_of(body)
    response = PlatformResponse(
        http_status=status,
        correlation_id=lower.get("x-correlation-id"),
        error=_error_object(document),
        retry_after_s=retry_after_s(lower),
        resent=resent,
    )
    if status == HTTPStatus.CREATED:
        image = _image_object(document)
        if image is not None:
            return UploadedImage(image, response)
    for verdict in VERDICTS:
        if verdict.holds(response):
            return verdict.error(verdict.message.format(status=status), response=response)
    return PlatformResponseUnreadable(f"The response's status {status} is not one of HTTP.", response=response)


@dataclass(frozen=True)
class Verdict:
    """What a response means; if `has_error` is set, only one with (or without) the platform's own error object."""

    error: type[DropError]
    statuses: range | tuple[int, ...]
    message: str
    has_error: bool | None = None
    code: str | None = None

    def holds(self, response: PlatformResponse) -> bool:
        """Whether it applies to the response."""
        if response.http_status not in self.statuses or self.has_error not in (None, response.error is not None):
            return False
        return self.code is None or (response.error is not None and response.error["code"] == self.code)


# The first one that applies.
VERDICTS = (
    Verdict(
        PlatformResponseUnreadable,
        range(100, 300),
        "The iTwin Platform responded with {status}, but not with 201 and the JSON of an uploaded image.",
    ),
    Verdict(
        PlatformRedirected,
        range(300, 400),
        "The iTwin Platform responded with a redirect ({status}), which is never followed: "
        "check that ITWIN_API_URL is the API's own address.",
    ),
    Verdict(
        PlatformUnauthorized,
        (HTTPStatus.UNAUTHORIZED,),
        "The iTwin Platform did not accept the access token (401), nor a new one: check ITWIN_LOGIN and "
        "ITWIN_TOKEN_SCOPE; the token must be from the API's own issuer, or be exchanged by a gateway in front of it.",
    ),
    Verdict(
        PlatformForbidden,
        (HTTPStatus.FORBIDDEN,),
        "The iTwin Platform does not let the app change this iTwin (403): give the app's iTwin user a role with "
        "the permission itwins_modify on it, or make it an Organization Administrator.",
        has_error=True,
    ),
    Verdict(
        PlatformForbidden,
        (HTTPStatus.FORBIDDEN,),
        "The request was refused (403) without the iTwin Platform's own error: check ITWIN_API_URL, and what a "
        "gateway, proxy or firewall on the way lets through.",
    ),
    Verdict(
        ITwinNotFound,
        (HTTPStatus.NOT_FOUND,),
        "The iTwin Platform has no iTwin with this ID, or does not show it to the app (404): check the container's "
        "name, and that the app's iTwin user has a role on the iTwin; then drop the image again.",
        code=ITWIN_NOT_FOUND,
    ),
    Verdict(PlatformThrottled, (HTTPStatus.TOO_MANY_REQUESTS,), "The iTwin Platform's rate limit is reached (429)."),
    # Of the other 4xx, these say that the same request may succeed later (RFC 9110, 15.5.9 and 15.5.10; RFC 4918,
    # 11.3; RFC 8470, 5.2).
    Verdict(
        PlatformUnavailable,
        (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.CONFLICT, HTTPStatus.LOCKED, HTTPStatus.TOO_EARLY),
        "The iTwin Platform could not accept the image at the moment ({status}).",
    ),
    Verdict(PlatformRejected, ABOUT_THE_IMAGE, "The iTwin Platform refused the image ({status}).", has_error=True),
    Verdict(
        UnexpectedRefusal,
        range(400, 500),
        "The iTwin Platform refused the request ({status}), but not because of the image: check ITWIN_API_URL.",
        has_error=True,
    ),
    Verdict(
        UnexpectedRefusal,
        range(400, 500),
        "The request was refused ({status}) without the iTwin Platform's own error, so something else may have "
        "refused it: check ITWIN_API_URL, and what a gateway or proxy on the way lets through.",
    ),
    # These two come from a gateway, which does not know either whether the image was applied.
    Verdict(
        PlatformSilent,
        (HTTPStatus.BAD_GATEWAY, HTTPStatus.GATEWAY_TIMEOUT),
        "The iTwin Platform did not respond to its own gateway ({status}).",
    ),
    Verdict(PlatformUnavailable, range(500, 600), "The iTwin Platform is currently unavailable ({status})."),
)


def _object_of(body: bytes) -> Mapping[str, Any]:
    """Return the JSON object in the body, or an empty one if there is none."""
    try:
        return parse_object(body, max_depth=MAX_DEPTH)
    except ValueError:
        return {}


def _image_object(document: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the image if it is as documented; of its fields, only the ID is required."""
    image = document.get("image")
    if not isinstance(image, dict) or not isinstance(image.get("id"), str) or not image["id"]:
        return None
    return image if all(isinstance(image.get(name), str | None) for name in IMAGE_FIELDS) else None


def _error_object(document: Mapping[str, Any]) -> Mapping[str, Any] | None:
    error = document.get("error")
    if isinstance(error, dict) and isinstance(error.get("code"), str) and isinstance(error.get("message"), str):
        return error
    return None
