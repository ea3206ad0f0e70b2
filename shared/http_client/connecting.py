"""Opens connections: looks the name up, connects a socket, asks a proxy for a tunnel, and negotiates TLS."""

from __future__ import annotations

import errno
import os
import select
import socket
import ssl
import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

import h11

from shared.errors import is_exhaustion
from shared.http_client.connection import Connection
from shared.http_client.environment import trust_of_environment
from shared.http_client.response import TEMPORARY_STATUSES, NoResponse, exhausted, reason_of
from shared.http_client.route import USER_AGENT
from shared.http_client.timer import DeadlineReached, wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from shared.http_client.environment import Address
    from shared.http_client.response import Cause
    from shared.http_client.route import Route
    from shared.http_client.timer import Timer

CONNECT_TIMEOUT_S = 10.0
KEEPALIVE_S = 60
KEEPALIVE_OPTIONS = {"TCP_KEEPIDLE": KEEPALIVE_S, "TCP_KEEPALIVE": KEEPALIVE_S, "TCP_KEEPINTVL": 15, "TCP_KEEPCNT": 4}
# A look-up that takes longer is abandoned, and the next request starts another one.
SHARED_LOOKUP_S = 10.0
OK_STATUSES = range(200, 300)
# The name service's words for what does not change by itself: there is no such name, or none with an address.
NO_SUCH_NAME = (socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME))
# OpenSSL's errors about the connection beneath it, and not about what the peer said.
ENDS_OF_TLS = (ssl.SSLEOFError, ssl.SSLZeroReturnError, ssl.SSLSyscallError)


class Connector:
    """Opens connections; one for the client, shared by its threads.

    `tls` has the trusted certificates; None stands for those of the environment.
    """

    def __init__(
        self,
        resolve: Callable[[str, int], Sequence[Address]],
        tls: ssl.SSLContext | None,
        clock: Callable[[], float],
    ) -> None:
        self._resolve = resolve
        self._tls = tls
        self._clock = clock
        self._lock = threading.Lock()
        self._lookups: dict[tuple[str, int], tuple[float, Future[Sequence[Address]]]] = {}

    def connect(self, route: Route, timer: Timer) -> Connection:
        """Return a fresh connection, through the proxy and with TLS where the route has them. Raises NoResponse."""
        sock = self._open_socket(route, timer)
        try:
            if route.is_tunnel:
                _open_tunnel(sock, route, timer)
            return Connection(self._encrypt(sock, route, timer) if route.scheme == "https" else sock)
        except BaseException:
            sock.close()
            raise

    def _open_socket(self, route: Route, timer: Timer) -> socket.socket:
        host, port = route.first_hop
        whom = "the proxy" if route.proxy else f"{host}:{port}"
        cause: Cause = "proxy" if route.proxy else "connection"
        addresses = self._addresses(host, port, route, timer)
        connecting = timer.at_most(CONNECT_TIMEOUT_S)
        problem: Exception = OSError(errno.EADDRNOTAVAIL, "the name has no address")
        for position, (family, address) in enumerate(addresses):
            share = connecting.at_most(connecting.left_s() / (len(addresses) - position))
            try:
                return _connected(family, address, share)
            except (DeadlineReached, OSError) as error:
                problem = error
        if is_exhaustion(problem):
            raise exhausted(problem) from problem
        if isinstance(problem, DeadlineReached):
            message = f"No connection to {whom} could be made within {connecting.allowed} s."
        else:
            message = f"No connection to {whom} could be made: {reason_of(problem)}."
        raise NoResponse(message, cause) from problem

    def _addresses(self, host: str, port: int, route: Route, timer: Timer) -> Sequence[Address]:
        now = self._clock()
        with self._lock:
            since, found = self._lookups.get((host, port), (now, None))
            if found is None or found.done() or now - since > SHARED_LOOKUP_S:
                found = Future()
                arguments = (self._resolve, host, port, found)
                try:
                    threading.Thread(target=_look_up_into, args=arguments, daemon=True, name="look-up").start()
                except RuntimeError as error:
                    raise exhausted(error) from error
                self._lookups[host, port] = (now, found)
        whose = "The proxy's name" if route.proxy else f"The name {host}"
        cause: Cause = "proxy" if route.proxy else "name"
        try:
            return found.result(timeout=max(timer.left_s(), 0))
        except TimeoutError as error:
            raise NoResponse(f"{whose} was not resolved within {timer.allowed} s.", cause) from error
        except (OSError, UnicodeError) as error:
            if is_exhaustion(error) or getattr(error, "errno", None) == socket.EAI_MEMORY:
                raise exhausted(error) from error
            is_wrong = isinstance(error, UnicodeError) or error.errno in NO_SUCH_NAME
            message = f"{whose} could not be resolved: {reason_of(error)}."
            raise NoResponse(message, cause, is_temporary=not is_wrong) from error

    def _encrypt(self, sock: socket.socket, route: Route, timer: Timer) -> ssl.SSLSocket:
        trust, encrypted = self._trust(), None
        try:
            encrypted = trust.wrap_socket(sock, server_hostname=route.host, do_handshake_on_connect=False)
            while True:
                try:
                    encrypted.do_handshake()
                except ssl.SSLWantReadError:
                    wait_for(encrypted, select.POLLIN, timer)
                except ssl.SSLWantWriteError:
                    wait_for(encrypted, select.POLLOUT, timer)
                else:
                    return encrypted
        except (DeadlineReached, OSError, ValueError) as error:
            if encrypted:
                encrypted.close()  # it has taken the socket over
            raise _no_encryption(error, route, timer) from error

    def _trust(self) -> ssl.SSLContext:
        with self._lock:
            if self._tls is None:
                self._tls = trust_of_environment()
            return self._tls


