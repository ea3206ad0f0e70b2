"""Sends many drops through a whole local cloud: written so that the host never idles, each awaited until it is final.

Results are seen in storage's access log, so that waiting costs one read per result, for every app alike.
"""

from __future__ import annotations

import contextlib
import json
import queue
import re
import shutil
import threading
import time
import uuid
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from azure.core.exceptions import AzureError

from benchmarks.processes import cpu_s
from local.cloud import RESULTS_CONTAINER, LocalCloud
from local.drops import FINAL_STATUSES
from local.processes import PROJECT

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

APPS = Path(__file__).parent / "apps"
WRITERS = 2
BACKLOG = 8
"""How many drops have been written without a result yet: twice as many as the host processes at once."""

_RESULT = re.compile(rf'"PUT /\w+/{RESULTS_CONTAINER}/(\S+)\.json(?:\?\S*)? HTTP/[\d.]+" 201 ')


@dataclass
class Deluge:
    """The outcome of the drops so far."""

    seconds: list[float] = field(default_factory=list)
    latencies_s: list[float] = field(default_factory=list)
    statuses: Counter[str] = field(default_factory=Counter)
    cpu_s: Counter[str] = field(default_factory=Counter)


@contextlib.contextmanager
def opened(app: str | None, settings: Mapping[str, str], itwins: int) -> Iterator[Pourer]:
    """Start a cloud with one of the apps here, or the project's own, with the project's own host.json."""
    with TemporaryDirectory(prefix="benchmark-") as folder:
        if app:
            shutil.copy(APPS / app / "function_app.py", folder)
            shutil.copy(PROJECT / "host.json", folder)
        pourer = Pourer()
        cloud = LocalCloud(app_folder=Path(folder) if app else PROJECT, app_settings=settings)
        with cloud:
            pourer.take(cloud, itwins)
            yield pourer


class Pourer:
    """Sends drops to one cloud."""

    def __init__(self) -> None:
        self.deluge = Deluge()
        self._written_at: dict[str, float] = {}
        self._changed: queue.SimpleQueue[tuple[str, float]] = queue.SimpleQueue()
        self._slots = threading.Semaphore(BACKLOG)
        self._poured = 0

    def take(self, cloud: LocalCloud, itwins: int) -> None:
        """Create the iTwins' containers, and begin to watch."""
        self._cloud = cloud
        self._itwins = [str(uuid.uuid4()) for _ in range(itwins)]
        for itwin_id in self._itwins:
            cloud.drops.create_container(itwin_id)
        cloud.azurite.watch(self._hear_storage)

    @property
    def host_pid(self) -> int:
        """The process that runs the app."""
        return self._cloud.host.pid or 0

    def pour(
        self, pictures: Sequence[tuple[str, bytes]], count: int, *, timeout_s: float, at_once: bool = False
    ) -> None:
        """Write this many drops, to each iTwin in turn, and wait until each has its final result."""
        numbers = range(self._poured, self._poured + count)
        self._poured += count
        before, began = self._used(), time.monotonic()
        finished = threading.Thread(target=self._collect, args=(count, began + timeout_s), daemon=True)
        finished.start()
        with ThreadPoolExecutor(count if at_once else WRITERS) as writers:
            for number in numbers:
                if not at_once and not self._slots.acquire(timeout=timeout_s):
                    break
                writers.submit(self._write, number, *pictures[number % len(pictures)])
        finished.join()
        self.deluge.seconds.append(time.monotonic() - began)
        self.deluge.cpu_s.update(self._used() - before)

    def _write(self, number: int, name: str, content: bytes) -> None:
        itwin_id = self._itwins[number % len(self._itwins)]
        blob = f"{number}-{name}"
        self._written_at[f"{itwin_id}/{blob}"] = time.monotonic()
        self._cloud.drops.get_blob_client(itwin_id, blob).upload_blob(content)
        self._written_at[f"{itwin_id}/{blob}"] = time.monotonic()

    def _hear_storage(self, line: str) -> None:
        found = _RESULT.search(line)
        if found:
            self._changed.put((unquote(found[1]), time.monotonic()))

    def _collect(self, count: int, deadline: float) -> None:
        while count and time.monotonic() < deadline:
            with contextlib.suppress(queue.Empty, AzureError):
                name, at = self._changed.get(timeout=0.5)
                document = self._read(name)
                if document["status"] in FINAL_STATUSES and name in self._written_at:
                    self.deluge.latencies_s.append(max(0.0, at - self._written_at.pop(name)))
                    self.deluge.statuses[document["status"]] += 1
                    self._slots.release()
                    count -= 1
        self.deluge.statuses["no result"] += count

    def _read(self, name: str) -> dict[str, Any]:
        return dict(
            json.loads(self._cloud.drops.get_blob_client(RESULTS_CONTAINER, f"{name}.json").download_blob().readall())
        )

    def _used(self) -> Counter[str]:
        return Counter(
            {
                "host and app": cpu_s(self.host_pid),
                "Azurite": cpu_s(self._cloud.azurite.pid or 0),
                "uploader and Event Grid": time.process_time(),
            }
        )
