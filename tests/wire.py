"""Peers that speak plain sockets: what a server must never do, and what no server's library would let it do."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from local.serving import LOOPBACK, listen

if TYPE_CHECKING:
    from collections.abc import Iterator

Conversation = Callable[[socket.socket], None]


@contextlib.contextmanager
def conversing(*conversations: Conversation, again: bool = False) -> Iterator[str]:
    """Lead the first connection's conversation, then the second's; yields the address.

    Those that come after the last are refused their conversation, or are led the last one `again`.
    """
    listener = listen()
    accepted: list[socket.socket] = []

    def accept() -> None:
        waiting = list(conversations)
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            accepted.append(connection)
            if not waiting:
                connection.close()
                continue
            conversation = waiting[0] if again and len(waiting) == 1 else waiting.pop(0)
            threading.Thread(target=_converse, args=(conversation, connection), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield f"http://{LOOPBACK}:{listener.getsockname()[1]}"
    finally:
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        for connection in accepted:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


def _converse(conversation: Conversation, connection: socket.socket) -> None:
    with connection, contextlib.suppress(OSError):
        conversation(connection)


def read_request(connection: socket.socket) -> bytes:
    """Return the next request whole, by its Content-Length; what has come of it where the client ends before."""
    request = b""
    while b"\r\n\r\n" not in request:
        piece = connection.recv(1)
        if not piece:
            return request
        request += piece
    fields = [line.split(b":", 1) for line in request.lower().split(b"\r\n") if b":" in line]
    left = next((int(value) for name, value in fields if name == b"content-length"), 0)
    while left and (piece := connection.recv(min(left, 65536))):
        request += piece
        left -= len(piece)
    return request


def respond(status: str = "200 OK", body: bytes = b"{}", *headers: str) -> bytes:
    """Return a whole response."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


def responding(*responses: bytes) -> Conversation:
    """Respond to one request after the other on the same connection, then wait for the client to leave."""

    def conversation(connection: socket.socket) -> None:
        for response in responses:
            read_request(connection)
            connection.sendall(response)
        connection.recv(1)

    return conversation


def reset(connection: socket.socket) -> None:
    """Break the connection off."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()
