"""`python -m local` as a user runs it: what it prints, how it ends, and what it says when it cannot."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import stat
import subprocess
import sys
import uuid
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import psutil
import pytest
import requests
from azure.storage.blob import BlobServiceClient

from local.commands import main
from local.commands.up import HostLog
from local.ports import DEFAULT_PORTS
from local.processes import PROJECT, Child, wait_until
from local.proxies import spare_loopback
from local.samples import make_samples
from local.serving import LocalCloudError, listen
from tests.deadlines import HANG_S

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

TIMEOUT_SENTENCE = r"Argument --timeout: '{}' is not a number of seconds of at least 0\.1; see .*"


@contextmanager
def start(folder: Path, *arguments: str, **variables: str) -> Iterator[Child]:
    """Start the program with a state of its own, and end it in the end."""
    environment = {**os.environ, "LOCAL_CLOUD_FOLDER": str(folder), **variables}
    child = Child([sys.executable, "-m", "local", *arguments], environment=environment, directory=PROJECT)
    try:
        yield child
    finally:
        child.stop()


@contextmanager
def running(folder: Path, *arguments: str, **variables: str) -> Iterator[Child]:
    """Start the program, and wait until the cloud runs."""
    with start(folder, *arguments, **variables) as child:
        assert wait_until(lambda: says(child, "Drop a file:") or child.exit_code is not None, timeout_s=HANG_S)
        assert child.exit_code is None, child.lines
        yield child


def state_of(folder: Path) -> dict[str, Any]:
    """Return where the parts of a running cloud are."""
    state: dict[str, Any] = json.loads((folder / "cloud.json").read_text())
    return state


def script(folder: Path, answer: dict[str, object]) -> None:
    """Make the platform of a running cloud answer like this."""
    address = f"{state_of(folder)['platform']}/_control/script"
    requests.put(address, json={"responses": [answer]}, timeout=HANG_S).raise_for_status()


def says(child: Child, text: str) -> bool:
    """Whether a line of its output has the text."""
    return any(text in line for line in list(child.lines))


def without_waiting(child: Child) -> list[str]:
    """Return what it said, but for what it may have seen of a drop that is retried."""
    return [line for line in child.lines if not re.search(r" -> retrying -> .* -> waiting for at most ", line)]


def run(
    folder: Path, *arguments: str | Path, shell: Sequence[str] = (), **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, started by a `shell` where one is named."""
    environment = {**os.environ, "LOCAL_CLOUD_FOLDER": str(folder), **variables}
    command = [*shell, sys.executable, "-m", "local", *map(str, arguments)]
    return subprocess.run(
        command, env=environment, cwd=PROJECT, capture_output=True, text=True, timeout=HANG_S, check=False
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
def test_one_ctrl_c_ends_everything_with_exit_code_0(
    tmp_path: Path, arguments: Sequence[str], number: signal.Signals
) -> None:
    """No process is left running, and no state file leads other commands to a cloud."""
    with running(tmp_path, *arguments) as child:
        processes = psutil.Process(child.pid).children(recursive=True)
        assert len(processes) == 2
        os.kill(child.pid, number)
        assert wait_until(lambda: child.exit_code is not None, timeout_s=HANG_S)
        assert child.exit_code == 0
        assert not [process for process in processes if process.is_running()]
        assert not list(tmp_path.iterdir())
        assert not says(child, "Traceback")


def is_alive(process: psutil.Process) -> bool:
    """Whether it does anything: one that only waits to be reaped does not."""
    return process.is_running() and bool(process.status() != psutil.STATUS_ZOMBIE)


def children_when_there_are(least: int, child: Child, folder: Path) -> int:
    """Wait until a cloud that starts has at least so many children; return how many it had then."""
    children = Path(f"/proc/{child.pid}/task/{child.pid}/children")
    seen = -1

    def are_there() -> bool:
        nonlocal seen
        seen = len(children.read_text().split()) if (folder / "cloud.json").exists() else -1
        return seen >= least

    assert wait_until(are_there, timeout_s=HANG_S, interval_s=0.001)
    return seen


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("children", [0, 1, 2])
def test_it_can_be_interrupted_while_it_starts(tmp_path: Path, children: int, number: signal.Signals) -> None:
    """Before storage, before the host, and before both are ready: at once, and nothing is left."""
    for _ in range(20):
        with start(tmp_path) as child:
            if children_when_there_are(children, child, tmp_path) > children:
                continue  # a busy machine has missed the moment
            processes = psutil.Process(child.pid).children(recursive=True)
            os.kill(child.pid, number)
            assert wait_until(lambda: child.exit_code is not None, timeout_s=HANG_S)
            assert (child.exit_code, [line for line in child.lines if "Traceback" in line]) == (0, [])
            assert not psutil.wait_procs(processes, timeout=HANG_S)[1]
        assert list(tmp_path.iterdir()) == []
        return
    pytest.fail("This machine is too busy to meet the moment.")


def catches(number: signal.Signals, pid: int) -> bool:
    """Whether a process has a handler of its own for a signal."""
    caught = re.search(r"SigCgt:\s*(\w+)", Path(f"/proc/{pid}/status").read_text())
    return caught is not None and bool(int(caught[1], 16) >> (number - 1) & 1)


def test_it_can_be_interrupted_while_it_is_imported(tmp_path: Path) -> None:
    """A program that is still importing has nothing to stop, and shows no traceback."""
    with start(tmp_path) as child:
        assert wait_until(lambda: catches(signal.SIGTERM, child.pid), timeout_s=HANG_S, interval_s=0.001)
        os.kill(child.pid, signal.SIGINT)
        assert wait_until(lambda: child.exit_code is not None, timeout_s=HANG_S)
        assert (child.exit_code, list(child.lines)) == (130, [])


def test_only_one_of_two_clouds_started_at_once_runs(tmp_path: Path) -> None:
    """The other one says so, and disturbs nothing."""
    with start(tmp_path) as one, start(tmp_path) as other:
        pair = (one, other)
        assert wait_until(lambda: any(child.exit_code is not None for child in pair), timeout_s=HANG_S)
        (refused,) = [child for child in pair if child.exit_code is not None]
        (first,) = [child for child in pair if child is not refused]
        assert refused.exit_code == 1
        (sentence,) = refused.lines
        assert re.fullmatch(
            rf"A local cloud of this project is already running( \(process {first.pid}\))?: .*", sentence
        )
        assert wait_until(lambda: says(first, "Drop a file:"), timeout_s=HANG_S)
        assert state_of(tmp_path)["pid"] == first.pid


def test_a_killed_cloud_leaves_no_process_and_a_drop_reports_it(tmp_path: Path, pictures: Path) -> None:
    """Even though the cloud could not react; one sentence and exit code 1, without a minute of retries."""
    with running(tmp_path) as cloud:
        processes = psutil.Process(cloud.pid).children(recursive=True)
        itwin_id = str(uuid.uuid4())
        script(tmp_path, {"status": 503, "times": 1000, "path": f"/itwins/{itwin_id}/image"})
        with start(tmp_path, "drop", str(pictures / "logo.png"), "--itwin", itwin_id, "--timeout", "600") as child:
            assert wait_until(lambda: says(cloud, "Executed 'Functions.process_drop'"), timeout_s=HANG_S)
            os.kill(cloud.pid, signal.SIGKILL)
            assert wait_until(lambda: child.exit_code is not None, timeout_s=HANG_S)
            assert child.exit_code == 1
            assert without_waiting(child) == ["The local cloud does not respond: it has stopped, or is stopping."]
        assert wait_until(lambda: not any(map(is_alive, processes)), timeout_s=HANG_S)
    assert "No local cloud is running" in run(tmp_path, "drop", PROJECT / "README.md").stderr


def test_it_ends_with_one_sentence_when_azurite_dies(tmp_path: Path) -> None:
    """If one part is gone, everything ends."""
    with running(tmp_path) as child:
        (azurite,) = [one for one in psutil.Process(child.pid).children() if one.name() == "node"]
        azurite.kill()
        assert wait_until(lambda: child.exit_code is not None, timeout_s=HANG_S)
        assert child.exit_code == 1
        assert child.lines[-1] == "Azurite has stopped (exit code -9)."
        assert not says(child, "Traceback")


def test_it_prints_every_address(up: Child, folder: Path) -> None:
    """The connection string can be copied as a whole; only this user can read the state file."""
    text = "\n".join(up.lines)
    state_file = folder / "cloud.json"
    state = json.loads(state_file.read_text())
    assert stat.S_IMODE(state_file.stat().st_mode) == 0o600
    assert all(state[key] in text for key in ("connectionString", "platform", "identity", "vault", "host"))
    with BlobServiceClient.from_connection_string(state["connectionString"]) as storage:
        assert state["resultsContainer"] in [container.name for container in storage.list_containers()]


def test_it_uses_its_default_ports_or_says_which_others(up: Child, folder: Path) -> None:
    """Whoever has an address in a script learns why it does not work today."""
    state = state_of(folder)
    found = {part: urlsplit(state[part]).port for part in ("platform", "identity", "vault", "host")}
    found["blob"], found["queue"] = map(
        int, re.findall(r"(?:Blob|Queue)Endpoint=[^;]*:(\d+)/", state["connectionString"])
    )
    for part, port in found.items():
        usual = getattr(DEFAULT_PORTS, part)
        assert (port == usual) is not says(up, f"Port {usual} is in use, so the {part} service listens on {port}.")


def test_a_port_in_use_is_replaced_by_a_free_one(tmp_path: Path) -> None:
    """That is reported in a sentence for each part."""
    taken: dict[str, int] = {}
    with ExitStack() as users:
        for part, port in asdict(DEFAULT_PORTS).items():
            with suppress(LocalCloudError):  # somebody else's just now
                users.enter_context(listen(port))
                taken[part] = port
        with running(tmp_path) as child:
            for part, port in taken.items():
                is_of_storage = part in ("blob", "queue")
                told = " UseDevelopmentStorage=true will not find it." if is_of_storage else ""
                said = rf"Port {port} is in use, so the {part} service listens on \d+\.{told}"
                assert [line for line in child.lines if re.fullmatch(said, line)]


def test_a_second_cloud_is_refused(up: Child, folder: Path) -> None:
    """Other commands could not tell which one is meant."""
    second = run(folder)
    assert second.returncode == 1
    assert second.stderr == f"A local cloud of this project is already running (process {up.pid}): stop it first.\n"


def test_drop_prints_each_result_on_a_line(up: Child, folder: Path, pictures: Path) -> None:
    """The file, the status, what was changed, and the reason for a rejection."""
    files = [pictures / name for name in ("logo.png", "scan.tif", "notes.jpg")]
    done = run(folder, "drop", *files, "--timeout", "30")
    assert done.stderr == ""
    assert done.returncode == 1, list(up.lines)[-50:]
    by_file = {line.split(" -> ")[0]: line for line in done.stdout.splitlines()}
    assert by_file.keys() == set(map(str, files))
    assert by_file[str(files[0])].endswith("logo.png -> uploaded -> nothing changed"), list(up.lines)[-50:]
    assert re.search(r"scan\.tif -> uploaded -> .*converted", by_file[str(files[1])])
    assert re.search(r"notes\.jpg -> rejected -> .*image", by_file[str(files[2])])


def test_drop_prints_whole_documents_as_json(up: Child, folder: Path, pictures: Path) -> None:
    """One JSON object per line; 0 if all were uploaded; IDs are not case-sensitive."""
    itwin_id = run(folder, "itwin").stdout.strip()
    done = run(folder, "drop", pictures / "logo.png", "--itwin", itwin_id.upper(), "--json", "--timeout", "30")
    (document,) = map(json.loads, done.stdout.splitlines())
    assert (done.returncode, done.stderr) == (0, ""), list(up.lines)[-50:]
    assert document["file"] == str(pictures / "logo.png")
    assert document["result"]["status"] == "uploaded"
    assert document["result"]["source"]["container"] == itwin_id


@pytest.mark.usefixtures("up")
def test_drop_reports_a_result_that_does_not_arrive_in_time(folder: Path, pictures: Path) -> None:
    """The drop continues in the cloud, but the command ends with 1."""
    itwin_id = str(uuid.uuid4())
    script(folder, {"delay_s": 2, "path": f"/itwins/{itwin_id}/image"})
    done = run(folder, "drop", pictures / "logo.png", "--itwin", itwin_id, "--timeout", "0.1")
    assert done.returncode == 1
    assert done.stdout.endswith("logo.png -> no result after 0.1 s\n")


def names_of_itwins(folder: Path) -> dict[str, str]:
    """Return what each iTwin is called."""
    listed = requests.get(f"{state_of(folder)['platform']}/_control/itwins", timeout=HANG_S).json()["iTwins"]
    return {itwin["id"]: itwin["displayName"] for itwin in listed}


@pytest.mark.usefixtures("up")
@pytest.mark.parametrize("how", [[], ["--json"]])
def test_drop_reports_an_unknown_itwin(folder: Path, pictures: Path, how: list[str]) -> None:
    """In Azure nobody would create it either; the line has the command that creates it here."""
    itwin_id = str(uuid.uuid4())
    done = run(folder, "drop", pictures / "logo.png", "--itwin", itwin_id, *how, "--timeout", "5")
    assert done.returncode == 1
    assert itwin_id not in names_of_itwins(folder)
    if how:
        assert "iTwinNotFound" in done.stdout
        return
    (hint,) = re.findall(r"create it with `(.*)`", done.stdout)
    environment = {**os.environ, "LOCAL_CLOUD_FOLDER": str(folder)}
    subprocess.run(["sh", "-c", hint], env=environment, cwd=PROJECT, timeout=HANG_S, check=True)
    assert itwin_id in names_of_itwins(folder)


@pytest.mark.usefixtures("up")
def test_without_an_itwin_each_file_gets_one_named_after_it(folder: Path, pictures: Path) -> None:
    """An iTwin has one image."""
    run(folder, "drop", pictures / "scan.tif")
    assert "scan" in names_of_itwins(folder).values()


@pytest.mark.usefixtures("up")
def test_itwin_creates_an_itwin_and_prints_its_id(folder: Path, pictures: Path) -> None:
    """With the container for its drops; an existing one keeps its image, and its name unless another is given."""
    made = run(folder, "itwin", "--name", "Town Hall")
    itwin_id = made.stdout.strip()
    assert (made.returncode, made.stderr, names_of_itwins(folder)[itwin_id]) == (0, "", "Town Hall")
    with BlobServiceClient.from_connection_string(state_of(folder)["connectionString"]) as storage:
        assert storage.get_container_client(itwin_id).exists()
    assert run(folder, "drop", pictures / "logo.png", "--itwin", itwin_id).returncode == 0
    assert run(folder, "itwin", itwin_id.upper()).stdout.strip() == itwin_id
    assert names_of_itwins(folder)[itwin_id] == "Town Hall"
    assert run(folder, "itwin", itwin_id, "--name", "City Hall").stdout.strip() == itwin_id
    assert names_of_itwins(folder)[itwin_id] == "City Hall"
    image = requests.get(f"{state_of(folder)['platform']}/_control/itwins/{itwin_id}/image", timeout=HANG_S)
    assert image.content == (pictures / "logo.png").read_bytes()


@pytest.mark.usefixtures("up")
@pytest.mark.parametrize("proxy", [{}, {"http_proxy": "http://127.0.0.1:9"}])
def test_env_prints_the_variables_that_other_programs_need(folder: Path, proxy: dict[str, str]) -> None:
    """The connection string as Azure's tools expect it; if there is a proxy, also that it is not for this machine."""
    python = shlex.quote(sys.executable)
    command = f'eval "$({python} -m local env)"; echo "$AZURE_STORAGE_CONNECTION_STRING"; echo "$no_proxy"'
    kept = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
    done = subprocess.run(
        ["sh", "-c", command],
        env={**kept, **proxy, "LOCAL_CLOUD_FOLDER": str(folder)},
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=HANG_S,
        check=True,
    )
    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        state_of(folder)["connectionString"],
        "127.0.0.1,localhost" if proxy else "",
    ]


