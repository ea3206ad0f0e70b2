"""The only HTTP client: HTTP/1.1 to storage, the iTwin Platform, the token authority, the identity endpoint, the vault.

An exchange has one deadline, and cannot exceed it: no socket ever blocks, names are resolved in a thread of their own,
and the only waits, in `_wait` and for that thread, end at the deadline. Bytes are counted as they arrive and again as
they are decompressed. There is no code that follows a redirect, keeps a cookie or reads a `.netrc`. If there is no
response, `NoResponse` says whether the request may have arrived.

Proxies and certificates are those of the environment, in the variables of `requests` and curl: HTTPS_PROXY, HTTP_PROXY,
ALL_PROXY, NO_PROXY; REQUESTS_CA_BUNDLE, CURL_CA_BUNDLE, or OpenSSL's SSL_CERT_FILE.
"""

from __future__ import annotations

import base64
import errno
import ipaddress
import math
import os
import select
import socket
import ssl
import threading
import time
import weakref
import zlib
from collections import deque
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field, replace
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol
from urllib.parse import unquote, urlsplit

import certifi
import h11
from requests.utils import get_environ_proxies, select_proxy

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

USER_AGENT = "itwin-image-drop"
MAX_BODY_BYTES = 1_000_000
MAX_HEADER_BYTES = 64 * 1024
# The most that is received for one response beside its body: chunks, trailers and interim responses add it.
MAX_EXTRA_BYTES = 1_000_000
CONNECT_TIMEOUT_S = 10.0
PIECE_BYTES = 64 * 1024

# Azure's load balancers and NAT gateways silently drop a connection that is idle for four minutes:
# https://learn.microsoft.com/azure/load-balancer/load-balancer-tcp-reset
MAX_IDLE_S = 180.0
MAX_IDLE_CONNECTIONS = 32
KEEPALIVE_S = 60
KEEPALIVE_OPTIONS = {"TCP_KEEPIDLE": KEEPALIVE_S, "TCP_KEEPALIVE": KEEPALIVE_S, "TCP_KEEPINTVL": 15, "TCP_KEEPCNT": 4}
# A look-up that takes longer is abandoned, and the next request starts another one.
SHARED_LOOKUP_S = 10.0

AUTO_DETECT_FORMAT = 32 + zlib.MAX_WBITS  # gzip or zlib, by its first bytes
COMPRESSED = ("gzip", "x-gzip", "deflate")
DEFAULT_PORTS = {"http": 80, "https": 443}
# The first that is set names the certificates to trust: those of `requests` and curl, and OpenSSL's own.
CERTIFICATE_VARIABLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE")
OK_STATUSES = range(200, 300)
# Responses without a body, whatever length they state (RFC 9110, 6.4.1).
BODILESS = (204, 304)
# Temporary, whoever responds with them: timeout, too early, too many requests, and every server error.
TEMPORARY_STATUSES = (408, 425, 429, *range(500, 600))

# What the system lacks, and not the peer: sockets, memory, threads.
EXHAUSTION = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS, errno.EAGAIN)

Cause = Literal["name", "connection", "proxy", "certificate", "tls", "time", "cut", "not HTTP", "exhausted"]
Address = tuple[socket.AddressFamily, Any]


@dataclass(frozen=True)
class Response:
    """What a peer responded; header names are in lower case.

    `fields` are the header fields as received: storage's metadata needs their case.
    The status is valid even if `is_whole` is False: then the body was cut off, too long or damaged, and is empty.
    `resent` says that the request had already been sent on a kept connection that broke without a response: it is
    unknown whether the peer received that one as well.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)
    is_whole: bool = True
    resent: bool = False
    fields: Sequence[tuple[str, str]] = field(default=(), compare=False, repr=False)


class NoResponse(Exception):
    """There was no status; the message is a sentence without any secret.

    `may_have_arrived` says whether the peer may have received the request, and may still act on it.
    """

    def __init__(self, message: str, cause: Cause, *, may_have_arrived: bool = False) -> None:
        super().__init__(message)
        self.message = message
        self.cause: Cause = cause
        self.may_have_arrived = may_have_arrived

    @property
    def is_temporary(self) -> bool:
        """Whether the peer was reached but did not respond in time or completely, or this instance lacked resources."""
        return self.cause in ("time", "cut", "exhausted")


class Sender(Protocol):
    """Something that sends requests: the client, or a stand-in for it."""

    def send(
        self, method: str, url: str, *, deadline: float, headers: Mapping[str, str] | None = None, body: bytes = b""
    ) -> Response:
        """Return the peer's response by the `deadline`, an instant of `time.monotonic`. Raises NoResponse."""


