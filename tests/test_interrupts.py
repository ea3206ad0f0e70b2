"""Ctrl-C ends every program at any moment, without a traceback."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
from azure.core.exceptions import ResourceExistsError
from azure.storage.blob import BlobServiceClient

from local.processes import PROJECT
from local.samples import building_site, encode
from tests.deadlines import HANG_S
from tests.wire import conversing, read_request

if TYPE_CHECKING:
    import socket
    from pathlib import Path

    from local.azurite import Azurite

# Runs a module as `python -m` does, and sends what Ctrl-C sends when the main thread does the n-th thing that can be
# watched. It counts from when the program hears Ctrl-C in its own way: before that there is only Python's own start.
SWEEP = """
import atexit, os, runpy, signal, sys, threading

at, module, arguments = int(sys.argv[1]), sys.argv[2], sys.argv[3:]
seen, before = 0, None

def watch(event, _):
    global seen, before
    if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGINT) is not original:
        seen += 1
        before = before if before is not None else len(sys.modules)
        if seen == at:
            os.killpg(0, signal.SIGINT)

original = signal.signal(signal.SIGINT, signal.default_int_handler) and signal.default_int_handler
sys.argv = [module, *arguments]
sys.path[0] = os.getcwd()
sys.addaudithook(watch)
try:
    runpy.run_module(module, run_name="__main__", alter_sys=True)
finally:
    if at == 0:
        print(f"{before} of {len(sys.modules)} modules, {seen} events", file=sys.stderr)
"""
MOMENTS = 8
INTERRUPTED = 130


def environment(folder: Path, storage: str) -> dict[str, str]:
    """Return what a program has around it."""
    return {**os.environ, "LOCAL_CLOUD_FOLDER": str(folder / "state"), "DropStorage": storage}


def run(folder: Path, at: int, program: str, storage: str = "") -> subprocess.CompletedProcess[str]:
    """Run a program in a session of its own, interrupted at the n-th moment."""
    return subprocess.run(
        [sys.executable, "-c", SWEEP, str(at), *program.format(folder=folder).split()],
        cwd=PROJECT,
        env=environment(folder, storage),
        capture_output=True,
        text=True,
        timeout=HANG_S,
        check=False,
        start_new_session=True,
    )


@pytest.mark.parametrize(
    "program",
    [
        "shared.preview {folder}/photos",
        "shared.preview {folder}/photos/0.jpg",
        "shared.replay --status failed --dry-run",
        "local demo",
        "local preflight",
    ],
)
def test_ctrl_c_ends_a_program_at_any_moment_without_a_traceback(
    tmp_path: Path, program: str, azurite: Azurite
) -> None:
    """Whatever it is doing: importing, parsing its command line, working, cleaning up, exiting."""
    with BlobServiceClient.from_connection_string(azurite.connection_string) as storage, suppress(ResourceExistsError):
        storage.create_container("results")
    (tmp_path / "photos").mkdir()
    for number in range(3):
        (tmp_path / "photos" / f"{number}.jpg").write_bytes(encode(building_site(320, 240), "JPEG"))
    whole = run(tmp_path, 0, program, azurite.connection_string)
    told = re.search(r"(\d+) of (\d+) modules, (\d+) events\n", whole.stderr)
    assert told
    before, modules, count = map(int, told.groups())
    assert before < modules / 3, "it imports too much before it hears Ctrl-C"
    for moment in range(1, count, count // MOMENTS):
        done = run(tmp_path, moment, program, azurite.connection_string)
        # Of what it waits for it sees now more and now less, so it may have ended before its moment.
        ended = done.returncode in (INTERRUPTED, -signal.SIGINT) or done.returncode == whole.returncode
        assert ended, f"{moment} of {count}: {done}"
        assert "Traceback" not in done.stderr, f"{moment} of {count}: {done}"


def imported(*arguments: str) -> list[str]:
    """Return the names of the modules that a run of Python imports, in the order in which they are complete."""
    command = [sys.executable, "-X", "importtime", *arguments]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=HANG_S, check=False)
    return [line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time:")]


@pytest.mark.parametrize("program", ["shared.preview", "shared.replay", "local", "local.itwin_platform"])
def test_a_program_imports_nothing_slow_before_it_handles_ctrl_c(program: str) -> None:
    """Until then Ctrl-C prints Python's own traceback, and `typing` alone takes as long as the rest of the start."""
    told = imported("-m", program, "--help")
    house = program.partition(".")[0]
    before = set(told[: told.index(f"{house}.interrupts")])
    assert before - set(imported("-c", "import __future__, runpy, signal")) <= {house, program}


def test_ctrl_c_ends_a_program_that_waits_for_storage(tmp_path: Path) -> None:
    """If storage does not respond, or requests are retried, nobody has to wait for minutes."""
    asked = threading.Event()

    def say_nothing(connection: socket.socket) -> None:
        read_request(connection)
        asked.set()
        connection.recv(1)

    def hang_up(connection: socket.socket) -> None:
        read_request(connection)
        connection.close()
        asked.set()

    for conversation in (say_nothing, hang_up):
        asked.clear()
        with conversing(conversation, again=True) as address:
            storage = f"AccountName=a;AccountKey=c2VjcmV0;BlobEndpoint={address}/a;QueueEndpoint={address}/a"
            with subprocess.Popen(
                [sys.executable, "-m", "shared.replay", "--status", "failed"],
                cwd=PROJECT,
                env=environment(tmp_path, storage),
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            ) as program:
                assert asked.wait(HANG_S)
                program.send_signal(signal.SIGINT)
                told, _ = program.communicate(timeout=HANG_S)
        assert (program.returncode, told) == (INTERRUPTED, b"")


def test_ctrl_c_ends_a_server_at_any_moment_of_its_start_without_a_traceback(tmp_path: Path) -> None:
    """Once the platform's stand-in serves, Ctrl-C is the normal way to stop it, and the exit code is 0."""
    for moment in range(1, 1500, 1500 // MOMENTS):
        done = run(tmp_path, moment, "local.itwin_platform --port 0")
        assert (done.returncode in (0, INTERRUPTED), done.stderr) == (True, ""), f"{moment}: {done}"
