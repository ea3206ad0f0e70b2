"""`python -m local` as a user runs it: what it prints, how it ends, and what it says when it cannot."""

from __future__ import annotations

import json
import os
import re
import signal
import stat
import subprocess
import sys
import uuid
from contextlib import contextmanager
from typing import TYPE_CHECKING

import psutil
import pytest
from azure.storage.blob import BlobServiceClient

from local.__main__ import main
from local.processes import PROJECT, Child, wait_until
from local.samples import make_samples
from local.serving import listen

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

TIMEOUT_S = 30.0


@contextmanager
def running(folder: Path, *arguments: str) -> Iterator[Child]:
    """Start the program with a state of its own, wait until the cloud runs, and end it in the end."""
    environment = {**os.environ, "LOCAL_CLOUD_FOLDER": str(folder)}
    child = Child([sys.executable, "-m", "local", *arguments], environment=environment, directory=PROJECT)
    try:
        assert wait_until(lambda: says(child, "Drop a file:") or child.exit_code is not None, timeout_s=TIMEOUT_S)
        assert child.exit_code is None, child.lines
        yield child
    finally:
        child.stop()


def says(child: Child, text: str) -> bool:
    """Whether a line of its output has the text."""
    return any(text in line for line in list(child.lines))


def run(folder: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    environment = {**os.environ, "LOCAL_CLOUD_FOLDER": str(folder)}
    command = [sys.executable, "-m", "local", *map(str, arguments)]
    return subprocess.run(
        command, env=environment, cwd=PROJECT, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Keep the state where no developer's cloud has its own."""
    return tmp_path_factory.mktemp("state")


@pytest.fixture(scope="module")
def up(folder: Path) -> Iterator[Child]:
    """Run one cloud for all tests that do not end it."""
    with running(folder) as child:
        yield child


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the samples as files."""
    folder = tmp_path_factory.mktemp("pictures")
    samples = make_samples()
    for name in ("logo.png", "scan.tif", "notes.jpg"):
        (folder / name).write_bytes(samples[name])
    return folder


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("arguments", [(), ("up",)])
def test_one_ctrl_c_ends_everything_with_0(tmp_path: Path, arguments: Sequence[str], number: signal.Signals) -> None:
    """Nothing is left running, and nothing tells other commands of a cloud."""
    with running(tmp_path, *arguments) as child:
        processes = psutil.Process(child.pid).children(recursive=True)
        assert len(processes) == 2
        os.kill(child.pid, number)
        assert wait_until(lambda: child.exit_code is not None, timeout_s=TIMEOUT_S)
        assert child.exit_code == 0
        assert not [process for process in processes if process.is_running()]
        assert not list(tmp_path.iterdir())
        assert not says(child, "Traceback")


def test_a_kill_leaves_no_process_behind(tmp_path: Path) -> None:
    """Even when it could do nothing about it."""
    with running(tmp_path) as child:
        processes = psutil.Process(child.pid).children(recursive=True)
        os.kill(child.pid, signal.SIGKILL)
        assert wait_until(
            lambda: not [one for one in processes if one.is_running() and one.status() != psutil.STATUS_ZOMBIE],
            timeout_s=TIMEOUT_S,
        )
    assert "No local cloud is running" in run(tmp_path, "drop", PROJECT / "README.md").stderr


def test_it_ends_with_one_sentence_when_azurite_dies(tmp_path: Path) -> None:
    """A part that is gone ends the whole."""
    with running(tmp_path) as child:
        (azurite,) = [one for one in psutil.Process(child.pid).children() if one.name() == "node"]
        azurite.kill()
        assert wait_until(lambda: child.exit_code is not None, timeout_s=TIMEOUT_S)
        assert child.exit_code == 1
        assert child.lines[-1] == "Azurite has stopped (exit code -9)."
        assert not says(child, "Traceback")


def test_it_prints_where_everything_is(up: Child, folder: Path) -> None:
    """The connection string can be copied whole; the state file is for this user alone."""
    text = "\n".join(up.lines)
    state_file = folder / "cloud.json"
    state = json.loads(state_file.read_text())
    assert stat.S_IMODE(state_file.stat().st_mode) == 0o600
    assert all(state[key] in text for key in ("connectionString", "platform", "identity", "host"))
    with BlobServiceClient.from_connection_string(state["connectionString"]) as storage:
        assert state["resultsContainer"] in [container.name for container in storage.list_containers()]


def test_a_second_cloud_is_refused(up: Child, folder: Path) -> None:
    """Other commands could not tell which one is meant."""
    second = run(folder)
    assert second.returncode == 1
    assert second.stderr == f"A local cloud of this project runs already (process {up.pid}): end it first.\n"


def test_drop_prints_each_result_on_a_line(up: Child, folder: Path, pictures: Path) -> None:
    """File, status, what was changed, and why not."""
    files = [pictures / name for name in ("logo.png", "scan.tif", "notes.jpg")]
    done = run(folder, "drop", *files, "--timeout", "30")
    assert done.stderr == ""
    assert done.returncode == 1, list(up.lines)[-50:]
    by_file = {line.split(" -> ")[0]: line for line in done.stdout.splitlines()}
    assert by_file.keys() == set(map(str, files))
    assert by_file[str(files[0])].endswith("logo.png -> uploaded -> nothing changed"), list(up.lines)[-50:]
    assert re.search(r"scan\.tif -> uploaded -> .*converted", by_file[str(files[1])])
    assert re.search(r"notes\.jpg -> rejected -> .*image", by_file[str(files[2])])


def test_drop_on_an_itwin_prints_the_whole_document(up: Child, folder: Path, pictures: Path) -> None:
    """One JSON object a line; 0 when all were uploaded; the iTwin is made where it is new."""
    itwin_id = str(uuid.uuid4())
    done = run(folder, "drop", pictures / "logo.png", "--itwin", itwin_id.upper(), "--json", "--timeout", "30")
    (document,) = map(json.loads, done.stdout.splitlines())
    assert (done.returncode, done.stderr) == (0, ""), list(up.lines)[-50:]
    assert document["file"] == str(pictures / "logo.png")
    assert document["result"]["status"] == "uploaded"
    assert document["result"]["source"]["container"] == itwin_id


@pytest.mark.usefixtures("up")
def test_drop_says_when_no_result_came_in_time(folder: Path, pictures: Path) -> None:
    """The drop goes on in the cloud, but the command ends with 1."""
    done = run(folder, "drop", pictures / "logo.png", "--timeout", "0")
    assert done.returncode == 1
    assert done.stdout.endswith("logo.png -> no result after 0 s\n")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("drop {logo}", r"No local cloud is running: start one with `python -m local`\."),
        ("drop {folder}/nothing.png", r".*nothing\.png cannot be read \(No such file or directory\)\."),
        ("drop {folder}", r".* cannot be read \(Is a directory\)\."),
        (
            "drop {logo} {folder}/logo.png --itwin 6ba7b811-9dad-11d1-80b4-00c04fd430c8",
            r"Two of the files have the same name, .*",
        ),
        ("drop {logo} --itwin x", r"Argument --itwin: 'x' is no iTwin ID, which is a GUID; see .*"),
        ("drop", r"The following arguments are required: FILE; see .*"),
        ("fly", r"Unrecognized arguments: fly; see .*"),
        ("--blob-port 70000", r"Argument --blob-port: '70000' is no port; see .*"),
        ("--blob-port {port}", r"Port \d+ cannot be used \(.*\): .*"),
        ("up --host-port {port}", r"Port \d+ cannot be used \(.*\): .*"),
        ("--host iis", r"Argument --host: invalid choice: 'iis' .*"),
        ("--data {folder}/logo.png", r"The data folder .* cannot be used \(.*\)\."),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_1(  # noqa: PLR0917 - a table
    tmp_path: Path,
    pictures: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: str,
    sentence: str,
) -> None:
    """No traceback, nothing started."""
    before = psutil.Process().children(recursive=True)
    monkeypatch.setenv("LOCAL_CLOUD_FOLDER", str(tmp_path / "state"))
    (tmp_path / "logo.png").touch()
    with listen() as taken:
        names = {"logo": pictures / "logo.png", "folder": tmp_path, "port": taken.getsockname()[1]}
        try:
            code = main(arguments.format(**names).split())
        except SystemExit as error:  # argparse ends the program itself
            code = int(str(error.code))
    assert code == 1
    assert re.fullmatch(sentence + r"\n", capsys.readouterr().err)
    assert psutil.Process().children(recursive=True) == before


def test_missing_tools_are_said(tmp_path: Path) -> None:
    """Node.js for Azurite, and Core Tools when they are asked for."""
    for arguments, sentence in (((), "Node.js is missing"), (("--host", "func"), "Azure Functions Core Tools (func)")):
        done = subprocess.run(
            [sys.executable, "-m", "local", *arguments],
            env={"PATH": "", "LOCAL_CLOUD_FOLDER": str(tmp_path)},
            cwd=PROJECT,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 1
        assert done.stderr.startswith(sentence)
        assert len(done.stderr.splitlines()) == 1
