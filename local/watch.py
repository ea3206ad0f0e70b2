"""`python -m local watch FOLDER`: keep the cloud in step with a folder, as `azcopy sync` or `rclone` do; for trying it.

A file is dropped when nobody has written to it for a while, and again whenever it has changed since.
"""

# ruff: noqa: T201 - a program prints
from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Any

from azure.core.exceptions import HttpResponseError
from azure.storage.blob import BlobServiceClient

from local.azurite import QUICK_RETRIES
from local.drops import FINAL_STATUSES, drop_file, read_result, why_left_alone

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from local.drops import DroppedFile

INTERVAL_S = 0.5
ITWIN_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")

Stamp = tuple[int, int]


def watch(
    folder: Path,
    state: Mapping[str, Any],
    *,
    itwin_id: str | None,
    min_age_s: float,
    make_itwin: Callable[[str], None],
) -> None:
    """Drop what is new and print what becomes of it, until Ctrl-C.

    With an iTwin's id all goes to it; else what lies in a folder that is named by one.
    """
    seen: dict[Path, Stamp] = {}
    waiting: dict[DroppedFile, tuple[str, int]] = {}
    with BlobServiceClient.from_connection_string(state["connectionString"], **QUICK_RETRIES) as storage:
        while True:
            for file, stamp in settled_files(folder, min_age_s, time.time()):
                target = _target(folder, file, itwin_id)
                if target is None or why_left_alone(target[1]) or seen.get(file) == stamp:
                    continue
                try:
                    content = file.read_bytes()
                except OSError:
                    continue  # gone, or not readable yet
                seen[file] = stamp
                make_itwin(target[0])
                try:
                    waiting[drop_file(storage, *target, content)] = ("", 0)
                except HttpResponseError as error:  # of this file; storage that is gone is no response
                    print(f"{'/'.join(target)} -> not dropped -> {error.reason}", flush=True)
            for drop, told in list(waiting.items()):
                document = read_result(storage, state["resultsContainer"], drop)
                if document is None or told == (document["status"], document["attempts"]):
                    continue
                print(_line(drop, document), flush=True)
                waiting[drop] = (document["status"], document["attempts"])
                if document["status"] in FINAL_STATUSES:
                    del waiting[drop]
            time.sleep(INTERVAL_S)


def settled_files(folder: Path, min_age_s: float, now: float) -> Iterator[tuple[Path, Stamp]]:
    """Return the files that were not written to for `min_age_s`, oldest first, for the newest wins; hidden ones never.

    A file that is still being written would be dropped in half.
    """
    found: list[tuple[Stamp, Path]] = []
    for file in folder.rglob("*"):
        try:
            status = file.stat()
        except OSError:
            continue
        is_hidden = any(part.startswith(".") for part in file.relative_to(folder).parts)
        if file.is_file() and not is_hidden and now - status.st_mtime >= min_age_s:
            found.append(((status.st_mtime_ns, status.st_size), file))
    for stamp, file in sorted(found):
        yield file, stamp


def _target(folder: Path, file: Path, itwin_id: str | None) -> tuple[str, str] | None:
    """Return the iTwin and the blob's name; sub-folders stay in it."""
    name = file.relative_to(folder).as_posix()
    if itwin_id:
        return itwin_id, name
    first, _, rest = name.partition("/")
    return (first, rest) if rest and ITWIN_ID.fullmatch(first) else None


def _line(drop: DroppedFile, document: Mapping[str, Any]) -> str:
    changes = ", ".join((document["sent"] or {}).get("changes") or ()) or "nothing changed"
    what = changes if document["status"] == "uploaded" else document["reason"]
    return f"{drop.itwin_id}/{drop.name} -> {document['status']} -> {what}"