@pytest.mark.usefixtures("up")
def test_drop_ends_at_once_on_ctrl_c(folder: Path, pictures: Path) -> None:
    """However long it would have waited, and without printing anything."""
    itwin_id = str(uuid.uuid4())
    script(folder, {"status": 503, "times": 1000, "path": f"/itwins/{itwin_id}/image"})
    with start(folder, "drop", str(pictures / "logo.png"), "--itwin", itwin_id, "--timeout", "600") as child:
        state = state_of(folder)
        with BlobServiceClient.from_connection_string(state["connectionString"]) as storage:
            result = storage.get_blob_client(state["resultsContainer"], f"{itwin_id}/logo.png.json")
            assert wait_until(result.exists, timeout_s=HANG_S)
        os.kill(child.pid, signal.SIGINT)
        assert wait_until(lambda: child.exit_code is not None, timeout_s=HANG_S)
        assert (child.exit_code, without_waiting(child)) == (130, [])


@pytest.mark.usefixtures("up")
def test_any_file_name_can_be_printed(folder: Path, pictures: Path, tmp_path: Path) -> None:
    """Names are bytes, and break neither a line nor JSON."""
    odd = tmp_path / os.fsdecode(b"odd \xff") / "logo.png"
    odd.parent.mkdir()
    odd.write_bytes((pictures / "logo.png").read_bytes())
    line = run(folder, "drop", odd)
    assert (line.returncode, line.stderr) == (0, "")
    assert line.stdout.endswith("odd \\udcff/logo.png -> uploaded -> nothing changed\n")
    document = run(folder, "drop", odd, "--json")
    assert (document.returncode, json.loads(document.stdout)["file"]) == (0, str(odd))


