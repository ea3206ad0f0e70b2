"""A template whose children do what their file says, as a decoder would that has been taken over.

What a call came to is told as a refusal of the file, which any child may say.
"""

from __future__ import annotations

import ctypes
import json
import mmap
import os
import signal
import socket
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shared.cage import template

if TYPE_CHECKING:
    from collections.abc import Callable

    from shared.image import ImageLimits

_LIBC = ctypes.CDLL(None, use_errno=True)
_KEPT: list[object] = []


def main() -> None:
    """Serve as the real template does."""
    template.main(_be_hostile)


def _be_hostile(
    content: bytes, _limits: ImageLimits, ask: Callable[[dict[str, Any]], object], deliver: Callable[[bytes], object]
) -> dict[str, Any]:
    order = json.loads(content[:])
    if order.get("needs"):
        ask({"needs": order["needs"]})
    if "says" in order:
        deliver(bytes.fromhex(order.get("leaves", "")))
        said: dict[str, Any] = order["says"]
        return said
    try:
        outcome = str(_ATTACKS[order["attack"]](order.get("victim", 0)))
    except (OSError, ValueError, MemoryError) as error:
        outcome = f"{type(error).__name__} after {len(_KEPT)} MB"
    return {"refused": "CorruptImage", "message": outcome}


def _connect(_: int) -> object:
    return socket.socket().fileno()


def _fork(_: int) -> object:
    return os.fork() or os._exit(0)


def _read_environment(victim: int) -> object:
    return len(Path(f"/proc/{victim}/environ").read_bytes())


def _read_memory(victim: int) -> object:
    """Read another process as a debugger would (`process_vm_readv`), at an address of our own, which is as good."""

    class Piece(ctypes.Structure):
        _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))

    here = ctypes.create_string_buffer(8)
    piece = Piece(ctypes.addressof(here), 8)
    if _LIBC.process_vm_readv(victim, ctypes.byref(piece), 1, ctypes.byref(piece), 1, 0) < 0:
        raise OSError(ctypes.get_errno(), "process_vm_readv")
    return "read"


def _take_memory(_: int) -> object:
    while True:
        _KEPT.append(bytearray(1_000_000))


def _crash_at_the_end(_: int) -> object:
    """As a decoder does that does not look whether it got memory."""
    with suppress(MemoryError):
        _take_memory(0)
    return _crash(0)


def _map_memory(_: int) -> object:
    """As `_take_memory`, past Python and malloc."""
    while True:
        _KEPT.append(mmap.mmap(-1, 1_000_000))


def _raise_limits(_: int) -> object:
    import resource  # noqa: PLC0415 - as late as hostile code would

    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (hard, hard))
    return f"{soft} {hard}"


def _spin(_: int) -> object:
    while True:
        pass


def _spin_deaf(_: int) -> object:
    signal.signal(signal.SIGXCPU, signal.SIG_IGN)
    return _spin(0)


def _signal_itself(_: int) -> object:
    signal.raise_signal(signal.SIGSTOP)
    return "went on"


def _wait(_: int) -> object:
    return threading.Event().wait()


def _crash(_: int) -> object:
    return ctypes.string_at(0)


def _abort(_: int) -> object:
    return os.abort()


def _leave(_: int) -> object:
    return os._exit(0)


def _leave_with_status(_: int) -> object:
    return os._exit(3)


def _map_code(_: int) -> object:
    return mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_EXEC)


_ATTACKS: dict[str, Callable[[int], object]] = {
    "open": lambda _: Path("/etc/passwd").read_text(encoding="utf-8"),
    "socket": _connect,
    "fork": _fork,
    "environment": _read_environment,
    "memory of another": _read_memory,
    "signal": lambda victim: os.kill(victim, signal.SIGTERM),
    "signal to all": lambda _: os.kill(-1, signal.SIGTERM),
    "memory": _take_memory,
    "mapped memory": _map_memory,
    "crash where memory ends": _crash_at_the_end,
    "raise limits": _raise_limits,
    "descriptors": lambda _: os.memfd_create("more"),
    "code": _map_code,
    "spin": _spin,
    "spin and ignore the signal": _spin_deaf,
    "signal to itself": _signal_itself,
    "wait": _wait,
    "crash": _crash,
    "abort": _abort,
    "leave": _leave,
    "leave with a status": _leave_with_status,
}
