"""The processes of systems without a cage: still one per file, with the file in a private folder.

This is for developers on Windows or macOS, not for Azure. What needs `memfd_create`, `fork`, `resource` or sending
descriptors over sockets is left out; of the limits, only the time limit is enforced.
"""

from __future__ import annotations

import queue
import subprocess
import tempfile
import threading
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from shared.cage.conversation import MAX_MESSAGE_BYTES, pack, unpack
from shared.cage.file_process import End
from shared.cage.launching import launch

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from shared.image import ImageLimits


class PlainProcesses:
    """Starts a process for each file."""

    def __init__(self, limits: ImageLimits) -> None:
        self._limits = limits

    def prepare(self) -> None:
        """Do nothing: no process can be started in advance."""

    def close(self) -> None:
        """Do nothing: every process ends with its file."""

    @contextmanager
    def hold(self, content: bytes) -> Iterator[PlainFile]:
        """Write `content` to a folder of its own."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "file"
            path.write_bytes(content)
            size = len(content)
            del content
            yield PlainFile(path, size, self._limits)


@dataclass(frozen=True)
class PlainFile:
    """A file in a folder of its own."""

    path: Path
    size: int
    limits: ImageLimits

    @contextmanager
    def open_process(self, most_unpacked: int = 0) -> Iterator[PlainProcess]:
        """Give the file to a process, which is gone when the block ends."""
        process = PlainProcess(self.path, self.limits, most_unpacked)
        try:
            yield process
        finally:
            process.end()


class PlainProcess:
    """A process with its file."""

    def __init__(self, source: Path, limits: ImageLimits, most_unpacked: int) -> None:
        self._limits = limits
        self._room = source.with_name("image")
        self._room.unlink(missing_ok=True)
        self._process = launch("shared.cage.plain_child", stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._reader = threading.Thread(target=_read_lines, args=(self._process.stdout, self._lines), daemon=True)
        self._reader.start()
        paths = {"source": str(source), "room": str(self._room)}
        self._send({"limits": asdict(limits), "mostUnpacked": most_unpacked, **paths})

    def receive(self, within_s: float) -> dict[str, Any] | None:
        """Return the process's next message, or None once it has ended. Raises TimeoutError and InvalidMessage."""
        try:
            line = self._lines.get(timeout=within_s)
        except queue.Empty:
            raise TimeoutError from None
        return unpack(line) if line else None

    def go_on(self, memory_bytes: int, cpu_s: int) -> None:  # noqa: ARG002 - neither limit can be enforced here
        """Let it decode."""
        self._send({"go": True})

    def end(self) -> End:
        """Kill it if it still runs, and return how it ended."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(0.0 if self._reader.is_alive() else _END_S)
        self._process.kill()
        code = self._process.wait()
        self._reader.join()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe:
                with suppress(OSError):
                    pipe.close()
        return End(max(0, -code), max(0, code))

    def image(self, size: int) -> bytes:
        """Return the first bytes of its output file."""
        with suppress(FileNotFoundError), self._room.open("rb") as file:
            return file.read(size)
        return b""

    @contextmanager
    def file(self, size: int) -> Iterator[PlainFile]:
        """Return its output as a file in a folder of its own."""
        with tempfile.TemporaryDirectory() as folder:
            yield PlainFile(self._room.rename(Path(folder) / "file"), size, self._limits)

    def _send(self, message: Mapping[str, Any]) -> None:
        if self._process.stdin:
            with suppress(OSError):
                self._process.stdin.write(pack(message) + b"\n")
                self._process.stdin.flush()


_END_S = 20
"""How long a process that has closed its output may take to end."""


def _read_lines(stream: IO[bytes], lines: queue.SimpleQueue[bytes]) -> None:
    """Pass on every line, and an empty one at the end."""
    while line := stream.readline(MAX_MESSAGE_BYTES):
        lines.put(line)
    lines.put(b"")