@pytest.mark.usefixtures("up")
def test_no_file_name_controls_the_terminal(folder: Path, pictures: Path, tmp_path: Path) -> None:
    """An escape sequence is printed and not executed, on success and on failure."""
    (tmp_path / "\x1b[31mred\n.png").write_bytes((pictures / "logo.png").read_bytes())
    (tmp_path / "\x1b[31mred.tmp").touch()
    done = run(folder, "drop", *tmp_path.iterdir(), tmp_path / "\x1b]0;none\x07.png")
    assert done.stderr == f"{tmp_path}/\\x1b]0;none\\x07.png cannot be read (No such file or directory).\n"
    done = run(folder, "drop", tmp_path)
    assert sorted(line.split(" -> ")[:2] for line in done.stdout.splitlines()) == [
        [f"{tmp_path}/\\x1b[31mred.tmp", "skipped"],
        [f"{tmp_path}/\\x1b[31mred\\n.png", "uploaded"],
    ]


def test_no_line_of_the_host_controls_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """It may contain a blob's name."""
    log = HostLog()
    log.line("Processing 'a\x1b[31m.jpg'")
    assert capsys.readouterr().out == ""
    log.release()
    log.line("and \x07.jpg")
    assert capsys.readouterr().out == "Processing 'a\\x1b[31m.jpg'\nand \\x07.jpg\n"


