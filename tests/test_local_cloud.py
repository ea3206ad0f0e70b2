"""The local cloud as a library: what the app gets from it, what it survives, and that nothing stays behind."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest
import requests
from azure.storage.blob import BlobServiceClient
from azure.storage.queue import QueueClient

from local.azurite import Azurite
from local.cloud import DEAD_LETTER_CONTAINER, RESULTS_CONTAINER, LocalCloud
from local.drops import DroppedFile, drop_file
from local.ports import Ports
from local.processes import LEASH, PROJECT, Child, wait_until
from local.samples import logo
from local.serving import LocalCloudError, listen
from tests.apps.probe.function_app import told
from tests.deadlines import HANG_S
from tests.machine import is_running
from tests.probe import TRIGGER_QUEUE, read_said

if TYPE_CHECKING:
    from typing import Any

PICTURE = logo()
PROBE = Path(__file__).parent / "apps" / "probe"
PROBE_SETTINGS = {"PROBE_QUEUE": "probe-messages"}


class ProbeCloud(LocalCloud):
    """A cloud that runs the probe app, and what its functions said."""

    def __init__(self, **options: Any) -> None:
        self.lines: list[str] = []
        settings = {**PROBE_SETTINGS, **options.pop("app_settings", {})}
        super().__init__(
            app_folder=PROBE, function="on_blob", app_settings=settings, on_line=self.lines.append, **options
        )

    def wait_for(self, count: int = 1, **facts: Any) -> list[dict[str, Any]]:
        """Wait until these facts were said so often."""
        assert wait_until(lambda: len(read_said(self.lines, **facts)) >= count, timeout_s=HANG_S), self.lines[-20:]
        return read_said(self.lines, **facts)

    def wait_until_idle(self) -> None:
        """Wait until the host has put its trigger message away, which it does after the function has ended."""
        with QueueClient.from_connection_string(self.connection_string, TRIGGER_QUEUE) as queue:
            assert wait_until(
                lambda: queue.get_queue_properties().approximate_message_count == 0,
                timeout_s=HANG_S,
                interval_s=0.1,
            )


def test_the_app_gets_the_clouds_settings_and_nothing_of_the_developers(monkeypatch: pytest.MonkeyPatch) -> None:
    """A laptop and Azure differ only by environment variables, so no other one is passed on; a caller may set any."""
    monkeypatch.setenv("AZURE_CLIENT_ID", "the developer's")
    monkeypatch.setenv("ITWIN_SECRET_URL", "the developer's")
    changes = {"ITWIN_LOGIN": "client-credentials", "ITWIN_TOKEN_SCOPE": None, "ADDED": "1"}
    with ProbeCloud(app_settings=changes) as cloud:
        cloud.drop(str(uuid.uuid4()), "a.png", b"1")
        environment = cloud.wait_for(function="on_blob")[0]["environment"]
        expected = {
            "AzureWebJobsStorage": cloud.connection_string,
            "DropStorage": cloud.connection_string,
            "RESULTS_CONTAINER": RESULTS_CONTAINER,
            "ITWIN_API_URL": cloud.platform_address,
            "ITWIN_LOGIN": "client-credentials",
            "IDENTITY_ENDPOINT": f"{cloud.identity_address}/msi/token",
            "IDENTITY_HEADER": cloud.identity.header,
            "PYTHON_THREADPOOL_THREAD_COUNT": "4",
            "ADDED": "1",
        }
    assert told(expected).items() <= environment.items()
    assert not environment.keys() & {"AZURE_CLIENT_ID", "ITWIN_SECRET_URL", "ITWIN_TOKEN_SCOPE"}


def test_what_the_cloud_writes_itself_triggers_nothing() -> None:
    """Results and dead letters are not drops."""
    with ProbeCloud() as cloud:
        for own in (RESULTS_CONTAINER, DEAD_LETTER_CONTAINER):
            cloud.drops.get_blob_client(own, "own.json").upload_blob(b"{}")
        cloud.drop("drops-of-a-test", "a.png", b"1")
        cloud.wait_for(function="on_blob ended", blob="a.png")
        assert not read_said(cloud.lines, blob="own.json")


def test_a_drop_made_while_the_host_is_down_is_processed_later() -> None:
    """Event Grid retries; a drop processed before the crash is not processed twice."""
    with ProbeCloud(retry_scale=0.02) as cloud:
        cloud.drop("drops-of-a-test", "before.png", b"1")
        cloud.wait_for(function="on_blob ended", blob="before.png")
        cloud.wait_until_idle()
        assert cloud.host.kill() == -signal.SIGKILL
        cloud.drop("drops-of-a-test", "while.png", b"1")
        cloud.host.start()
        cloud.wait_for(function="on_blob ended", blob="while.png")
        cloud.host.settings["ADDED"] = "later"
        cloud.host.restart()
        cloud.drop("drops-of-a-test", "after.png", b"1")
        cloud.wait_for(function="on_blob ended", blob="after.png")
        assert read_said(cloud.lines, blob="after.png")[0]["environment"]["ADDED"] == told({"": "later"})[""]
        assert len(read_said(cloud.lines, function="on_blob", blob="before.png")) == 1


def test_a_drop_whose_event_was_lost_with_an_earlier_run_is_processed(tmp_path: Path) -> None:
    """With a data folder no drop is lost in silence; one that has its result is left alone."""
    lines: list[str] = []
    with LocalCloud(data=tmp_path) as cloud:
        itwin = cloud.itwin()
        cloud.result(cloud.drop(itwin, "done.png", PICTURE))
    with (
        Azurite(data=tmp_path) as azurite,
        BlobServiceClient.from_connection_string(azurite.connection_string) as blobs,
    ):
        missed = drop_file(blobs, itwin, "missed.png", PICTURE)
    with LocalCloud(data=tmp_path, on_line=lines.append) as cloud:
        assert cloud.result(missed)["status"] == "uploaded"
    assert [line for line in lines if "missed.png" in line]
    assert not [line for line in lines if "done.png" in line]


def test_a_blobs_name_never_splits_a_log_line() -> None:
    """Otherwise whoever names a blob could forge log lines, whether its function succeeds or not."""
    forged = "[2026-01-01T00:00:00.000Z] Executed"
    names = [f"{beginning}{end}{forged}.png" for beginning in ("a", "fail") for end in ("\n", "\r\n", "\u2028")]
    with ProbeCloud() as cloud:
        for name in names:
            cloud.drop("drops-of-a-test", name, b"1")
            cloud.wait_for(function="on_blob", blob=name)
    told = [line for line in cloud.lines if forged in line]
    assert len(told) >= len(names)
    assert not [line for line in cloud.lines if line.startswith(forged)]


def test_a_stopped_cloud_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No process, no port, no file."""
    monkeypatch.setenv("LOCAL_CLOUD_FOLDER", str(tmp_path / "state"))
    before = set(psutil.Process().children(recursive=True))
    with ProbeCloud() as cloud:
        cloud.publish_state()
        state = tmp_path / "state" / "cloud.json"
        assert stat.S_IMODE(state.stat().st_mode) == 0o600
        mine = set(psutil.Process().children(recursive=True)) - before
        folders = {process.cwd() for process in mine} - {str(PROJECT)}
        assert len(mine) == 2
        assert len(folders) == 1
        addresses = (cloud.platform_address, cloud.identity_address, cloud.host.address)
    assert not [process for process in mine if process.is_running()]
    assert not [folder for folder in folders if Path(folder).exists()]
    assert not state.exists()
    for address in addresses:
        with pytest.raises(requests.ConnectionError):
            requests.get(address, timeout=HANG_S)


