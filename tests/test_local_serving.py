"""What is served on loopback ends when it is told to, for those who are connected as well."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from local.serving import serve
from tests.deadlines import HANG_S

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

MANY_BYTES = 50_000_000


async def answer_at_length(_scope: Scope, _receive: Receive, send: Send) -> None:
    """Answer with more than a connection holds of what nobody reads."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": bytes(MANY_BYTES)})


def test_open_connections_are_closed_when_the_server_stops() -> None:
    """Otherwise a browser, which keeps connections for its next request, would keep it running forever."""
    with serve(answer_at_length) as address:
        client = socket.create_connection((urlsplit(address).hostname, urlsplit(address).port))
        client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        client.recv(1)
    client.settimeout(HANG_S)
    with client:
        received = sum(map(len, iter(lambda: client.recv(MANY_BYTES), b"")))
    assert received < MANY_BYTES