def test_the_output_of_a_host_that_cannot_start_is_shown(tmp_path: Path) -> None:
    """With the reason in its last line, and exit code 1."""
    (tmp_path / "func").write_text("#!/bin/sh\necho No runtime; echo Goodbye; exit 3\n")
    (tmp_path / "func").chmod(0o755)
    done = run(tmp_path / "state", "--host", "func", PATH=f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    assert (done.returncode, done.stdout) == (1, "No runtime\nGoodbye\n")
    assert done.stderr == "The Functions host could not start: Goodbye\n"


def test_a_folder_is_dropped_with_everything_in_it(up: Child, folder: Path, pictures: Path, tmp_path: Path) -> None:
    """Sub-folders stay in the names; hidden files are not drops."""
    for name in ("site/a.png", "site/north gate/a.png", "site/.git/a.png", "site/.a.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes((pictures / "logo.png").read_bytes())
    itwin_id = str(uuid.uuid4())
    done = run(folder, "drop", tmp_path / "site", "--itwin", itwin_id, "--json")
    results = [json.loads(line)["result"] for line in done.stdout.splitlines()]
    assert {result["source"]["blob"] for result in results} == {"a.png", "north gate/a.png"}, list(up.lines)[-50:]
    assert {result["source"]["container"] for result in results} == {itwin_id}


def test_no_proxy_is_used_for_this_machine(tmp_path: Path, pictures: Path) -> None:
    """Neither by the cloud nor by a command; the configured one does not respond, as outside the office."""
    proxies = dict.fromkeys(("http_proxy", "HTTP_PROXY", "https_proxy", "all_proxy"), "http://127.0.0.1:9")
    with running(tmp_path, **proxies, no_proxy="", NO_PROXY="internal.example"):
        done = run(tmp_path, "drop", pictures / "logo.png", **proxies, no_proxy="")
        assert (done.returncode, done.stderr) == (0, ""), done.stdout
        assert run(tmp_path, "preflight", **proxies).stdout.startswith("[")


@pytest.mark.parametrize(
    ("given", "spared"),
    [
        ({}, "127.0.0.1,localhost"),
        ({"NO_PROXY": "a.example, .b.example"}, "a.example,.b.example,127.0.0.1,localhost"),
        ({"no_proxy": "localhost", "NO_PROXY": "unheard.example"}, "localhost,127.0.0.1"),
    ],
)
def test_hosts_already_exempt_from_the_proxy_stay_exempt(
    monkeypatch: pytest.MonkeyPatch, given: Mapping[str, str], spared: str
) -> None:
    """The lower-case spelling takes precedence, as for every client in Python."""
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.setenv(name, given.get(name, ""))
    spare_loopback()
    assert (os.environ["no_proxy"], os.environ["NO_PROXY"]) == (spared, spared)


def test_a_star_exempts_every_host_from_the_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """It does so only if it stands alone."""
    monkeypatch.setenv("no_proxy", "*")
    spare_loopback()
    assert os.environ["no_proxy"] == "*"


@pytest.mark.usefixtures("up")
def test_it_runs_with_its_output_closed(folder: Path, pictures: Path) -> None:
    """A shell may close its output; what it does and its exit code stay the same."""
    closed = ("sh", "-c", 'exec "$@" >&-', "sh")
    done = run(folder, "drop", pictures / "logo.png", shell=closed)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert run(folder, "drop", pictures / "notes.jpg", shell=closed).returncode == 1


@pytest.mark.parametrize("how", [[], ["--json"]])
def test_files_that_the_app_ignores_are_not_dropped(tmp_path: Path, how: list[str]) -> None:
    """It is reported at once with the reason, not after waiting for a result that never comes."""
    names = [b".DS_Store", b"~$plan.png", b"photo.jpg.part", b"photo \xff.jpg"]
    files = [tmp_path / os.fsdecode(name) for name in names]
    for file in files:
        file.write_bytes(b"\0\0\0\1Bud1")
    done = run(tmp_path, "drop", *files, *how, "--timeout", "600")
    assert (done.returncode, done.stderr) == (1, "")
    lines = done.stdout.splitlines()
    assert len(lines) == len(files)
    for file, line in zip(files, lines, strict=True):
        if how:
            document = json.loads(line)
            assert (document["file"], document["result"]) == (str(file), None)
            assert "its name" in document["skipped"]
        else:
            assert re.search(r" -> skipped -> .*its name ", line)


@pytest.fixture
def bad_input(
    tmp_path: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Callable[[str], tuple[int, str]]]:
    """Run a command that must not get far, {names} replaced; returns its exit code and what it said on stderr."""
    before = psutil.Process().children()  # what the cloud of other tests starts is its own business
    monkeypatch.setenv("LOCAL_CLOUD_FOLDER", str(tmp_path / "state"))
    (tmp_path / "logo.png").touch()
    (tmp_path / "empty").mkdir()

    with listen() as taken:

        def run(arguments: str) -> tuple[int, str]:
            names = {"logo": pictures / "logo.png", "folder": tmp_path, "port": taken.getsockname()[1]}
            try:
                code = main(arguments.format(**names).split())
            except SystemExit as error:  # argparse ends the program itself
                code = int(str(error.code))
            return code, capsys.readouterr().err

        yield run
    assert set(psutil.Process().children()) <= set(before)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("drop {folder}/nothing.png", r".*nothing\.png cannot be read \(No such file or directory\)\."),
        ("drop {folder}/empty", r"There are no files in .*/empty\."),
        (
            "drop {logo} {folder}/logo.png --itwin 6ba7b811-9dad-11d1-80b4-00c04fd430c8",
            r"Two files have the same name, .*",
        ),
        *(
            (f"drop {{logo}} --timeout {text}", TIMEOUT_SENTENCE.format(text))
            for text in ("nan", "-1", "0", "inf", "x")
        ),
        ("watch {folder} --min-age nan", r"Argument --min-age: 'nan' is not a number of seconds of at least 0; see .*"),
        ("drop {logo} --itwin x", r"Argument --itwin: 'x' is not an iTwin ID: it must be a GUID; see .*"),
        ("drop", r"The following arguments are required: FILE; see .*"),
        ("fly", r"Unrecognized arguments: fly; see .*"),
        ("--blob-port 70000", r"Argument --blob-port: '70000' is not a valid port: .*; see .*"),
        (f"--blob-port {'1' * 5000}", r"Argument --blob-port: '1+' is not a valid port: .*; see .*"),
        ("drop {logo} --\x1b[31m", r"Unrecognized arguments: --\\x1b\[31m; see .*"),
        ("--blob-port 5000 --queue-port 5000", r"Port 5000 is given to the blob service and to the queue service: .*"),
        ("--console-port 5000 --host-port 5000", r"Port 5000 is given to the console service and to the host .*"),
        ("--host iis", r"Argument --host: invalid choice: 'iis' .*"),
    ],
)
def test_bad_usage_is_one_sentence_and_exit_code_2(
    bad_input: Callable[[str], tuple[int, str]], arguments: str, sentence: str
) -> None:
    """As with the tools of every system; no traceback, nothing started."""
    code, said = bad_input(arguments)
    assert code == 2
    assert re.fullmatch(sentence + r"\n", said)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("drop {logo}", r"No local cloud is running: start one with `\S+ -m local`\."),
        ("itwin", r"No local cloud is running: .*"),
        ("env", r"No local cloud is running: .*"),
        ("preflight", r"No local cloud is running: .*"),
        ("--blob-port {port}", r"Port \d+ cannot be used \(.*\): .*"),
        ("--console-port {port}", r"Port \d+ cannot be used \(.*\): .*"),
        ("up --host-port {port}", r"Port \d+ cannot be used \(.*\): .*"),
        ("--data {folder}/logo.png", r"The data folder .* cannot be used \(.*\)\."),
    ],
)
def test_a_failure_of_this_machine_is_one_sentence_and_exit_code_1(
    bad_input: Callable[[str], tuple[int, str]], arguments: str, sentence: str
) -> None:
    """The same command may work later, or elsewhere."""
    code, said = bad_input(arguments)
    assert code == 1
    assert re.fullmatch(sentence + r"\n", said)


