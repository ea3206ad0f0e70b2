"""The API's error responses: `{"error": {"code", "message", "target"?, "details"?}}`.

Codes and messages are those of the API's documentation; a docstring says where a code is not documented. A client
should rather branch on the status.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from starlette.responses import JSONResponse

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from starlette.exceptions import HTTPException
    from starlette.requests import Request


@dataclass(frozen=True)
class Problem:
    """One entry of an error's `details`."""

    code: str
    message: str
    target: str | None = None

    def to_json(self) -> dict[str, str]:
        """Shape it as the API does; an unknown target is left out."""
        found = {"code": self.code, "message": self.message, "target": self.target}
        return {name: value for name, value in found.items() if value is not None}


class Refusal(Exception):
    """A response other than the successful one."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        details: Sequence[Problem] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.error: dict[str, Any] = {"code": code, "message": message}
        if details:
            self.error["details"] = [problem.to_json() for problem in details]
        self.headers = headers

    def to_response(self) -> JSONResponse:
        """Create the response."""
        return JSONResponse({"error": self.error}, self.status, headers=self.headers)


def no_authorization() -> Refusal:
    """Refuse a request without an `Authorization` header."""
    return Refusal(401, "HeaderNotFound", "Header Authorization was not found in the request. Access denied.")


def malformed_authorization() -> Refusal:
    """Refuse a header that is not `Bearer <token>`; the code is not documented."""
    return Refusal(401, "InvalidHeader", "Header Authorization is not a bearer token. Access denied.")


def token_refused(reason: str) -> Refusal:
    """Refuse a token that is not good enough; the code is not documented."""
    return Refusal(401, "InvalidToken", f"{reason} Access denied.")


def insufficient_permissions() -> Refusal:
    """Refuse a caller who may see the iTwin, but may not do this to it."""
    message = "The user has insufficient permissions for the requested operation."
    return Refusal(403, "InsufficientPermissions", message)


def itwin_not_found() -> Refusal:
    """Refuse if the iTwin does not exist, or is not visible to the caller."""
    return Refusal(404, "iTwinNotFound", "Requested iTwin is not available.")


def image_not_found() -> Refusal:
    """Refuse if the iTwin has no image; the code is that of the platform's other image operations."""
    return Refusal(404, "ImageNotFound", "Requested image is not available.")


def operation_not_found() -> Refusal:
    """Refuse a path, or a version in `Accept`, that the API does not have."""
    message = "The requested resource was not found. Verify the API URL and the Accept header."
    unmatched = Problem("OperationNotFound", "Unable to match incoming request to an operation.")
    return Refusal(404, "ResourceNotFound", message, details=[unmatched])


def request_too_large() -> Refusal:
    """Refuse a body that is larger than an image may be."""
    message = "Provided file is greater than the maximum allowed file size of 5MB."
    return Refusal(413, "RequestTooLarge", message)


def invalid_image(problems: Sequence[Problem]) -> Refusal:
    """Refuse a body that cannot become an iTwin's image, for all of these reasons."""
    return Refusal(422, "InvalidiTwinsRequest", "Cannot create iTwin Image.", details=problems)


def invalid_itwin(problems: Sequence[Problem]) -> Refusal:
    """Refuse a body that cannot become an iTwin, for all of these reasons."""
    return Refusal(422, "InvalidiTwinsRequest", "Cannot create iTwin.", details=problems)


def itwin_exists() -> Refusal:
    """Refuse a number that is already in use by another iTwin."""
    repeated = Problem("InvalidValue", "The number is already in use by another iTwin.", "number")
    return Refusal(409, "iTwinExists", "iTwin already exists.", details=[repeated])


def too_many_requests(retry_after_s: int) -> Refusal:
    """Refuse a client that has called too often."""
    message = "More requests were received than the subscription rate-limit allows."
    return Refusal(429, "TooManyRequests", message, headers={"retry-after": str(retry_after_s)})


async def respond_to_refusal(_: Request, error: Exception) -> JSONResponse:
    """Turn a refusal into its response."""
    assert isinstance(error, Refusal)  # noqa: S101 - it is registered for this class
    return error.to_response()


async def respond_to_unknown_path(_request: Request, _error: Exception) -> JSONResponse:
    """Refuse a path that the API does not have."""
    return operation_not_found().to_response()


async def respond_to_wrong_method(request: Request, error: Exception) -> JSONResponse:
    """Refuse a method that the path does not have."""
    allowed: HTTPException = error  # type: ignore[assignment]  # it is registered for this class
    message = f"{request.method} is not allowed here."
    return Refusal(405, "MethodNotAllowed", message, headers=allowed.headers).to_response()


async def respond_to_bug(_request: Request, _error: Exception) -> JSONResponse:
    """Respond to a failure of this program itself; the server logs the details."""
    return Refusal(500, "InternalServerError", "The iTwin Platform stand-in has failed.").to_response()


async def respond_to_nobody(_request: Request, _error: Exception) -> JSONResponse:
    """Respond to a client that disconnected before its request was complete: only for the log."""
    return Refusal(400, "IncompleteRequest", "The request was not complete.").to_response()
