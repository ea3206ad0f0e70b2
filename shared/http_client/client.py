"""Sends requests, keeps connections for later ones, and sends a request again where a kept connection was stale."""

from __future__ import annotations

import math
import threading
import time
import weakref
from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

import h11

from shared.http_client.connecting import Connector
from shared.http_client.connection import Request
from shared.http_client.environment import look_up, proxy_of_environment
from shared.http_client.response import NoResponse, reason_of
from shared.http_client.route import Route
from shared.http_client.timer import DeadlineReached, Timer

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Mapping, Sequence

    from shared.http_client.connection import Connection
    from shared.http_client.environment import Address
    from shared.http_client.response import Cause, Response

MAX_BODY_BYTES = 1_000_000
MAX_IDLE_CONNECTIONS = 32


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
        self._connector = Connector(resolve or look_up, tls, clock)
        self._proxy_for = proxy_for or proxy_of_environment
        self._clock = clock
        self._lock = threading.Lock()
        self._idle: dict[Route, deque[Connection]] = {}
        weakref.finalize(self, _close, self._idle)

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
        route = Route.to(url, self._proxy_for(url))
        timer = Timer(deadline, self._clock, quiet_s)
        if timer.left_s() <= 0:
            raise NoResponse("No time was left to send anything.", "time")
        request = Request(route.head(method, url, headers or {}, body), body, max_bytes, is_raw=is_raw)
        resent = False
        if kept := self._take(route):
            try:
                return self._exchange(kept, route, request, timer)
            except _StaleError:
                resent = kept.has_sent
        try:
            response = self._exchange(self._connector.connect(route, timer), route, request, timer)
        except NoResponse as error:
            error.may_have_arrived |= resent
            raise
        return replace(response, resent=resent)

    def close(self) -> None:
        """Close the connections that are kept."""
        with self._lock:
            _close(self._idle)

    def _exchange(self, connection: Connection, route: Route, request: Request, timer: Timer) -> Response:
        try:
            response = connection.exchange(request, timer)
        except (DeadlineReached, OSError, h11.RemoteProtocolError) as error:
            connection.close()
            if connection.was_kept and not connection.has_received and not isinstance(error, DeadlineReached):
                raise _StaleError from error
            raise _no_response(error, route, timer, may_have_arrived=connection.has_sent) from error
        except BaseException:
            connection.close()
            raise
        self._keep(route, connection)
        return response

    def _take(self, route: Route) -> Connection | None:
        """Return a kept connection that may still be good."""
        while True:
            with self._lock:
                connections = self._idle.get(route)
                connection = connections.pop() if connections else None
            if connection is None or not connection.is_stale(self._clock()):
                return connection
            connection.close()

    def _keep(self, route: Route, connection: Connection) -> None:
        surplus: Connection | None = connection
        if connection.reset(self._clock()):
            with self._lock:
                connections = self._idle.setdefault(route, deque())
                connections.append(connection)
                surplus = connections.popleft() if len(connections) > MAX_IDLE_CONNECTIONS else None
        if surplus:
            surplus.close()


def _close(idle: dict[Route, deque[Connection]]) -> None:
    while idle:
        for connection in idle.popitem()[1]:
            connection.close()


class _StaleError(Exception):
    """A kept connection broke before any byte of the response."""


def _no_response(error: Exception, route: Route, timer: Timer, *, may_have_arrived: bool) -> NoResponse:
    cause: Cause
    if isinstance(error, DeadlineReached):
        message, cause = f"{route.host} did not respond within {timer.allowed} s.", "time"
    elif isinstance(error, h11.RemoteProtocolError):
        message, cause = f"The response from {route.host} is not HTTP/1.1, or larger than accepted.", "not HTTP"
    else:
        message, cause = f"The connection to {route.host} broke before a response came: {reason_of(error)}.", "cut"
    return NoResponse(message, cause, may_have_arrived=may_have_arrived, is_temporary=cause != "not HTTP")