def test_a_cloud_that_cannot_start_leaves_nothing_running(tmp_path: Path) -> None:
    """Whatever was started before the failure is stopped."""
    before = set(psutil.Process().children(recursive=True))
    (tmp_path / "function_app.py").write_text("raise RuntimeError('broken')")
    with listen() as taken:
        for options in (
            {"ports": Ports(host=taken.getsockname()[1])},
            {"ports": Ports(queue=taken.getsockname()[1])},
            {"ports": Ports(platform=taken.getsockname()[1])},
            {"app_folder": tmp_path},
            {"function": "no_such_function", "app_folder": tmp_path},
        ):
            with pytest.raises(LocalCloudError), LocalCloud(**options):
                pytest.fail("it started")
    assert set(psutil.Process().children(recursive=True)) <= before


def test_two_parts_cannot_have_the_same_port() -> None:
    """The error names them; any number of free ports may be requested."""
    with pytest.raises(LocalCloudError, match=r"^Port 5000 is given to the blob service and to the host service: "):
        Ports(blob=5000, host=5000)
    assert Ports() == Ports(blob=0, host=0)


def test_a_part_that_ends_by_itself_is_noticed() -> None:
    """`check` says which one."""
    with ProbeCloud() as cloud:
        cloud.check()
        os.kill(cloud.host.pid or 0, signal.SIGKILL)
        assert wait_until(lambda: cloud.host.exit_code is not None, timeout_s=HANG_S)
        with pytest.raises(LocalCloudError, match=r"^The Functions host has stopped \(exit code -9\)\.$"):
            cloud.check()
        os.kill(cloud.azurite.pid or 0, signal.SIGKILL)
        assert wait_until(lambda: cloud.azurite.exit_code is not None, timeout_s=HANG_S)
        with pytest.raises(LocalCloudError, match=r"^Azurite has stopped \(exit code -9\)\.$"):
            cloud.check()


