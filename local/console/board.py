"""Decides what the page shows, and which part of it a reader has not seen yet.

Every item has the number of its last change, so a reader needs to keep only one number, and frequent changes are sent
only as often as they are requested.
"""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

Item = dict[str, Any]


class Board:
    """JSON items by key, for use from any thread; None stands for a removed item."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._items: dict[str, tuple[int, Item | None]] = {}
        self._version = 0
        self._listeners: set[Callable[[], object]] = set()
        self.closed = False

    def get(self, key: str) -> Item | None:
        """Return an item; None where there is none."""
        with self._lock:
            return self._items.get(key, (0, None))[1]

    def keys(self, prefix: str) -> list[str]:
        """Return the keys of the items that are there, oldest first."""
        with self._lock:
            return [key for key, (_, item) in self._items.items() if key.startswith(prefix) and item is not None]

    def put(self, key: str, item: Item | None) -> None:
        """Show an item as it is now."""
        with self._lock:
            if self._items.get(key, (0, None))[1] == item:
                return
            self._version += 1
            self._items[key] = (self._version, item)
        self._tell()

    def changes_since(self, version: int) -> tuple[int, Mapping[str, Item | None]]:
        """Return what changed after `version`, and the version that this is."""
        with self._lock:
            return self._version, {key: item for key, (changed, item) in self._items.items() if changed > version}

    @contextlib.contextmanager
    def listening(self, tell: Callable[[], object]) -> Iterator[None]:
        """Call `tell` at every change; it must return at once."""
        with self._lock:
            self._listeners.add(tell)
        try:
            yield
        finally:
            with self._lock:
                self._listeners.discard(tell)

    def close(self) -> None:
        """Tell all readers that nothing more will come."""
        self.closed = True
        self._tell()

    def _tell(self) -> None:
        with self._lock:
            listeners = tuple(self._listeners)
        for tell in listeners:
            tell()
