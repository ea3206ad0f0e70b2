"""One connection and its HTTP/1.1 state: what is sent, what is received, and never more of it than was asked for."""

from __future__ import annotations

import errno
import select
import ssl
import zlib
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import h11

from shared.http_client.response import Response
from shared.http_client.timer import DeadlineReached, wait_for

if TYPE_CHECKING:
    import socket
    from collections.abc import Mapping

    from shared.http_client.timer import Timer

MAX_HEADER_BYTES = 64 * 1024
# The most that is received for one response beside its body: chunks, trailers and interim responses add it.
MAX_EXTRA_BYTES = 1_000_000
PIECE_BYTES = 64 * 1024
# Azure's load balancers and NAT gateways silently drop a connection that is idle for four minutes:
# https://learn.microsoft.com/azure/load-balancer/load-balancer-tcp-reset
MAX_IDLE_S = 180.0

AUTO_DETECT_FORMAT = 32 + zlib.MAX_WBITS  # gzip or zlib, by its first bytes
COMPRESSED = ("gzip", "x-gzip", "deflate")
# Responses without a body, whatever length they state (RFC 9110, 6.4.1).
BODILESS = (204, 304)


@dataclass(frozen=True)
class Request:
    """What is sent, and how much may come back."""

    head: h11.Request
    body: bytes
    max_bytes: int
    is_raw: bool

    def is_exceeded_by(self, status: int, headers: Mapping[str, str]) -> bool:
        """Whether a response announces more than is taken; some only tell the length (RFC 9110, 8.6)."""
        length, has_body = headers.get("content-length", ""), self.head.method != b"HEAD" and status not in BODILESS
        return has_body and length.isdigit() and int(length) > self.max_bytes


class Connection:
    """One connection and its HTTP/1.1 state."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEADER_BYTES)
        self._outgoing: deque[memoryview] = deque()
        self._received = 0
        self._most = MAX_EXTRA_BYTES
        self._idle_since = 0.0
        self._is_broken = False
        self.has_sent = False
        self.was_kept = False

    @property
    def has_received(self) -> bool:
        """Whether a byte has come back for the request."""
        return self._received > 0

    def exchange(self, request: Request, timer: Timer) -> Response:
        """Send the request and return the response.

        Raises DeadlineReached, OSError and h11.RemoteProtocolError if there was no status.
        """
        self._most = request.max_bytes + MAX_EXTRA_BYTES
        self.start(request.head, request.body)
        event = self.next_event(timer)
        while not isinstance(event, h11.Response):  # interim responses may precede it (RFC 9110, 15.2)
            event = self.next_event(timer)
        headers: dict[str, str] = {}
        for name, value in event.headers:
            key, text = name.decode("ascii"), value.decode("latin-1")
            headers[key] = f"{headers[key]}, {text}" if key in headers else text
        is_too_much = request.is_exceeded_by(event.status_code, headers)
        body = None if is_too_much else self._read_body(timer, request.max_bytes)
        if body is not None and not request.is_raw:
            body = _decompress(body, headers.get("content-encoding", ""), request.max_bytes)
        fields = [(name.decode("ascii"), value.decode("latin-1")) for name, value in event.headers.raw_items()]
        return Response(event.status_code, headers, body or b"", is_whole=body is not None, fields=fields)

    def start(self, head: h11.Request, body: bytes = b"") -> None:
        """Begin to send a request."""
        self._received, self.has_sent = 0, False
        self._outgoing.append(memoryview(self._http.send(head) or b""))
        if body:
            self._outgoing.append(memoryview(self._http.send(h11.Data(data=body)) or b""))
        self._http.send(h11.EndOfMessage())

    def next_event(self, timer: Timer) -> h11.Event:
        """Send and receive until the peer says something; it may respond before it has the whole request."""
        while True:
            event = self._http.next_event()
            if isinstance(event, h11.Event):
                return event
            if timer.left_s() <= 0:
                raise DeadlineReached
            events = self._send_some()
            if awaited := self._receive_some():
                wait_for(self._socket, events | awaited, timer)

    def reset(self, now: float) -> bool:
        """Prepare for the next request; False if the connection cannot be reused."""
        done = self._http.our_state is h11.DONE and self._http.their_state is h11.DONE
        if not done or self._outgoing or self._is_broken or self._http.trailing_data[0]:
            return False
        self._http.start_next_cycle()
        self._idle_since, self.was_kept = now, True
        return True

    def is_stale(self, now: float) -> bool:
        """Whether the peer has closed it, has sent something unsolicited, or may have dropped it."""
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        return now - self._idle_since > MAX_IDLE_S or bool(poll.poll(0))

    def close(self) -> None:
        """Close it."""
        with suppress(OSError):
            self._socket.close()

    def _read_body(self, timer: Timer, max_bytes: int) -> bytes | None:
        """Return the body; None if it is cut off, damaged or too long."""
        body = bytearray()
        try:
            while isinstance(event := self.next_event(timer), h11.Data):
                body += event.data
                if len(body) > max_bytes:
                    return None
        except (DeadlineReached, OSError, h11.RemoteProtocolError):
            return None
        return bytes(body)

    def _send_some(self) -> int:
        """Send what the socket accepts now; return the poll event to wait for before sending the rest, or 0."""
        while self._outgoing:
            try:
                sent = self._socket.send(self._outgoing[0][:PIECE_BYTES])
            except (BlockingIOError, ssl.SSLWantWriteError):
                return select.POLLOUT
            except ssl.SSLWantReadError:
                return select.POLLIN
            except OSError:
                # The peer accepts no more of it, and may have said why.
                self._outgoing.clear()
                self._is_broken = True
                break
            self.has_sent = True
            self._outgoing[0] = self._outgoing[0][sent:]
            if not self._outgoing[0]:
                self._outgoing.popleft()
        return 0

    def _receive_some(self) -> int:
        """Pass received data to h11; if there is none, return the poll event to wait for."""
        try:
            data = self._socket.recv(PIECE_BYTES)
        except (BlockingIOError, ssl.SSLWantReadError):
            return select.POLLIN
        except ssl.SSLWantWriteError:
            return select.POLLOUT
        if not data and self._http.their_state is h11.SEND_RESPONSE:
            raise ConnectionResetError(errno.ECONNRESET, "it was closed")
        self._received += len(data)
        if self._received > self._most:
            raise h11.RemoteProtocolError("The response exceeds the size limit.")
        self._http.receive_data(data)
        return 0


def _decompress(body: bytes, encoding: str, max_bytes: int) -> bytes | None:
    """Return the body as it was before its Content-Encoding; None where it is another, damaged or too long then.

    None was asked for; some gateways compress all the same.
    """
    encoding = encoding.strip().lower()
    if encoding in ("", "identity") or not body:
        return body
    if encoding not in COMPRESSED:
        return None
    stream = zlib.decompressobj(AUTO_DETECT_FORMAT)
    try:
        whole = stream.decompress(body, max_bytes + 1)
    except zlib.error:
        return None
    return whole if stream.eof and not stream.unused_data and len(whole) <= max_bytes else None