def test_an_itwin_is_created_with_its_container(cloud: LocalCloud) -> None:
    """The ID may be given, even repeatedly."""
    itwin_id = str(uuid.uuid4())
    assert cloud.itwin(itwin_id) == cloud.itwin(itwin_id) == itwin_id
    assert cloud.drops.get_container_client(itwin_id).exists()
    assert cloud.itwin() != itwin_id


def test_a_result_that_does_not_arrive_is_reported(cloud: LocalCloud) -> None:
    """With the drop and the time waited."""
    container = cloud.drops.get_container_client(RESULTS_CONTAINER)
    drop = DroppedFile("nowhere", "a.png", "0x1", "", container.get_container_properties().last_modified)
    with pytest.raises(LocalCloudError, match=r"^nowhere/a\.png has no result after 0 s\.$"):
        cloud.result(drop, timeout_s=0)


# Azure Functions Core Tools


# A shell starts it, for the first line of a script cannot name a program whose path has a space.
FAKE_FUNC = f"""#!/bin/sh
'''exec' "{sys.executable}" "$0" "$@"
' '''
import hashlib, http.server, json, os, sys
assert sys.argv[1:3] == ["start", "--port"], sys.argv
class Host(http.server.BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
    def do_POST(self):
        event = json.loads(self.rfile.read(int(self.headers["content-length"])))[0]
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps({{"validationResponse": event["data"]["validationCode"]}}).encode())
told = {{name: hashlib.sha256(value.encode()).hexdigest() for name, value in os.environ.items()}}
print("PROBE", json.dumps({{"environment": told, "folder": os.getcwd()}}), flush=True)
http.server.HTTPServer(("127.0.0.1", int(sys.argv[3])), Host).serve_forever()
"""


def test_core_tools_run_the_app_with_the_same_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`func start` runs in the app's folder, and ends with the cloud."""
    func = tmp_path / "func"
    func.write_text(FAKE_FUNC)
    func.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    with ProbeCloud(host="func") as cloud:
        (said,) = cloud.wait_for()
        pids = [process.pid for process in psutil.Process(cloud.host.pid).children(recursive=True)]
        assert said["folder"] == str(PROBE)
        expected = {**cloud.settings(), "FUNCTIONS_WORKER_RUNTIME": "python"}
        assert told(expected).items() <= said["environment"].items()
        assert "AZURE_CLIENT_ID" not in said["environment"]
    assert pids
    assert not [pid for pid in pids if is_running(pid)]


def test_tests_on_core_tools_say_if_they_are_missing() -> None:
    """Before anything runs, in one sentence."""
    command = [sys.executable, "-m", "pytest", "--functions-host", "func", "tests/test_stories.py"]
    done = subprocess.run(
        command, cwd=PROJECT, env={**os.environ, "PATH": ""}, capture_output=True, text=True, check=False
    )
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert done.stderr.startswith("ERROR: Azure Functions Core Tools (func) is not on the PATH: install it")


STUBBORN_FUNC = """#!/bin/sh
trap 'echo asked to end; sleep 1; echo finished; exit 0' TERM
echo ready
while :; do sleep 0.05; done
"""


def test_core_tools_may_finish_running_functions(tmp_path: Path) -> None:
    """Only the host is told to end, and its own exit code is the host's."""
    func = tmp_path / "func"
    func.write_text(STUBBORN_FUNC)
    func.chmod(0o755)
    child = Child([*LEASH, str(func)], environment=dict(os.environ), directory=tmp_path)
    assert wait_until(lambda: list(child.lines) == ["ready"], timeout_s=HANG_S)
    assert child.stop() == 0
    assert list(child.lines) == ["ready", "asked to end", "finished"]


@pytest.mark.parametrize("code", [0, 7])
def test_a_supervised_program_ends_with_its_own_exit_code(tmp_path: Path, code: int) -> None:
    """It does not wait for input that never arrives."""
    child = Child([*LEASH, "sh", "-c", f"exit {code}"], environment=dict(os.environ), directory=tmp_path)
    assert wait_until(lambda: child.exit_code is not None, timeout_s=HANG_S)
    assert child.stop() == code


def test_missing_core_tools_are_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the remedy."""
    monkeypatch.setenv("PATH", "")
    with pytest.raises(LocalCloudError, match=r"^Azure Functions Core Tools \(func\) is not on the PATH: install it"):
        LocalCloud(host="func").__enter__()


def test_a_supervised_program_ends_when_its_input_closes(tmp_path: Path) -> None:
    """However its parent ended, with every process that it started itself."""
    parent = Child([*LEASH, "sh", "-c", "sleep 600 & echo $!; wait"], environment=dict(os.environ), directory=tmp_path)
    assert wait_until(lambda: bool(parent.lines), timeout_s=HANG_S)
    pid = int(parent.lines[0])
    assert is_running(pid)
    assert parent._process.stdin
    parent._process.stdin.close()
    assert wait_until(lambda: not is_running(pid), timeout_s=HANG_S)
    parent.stop()
