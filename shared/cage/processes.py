"""The processes that handle files, as the app sees them: a template, and one child of it per file.

The app has many threads and never forks; the template has one thread, and does.
"""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import signal
import socket
import struct
import subprocess
import threading
import weakref
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from shared.cage.conversation import (
    MAX_MESSAGE_BYTES,
    REPLY,
    REQUEST,
    InvalidMessage,
    ProcessTraceback,
    limits_as_json,
    pack,
    unpack,
)
from shared.cage.file_process import NOT_BEGUN, End, ProcessesLost
from shared.cage.launching import launch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shared.image import ImageLimits

_START_S = 60
"""How long a template may take to load every decoder, on an instance that is busy with other work."""


class Template:
    """One template process, from its start to its end.

    Each request takes it a moment; if one is not done after `patience_s`, the template was stopped and counts as lost.
    """

    def __init__(self, program: str, patience_s: float, limits: ImageLimits) -> None:
        self._patience_s = patience_s
        self._lock = threading.Lock()
        self._spares: list[tuple[int, socket.socket]] = []
        self._control, its_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with its_end, contextlib.ExitStack() as undo:
            undo.callback(self._control.close)
            self._control.send(pack(limits_as_json(limits)))
            self._process = _kept(program, its_end)
            undo.pop_all()
        self._address_bytes: int | None = None
        self.is_lost = False
        self._stop = weakref.finalize(self, _stop, self._process, self._control, self._spares)

    def child(self) -> Child:
        """Return a child that waits for a file. Raises ProcessesLost."""
        with self._lock:
            spare = self._spares.pop() if self._spares else None
        if spare is None:
            spare, _ = self._fork()
        if spare is None:
            raise ProcessesLost
        return Child(self, *spare, self._address_bytes or 0)

    def reap(self, pid: int) -> End:
        """Reap a child that has ended or was killed, return how it ended, and prepare a child for the next file.

        Raises ProcessesLost.
        """
        with self._lock:
            has_one = bool(self._spares)
        if has_one:
            return self._ask(pid)[1]
        spare, end = self._fork(pid)
        if spare:
            with self._lock:
                self._spares.append(spare)
        return end

    def close(self) -> None:
        """End it and all of its children."""
        self.is_lost = True
        self._stop()

    def _fork(self, ended: int = 0) -> tuple[tuple[int, socket.socket] | None, End]:
        """Return a new child's process ID and socket, or None if none can be started, and how the reaped one ended."""
        channel, its_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with its_end, contextlib.ExitStack() as undo:
            undo.callback(channel.close)
            pid, end = self._ask(ended, its_end)
            if pid:
                undo.pop_all()
                return (pid, channel), end
        self.is_lost = True  # another template may have what this one lacks; the children at work continue
        return None, end

    def _ask(self, ended: int, its_end: socket.socket | None = None) -> tuple[int, End]:
        with self._lock:
            try:
                self._await_ready()
                socket.send_fds(self._control, [REQUEST.pack(ended)], [its_end.fileno()] if its_end else [])
                pid, status, cpu_s, peak_bytes = REPLY.unpack(self._heard(self._patience_s))
            except (OSError, InvalidMessage, struct.error) as error:
                self.close()
                raise ProcessesLost from error
        ended_by = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
        return pid, End(ended_by, os.WEXITSTATUS(status), cpu_s, peak_bytes)

    def _await_ready(self) -> None:
        if self._address_bytes is not None:
            return
        said = unpack(self._heard(max(_START_S, self._patience_s)))
        if "failed" in said:
            self.close()
            raise ProcessesLost from ProcessTraceback(said["failed"])
        self._address_bytes = int(said["addressBytes"])

    def _heard(self, within_s: float) -> bytes:
        self._control.settimeout(within_s)
        data = self._control.recv(MAX_MESSAGE_BYTES)
        if not data:
            raise ConnectionResetError
        return data


class Child:
    """A process that waits for one file, or has it. `address_bytes` is the address space that it uses before that."""

    def __init__(self, template: Template, pid: int, channel: socket.socket, address_bytes: int) -> None:
        self._template = template
        self._channel = channel
        self.pid = pid
        self.address_bytes = address_bytes

    def send(self, message: bytes, descriptors: Sequence[int] = ()) -> None:
        """Send a message. Whether it arrived shows in the reply."""
        with contextlib.suppress(OSError):
            socket.send_fds(self._channel, [message], descriptors)

    def receive(self, within_s: float) -> dict[str, Any] | None:
        """Return its next message, or None once it has ended. Raises TimeoutError and InvalidMessage."""
        self._channel.settimeout(max(within_s, 0.001))
        try:
            data = self._channel.recv(MAX_MESSAGE_BYTES)
        except ConnectionError:
            return None
        return unpack(data) if data else None

    def allow(self, memory_bytes: int, cpu_s: int) -> None:
        """Set the limits for the rest of its work."""
        with contextlib.suppress(ProcessLookupError):
            resource.prlimit(self.pid, resource.RLIMIT_AS, (memory_bytes, memory_bytes))
            resource.prlimit(self.pid, resource.RLIMIT_CPU, (cpu_s, cpu_s + 1))

    def end(self) -> End:
        """Kill it, reap it and return how it ended. Raises ProcessesLost."""
        self._channel.close()
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)  # no effect on a process that is already ending
        end = self._template.reap(self.pid)
        if end.status == NOT_BEGUN:
            self._template.is_lost = True  # another template may have what this one's children lack
        return end


def _kept(program: str, its_end: socket.socket) -> subprocess.Popen[bytes]:
    """Start a template from a thread that lives as long as the app: the kernel kills it with that thread.

    Its end of the socket is its standard input, so that no descriptor number has to be passed on.
    """
    started: Future[subprocess.Popen[bytes]] = Future()

    def keep() -> None:
        try:
            process = launch(program, stdin=its_end, stdout=subprocess.DEVNULL)
        except OSError as error:
            started.set_exception(error)
        else:
            started.set_result(process)
            process.wait()

    try:
        threading.Thread(target=keep, daemon=True).start()
    except RuntimeError as error:
        raise OSError(errno.EAGAIN, "No thread could be started.") from error
    return started.result()


def _stop(process: subprocess.Popen[bytes], control: socket.socket, spares: list[tuple[int, socket.socket]]) -> None:
    for channel in (control, *(channel for _, channel in spares)):
        channel.close()
    process.kill()
    process.wait()
