"""A secret that leaks is found: in a log line, in a host's output, and in a result."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

from local.processes import PROJECT
from local.samples import building_site, encode
from tools.leaks import contains_secret, publishes_secret

if TYPE_CHECKING:
    from pathlib import Path

    from local.cloud import LocalCloud
    from tests.leaks import LeakDetector

JWT = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJ4In0.c2lnbmF0dXJl"

LEAKS = {
    "a log line": f"""
        logging.getLogger("any").error("refused: %s", "{JWT}")
    """,
    "the app's own quiet line": """
        logging.getLogger("itwin_image_drop").info("%s", "the secret is hush")
    """,
    "a traceback": f"""
        try:
            raise ValueError("Bearer {JWT}")
        except ValueError:
            logging.getLogger("any").exception("failed")
    """,
    "what a host prints": """
        (tmp_path / "host.json").write_text('{"version": "2.0"}')
        (tmp_path / "function_app.py").write_text("import os; print('it is', os.environ['IDENTITY_HEADER'])")
        storage = "AccountName=a;AccountKey=a2V5;BlobEndpoint=http://127.0.0.1:9;QueueEndpoint=http://127.0.0.1:9"
        with suppress(LocalCloudError):
            HostProcess(tmp_path, {"AzureWebJobsStorage": storage, "IDENTITY_HEADER": "open sesame"}).start()
    """,
    "what any program prints": """
        child = Child(["sh", "-c", "echo it is hu''sh; sleep 5"], environment={}, directory=PROJECT)
        assert wait_until(lambda: len(child.lines) > 0, timeout_s=300)
        child.kill()
    """,
    "a result": """
        with Azurite() as azurite, BlobServiceClient.from_connection_string(azurite.connection_string) as storage:
            storage.create_container("results").upload_blob("x.json", LEAKING_RESULT)
    """,
    "a result that is overwritten": """
        with Azurite() as azurite, BlobServiceClient.from_connection_string(azurite.connection_string) as storage:
            results = storage.create_container("results")
            for text in (LEAKING_RESULT, "{}"):
                results.upload_blob("x.json", text, overwrite=True)
    """,
    "a result in a store that dies": """
        with Azurite() as azurite, BlobServiceClient.from_connection_string(azurite.connection_string) as storage:
            storage.create_container("results").upload_blob("x.json", LEAKING_RESULT)
            os.kill(azurite.pid, signal.SIGKILL)
    """,
    "a result in the ledger": """
        with Azurite() as azurite, BlobServiceClient.from_connection_string(azurite.connection_string) as storage:
            storage.create_container("ledger").upload_blob("x.json", '{"upload": {"result": {"reason": "hush"}}}')
    """,
    "a result in the cloud of another program": """
        environment = {**os.environ, "LOCAL_CLOUD_FOLDER": str(tmp_path)}
        child = Child([sys.executable, "-m", "local"], environment=environment, directory=PROJECT)
        assert wait_until(lambda: any("Drop a file:" in line for line in list(child.lines)), timeout_s=300)
        connection_string = json.loads((tmp_path / "cloud.json").read_text())["connectionString"]
        with BlobServiceClient.from_connection_string(connection_string) as storage:
            storage.get_container_client("results").upload_blob("x.json", LEAKING_RESULT)
        child.stop()
    """,
}
HEAD = """
import json
import logging
import os
import signal
import sys
from contextlib import suppress
from azure.storage.blob import BlobServiceClient
from local.azurite import Azurite
from local.host_process import HostProcess
from local.processes import PROJECT, Child, wait_until
from local.serving import LocalCloudError

LEAKING_RESULT = '{"status": "retrying", "reason": "https://host/x?sig=abc"}'
"""
NOTHING = "\n        pass\n"


def test_a_secret_that_leaks_fails_the_test(tmp_path: Path) -> None:
    """A search that finds nothing would prove nothing, and neither would one that finds what did not leak."""
    tests = [*LEAKS.values(), NOTHING]
    functions = [f"\ndef test_{number}(tmp_path):\n{text}" for number, text in enumerate(tests)]
    (tmp_path / "test_inner.py").write_text(HEAD + "".join(functions))
    command = [sys.executable, "-m", "pytest", "-qrA", "-ptests.leaks", "-pno:cacheprovider", str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": str(PROJECT), "PYTEST_ADDOPTS": "", "COLUMNS": "200"}
    run = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    summary = run.stdout.partition("short test summary info")[2].splitlines()
    assert run.returncode == 1, run.stdout
    assert {line for line in summary if line.startswith("PASSED")} == {
        f"PASSED test_inner.py::test_{n}" for n in range(len(tests))
    }
    found = {line.split(" - ")[0]: line for line in summary if line.startswith("ERROR")}
    for number, name in enumerate(LEAKS):
        reported = found.pop(f"ERROR test_inner.py::test_{number}", "")
        assert "logged: " in reported or "published: " in reported, f"{name} was not found"
    assert not found


def test_the_whole_suite_is_searched(cloud: LocalCloud, leak_detector: LeakDetector) -> None:
    """The output of the shared cloud's host is searched too, and its keys are known."""
    before = leak_detector.searched
    assert cloud.result(cloud.drop(cloud.itwin(), "a.png", encode(building_site(40, 40), "PNG")))
    assert leak_detector.searched > before
    assert {cloud.host.function_key, cloud.identity.header} <= leak_detector.secrets


def test_a_signed_url_is_not_a_secret_where_it_belongs() -> None:
    """It belongs only into the platform's own object; a token belongs nowhere."""
    signed = "https://host/x?se=1&sig=abc"
    assert not publishes_secret({"image": {"smallImageUrl": signed}})
    assert publishes_secret({"reason": signed})
    assert publishes_secret({"image": {"smallImageUrl": JWT}})
    assert contains_secret(signed)
    assert contains_secret("the key", ["key"])
    assert not contains_secret("Executed 'Functions.process_drop' (Succeeded, Id=1, Duration=12ms)")
