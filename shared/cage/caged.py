"""The cage, where the system offers one: a forked process per file, its memory shared by descriptor, its limits set."""

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
    """A template and its children. Another template is started where one was lost."""

    def __init__(self, limits: ImageLimits, cage: CageLimits, program: str = "shared.cage.template") -> None:
        self._limits = limits
        self._cage = cage
        self._program = program
        self._lock = threading.Lock()
        self._template: Template | None = None

    def prepare(self) -> None:
        """Have the template started by the time that a file comes."""
        with suppress(OSError):  # whoever comes with a file tries it again
            self._current()

    def close(self) -> None:
        """End every process."""
        with self._lock:
            if self._template:
                self._template.close()

    def hold(self, content: bytes) -> AbstractContextManager[CageFile]:
        """Have `content` in memory that a process can be given a descriptor of."""
        return self.held(_sealed(content), len(content))

    @contextmanager
    def held(self, descriptor: int, size: int) -> Iterator[CageFile]:
        """Have what such memory holds as a file."""
        try:
            yield CageFile(self, descriptor, size)
        finally:
            os.close(descriptor)

    @contextmanager
    def open_process(self, file: CageFile, most_unpacked: int) -> Iterator[CagedProcess]:
        """Have a child take the file, which is gone when the block is left. Raises ProcessesLost."""
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
    """A file in memory that has a descriptor, and that nobody can change."""

    cage: Cage
    descriptor: int
    size: int

    def open_process(self, most_unpacked: int = 0) -> AbstractContextManager[CagedProcess]:
        """Have a child take the file, which is gone when the block is left. Raises ProcessesLost."""
        return self.cage.open_process(self, most_unpacked)


class CagedProcess:
    """A child with its file, and the room for what it makes of that, which is memory of a sealed size as well.

    Were the room's not sealed, a child could shrink it while it is read, which would end the app (SIGBUS).
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
        """Hand the file over."""
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
        """Return what the child says; None once it has ended. Raises TimeoutError and Nonsense."""
        return self._child.receive(within_s)

    def go_on(self, memory_bytes: int, cpu_s: int) -> None:
        """Let it decode, with so much memory and so much CPU in all."""
        self._child.allow(self._mapped_bytes + memory_bytes, cpu_s)
        self._child.send(GO_ON)

    def end(self) -> End:
        """Have it gone, and return how it ended. Raises ProcessesLost."""
        if self.ended is None:
            self.ended = self._child.end()
        return self.ended

    def image(self, size: int) -> bytes:
        """Return so much of the room's content."""
        return os.pread(self._room, size, 0)

    def file(self, size: int) -> AbstractContextManager[CageFile]:
        """Have the room's content as a file: nobody has it mapped any longer, and nobody changes it from here on."""
        fcntl.fcntl(self._room, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE)
        descriptor, self._room = self._room, -1
        return self._file.cage.held(descriptor, size)

    def close(self) -> None:
        """Have it gone, whatever it is doing."""
        if self._room >= 0:
            os.close(self._room)
        with suppress(ProcessesLost):
            self.end()


def _sealed(content: bytes) -> int:
    """Return a descriptor of memory that holds `content` and that nobody can change."""
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
    """Return a descriptor of memory of a size that nobody can change."""
    descriptor = os.memfd_create("image", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(descriptor, size)
    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, _SEALED_SIZE)
    return descriptor
