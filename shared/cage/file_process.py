"""What the app knows of a process that has one file, whichever way it was started."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from shared.errors import ResourcesExhausted

if TYPE_CHECKING:
    from contextlib import AbstractContextManager


class ProcessesLost(ResourcesExhausted, code=ResourcesExhausted.code):
    """The process that starts the others has ended, and they with it."""

    def __init__(self) -> None:
        super().__init__("The process that decodes images ended unexpectedly; the app starts another one.")


NOT_BEGUN = 70
"""The status of a process that could not even take its file: it lacks memory or descriptors, whatever the file is."""


@dataclass(frozen=True)
class End:
    """How a process ended: by which signal, or with which status, and what it took; `peak_bytes` is resident memory."""

    signal: int
    status: int
    cpu_s: float = 0.0
    peak_bytes: int = 0


class FileProcess(Protocol):
    """A process that has one file."""

    def receive(self, within_s: float) -> dict[str, Any] | None:
        """Return what it says; None once it has ended. Raises TimeoutError and Nonsense."""

    def go_on(self, memory_bytes: int, cpu_s: int) -> None:
        """Let it decode, with so much memory beside its file, and so much CPU in all."""

    def end(self) -> End:
        """Have it gone, and return how it ended. Raises ProcessesLost."""

    def image(self, size: int) -> bytes:
        """Return that many bytes of what it left where the image is to be; fewer where there are no more."""

    def file(self, size: int) -> AbstractContextManager[HeldFile]:
        """Have what it left as a file, once it has ended."""


class HeldFile(Protocol):
    """A file that processes can be given."""

    @property
    def size(self) -> int:
        """How many bytes it has."""

    def open_process(self, most_unpacked: int = 0) -> AbstractContextManager[FileProcess]:
        """Have a process take the file, which is gone when the block is left: to normalize it, or only to unpack it.

        Raises ProcessesLost.
        """


class Processes(Protocol):
    """What starts processes."""

    def prepare(self) -> None:
        """Begin to start what takes long, and do not wait for it."""

    def hold(self, content: bytes) -> AbstractContextManager[HeldFile]:
        """Have `content` where processes can be given it. It is copied, so that the caller need not keep it."""

    def close(self) -> None:
        """End all that is left."""
