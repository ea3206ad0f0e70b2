"""A proxy in front of a storage emulator, where requests fail as they do in a data centre on a bad day.

It passes requests on byte for byte, so that their signatures stay valid, and has seen every one of them.
"""

from __future__ import annotations

import contextlib
import http.client
import threading
from dataclasses import dataclass, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Literal

from local.serving import LOOPBACK

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from email.message import Message

# Refused before anything was done, for now or for a firewall or a role; refused although it was done; told that a
# condition did not hold.
Fault = Literal["busy", "busy-afterwards", "condition-not-met", "refused"]

ERRORS = {
    "busy": (503, "ServerBusy", "The server is currently unable to receive requests."),
    "busy-afterwards": (503, "ServerBusy", "The server is currently unable to receive requests."),
    "refused": (403, "AuthorizationFailure", "This request is not authorized to perform this operation."),
    "condition-not-met": (412, "ConditionNotMet", "The condition specified using HTTP conditional header(s) is wrong."),
}
UNDONE: tuple[Fault, ...] = ("busy", "condition-not-met", "refused")
HOP_BY_HOP = frozenset({"connection", "keep-alive", "transfer-encoding", "content-length"})
FIRST_ERROR = 300
BODILESS = (204, 304)
UPSTREAM_TIMEOUT_S = 60


@dataclass(frozen=True)
class Exchange:
    """One request and how it was responded to.

    `fault` is None where the response is storage's own; `done` says whether storage did it, whatever the response was.
    """

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes
    done: bool = False
    fault: Fault | None = None


@contextlib.contextmanager
def proxy_storage(
    port: int, choose_fault: Callable[[Exchange], Fault | None], on_exchange: Callable[[Exchange], None]
) -> Iterator[str]:
    """Stand before what listens on the loopback `port` until the block ends; yields the proxy's address.

    `choose_fault` is asked before a request is passed on; `on_exchange` is told before its response goes out, and of
    one blob's requests in the order in which storage carried them out. Both are called from many threads.
    """
    server = _Server(port, choose_fault, on_exchange)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield f"http://{LOOPBACK}:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(
        self, port: int, choose_fault: Callable[[Exchange], Fault | None], on_exchange: Callable[[Exchange], None]
    ) -> None:
        super().__init__((LOOPBACK, 0), _Handler)
        self.port = port
        self.choose_fault = choose_fault
        self.on_exchange = on_exchange
        self._turns: dict[str, threading.Lock] = {}

    def turn(self, path: str) -> threading.Lock:
        return self._turns.setdefault(path, threading.Lock())


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def handle(self) -> None:
        with contextlib.suppress(ConnectionError):  # a killed client says no farewell
            super().handle()

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - inherited
        """Say nothing."""

    def _pass_on(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length)
        if len(body) < length:  # its client was killed; storage would wait for the rest, and everybody for storage
            self.close_connection = True
            return
        exchange = Exchange(self.command, self.path, dict(self.headers.items()), body)
        fault = self.server.choose_fault(exchange)
        with self.server.turn(self.path.partition("?")[0]):
            own = (
                None
                if fault in ("busy", "condition-not-met", "refused")
                else _forward(exchange, self.headers, self.server.port)
            )
            done = own is not None and own[0] < FIRST_ERROR
            self.server.on_exchange(replace(exchange, done=done, fault=fault))
        if response := _fault_response(fault) if fault else own:
            self._respond(*response)

    def _respond(self, status: int, headers: list[tuple[str, str]], content: bytes) -> None:
        self.send_response_only(status)
        for name, value in headers:
            if name.lower() not in HOP_BY_HOP or (self.command == "HEAD" and name.lower() == "content-length"):
                self.send_header(name, value)
        if self.command != "HEAD" and status not in BODILESS:
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _pass_on  # noqa: N815 - inherited names


def _forward(exchange: Exchange, headers: Message[str, str], port: int) -> tuple[int, list[tuple[str, str]], bytes]:
    upstream = http.client.HTTPConnection(LOOPBACK, port, timeout=UPSTREAM_TIMEOUT_S)
    try:
        upstream.putrequest(exchange.method, exchange.target, skip_host=True, skip_accept_encoding=True)
        for name, value in headers.items():
            upstream.putheader(name, value)
        upstream.endheaders(exchange.body)
        response = upstream.getresponse()
        return response.status, response.getheaders(), response.read()
    finally:
        upstream.close()


def _fault_response(fault: Fault) -> tuple[int, list[tuple[str, str]], bytes]:
    status, code, message = ERRORS[fault]
    content = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>".encode()
    return status, [("x-ms-error-code", code), ("Content-Type", "application/xml")], content
