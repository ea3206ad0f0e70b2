"""A cage in which tests can see which processes had a file, and what those took."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from shared.cage.caged import Cage, CagedProcess, CageFile


@dataclass
class Watched:
    """A cage that keeps the processes that have had a file, and which have had the same."""

    cage: Cage
    seen: list[CagedProcess] = field(default_factory=list)
    seen_with: dict[bytes, list[CagedProcess]] = field(default_factory=dict)

    def prepare(self) -> None:
        """Do as the cage does."""
        self.cage.prepare()

    def close(self) -> None:
        """Do as the cage does."""
        self.cage.close()

    @contextmanager
    def hold(self, content: bytes) -> Iterator[WatchedFile]:
        """Do as the cage does."""
        with self.cage.hold(content) as file:
            yield WatchedFile(file, (self.seen, self.seen_with.setdefault(content, [])))


@dataclass
class WatchedFile:
    """A file of such a cage."""

    file: CageFile
    seen: tuple[list[CagedProcess], ...]

    @property
    def size(self) -> int:
        """Have as many bytes as the file."""
        return self.file.size

    @contextmanager
    def open_process(self, most_unpacked: int = 0) -> Iterator[CagedProcess]:
        """Note the process."""
        with self.file.open_process(most_unpacked) as process:
            for seen in self.seen:
                seen.append(process)
            yield process