@pytest.mark.parametrize(
    ("program", "sentence"),
    [
        (
            "local.itwin_platform --port 99999",
            "Argument --port: '99999' is not a valid port: it must ",
        ),
        (
            "local.itwin_platform --requests-per-hour 0",
            "Argument --requests-per-hour: '0' is not a whole number from 1 ",
        ),
        (
            f"local.itwin_platform --requests-per-hour {'9' * 5000}",
            f"Argument --requests-per-hour: '{'9' * 5000}' is not a whole number from 1 ",
        ),
        (
            "local.functions_host --port 99999",
            "Argument --port: '99999' is not a valid port: it must ",
        ),
        ("local.functions_host --visibility-timeout nan", "Argument --visibility-timeout: 'nan' is not a number of "),
        (
            "local.functions_host --visibility-timeout 1e9",
            "Argument --visibility-timeout: '1e9' is not a number of seconds from 1 to 604800; see ",
        ),
        ("local preflight --itwin x", "Argument --itwin: 'x' is not an iTwin ID: it must be a GUID; see "),
        ("local.itwin_platform now", "Unrecognized arguments: now; see "),
    ],
)
def test_every_program_reports_bad_input_in_one_sentence(tmp_path: Path, program: str, sentence: str) -> None:
    """No usage, no traceback, exit code 2."""
    done = subprocess.run(
        [sys.executable, "-m", *program.split()],
        env={**os.environ, "LOCAL_CLOUD_FOLDER": str(tmp_path)},
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=HANG_S,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(sentence)
    assert len(done.stderr.splitlines()) == 1


def test_missing_tools_are_reported(tmp_path: Path) -> None:
    """Node.js for Azurite, and Core Tools if they were requested."""
    for arguments, sentence in (
        ((), "Node.js was not found"),
        (("--host", "func"), "Azure Functions Core Tools (func)"),
    ):
        done = subprocess.run(
            [sys.executable, "-m", "local", *arguments],
            env={"PATH": "", "LOCAL_CLOUD_FOLDER": str(tmp_path)},
            cwd=PROJECT,
            capture_output=True,
            text=True,
            timeout=HANG_S,
            check=False,
        )
        assert done.returncode == 1
        assert done.stderr.startswith(sentence)
        assert len(done.stderr.splitlines()) == 1
