"""The interface of a process that has one file, however it was started."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from shared.errors import ResourcesExhausted

if TYPE_CHECKING:
    from contextlib import AbstractContextManager


class ProcessesLost(ResourcesExhausted, code=ResourcesExhausted.code):
    """The process that starts the others has ended, and they ended with it."""

    def __init__(self) -> None:
        super().__init__("The process that decodes images ended unexpectedly; the app starts another one.")


NOT_BEGUN = 70
"""The exit status of a process that could not even receive its file, for lack of memory or descriptors."""


@dataclass(frozen=True)
class End:
    """How a process ended: its signal or status, and what it used; `peak_bytes` is resident memory."""

    signal: int
    status: int
    cpu_s: float = 0.0
    peak_bytes: int = 0


class FileProcess(Protocol):
    """A process that has one file."""

    def receive(self, within_s: float) -> dict[str, Any] | None:
        """Return its next message, or None once it has ended. Raises TimeoutError and InvalidMessage."""

    def go_on(self, memory_bytes: int, cpu_s: int) -> None:
        """Let it decode, with this much memory in addition to its file, and this much CPU time in all."""

    def end(self) -> End:
        """Kill it if it still runs, and return how it ended. Raises ProcessesLost."""

    def image(self, size: int) -> bytes:
        """Return the first `size` bytes of its output, or all of it if there are fewer."""

    def file(self, size: int) -> AbstractContextManager[HeldFile]:
        """Return its output as a file, once it has ended."""


class HeldFile(Protocol):
    """A file that can be given to processes."""

    @property
    def size(self) -> int:
        """Its size."""

    def open_process(self, most_unpacked: int = 0) -> AbstractContextManager[FileProcess]:
        """Give the file to a process, to normalize it or only to unpack it; the process is gone when the block ends.

        Raises ProcessesLost.
        """


class Processes(Protocol):
    """Starts processes."""

    def prepare(self) -> None:
        """Begin to start what takes long to start, without waiting for it."""

    def hold(self, content: bytes) -> AbstractContextManager[HeldFile]:
        """Copy `content` to where it can be given to processes; the caller need not keep it."""

    def close(self) -> None:
        """End all remaining processes."""
