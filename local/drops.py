"""Drops files and waits for their results, using only the storage SDK, as any other uploader would."""

from __future__ import annotations

import contextlib
import fnmatch
import json
import os
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from azure.core.exceptions import ResourceExistsError, ResourceNotFoundError

from client import itwin_image_drop as client
from local.terminal import own_command

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from azure.storage.blob import BlobServiceClient

DroppedFile = client.Drop
ITWIN_NOT_FOUND = "iTwinNotFound"
FINAL_STATUSES = frozenset({"uploaded", "rejected", "superseded", "failed"})
POLL_INTERVAL_S = 0.1

# What the app ignores, so that there is no result to wait for.
HOUSEKEEPING_NAMES = (".ds_store", "._*", "thumbs.db", "desktop.ini", "~$*", "*.tmp", "*.crdownload", "*.icloud")
HOUSEKEEPING_FOLDERS = ("@eadir", "__macosx", ".appledouble", ".thumbnails", ".stfolder")
PARTIAL_SUFFIX = re.compile(r"\.part(ial|\d+)?$")


def drop_file(storage: BlobServiceClient, itwin_id: str, name: str, content: bytes) -> DroppedFile:
    """Write the blob, and create its container if necessary."""
    container = storage.get_container_client(itwin_id)
    with contextlib.suppress(ResourceExistsError):
        container.create_container()
    return client.drop(storage, itwin_id, name, content)


def read_result(storage: BlobServiceClient, container: str, drop: DroppedFile) -> dict[str, Any] | None:
    """Return the result document of exactly this drop, or None if there is none yet."""
    blob = storage.get_blob_client(container, client.result_name(drop.itwin_id, drop.name))
    try:
        download = blob.download_blob()
        document: dict[str, Any] = json.loads(download.readall())
    except ResourceNotFoundError:
        return None
    return document if client.is_result_of(drop, document, download.properties.last_modified) else None


def wait_for_result(
    storage: BlobServiceClient, container: str, drop: DroppedFile, *, timeout_s: float = 300.0, final: bool = True
) -> dict[str, Any] | None:
    """Wait for the drop's result; when time is up, return the last one that was seen, or None."""
    ((_, result),) = wait_for_results(storage, container, [drop], timeout_s=timeout_s, final=final)
    return result


def wait_for_results(
    storage: BlobServiceClient,
    container: str,
    drops: Iterable[DroppedFile],
    *,
    timeout_s: float,
    final: bool = True,
    on_wait: Callable[[DroppedFile, dict[str, Any]], object] = lambda _, __: None,
) -> Iterator[tuple[DroppedFile, dict[str, Any] | None]]:
    """Yield each drop with its result as it arrives; when time is up, the others with the last result that was seen.

    `on_wait` is called once for each drop that has a result which is not final.
    """
    seen: dict[DroppedFile, dict[str, Any] | None] = dict.fromkeys(drops)
    deadline = time.monotonic() + timeout_s
    while seen:
        is_over = time.monotonic() >= deadline
        for drop, before in list(seen.items()):
            seen[drop] = result = read_result(storage, container, drop) or before
            if is_over or (result is not None and (not final or result.get("status") in FINAL_STATUSES)):
                del seen[drop]
                yield drop, result
            elif result is not None and before is None:
                on_wait(drop, result)
        if seen:
            time.sleep(POLL_INTERVAL_S)


def outcome(drop: DroppedFile, result: Mapping[str, Any]) -> str:
    """Describe on one line what happened to a drop: its status, the changes or the reason, and what can be done."""
    changes = ", ".join((result.get("sent") or {}).get("changes") or ()) or "nothing changed"
    error = result.get("error") or {}
    what = changes if result["status"] == "uploaded" else result.get("reason") or error.get("message")
    hint = f"create it with `{own_command()} itwin {drop.itwin_id}`" if error.get("code") == ITWIN_NOT_FOUND else ""
    return " -> ".join(filter(None, [result["status"], what, hint]))


def files_in(folder: Path) -> Iterator[Path]:
    """Yield the files of a folder and its sub-folders, including linked ones, but none twice.

    Hidden files are skipped.
    """
    found: list[Path] = []
    seen: set[str] = set()
    for parent, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(parent)
        # Links may form a cycle.
        folders[:] = [] if real in seen else sorted(name for name in folders if not name.startswith("."))
        found += [Path(parent, name) for name in files if real not in seen and not name.startswith(".")]
        seen.add(real)
    for file in sorted(found):
        with contextlib.suppress(OSError):  # a file that cannot be examined is skipped
            if file.is_file():
                yield file


def why_left_alone(name: str) -> str | None:
    """Return why a file with this name is not dropped; None if it is."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return "its name is not UTF-8, so no blob can have it"
    *folders, file = name.lower().split("/")
    is_known = any(fnmatch.fnmatchcase(file, known) for known in HOUSEKEEPING_NAMES)
    if is_known or PARTIAL_SUFFIX.search(file) or not set(folders).isdisjoint(HOUSEKEEPING_FOLDERS):
        return "its name is that of a system file, a sidecar or an unfinished copy, which the app ignores"
    return None
