"""`python -m local drop FILE...`: drop files into the running cloud, and print each result as it arrives."""

from __future__ import annotations

import contextlib
import json
import sys
import uuid
from typing import TYPE_CHECKING, Any

from local.commands.running import cloud_errors_explained, find_running, make_itwin, open_storage
from local.drops import FINAL_STATUSES, DroppedFile, drop_file, files_in, outcome, wait_for_results, why_left_alone
from local.serving import UsageError
from local.terminal import say

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator
    from pathlib import Path


@cloud_errors_explained()
def run(options: argparse.Namespace) -> int:
    """Drop all files; 1 if any was not uploaded.

    An iTwin has one image: without an iTwin's ID, a new iTwin is created for every file. One that is named is not
    created, so that an unknown ID leads to the same 404 as in Azure.
    """
    names = {file: name for path in options.files for file, name in _files(path)}
    left_alone = {file: why for file, name in names.items() if (why := why_left_alone(name))}
    for file, why in left_alone.items():
        del names[file]
        skipped = {"file": str(file), "result": None, "skipped": why}
        say(json.dumps(skipped) if options.json else f"{file} -> skipped -> {why}")
    if not names:
        return 1
    if options.itwin and len(set(names.values())) < len(names):
        raise UsageError("Two files have the same name, so one would replace the other: drop them separately.")
    for file in names:
        with _reading(file):
            file.open("rb").close()
    state = find_running()
    uploaded = not left_alone
    with open_storage(state) as storage:
        files: dict[DroppedFile, Path] = {}
        for file, name in names.items():  # one after the other: the newest wins
            with _reading(file):
                content = file.read_bytes()
            target = options.itwin or str(uuid.uuid4())
            if not options.itwin:
                make_itwin(state, target, file.stem)
            files[drop_file(storage, target, name, content)] = file

        def tell_waiting(drop: DroppedFile, result: dict[str, Any]) -> None:
            if not options.json:
                told = f"{files[drop]} -> {outcome(drop, result)} -> waiting for at most {options.timeout:g} s"
                say(told, sys.stderr)

        for drop, result in wait_for_results(
            storage, state["resultsContainer"], files, timeout_s=options.timeout, on_wait=tell_waiting
        ):
            document = json.dumps({"file": str(files[drop]), "result": result})
            say(document if options.json else f"{files[drop]} -> {_summary(drop, result, options.timeout)}")
            uploaded = uploaded and result is not None and result["status"] == "uploaded"
    return 0 if uploaded else 1


def _files(path: Path) -> list[tuple[Path, str]]:
    """Return the files to drop, each with its blob's name; for files in a folder, that includes sub-folders."""
    with _reading(path):
        if not path.is_dir():
            return [(path, path.name)]
        found = [(file, file.relative_to(path).as_posix()) for file in files_in(path)]
    if not found:
        raise UsageError(f"There are no files in {path}.")
    return found


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UsageError(f"{path} cannot be read ({error.strerror}).") from error


def _summary(drop: DroppedFile, result: dict[str, Any] | None, timeout_s: float) -> str:
    if result is None:
        return f"no result after {timeout_s:g} s"
    is_final = result["status"] in FINAL_STATUSES
    return outcome(drop, result) + ("" if is_final else f" -> not final after {timeout_s:g} s")
