"""The Azure SDK's way out: the app's own HTTP client, whose exchanges end by the deadline of the attempt that runs."""

from __future__ import annotations

import re
import time
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from azure.core.exceptions import AzureError, ServiceRequestError, ServiceResponseError
from azure.core.pipeline.transport import HttpResponse, HttpTransport
from azure.core.utils import case_insensitive_dict

from shared.deadline import left_s
from shared.errors import DropError
from shared.http_client import NoResponse

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from azure.core.rest import HttpRequest

    from shared.http_client import HttpClient, Response

# One exchange takes no longer where nothing else bounds it, and nobody is silent for longer in it.
EXCHANGE_S, QUIET_S = 240.0, 60.0
# What is taken of a response where the caller does not say: a page of a list has 5,000 names.
MAX_RESPONSE_BYTES = 64_000_000
# An error's body says more of it, however little content was asked for.
MAX_ERROR_BYTES = 64 * 1024
# What storage names its own headers by; every response of its own has some.
OWN_HEADERS = "x-ms-"
# How the SDK asks for content, and what is said of it then (RFC 9110, 14.4).
RANGE = "x-ms-range"
CONTENT_RANGE = re.compile(r"bytes [0-9]{1,20}-[0-9]{1,20}/[0-9]{1,20}")
# The statuses of a read whose body is the blob's; an error has a body too.
CONTENT_FOLLOWS = (200, 206)
# What the SDK is given of a header: it fails on any field that it cannot parse, also on those that nobody needs.
METADATA = "x-ms-meta-"
PASSED_ON = (
    "content-encoding",
    "content-length",
    "content-range",
    "content-type",
    "etag",
    "last-modified",
    "www-authenticate",
    "x-ms-approximate-messages-count",
    "x-ms-blob-type",
    "x-ms-client-request-id",
    "x-ms-copy-status",
    "x-ms-error-code",
    "x-ms-request-id",
    "x-ms-version",
)
# The form of the fields that the app goes by: RFC 9110, 8.8.3 and 5.6.7; the kinds of blobs.
FORMS = {
    "etag": re.compile(r'"?[\x21\x23-\x7e]+"?'),
    "last-modified": re.compile(r"[A-Z][a-z]{2}, [0-9]{2} [A-Z][a-z]{2} [0-9]{4} [0-9]{2}:[0-9]{2}:[0-9]{2} GMT"),
    "x-ms-blob-type": re.compile("BlockBlob|AppendBlob|PageBlob"),
}


class ContentTooLarge(Exception):
    """A blob has more bytes than were asked for; its content was not read."""

    def __init__(self, headers: Mapping[str, str]) -> None:
        super().__init__()
        self.headers = headers


_max_bytes: ContextVar[int | None] = ContextVar("max_bytes", default=None)


@contextmanager
def asking() -> Iterator[None]:
    """Turn what the SDK raises for a response that it cannot read into an AzureError, as for any other failure.

    For bodies of another form, it has been seen to raise TypeError, IndexError, AttributeError, UnicodeDecodeError,
    xml.etree.ElementTree.ParseError and DeserializationError.
    """
    try:
        yield
    except (AzureError, DropError, ContentTooLarge, OSError, MemoryError):
        raise
    except Exception as error:  # noqa: BLE001 - the SDK may raise anything for an unusual response
        unread = NoResponse("The Azure SDK could not read the response.", "not HTTP", may_have_arrived=True)
        unread.__cause__ = error
        raise ServiceResponseError(unread.message) from unread


@contextmanager
def reading_at_most(max_bytes: int) -> Iterator[None]:
    """Do the same, and let what is read in the block have so many bytes at most: more raises ContentTooLarge."""
    token = _max_bytes.set(max_bytes)
    try:
        with asking():
            yield
    finally:
        _max_bytes.reset(token)


class SdkTransport(HttpTransport["HttpRequest", HttpResponse]):
    """Sends the SDK's requests through the app's HTTP client, which it neither opens nor closes."""

    def open(self) -> None:
        """Do nothing: the HTTP client is open as long as the process lives."""

    def close(self) -> None:
        """Do nothing: others use the HTTP client as well."""

    def __exit__(self, *_: object) -> None:
        self.close()


def sdk_error(error: NoResponse) -> ServiceRequestError | ServiceResponseError:
    """Return what the SDK expects its transport to raise: it tells whether the request may have arrived."""
    return (ServiceResponseError if error.may_have_arrived else ServiceRequestError)(error.message)


