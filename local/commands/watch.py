"""`python -m local watch FOLDER`: keep the cloud in step with a folder, as `azcopy sync` or `rclone` do; for trying it.

A file is dropped when nobody has written to it for a while, and again whenever it has changed since.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from azure.core.exceptions import HttpResponseError

from local.commands.running import find_running, hearing_from_cloud, open_storage
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


@hearing_from_cloud()
def run(options: argparse.Namespace) -> int:
    """Drop what is new and print what becomes of it, until Ctrl-C.

    With an iTwin's ID all goes to it; else what lies in a folder that is named by one. No iTwin is made: an unknown one
    becomes the 404 that it would be in Azure.
    """
    state = find_running()
    folder: Path = options.folder
    if not folder.is_dir():
        raise UsageError(f"{folder} is not a folder.")
    say(f"Watching {folder}; Ctrl-C stops it.")
    seen: dict[Path, Stamp] = {}
    waiting: dict[DroppedFile, tuple[str, int]] = {}
    with open_storage(state) as storage:
        while True:
            for itwin, name, content in _news(folder, options.itwin, options.min_age, seen):
                try:
                    waiting[drop_file(storage, itwin, name, content)] = ("", 0)
                except HttpResponseError as error:  # of this file; storage that is gone is no response
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
    """Return what is new or has changed: the iTwin, the blob's name, its content. Say once of other files why not."""
    for file, stamp in settled_files(folder, min_age_s, time.time()):
        if seen.get(file) == stamp:
            continue
        itwin, name = _target(folder, file, itwin_id)
        why = why_left_alone(name) if itwin else "it is not in a folder named by an iTwin ID: use --itwin"
        if itwin and not why:
            try:
                content = file.read_bytes()
            except OSError:
                continue  # gone, or not readable yet
            yield itwin, name, content
        elif file not in seen:
            say(f"{file.relative_to(folder)} -> skipped -> {why}")
        seen[file] = stamp


def settled_files(folder: Path, min_age_s: float, now: float) -> Iterator[tuple[Path, Stamp]]:
    """Return the files that were not written to for `min_age_s`, oldest first, for the newest wins.

    A file that is still being written would be dropped in half.
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
    """Return the iTwin, or None where the file is for none, and the blob's name; sub-folders stay in it."""
    name = file.relative_to(folder).as_posix()
    if itwin_id:
        return itwin_id, name
    first, _, rest = name.partition("/")
    try:
        return (as_itwin_id(first), rest) if rest else (None, name)
    except ValueError:
        return None, name
