"""Makes one request over a connection of its own, streaming the request's and the response's body."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import h11

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Iterator

Headers = list[tuple[str, str]]
PIECE_BYTES = 65_536
HTTP_PORT = 80


class NoResponseError(Exception):
    """No response came; `reason` is API Management's name for the cause."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass
class Response:
    """A response whose body must be read to its end, or closed with `aclose`."""

    status: int
    headers: Headers
    body: AsyncGenerator[bytes]


async def send(method: str, url: str, headers: Headers, body: AsyncIterator[bytes], *, timeout_s: float) -> Response:
    """Send a request to a loopback `url`; return the response when its headers arrive. Raises NoResponseError."""
    with _without_response():
        async with asyncio.timeout(timeout_s):
            return await _exchange(method, url, headers, body)


async def fetch(method: str, url: str, headers: Headers, content: bytes, *, timeout_s: float) -> tuple[Response, bytes]:
    """Send a request to a loopback `url`; return the response and its body, both in time. Raises NoResponseError."""
    with _without_response():
        async with asyncio.timeout(timeout_s):
            response = await _exchange(method, url, [*headers, ("Content-Length", str(len(content)))], pieces(content))
            async with contextlib.aclosing(response.body) as body:
                return response, b"".join([piece async for piece in body])


async def pieces(*parts: bytes) -> AsyncGenerator[bytes]:
    """Yield the parts of a body that is already known."""
    for part in parts:
        yield part


@contextlib.contextmanager
def _without_response() -> Iterator[None]:
    try:
        yield
    except TimeoutError as error:
        raise NoResponseError("Timeout") from error
    except (OSError, h11.ProtocolError) as error:
        raise NoResponseError("BackendConnectionFailure") from error


async def _exchange(method: str, url: str, headers: Headers, body: AsyncIterator[bytes]) -> Response:
    parts = urlsplit(url)
    target = f"{parts.path}?{parts.query}" if parts.query else parts.path
    exchange = _Exchange(parts.netloc)
    try:
        await exchange.connect(parts.hostname or "", parts.port or HTTP_PORT)
        return await exchange.respond(method, target, headers, body)
    except BaseException:
        await exchange.close()
        raise


class _Exchange:
    def __init__(self, host: str) -> None:
        self._host = host
        self._connection = h11.Connection(h11.CLIENT)
        self._reader: asyncio.StreamReader
        self._writer: asyncio.StreamWriter | None = None
        self._sending: asyncio.Task[None] | None = None

    async def connect(self, host: str, port: int) -> None:
        self._reader, self._writer = await asyncio.open_connection(host, port)

    async def respond(self, method: str, target: str, headers: Headers, body: AsyncIterator[bytes]) -> Response:
        # A server may respond before it has received the whole body, as with 413.
        self._sending = asyncio.create_task(self._send(method, target, headers, body))
        event = await self._next()
        while isinstance(event, h11.InformationalResponse):
            event = await self._next()
        if not isinstance(event, h11.Response):
            raise h11.RemoteProtocolError("The connection ended before the response.")
        found = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in event.headers.raw_items()]
        return Response(event.status_code, found, self._body())

    async def close(self) -> None:
        if self._sending is not None:
            self._sending.cancel()
            with contextlib.suppress(asyncio.CancelledError, OSError, h11.ProtocolError):
                await self._sending
        if self._writer is not None:
            self._writer.close()
            with contextlib.suppress(OSError):
                await self._writer.wait_closed()

    async def _send(self, method: str, target: str, headers: Headers, body: AsyncIterator[bytes]) -> None:
        await self._write(h11.Request(method=method, target=target, headers=[("Host", self._host), *headers]))
        async for piece in body:
            await self._write(h11.Data(data=piece))
        await self._write(h11.EndOfMessage())

    async def _write(self, event: h11.Event) -> None:
        assert self._writer is not None  # noqa: S101 - it is connected
        self._writer.write(self._connection.send(event) or b"")
        await self._writer.drain()

    async def _body(self) -> AsyncGenerator[bytes]:
        try:
            while not isinstance(event := await self._next(), h11.EndOfMessage | h11.ConnectionClosed):
                if isinstance(event, h11.Data):
                    yield bytes(event.data)
        finally:
            await self.close()

    async def _next(self) -> object:
        while (event := self._connection.next_event()) is h11.NEED_DATA:
            self._connection.receive_data(await self._reader.read(PIECE_BYTES))
        return event