class HttpClient:
    """Sends requests and keeps connections; one for the process, shared by its threads.

    `resolve`, `proxy_for` and `tls` default to those of the environment.
    """

    def __init__(
        self,
        *,
        resolve: Callable[[str, int], Sequence[Address]] | None = None,
        proxy_for: Callable[[str], str | None] | None = None,
        tls: ssl.SSLContext | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._resolve = resolve or look_up
        self._proxy_for = proxy_for or proxy_of_environment
        self._tls = tls
        self._clock = clock
        self._lock = threading.Lock()
        self._idle: dict[_Route, deque[_Connection]] = {}
        weakref.finalize(self, _close, self._idle)
        self._lookups: dict[tuple[str, int], tuple[float, Future[Sequence[Address]]]] = {}

    def send(
        self,
        method: str,
        url: str,
        *,
        deadline: float,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
        max_bytes: int = MAX_BODY_BYTES,
        quiet_s: float = math.inf,
        is_raw: bool = False,
    ) -> Response:
        """Send a request, and return what the peer responded until the `deadline`, an instant of the client's clock.

        `max_bytes` bounds the body, also after decompression, which is left out where it `is_raw`. A peer that says
        nothing for `quiet_s` seconds has not responded. Raises NoResponse.
        """
        route = _Route.to(url, self._proxy_for(url))
        timer = _Timer(deadline, self._clock, quiet_s)
        if timer.left_s() <= 0:
            raise NoResponse("No time was left to send anything.", "time")
        request = _Request(route.head(method, url, headers or {}, body), body, max_bytes, is_raw=is_raw)
        resent = False
        if kept := self._take(route):
            try:
                return self._exchange(kept, route, request, timer)
            except _StaleError:
                resent = kept.has_sent
        try:
            response = self._exchange(self._connect(route, timer), route, request, timer)
        except NoResponse as error:
            error.may_have_arrived |= resent
            raise
        return replace(response, resent=resent)

    def close(self) -> None:
        """Close the connections that are kept."""
        with self._lock:
            _close(self._idle)

    def _exchange(self, connection: _Connection, route: _Route, request: _Request, timer: _Timer) -> Response:
        try:
            response = connection.exchange(request, timer)
        except (_DeadlineError, OSError, h11.RemoteProtocolError) as error:
            connection.close()
            if connection.was_kept and not connection.has_received and not isinstance(error, _DeadlineError):
                raise _StaleError from error
            raise _no_response(error, route, timer, may_have_arrived=connection.has_sent) from error
        except BaseException:
            connection.close()
            raise
        self._keep(route, connection)
        return response

    def _take(self, route: _Route) -> _Connection | None:
        """Return a kept connection that may still be good."""
        while True:
            with self._lock:
                connections = self._idle.get(route)
                connection = connections.pop() if connections else None
            if connection is None or not connection.is_stale(self._clock()):
                return connection
            connection.close()

    def _keep(self, route: _Route, connection: _Connection) -> None:
        surplus: _Connection | None = connection
        if connection.reset(self._clock()):
            with self._lock:
                connections = self._idle.setdefault(route, deque())
                connections.append(connection)
                surplus = connections.popleft() if len(connections) > MAX_IDLE_CONNECTIONS else None
        if surplus:
            surplus.close()

    def _connect(self, route: _Route, timer: _Timer) -> _Connection:
        """Return a fresh connection, through the proxy and with TLS where the route has them. Raises NoResponse."""
        sock = self._open_socket(route, timer)
        try:
            if route.is_tunnel:
                _open_tunnel(sock, route, timer)
            return _Connection(self._encrypt(sock, route, timer) if route.scheme == "https" else sock)
        except BaseException:
            sock.close()
            raise

    def _open_socket(self, route: _Route, timer: _Timer) -> socket.socket:
        host, port = route.first_hop
        whom = "the proxy" if route.proxy else f"{host}:{port}"
        cause: Cause = "proxy" if route.proxy else "connection"
        addresses = self._addresses(host, port, route, timer)
        connecting = timer.at_most(CONNECT_TIMEOUT_S)
        problem: Exception = OSError(errno.EADDRNOTAVAIL, "its name has no address")
        for position, (family, address) in enumerate(addresses):
            share = connecting.at_most(connecting.left_s() / (len(addresses) - position))
            try:
                return _connected(family, address, share)
            except (_DeadlineError, OSError) as error:
                problem = error
        if getattr(problem, "errno", None) in EXHAUSTION:
            raise _exhausted(problem) from problem
        if isinstance(problem, _DeadlineError):
            message = f"No connection to {whom} could be made within {connecting.allowed} s."
        else:
            message = f"No connection to {whom} could be made: {_reason(problem)}."
        raise NoResponse(message, cause) from problem

    def _addresses(self, host: str, port: int, route: _Route, timer: _Timer) -> Sequence[Address]:
        now = self._clock()
        with self._lock:
            since, found = self._lookups.get((host, port), (now, None))
            if found is None or found.done() or now - since > SHARED_LOOKUP_S:
                found = Future()
                arguments = (self._resolve, host, port, found)
                try:
                    threading.Thread(target=_look_up_into, args=arguments, daemon=True, name="look-up").start()
                except RuntimeError as error:
                    raise _exhausted(error) from error
                self._lookups[host, port] = (now, found)
        whose = "The proxy's name" if route.proxy else f"The name {host}"
        cause: Cause = "proxy" if route.proxy else "name"
        try:
            return found.result(timeout=max(timer.left_s(), 0))
        except TimeoutError as error:
            raise NoResponse(f"{whose} was not resolved within {timer.allowed} s.", cause) from error
        except (OSError, UnicodeError) as error:
            raise NoResponse(f"{whose} could not be resolved: {_reason(error)}.", cause) from error

    def _encrypt(self, sock: socket.socket, route: _Route, timer: _Timer) -> ssl.SSLSocket:
        trust, encrypted = self._trust(), None
        try:
            encrypted = trust.wrap_socket(sock, server_hostname=route.host, do_handshake_on_connect=False)
            while True:
                try:
                    encrypted.do_handshake()
                except ssl.SSLWantReadError:
                    _wait(encrypted, select.POLLIN, timer)
                except ssl.SSLWantWriteError:
                    _wait(encrypted, select.POLLOUT, timer)
                else:
                    return encrypted
        except (_DeadlineError, OSError, ValueError) as error:
            if encrypted:
                encrypted.close()  # it has taken the socket over
            raise _no_encryption(error, route, timer) from error

    def _trust(self) -> ssl.SSLContext:
        with self._lock:
            if self._tls is None:
                self._tls = trust_of_environment()
            return self._tls


def _close(idle: dict[_Route, deque[_Connection]]) -> None:
    while idle:
        for connection in idle.popitem()[1]:
            connection.close()


@dataclass(frozen=True)
class _Route:
    """Where a request goes, and through which proxy."""

    scheme: str
    host: str
    port: int
    proxy: str | None

    @classmethod
    def to(cls, url: str, proxy: str | None) -> _Route:
        parts = urlsplit(url)
        if parts.scheme not in DEFAULT_PORTS or not parts.hostname:
            raise ValueError("Not an http:// or https:// address.")
        return cls(parts.scheme, parts.hostname, parts.port or DEFAULT_PORTS[parts.scheme], proxy)

    @property
    def is_tunnel(self) -> bool:
        return self.proxy is not None and self.scheme == "https"

    @property
    def authority(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    @property
    def first_hop(self) -> tuple[str, int]:
        """Return where the connection is made to. Raises NoResponse where that is no proxy that is spoken to."""
        if self.proxy is None:
            return self.host, self.port
        try:
            parts = urlsplit(self.proxy)
            if parts.scheme == "http" and parts.hostname:
                return parts.hostname, parts.port or DEFAULT_PORTS["http"]
        except ValueError:
            pass
        # Its address may hold a password, so it is not repeated.
        raise NoResponse("The proxy that the environment names is not an http:// address.", "proxy")

    def proxy_headers(self) -> list[tuple[str, str]]:
        parts = urlsplit(self.proxy or "")
        if not parts.username:
            return []
        login = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        return [("Proxy-Authorization", f"Basic {base64.b64encode(login.encode()).decode()}")]

    def head(self, method: str, url: str, headers: Mapping[str, str], body: bytes) -> h11.Request:
        parts = urlsplit(url)
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        default = self.port == DEFAULT_PORTS[self.scheme]
        host = self.authority.rpartition(":")[0] if default else self.authority
        own = [("Host", host), ("User-Agent", USER_AGENT), ("Accept-Encoding", "identity")]
        if body or method in ("POST", "PUT"):
            own.append(("Content-Length", str(len(body))))
        if self.proxy and not self.is_tunnel:
            target = f"{self.scheme}://{host}{target}"
            own += self.proxy_headers()
        given = {name.lower() for name in headers}
        fields = [*((name, value) for name, value in own if name.lower() not in given), *headers.items()]
        return h11.Request(method=method, target=target, headers=fields)


@dataclass(frozen=True)
class _Request:
    """What is sent, and how much may come back."""

    head: h11.Request
    body: bytes
    max_bytes: int
    is_raw: bool

    def is_met_by_too_much(self, status: int, headers: Mapping[str, str]) -> bool:
        """Whether a response announces more than is taken; some only tell the length (RFC 9110, 8.6)."""
        length, has_body = headers.get("content-length", ""), self.head.method != b"HEAD" and status not in BODILESS
        return has_body and length.isdigit() and int(length) > self.max_bytes


class _Timer:
    """A deadline, how long it was when it was set, and for how long nothing may come."""

    def __init__(self, deadline: float, clock: Callable[[], float], quiet_s: float = math.inf) -> None:
        self.deadline = deadline
        self.quiet_s = quiet_s
        self._clock = clock
        left_s = min(max(self.left_s(), 0), quiet_s)
        self.allowed = f"{left_s:.0f}" if left_s >= 1 else f"{left_s:.1f}"

    def left_s(self) -> float:
        return self.deadline - self._clock()

    def at_most(self, seconds: float) -> _Timer:
        """Return what ends with this one, or sooner."""
        return _Timer(min(self.deadline, self._clock() + seconds), self._clock, self.quiet_s)


class _DeadlineError(Exception):
    """The deadline is over."""


class _StaleError(Exception):
    """A kept connection broke before any byte of the response."""


def _wait(sock: socket.socket, events: int, timer: _Timer) -> None:
    """Wait until the socket is ready for one of poll's `events`, or raise at the deadline."""
    left_s = min(timer.left_s(), timer.quiet_s)
    poll = select.poll()
    poll.register(sock, events)
    if left_s <= 0 or not poll.poll(left_s * 1000):
        raise _DeadlineError


class _Connection:
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

    def exchange(self, request: _Request, timer: _Timer) -> Response:
        """Send the request and return the response.

        Raises _DeadlineError, OSError and h11.RemoteProtocolError if there was no status.
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
        is_too_much = request.is_met_by_too_much(event.status_code, headers)
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

    def next_event(self, timer: _Timer) -> h11.Event:
        """Send and receive until the peer says something; it may respond before it has the whole request."""
        while True:
            event = self._http.next_event()
            if event is not h11.NEED_DATA and event is not h11.PAUSED:
                return event  # type: ignore[return-value]
            if timer.left_s() <= 0:
                raise _DeadlineError
            events = self._send_some()
            if awaited := self._receive_some():
                _wait(self._socket, events | awaited, timer)

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

    def _read_body(self, timer: _Timer, max_bytes: int) -> bytes | None:
        """Return the body; None if it is cut off, damaged or too long."""
        body = bytearray()
        try:
            while isinstance(event := self.next_event(timer), h11.Data):
                body += event.data
                if len(body) > max_bytes:
                    return None
        except (_DeadlineError, OSError, h11.RemoteProtocolError):
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


def _connected(family: socket.AddressFamily, address: Any, timer: _Timer) -> socket.socket:
    """Return a connected socket that never blocks. Raises OSError, and _DeadlineError."""
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)  # noqa: FBT003 - positional by the standard library
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in KEEPALIVE_OPTIONS.items():
            if hasattr(socket, name):  # systems differ in which they have
                sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
        status = sock.connect_ex(address)
        if status == errno.EINPROGRESS:
            _wait(sock, select.POLLOUT, timer)
            status = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if status:
            raise OSError(status, os.strerror(status))  # noqa: TRY301 - as `connect` does
    except BaseException:
        sock.close()
        raise
    return sock


def _open_tunnel(sock: socket.socket, route: _Route, timer: _Timer) -> None:
    """Ask the proxy for a connection to the peer (RFC 9110, 9.3.6). Raises NoResponse."""
    headers = [("Host", route.authority), ("User-Agent", USER_AGENT), *route.proxy_headers()]
    connection = _Connection(sock)
    try:
        connection.start(h11.Request(method="CONNECT", target=route.authority, headers=headers))
        event = connection.next_event(timer)
        while not isinstance(event, h11.Response):
            event = connection.next_event(timer)
    except _DeadlineError as error:
        raise NoResponse(f"The proxy did not respond within {timer.allowed} s.", "proxy") from error
    except (OSError, h11.RemoteProtocolError) as error:
        raise NoResponse("The proxy did not respond as a proxy does.", "proxy") from error
    if event.status_code not in OK_STATUSES:
        message = f"The proxy did not connect to {route.authority}: it responded with {event.status_code}."
        raise NoResponse(message, "proxy")


def retry_after_s(headers: Mapping[str, str], *, at_least: float = 0.0) -> float | None:
    """Read Retry-After (RFC 9110, 10.2.3): seconds, or a date that is measured from the response's own Date.

    The names of `headers` are in lower case.
    """
    value = headers.get("retry-after", "").strip()
    if value.isascii() and value.isdigit():
        return max(float(value[:9]), at_least)
    try:
        delay = parsedate_to_datetime(value) - parsedate_to_datetime(headers.get("date", ""))
    except (ValueError, TypeError, OverflowError):
        return None
    return max(delay.total_seconds(), at_least)


def look_up(host: str, port: int) -> Sequence[Address]:
    """Return the addresses of a host, as the system has them. Raises OSError and UnicodeError."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [(family, address) for family, _, _, _, address in found]


def _look_up_into(
    resolve: Callable[[str, int], Sequence[Address]], host: str, port: int, found: Future[Sequence[Address]]
) -> None:
    try:
        found.set_result(resolve(host, port))
    except BaseException as error:  # noqa: BLE001 - whoever waits must be told, whatever it is
        found.set_exception(error)


def proxy_of_environment(url: str) -> str | None:
    """Return the proxy for the address; none for what no proxy could reach, this machine and its identity endpoint."""
    host = urlsplit(url).hostname or ""
    with suppress(ValueError):
        address = ipaddress.ip_address(host)
        if address.is_loopback or address.is_link_local:
            return None
    if host == "localhost":
        return None
    proxy: str | None = select_proxy(url, get_environ_proxies(url))
    return proxy and (proxy if "://" in proxy else f"http://{proxy}")


def trust_of_environment() -> ssl.SSLContext:
    """Return the certificates to trust. Raises NoResponse where they cannot be read."""
    name = next((name for name in CERTIFICATE_VARIABLES if os.environ.get(name)), None)
    bundle = os.environ[name] if name else certifi.where()
    is_folder = Path(bundle).is_dir()
    try:
        return ssl.create_default_context(cafile=None if is_folder else bundle, capath=bundle if is_folder else None)
    except OSError as error:
        if error.errno in EXHAUSTION:
            raise _exhausted(error) from error
        whose = f"that {name} names" if name else "that the app brings along"
        message = f"The certificates {whose} cannot be read: {error.strerror or 'they are damaged'}."
        raise NoResponse(message, "certificate") from error


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


def _no_response(error: Exception, route: _Route, timer: _Timer, *, may_have_arrived: bool) -> NoResponse:
    cause: Cause
    if isinstance(error, _DeadlineError):
        message, cause = f"{route.host} did not respond within {timer.allowed} s.", "time"
    elif isinstance(error, h11.RemoteProtocolError):
        message, cause = f"The response from {route.host} is not HTTP/1.1, or larger than accepted.", "not HTTP"
    else:
        message, cause = f"The connection to {route.host} broke before a response came: {_reason(error)}.", "cut"
    return NoResponse(message, cause, may_have_arrived=may_have_arrived)


def _exhausted(error: Exception) -> NoResponse:
    return NoResponse(f"The instance has nothing left to make a connection with: {_reason(error)}.", "exhausted")


def _no_encryption(error: Exception, route: _Route, timer: _Timer) -> NoResponse:
    if isinstance(error, ssl.SSLCertVerificationError):
        reason = (error.verify_message or "it could not be verified").rstrip(".")
        return NoResponse(f"The certificate of {route.host} was not accepted: {reason}.", "certificate")
    if isinstance(error, _DeadlineError):
        return NoResponse(f"TLS with {route.host} was not negotiated within {timer.allowed} s.", "tls")
    return NoResponse(f"TLS with {route.host} could not be negotiated: {_reason(error)}.", "tls")


def _reason(error: Exception) -> str:
    """Return OpenSSL's or the system's own words, or else the error's name."""
    return getattr(error, "reason", None) or getattr(error, "strerror", None) or type(error).__name__
