"""Puts what happens in the cloud onto the board, in order, from nothing but what any user can see.

Storage's access log tells which blobs were written, as it tells Event Grid; what is in them is read with the SDK.
"""

from __future__ import annotations

import hashlib
import json
import queue
import threading
import time
from collections import deque
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Self

from azure.core.exceptions import AzureError
from azure.storage.blob import BlobServiceClient

from local.cloud import DEAD_LETTER_CONTAINER, LEDGER_CONTAINER, RESULTS_CONTAINER
from local.drops import why_left_alone
from local.event_grid import read_access_line

if TYPE_CHECKING:
    from datetime import datetime
    from types import TracebackType

    from local.cloud import LocalCloud
    from local.console.board import Board, Item
    from local.console.faults import Faults
    from local.console.pictures import Pictures
    from local.itwin_platform import ITwin

MAX_DROPS = 500  # what a browser shows at ease; the page says where there were more
MAX_STEPS = 50
GLANCE_INTERVAL_S = 0.25
PREFLIGHT_CONTAINER, PROBE_SUFFIX = "preflight", ".probe"
INTERNAL_CONTAINERS = (DEAD_LETTER_CONTAINER, LEDGER_CONTAINER, "azure-webjobs-*", "$*")


class Observer:
    """Watches a cloud from its own thread until the `with` block ends."""

    def __init__(
        self, cloud: LocalCloud, board: Board, faults: Faults, pictures: Pictures, *, max_drops: int = MAX_DROPS
    ) -> None:
        self._cloud = cloud
        self._board = board
        self._faults = faults
        self._pictures = pictures
        self._max_drops = max_drops
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._drops: deque[str] = deque()
        self._sequence = 0
        self._thread = threading.Thread(target=self._watch, daemon=True, name="console observer")
        # A cloud that ends must not wait for retries.
        self._storage = BlobServiceClient.from_connection_string(cloud.connection_string, retry_total=0)

    def __enter__(self) -> Self:
        self._cloud.azurite.watch(self._lines.put)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._cloud.azurite.unwatch(self._lines.put)
        self._lines.put(None)
        self._thread.join()
        self._storage.close()

    def read_drop(self, item: Item) -> bytes | None:
        """Return the content of a drop; None if it has been overwritten or deleted."""
        blob = self._storage.get_blob_client(item["container"], item["name"])
        try:
            download = blob.download_blob()
            return download.readall() if _bare(download.properties.etag) == item["etag"] else None
        except AzureError:
            return None

    def _watch(self) -> None:
        self._glance()
        self._attempt(self._recall)
        glanced_at = time.monotonic()
        while True:
            # Not at every line: there are many, and as many iTwins.
            if time.monotonic() - glanced_at >= GLANCE_INTERVAL_S:
                self._glance()
                glanced_at = time.monotonic()
            try:
                line = self._lines.get(timeout=GLANCE_INTERVAL_S)
            except queue.Empty:
                continue
            if line is None:
                return
            write = read_access_line(line)
            if write:
                self._attempt(self._note, write.container, write.blob)

    def _attempt(self, note: Any, *arguments: str) -> None:
        try:
            note(*arguments)
        except (AzureError, ValueError, TypeError, KeyError):
            return  # deleted since, or no result of the app's, or the cloud is ending

    def _glance(self) -> None:
        """Look at what no log reports: the platform and the switches."""
        itwins = {f"itwin:{itwin.id}": _itwin_item(itwin) for itwin in self._cloud.platform.itwins()}
        for key in self._board.keys("itwin:"):
            if key not in itwins:
                self._board.put(key, None)
        for key, item in itwins.items():
            self._board.put(key, item)
        self._board.put("faults", dict(self._faults.state()))

    def _recall(self) -> None:
        """Note what storage has kept from an earlier run: drops in the order of their dates, then their results."""
        drops: list[tuple[datetime, str, str]] = []
        results: list[tuple[datetime, str, str]] = []
        for container in (container.name for container in self._storage.list_containers()):
            if not _is_internal(container):
                found = results if container == RESULTS_CONTAINER else drops
                blobs = self._storage.get_container_client(container).list_blobs()
                found += [(blob.last_modified, container, blob.name) for blob in blobs]
        self._sequence = max(0, len(drops) - self._max_drops)
        for _, container, name in (*sorted(drops)[-self._max_drops :], *sorted(results)[-self._max_drops :]):
            self._attempt(self._note, container, name)

    def _note(self, container: str, name: str) -> None:
        if container == RESULTS_CONTAINER:
            self._note_result(name)
        elif not _is_internal(container):
            self._note_drop(container, name)

    def _note_drop(self, container: str, name: str) -> None:
        found = self._storage.get_blob_client(container, name).get_blob_properties()
        key = _drop_key(container, name, _bare(found.etag))
        if self._board.get(key):
            return
        item = {
            "container": container,
            "name": name,
            "etag": _bare(found.etag),
            "bytes": found.size,
            "droppedAt": found.last_modified.isoformat(),
            "ignored": bool(why_left_alone(name)) or (not found.size and name.endswith("/")),
            "steps": [],
        }
        self._show(key, item, None)

    def _note_result(self, name: str) -> None:
        text = self._storage.get_blob_client(RESULTS_CONTAINER, name).download_blob().readall()
        result = json.loads(text)
        source = result["source"]
        container, blob, etag = source["container"], source["blob"], source["etag"]
        key = _drop_key(container, blob, etag) if etag else self._latest(container, blob)
        item = self._board.get(key) or {
            "container": container,
            "name": blob,
            "etag": etag,
            "bytes": source["bytes"],
            "droppedAt": source["lastModified"] or result["startedAt"],
            "steps": [],
        }
        self._keep_picture(container, result)
        self._show(key, {**item, "steps": _with_step(item["steps"], result)}, result)

    def _latest(self, container: str, blob: str) -> str:
        """Return the key of a drop for a result that names no version: the last one."""
        for key in reversed(self._drops):
            item = self._board.get(key)
            if item and (item["container"], item["name"]) == (container, blob):
                return key
        return _drop_key(container, blob, "")

    def _show(self, key: str, item: Item, result: dict[str, Any] | None) -> None:
        if key not in self._drops:
            self._sequence += 1
            self._drops.append(key)
            if len(self._drops) > self._max_drops:
                self._board.put(self._drops.popleft(), None)
        is_probe = item["container"] == PREFLIGHT_CONTAINER and item["name"].endswith(PROBE_SUFFIX)
        shown = {"sequence": self._sequence, **item, "result": result, "isProbe": is_probe}
        shown["hasAfter"] = bool(self.sent_key(shown))
        self._board.put(key, shown)

    def _keep_picture(self, container: str, result: dict[str, Any]) -> None:
        """Keep what was sent while the platform still has it."""
        image = self._cloud.platform.image(container) if result["status"] == "uploaded" else None
        if image and hashlib.sha256(image[0]).hexdigest() == result["sent"]["sha256"]:
            self._pictures.keep(f"sent:{result['sent']['sha256']}", image)

    def sent_key(self, item: Item) -> str | None:
        """Return the key of the picture that was sent; None if it is not kept."""
        sent = (item["result"] or {}).get("sent")
        key = f"sent:{sent['sha256']}" if sent else ""
        return key if self._pictures.find(key) else None


def _itwin_item(itwin: ITwin) -> Item:
    image = itwin.image
    return {
        "id": itwin.id,
        "name": itwin.properties.get("displayName"),
        "createdAt": itwin.created_at.isoformat(),
        "image": image and {"id": image.id, "mediaType": image.media_type, "bytes": len(image.data)},
    }


def _with_step(steps: list[Item], result: dict[str, Any]) -> list[Item]:
    """Return the outcome of each attempt at a drop so far, as far as its results were seen."""
    step = {
        "attempt": result["attempts"],
        "at": result["finishedAt"],
        "status": result["status"],
        "code": (result.get("error") or {}).get("code"),
        "httpStatus": (result["response"] or {}).get("httpStatus"),
    }
    return [*(known for known in steps if known != step), step][-MAX_STEPS:]


def _drop_key(container: str, blob: str, etag: str) -> str:
    """Return a key that is safe in an address, whatever the blob is called."""
    return "drop:" + hashlib.sha256(json.dumps([container, blob, etag]).encode()).hexdigest()[:24]


def _bare(etag: str) -> str:
    return etag.strip('"')


def _is_internal(container: str) -> bool:
    return any(fnmatchcase(container, pattern) for pattern in INTERNAL_CONTAINERS)
