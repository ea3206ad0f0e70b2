"""The program of the template process: it has every decoder ready, and forks a child for each file.

It has one thread, no environment and never sees a file. Requests come on one socket, one at a time ::

    {"fork": true}, with the child's socket   ->  {"pid": 123}
    {"reap": 123}                             ->  {"status": 0, "cpuS": 0.25, "peakBytes": 30000000}

A child stays until it is reaped, so that its number is its own for as long as the app may send it a signal. When the
app ends, the socket does, then the template, then its children.
"""

from __future__ import annotations

import gc
import mmap
import os
import socket
import traceback
from collections.abc import Callable
from importlib import import_module
from typing import Any, NoReturn

from shared.cage import confinement
from shared.cage.confinement import Limit
from shared.cage.conversation import MAX_MESSAGE_BYTES, pack, unpack
from shared.cage.file_process import NOT_BEGUN
from shared.cage.mapped_file import map_file
from shared.cage.warming import warm_up
from shared.cage.work import normalize_file
from shared.image.model import ImageLimits

Normalize = Callable[
    [bytes, ImageLimits, Callable[[dict[str, Any]], object], Callable[[bytes], object]], dict[str, Any]
]

_CONTROL, _NULL = 0, 1
"""Its standard input is the app's socket; its standard output goes nowhere."""


def main(normalize: Normalize = normalize_file) -> None:
    """Serve until the app ends; `normalize` is what a child does with its file."""
    control = socket.socket(fileno=_CONTROL)
    confinement.end_with_parent()
    try:
        import_module("shared.image.reencoding")
        warm_up()
        confinement.prepare()
    except BaseException:  # noqa: BLE001 - whatever it is, the app is to know
        control.send(pack({"failed": traceback.format_exc()}))
        return
    changes_user = confinement.may_change_user()
    gc.collect()
    gc.freeze()
    with open("/proc/self/statm", "rb") as statm:  # noqa: PTH123 - pathlib would be the only one to need it here
        pages = int(statm.read().split()[0])
    control.send(pack({"ready": True, "addressBytes": pages * mmap.PAGESIZE}))
    while True:
        data, descriptors, _, _ = socket.recv_fds(control, MAX_MESSAGE_BYTES, 1)
        if not data:
            return
        request = unpack(data)
        if "fork" in request:
            control.send(pack(_fork(control, descriptors[0], normalize, change_user=changes_user)))
        else:
            _, status, usage = os.wait4(int(request["reap"]), 0)
            cpu_s, peak_bytes = usage.ru_utime + usage.ru_stime, 1024 * usage.ru_maxrss
            control.send(pack({"status": status, "cpuS": cpu_s, "peakBytes": peak_bytes}))


def _fork(control: socket.socket, descriptor: int, normalize: Normalize, *, change_user: bool) -> dict[str, Any]:
    template = os.getpid()
    try:
        pid = os.fork()
    except OSError as error:
        os.close(descriptor)
        return {"failed": str(error.strerror)}
    if pid == 0:
        os.dup2(_NULL, control.detach())
        _be_a_child(descriptor, template, normalize, change_user=change_user)
    os.close(descriptor)
    return {"pid": pid}


def _be_a_child(descriptor: int, template: int, normalize: Normalize, *, change_user: bool) -> NoReturn:
    """Take one file and end, without anything that Python does at its end.

    The socket stays open until then: its end tells the app that the process is ending.
    """
    app = socket.socket(fileno=descriptor)
    status = NOT_BEGUN
    try:
        confinement.renounce(template, change_user=change_user)
        if job := _take(app):
            status = 0
            _serve(app, normalize, *job)
    finally:
        os._exit(status)


def _take(app: socket.socket) -> tuple[bytes, mmap.mmap, ImageLimits] | None:
    """Wait for the file; return it, the room for its image, and what that may be, with all limits set."""
    data, descriptors, _, _ = socket.recv_fds(app, MAX_MESSAGE_BYTES, 2)
    if not data:
        return None
    job = unpack(data)
    content = map_file(descriptors[0], job["sourceBytes"])
    room = mmap.mmap(descriptors[1], job["roomBytes"])
    for descriptor in descriptors:
        os.close(descriptor)
    confinement.confine(Limit(*job["memoryBytes"]), Limit(*job["cpuS"]))
    return content, room, ImageLimits(**job["limits"])


def _serve(app: socket.socket, normalize: Normalize, content: bytes, room: mmap.mmap, limits: ImageLimits) -> None:
    def ask(message: dict[str, Any]) -> None:
        app.send(pack(message))
        if not app.recv(MAX_MESSAGE_BYTES):
            os._exit(0)

    def deliver(image: bytes) -> None:
        room[: len(image)] = image

    app.send(pack(normalize(content, limits, ask, deliver)))
