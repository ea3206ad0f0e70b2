"""Serves the stand-ins: ASGI on a loopback port, in a thread of this process."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterator

    from starlette.types import ASGIApp

LOOPBACK = "127.0.0.1"


class LocalCloudError(Exception):
    """The local cloud cannot run; the message is one sentence that says why and what to do."""

    exit_code = 1


class UsageError(LocalCloudError):
    """The command line makes no sense, regardless of what runs on this machine."""

    exit_code = 2


def listen(port: int = 0) -> socket.socket:
    """Bind a loopback port; 0 chooses a free one. Raises LocalCloudError if it cannot be used."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((LOOPBACK, port))
    except OSError as error:
        listener.close()
        message = (
            f"Port {port} cannot be used ({error.strerror}): stop the program that uses it, or choose another one."
        )
        raise LocalCloudError(message) from error
    listener.listen(2048)
    return listener


def names_this_machine(host: str) -> bool:
    """Whether a `Host` header names loopback; any other name that leads here is a DNS rebinding attack."""
    try:
        name = urlsplit(f"//{host}").hostname or ""
        return name == "localhost" or ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


@contextmanager
def serve(app: ASGIApp, port: int = 0) -> Iterator[str]:
    """Serve `app` until the block ends; yields its address, like `http://127.0.0.1:40123`."""
    import uvicorn  # noqa: PLC0415 - it takes a while, and most of what imports this serves nothing

    listener = listen(port)
    config = uvicorn.Config(app, lifespan="off", log_config=None, access_log=False, timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)

    async def run() -> None:
        await server.serve(sockets=[listener])
        # Clients that are still connected would wait for a response forever.
        for connection in tuple(server.server_state.connections):
            connection.transport.abort()
        await asyncio.sleep(0)  # the loop closes them in its next turn

    thread = threading.Thread(target=lambda: asyncio.run(run()), daemon=True, name="uvicorn")
    thread.start()
    try:
        yield f"http://{LOOPBACK}:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
        listener.close()