def _look_up_into(
    resolve: Callable[[str, int], Sequence[Address]], host: str, port: int, found: Future[Sequence[Address]]
) -> None:
    try:
        found.set_result(resolve(host, port))
    except BaseException as error:  # noqa: BLE001 - whoever waits must be told, whatever it is
        found.set_exception(error)


def _connected(family: socket.AddressFamily, address: Any, timer: Timer) -> socket.socket:
    """Return a connected socket that never blocks. Raises OSError, and DeadlineReached."""
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
            wait_for(sock, select.POLLOUT, timer)
            status = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if status:
            raise OSError(status, os.strerror(status))  # noqa: TRY301 - as `connect` does
    except BaseException:
        sock.close()
        raise
    return sock


def _open_tunnel(sock: socket.socket, route: Route, timer: Timer) -> None:
    """Ask the proxy for a connection to the peer (RFC 9110, 9.3.6). Raises NoResponse."""
    headers = [("Host", route.authority), ("User-Agent", USER_AGENT), *route.proxy_headers()]
    connection = Connection(sock)
    try:
        connection.start(h11.Request(method="CONNECT", target=route.authority, headers=headers))
        event = connection.next_event(timer)
        while not isinstance(event, h11.Response):
            event = connection.next_event(timer)
    except DeadlineReached as error:
        raise NoResponse(f"The proxy did not respond within {timer.allowed} s.", "proxy") from error
    except (OSError, h11.RemoteProtocolError) as error:
        is_temporary = isinstance(error, OSError)
        raise NoResponse("The proxy's response is not a valid one.", "proxy", is_temporary=is_temporary) from error
    if (status := event.status_code) not in OK_STATUSES:
        message = f"The proxy did not connect to {route.authority}: it responded with {status}."
        raise NoResponse(message, "proxy", is_temporary=status in TEMPORARY_STATUSES)


def _no_encryption(error: Exception, route: Route, timer: Timer) -> NoResponse:
    if is_exhaustion(error):
        return exhausted(error)
    if isinstance(error, ssl.SSLCertVerificationError):
        reason = (error.verify_message or "it could not be verified").rstrip(".")
        message = f"The certificate of {route.host} was not accepted: {reason}."
        return NoResponse(message, "certificate", is_temporary=False)
    if isinstance(error, DeadlineReached):
        return NoResponse(f"TLS with {route.host} was not negotiated within {timer.allowed} s.", "tls")
    is_wrong = isinstance(error, ssl.SSLError) and not isinstance(error, ENDS_OF_TLS)
    message = f"TLS with {route.host} could not be negotiated: {reason_of(error)}."
    return NoResponse(message, "tls", is_temporary=not (is_wrong or isinstance(error, ValueError)))
