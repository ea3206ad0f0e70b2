"""The cage on Linux: one forked process per file, which receives memory by descriptor and has limits."""

from __future__ import annotations

import fcntl
import os
import threading
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from shared.cage.conversation import GO_ON, JOB
from shared.cage.file_process import End, ProcessesLost
from shared.cage.images import EXAMINATION_BYTES, EXAMINATION_CPU_S
from shared.cage.processes import Template

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    from shared.cage.images import CageLimits
    from shared.cage.processes import Child
    from shared.image import ImageLimits

_SEALED_SIZE = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW


class Cage:
    """A template and its children. If the template is lost, another one is started."""

    def __init__(self, limits: ImageLimits, cage: CageLimits, program: str = "shared.cage.template") -> None:
        self._limits = limits
        self._cage = cage
        self._program = program
        self._lock = threading.Lock()
        self._template: Template | None = None

    def prepare(self) -> None:
        """Start the template now, so that it is ready for the first file."""
        with suppress(OSError):  # the next file tries again
            self._current()

    def close(self) -> None:
        """End every process."""
        with self._lock:
            if self._template:
                self._template.close()

    def hold(self, content: bytes) -> AbstractContextManager[CageFile]:
        """Copy `content` into memory whose descriptor can be sent to a process."""
        return self.held(_sealed(content), len(content))

    @contextmanager
    def held(self, descriptor: int, size: int) -> Iterator[CageFile]:
        """Return the content of such memory as a file."""
        try:
            yield CageFile(self, descriptor, size)
        finally:
            os.close(descriptor)

    @contextmanager
    def open_process(self, file: CageFile, most_unpacked: int) -> Iterator[CagedProcess]:
        """Give the file to a child, which is gone when the block ends. Raises ProcessesLost."""
        room_bytes = most_unpacked or self._limits.max_output_bytes
        process = CagedProcess(self._current().child(), file, room_bytes, self._cage)
        try:
            process.begin(unpacks=bool(most_unpacked))
            yield process
        finally:
            process.close()

    def _current(self) -> Template:
        with self._lock:
            if self._template is None or self._template.is_lost:
                self._template = Template(self._program, self._cage.wall_s, self._limits)
            return self._template


@dataclass(frozen=True)
class CageFile:
    """A file in sealed memory that has a descriptor: nobody can change it."""

    cage: Cage
    descriptor: int
    size: int

    def open_process(self, most_unpacked: int = 0) -> AbstractContextManager[CagedProcess]:
        """Give the file to a child, which is gone when the block ends. Raises ProcessesLost."""
        return self.cage.open_process(self, most_unpacked)


class CagedProcess:
    """A child with its file and an output buffer, which is memory of a sealed size as well.

    If the buffer's size were not sealed, a child could shrink it while the app reads it, which would kill the app
    (SIGBUS).
    """

    def __init__(self, child: Child, file: CageFile, room_bytes: int, cage: CageLimits) -> None:
        self._child = child
        self._file = file
        self._cage = cage
        self._room = -1
        self._room_bytes = room_bytes
        self._mapped_bytes = child.address_bytes + file.size + room_bytes
        self.ended: End | None = None

    def begin(self, *, unpacks: bool) -> None:
        """Hand over the file."""
        self._room = _room(self._room_bytes)
        most_bytes = max(EXAMINATION_BYTES, self._cage.budget_bytes)
        job = JOB.pack(
            unpacks,
            self._file.size,
            self._room_bytes,
            *(self._mapped_bytes + EXAMINATION_BYTES, self._mapped_bytes + most_bytes),
            *(EXAMINATION_CPU_S, max(EXAMINATION_CPU_S, self._cage.cpu_s) + 1),
        )
        self._child.send(job, [self._file.descriptor, self._room])

    def receive(self, within_s: float) -> dict[str, Any] | None:
        """Return the child's next message, or None once it has ended. Raises TimeoutError and InvalidMessage."""
        return self._child.receive(within_s)

    def go_on(self, memory_bytes: int, cpu_s: int) -> None:
        """Let it decode, with this much memory and this much CPU time in all."""
        self._child.allow(self._mapped_bytes + memory_bytes, cpu_s)
        self._child.send(GO_ON)

    def end(self) -> End:
        """Kill it if it still runs, and return how it ended. Raises ProcessesLost."""
        if self.ended is None:
            self.ended = self._child.end()
        return self.ended

    def image(self, size: int) -> bytes:
        """Return the first bytes of the output buffer."""
        return os.pread(self._room, size, 0)

    def file(self, size: int) -> AbstractContextManager[CageFile]:
        """Return the output buffer as a file: no process has it mapped any longer, so it cannot change."""
        fcntl.fcntl(self._room, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE)
        descriptor, self._room = self._room, -1
        return self._file.cage.held(descriptor, size)

    def close(self) -> None:
        """Kill it, whatever it is doing."""
        if self._room >= 0:
            os.close(self._room)
        with suppress(ProcessesLost):
            self.end()


def _sealed(content: bytes) -> int:
    """Return a descriptor of sealed memory that holds `content`."""
    descriptor = os.memfd_create("file", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        left = memoryview(content)
        while left:
            left = left[os.write(descriptor, left) :]
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE | _SEALED_SIZE | fcntl.F_SEAL_SEAL)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _room(size: int) -> int:
    """Return a descriptor of memory whose size is sealed."""
    descriptor = os.memfd_create("image", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.ftruncate(descriptor, size)
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, _SEALED_SIZE)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor
