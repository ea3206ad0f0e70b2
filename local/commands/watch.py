"""`python -m local watch FOLDER`: keep the cloud in sync with a folder, as `azcopy sync` or `rclone` do, to try it out.

A file is dropped when it has not been written to for a while, and again whenever it has changed.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from azure.core.exceptions import HttpResponseError

from local.commands.running import cloud_errors_explained, find_running, open_storage
from local.drops import FINAL_STATUSES, drop_file, files_in, outcome, read_result, why_left_alone
from local.itwin_platform import as_itwin_id
from local.serving import UsageError
from local.terminal import say

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator
    from pathlib import Path

    from local.drops import DroppedFile

INTERVAL_S = 0.5

Stamp = tuple[int, int]


@cloud_errors_explained()
def run(options: argparse.Namespace) -> int:
    """Drop new files and print their results, until Ctrl-C.

    With an iTwin's ID, all files go to that iTwin; otherwise, files go to the iTwin whose ID is their folder's name. No
    iTwin is created: an unknown one leads to the same 404 as in Azure.
    """
    folder: Path = options.folder
    if not folder.is_dir():
        raise UsageError(f"{folder} is not a folder.")
    state = find_running()
    say(f"Watching {folder}; Ctrl-C stops it.")
    seen: dict[Path, Stamp] = {}
    waiting: dict[DroppedFile, tuple[str, int]] = {}
    with open_storage(state) as storage:
        while True:
            for itwin, name, content in _news(folder, options.itwin, options.min_age, seen):
                try:
                    waiting[drop_file(storage, itwin, name, content)] = ("", 0)
                except HttpResponseError as error:  # concerns this file alone; storage that is gone does not respond
                    say(f"{itwin}/{name} -> not dropped -> {error.reason}")
            for drop, told in list(waiting.items()):
                document = read_result(storage, state["resultsContainer"], drop)
                if document is None or told == (document["status"], document["attempts"]):
                    continue
                say(f"{drop.itwin_id}/{drop.name} -> {outcome(drop, document)}")
                waiting[drop] = (document["status"], document["attempts"])
                if document["status"] in FINAL_STATUSES:
                    del waiting[drop]
            time.sleep(INTERVAL_S)


def _news(
    folder: Path, itwin_id: str | None, min_age_s: float, seen: dict[Path, Stamp]
) -> Iterator[tuple[str, str, bytes]]:
    """Yield new and changed files: the iTwin, the blob's name, its content. Say once why other files are skipped."""
    for file, stamp in settled_files(folder, min_age_s, time.time()):
        if seen.get(file) == stamp:
            continue
        itwin, name = _target(folder, file, itwin_id)
        why = why_left_alone(name) if itwin else "it is not in a folder named by an iTwin ID: use --itwin"
        if itwin and not why:
            try:
                content = file.read_bytes()
            except OSError:
                continue  # deleted, or not readable yet
            yield itwin, name, content
        elif file not in seen:
            say(f"{file.relative_to(folder)} -> skipped -> {why}")
        seen[file] = stamp


def settled_files(folder: Path, min_age_s: float, now: float) -> Iterator[tuple[Path, Stamp]]:
    """Yield the files that have not been written to for `min_age_s`, oldest first, as the newest drop wins.

    A file that is still being written would be dropped incomplete.
    """
    found: list[tuple[Stamp, Path]] = []
    for file in files_in(folder):
        try:
            status = file.stat()
        except OSError:
            continue
        if now - status.st_mtime >= min_age_s:
            found.append(((status.st_mtime_ns, status.st_size), file))
    for stamp, file in sorted(found):
        yield file, stamp


def _target(folder: Path, file: Path, itwin_id: str | None) -> tuple[str | None, str]:
    """Return the iTwin, or None if the file is for none, and the blob's name, which includes sub-folders."""
    name = file.relative_to(folder).as_posix()
    if itwin_id:
        return itwin_id, name
    first, _, rest = name.partition("/")
    try:
        return (as_itwin_id(first), rest) if rest else (None, name)
    except ValueError:
        return None, name