class StorageTransport(SdkTransport):
    """How the SDK's clients of storage send."""

    def __init__(self, http: HttpClient) -> None:
        self._http = http

    def send(self, request: HttpRequest, **_options: Any) -> HttpResponse:
        """Send a request. Raises OutOfTime, ServiceRequestError and ServiceResponseError; its cause is a NoResponse."""
        left, max_bytes = left_s(), _max_bytes.get()
        try:
            response = self._http.send(
                request.method,
                request.url,
                headers=request.headers,
                body=_body_of(request),
                deadline=time.monotonic() + min(left, EXCHANGE_S),
                max_bytes=MAX_RESPONSE_BYTES if max_bytes is None else max(max_bytes, MAX_ERROR_BYTES),
                quiet_s=QUIET_S,
                is_raw=True,
            )
            _check_origin(request, response)
            if max_bytes is not None:
                _check_size(response, max_bytes)
            if not response.is_whole:
                raise NoResponse("Its response was cut off or too long.", "cut", may_have_arrived=True)  # noqa: TRY301
        except NoResponse as error:
            left_s()  # what ended with the attempt is the attempt's end
            raise sdk_error(error) from error
        fields = [field for field in response.fields if _is_passed_on(*field)]
        return SdkResponse(request, replace(response, fields=fields))


def _body_of(request: HttpRequest) -> bytes:
    """Return what the SDK sends; it hands over a stream of bytes that were given to it whole."""
    body: Any = request.data  # as the SDK's own transports read it
    if hasattr(body, "read"):
        body = body.read()
    return body.encode() if isinstance(body, str) else bytes(body or b"")


def _check_origin(request: HttpRequest, response: Response) -> None:
    """Raise NoResponse where something else responded, or a proxy changed it: its 404 says nothing of a blob."""
    headers = response.headers
    is_own = any(name.startswith(OWN_HEADERS) for name in headers)
    is_own = is_own and all(form.fullmatch(headers[name]) for name, form in FORMS.items() if name in headers)
    is_own = is_own and _is_date(headers.get("last-modified"))
    if RANGE in request.headers and response.status in CONTENT_FOLLOWS:
        is_own = is_own and {"etag", "last-modified"} <= headers.keys() and total_bytes(headers) > 0
        is_own = is_own and bool(CONTENT_RANGE.fullmatch(headers.get("content-range", "")))
    if not is_own:
        message = f"The response with {response.status} does not have the form of one from Azure Storage."
        raise NoResponse(message, "not HTTP", may_have_arrived=True)


def _is_date(text: str | None) -> bool:
    """Whether it is a date, or nothing, that the SDK can parse."""
    try:
        return text is None or parsedate_to_datetime(text) is not None
    except ValueError:
        return False


def _is_passed_on(name: str, value: str) -> bool:
    name = name.lower()
    return name in PASSED_ON or name.startswith(METADATA) or (name == "date" and _is_date(value))


def _check_size(response: Response, max_bytes: int) -> None:
    if response.status in CONTENT_FOLLOWS and total_bytes(response.headers) > max_bytes:
        raise ContentTooLarge(case_insensitive_dict(response.fields))


def total_bytes(headers: Mapping[str, str]) -> int:
    """Return the size of the whole blob in a response to a ranged read (RFC 9110, 14.4) or to a plain one.

    The names of `headers` are looked up in lower case.
    """
    total = headers.get("content-range", "").rpartition("/")[2] or headers.get("content-length", "")
    return int(total) if total.isdigit() else 0


def error_code(error: AzureError) -> str:
    """Return storage's own error code, or "" if there is none."""
    code = getattr(error, "error_code", None)
    return str(getattr(code, "value", code) or "")


class SdkResponse(HttpResponse):
    """A response as the SDK reads it."""

    def __init__(self, request: HttpRequest, response: Response) -> None:
        super().__init__(request, response)  # type: ignore[arg-type]  # it takes the SDK's newer requests as well
        self._body = response.body
        self.status_code = response.status
        self.headers = case_insensitive_dict(response.fields)
        self.reason = ""
        self.content_type = response.headers.get("content-type")

    def body(self) -> bytes:
        """Return the body."""
        return self._body

    def read(self) -> bytes:
        """Return the body, as the SDK asks for that of an error."""
        return self._body

    def stream_download(self, pipeline: object, **_: Any) -> Content:  # noqa: ARG002 - as it is called
        """Return the body as what the SDK reads content from."""
        content, self._body = Content(self, self._body), b""
        return content


class Content:
    """The content of a blob, for the SDK to iterate over once."""

    def __init__(self, response: SdkResponse, body: bytes) -> None:
        self.response = response
        self.content_length = len(body)
        self._pieces = [body]

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        if not self._pieces:
            raise StopIteration
        return self._pieces.pop()
