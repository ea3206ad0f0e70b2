"""`python -m local.itwin_platform`."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import uuid
from pathlib import Path

import requests

from tests.deadlines import HANG_S
from tests.local_itwin_platform.client import TOKEN_REQUEST, Client, picture


def start_program(*arguments: str) -> subprocess.Popen[str]:
    """Start `python -m local.itwin_platform`."""
    return subprocess.Popen(
        [sys.executable, "-m", "local.itwin_platform", *arguments],
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )


def test_the_program_serves_until_interrupted() -> None:
    """It prints its address, a client ID and a secret, which work; Ctrl-C ends it silently."""
    with start_program("--port", "0") as program:
        assert program.stdout
        address = program.stdout.readline().split()[3]
        _, _, client_id, _, _, secret = program.stdout.readline().split()
        try:
            form = {**TOKEN_REQUEST, "client_id": client_id.rstrip(","), "client_secret": secret}
            token = requests.post(f"{address}/connect/token", data=form, timeout=HANG_S).json()["access_token"]
            itwin = uuid.uuid4()
            assert requests.put(f"{address}/_control/itwins/{itwin}", timeout=HANG_S).status_code == 201
            headers = {"authorization": f"Bearer {token}", "content-type": "image/png"}
            url = f"{address}/itwins/{itwin}/image"
            assert requests.put(url, data=picture(), headers=headers, timeout=HANG_S).status_code == 201
        finally:
            program.send_signal(signal.SIGINT)
        _, complaints = program.communicate(timeout=HANG_S)
        assert (program.returncode, complaints) == (0, "")


def test_the_program_reports_a_port_in_use(client: Client) -> None:
    """One sentence, exit code 1."""
    port = client.address.rsplit(":", 1)[1]
    with start_program("--port", port) as program:
        _, complaints = program.communicate(timeout=HANG_S)
    assert program.returncode == 1
    assert complaints.startswith(f"Port {port} cannot be used")
    assert len(complaints.splitlines()) == 1
