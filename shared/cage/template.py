"""The program of the template process: it has every decoder loaded, and forks a child for each file.

It has one thread, no environment, and never sees a file. One socket carries the image limits, which apply to
every file, and then requests, one at a time ::

    a child to reap, or 0      ->  the process ID of a new child, or 0, and how the other one ended
    and, for a new child, its socket

A child remains a zombie until it is reaped, so its process ID is not reused while the app may still send it a signal.
When the app ends, its socket closes; the template ends then, and its children with it.
"""

from __future__ import annotations

import ctypes
import gc
import mmap
import os
import socket
import traceback
from collections.abc import Callable
from importlib import import_module
from typing import Any, NoReturn, cast

from shared.cage import confinement
from shared.cage.conversation import JOB, MAX_MESSAGE_BYTES, REPLY, REQUEST, pack, unpack
from shared.cage.file_process import NOT_BEGUN
from shared.cage.mapped_file import map_file
from shared.cage.warming import warm_up
from shared.cage.work import normalize_file, unpack_file
from shared.image.model import ImageLimits

Normalize = Callable[
    [bytes, ImageLimits, Callable[[dict[str, Any]], object], Callable[[bytes], object]], dict[str, Any]
]

_CONTROL, _NULL = 0, 1
"""Standard input is the app's socket; standard output is discarded."""

_LIBC = ctypes.PyDLL(None)
"""`os.fork` also resets locks, threads and modules that no child uses, which takes 0.5 ms."""


def main(normalize: Normalize = normalize_file) -> None:
    """Serve until the app ends; `normalize` is what a child does with its file."""
    control = socket.socket(fileno=_CONTROL)
    confinement.end_with_parent()
    try:
        limits = ImageLimits(**unpack(control.recv(MAX_MESSAGE_BYTES)))
        import_module("shared.image.reencoding")
        warm_up()
        confinement.prepare()
    except BaseException:  # noqa: BLE001 - whatever it is, the app must be told
        control.send(pack({"failed": traceback.format_exc()}))
        return
    changes_user = confinement.may_change_user()
    gc.collect()
    if give_back := getattr(_LIBC, "malloc_trim", None):  # glibc only; free memory would be copied with each child
        give_back(0)
    gc.freeze()
    with open("/proc/self/statm", "rb") as statm:  # noqa: PTH123 - nothing else here needs pathlib
        pages = int(statm.read().split()[0])
    control.send(pack({"ready": True, "addressBytes": pages * mmap.PAGESIZE}))
    while True:
        data, descriptors = _received(control, REQUEST.size)
        if not data:
            return
        (ended,) = REQUEST.unpack(data)
        pid = status = peak_bytes = 0
        cpu_s = 0.0
        if descriptors:
            pid = _fork(control, descriptors[0], normalize, limits, change_user=changes_user)
        if ended:
            _, status, usage = os.wait4(ended, 0)
            cpu_s, peak_bytes = usage.ru_utime + usage.ru_stime, 1024 * usage.ru_maxrss
        control.send(REPLY.pack(pid, status, cpu_s, peak_bytes))


def _fork(
    control: socket.socket, descriptor: int, normalize: Normalize, limits: ImageLimits, *, change_user: bool
) -> int:
    """Return the process ID of a new child, or 0 if the system cannot start one."""
    template = os.getpid()
    pid = cast("int", _LIBC.fork())
    if pid == 0:
        os.dup2(_NULL, control.detach())
        _be_a_child(descriptor, template, normalize, limits, change_user=change_user)
    os.close(descriptor)
    return max(0, pid)


def _be_a_child(
    descriptor: int, template: int, normalize: Normalize, limits: ImageLimits, *, change_user: bool
) -> NoReturn:
    """Handle one file and exit without Python's own cleanup.

    The socket stays open until then: when it closes, the app knows that the process is ending.
    """
    app = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET, fileno=descriptor)
    status = NOT_BEGUN
    try:
        confinement.drop_privileges(template, change_user=change_user)
        if job := _take(app):
            status = 0
            _serve(app, normalize, job, limits)
    finally:
        os._exit(status)


_Job = tuple[bool, bytes, mmap.mmap]
"""Whether the file is only to be unpacked, the file itself, and the output buffer."""


def _take(app: socket.socket) -> _Job | None:
    """Wait for the file, and return it with all limits set."""
    data, descriptors = _received(app, JOB.size)
    if not data:
        return None
    unpacks, source_bytes, room_bytes, soft_bytes, hard_bytes, soft_s, hard_s = JOB.unpack(data)
    content = map_file(descriptors[0], source_bytes)
    room = mmap.mmap(descriptors[1], room_bytes)
    for descriptor in descriptors:
        os.close(descriptor)
    confinement.confine((soft_bytes, hard_bytes), (soft_s, hard_s))
    return unpacks, content, room


_DESCRIPTORS_BYTES = socket.CMSG_SPACE(8)


def _received(channel: socket.socket, size: int) -> tuple[bytes, list[int]]:
    """Return a message and the descriptors sent with it: `socket.recv_fds` without its imports."""
    data, attached, _, _ = channel.recvmsg(size, _DESCRIPTORS_BYTES)
    return data, [number for _, _, numbers in attached for number in memoryview(numbers).cast("i")]


def _serve(app: socket.socket, normalize: Normalize, job: _Job, limits: ImageLimits) -> None:
    unpacks, content, room = job

    def ask(message: dict[str, Any]) -> None:
        app.send(pack(message))
        if not app.recv(MAX_MESSAGE_BYTES):
            os._exit(0)

    def deliver(image: bytes) -> None:
        room[: len(image)] = image

    said = unpack_file(content, len(room), room.write) if unpacks else normalize(content, limits, ask, deliver)
    app.send(pack(said))
