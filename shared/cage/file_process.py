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


@dataclass(frozen=True)
class End:
    """How a process ended: the signal that ended it or 0, the status it ended with or 0, and its seconds of CPU."""

    signal: int
    status: int
    cpu_s: float


class FileProcess(Protocol):
    """A process that has one file."""

    def receive(self, within_s: float) -> dict[str, Any] | None:
        """Return what it says; None once it has ended. Raises TimeoutError and Nonsense."""

    def go_on(self, memory_bytes: int, cpu_s: int) -> None:
        """Let it decode, with so much memory beside its file, and so much CPU in all."""

    def end(self) -> End:
        """Have it gone, and return how it ended. Raises ProcessesLost."""

    def image(self) -> bytes:
        """Return what it left where the image is to be."""


class Processes(Protocol):
    """What starts processes."""

    def prepare(self) -> None:
        """Begin to start what takes long, and do not wait for it."""

    def open_process(self, content: bytes) -> AbstractContextManager[FileProcess]:
        """Have a process take `content`, which is gone when the block is left. Raises ProcessesLost."""

    def close(self) -> None:
        """End all that is left."""
