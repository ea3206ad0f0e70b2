"""`python -m local`: start everything, say where it is, and run until Ctrl-C or SIGTERM."""

from __future__ import annotations

import os
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from local.cloud import LocalCloud, Ports
from local.commands import PARTS
from local.commands.running import hearing_from_cloud
from local.console import open_console
from local.state import claim_state
from local.terminal import say

if TYPE_CHECKING:
    import argparse

HEALTH_INTERVAL_S = 0.5
# Whoever watches would not wait for an hour to see a drop survive an outage.
SHORT_WAITS = {"RETRY_MIN_DELAY_S": "1", "RETRY_MAX_DELAY_S": "10"}


@hearing_from_cloud()
def run(options: argparse.Namespace) -> int:
    """Run the cloud."""
    ports = Ports(**{part: getattr(options, f"{part}_port") for part in PARTS})
    host_log = HostLog()
    with claim_state() as publish:
        cloud = LocalCloud(
            app_settings=SHORT_WAITS,
            host=options.host,
            data=options.data,
            ports=ports,
            on_line=host_log.line,
        )
        try:
            with cloud, open_console(cloud, ports.console) as console:
                publish(cloud.state)
                for line in _describe(cloud, console):
                    say(line)
                host_log.release()
                while True:
                    cloud.check()
                    time.sleep(HEALTH_INTERVAL_S)
        finally:
            host_log.release()


class HostLog:
    """Prints what the host says, but holds it back until `release`: the console's address is to come first."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: list[str] | None = []

    def line(self, line: str) -> None:
        """Print or hold a line."""
        with self._lock:
            if self._held is None:
                say(line)
            else:
                self._held.append(line)

    def release(self) -> None:
        """Print what was held, and from now on every line."""
        with self._lock:
            held, self._held = self._held or [], None
            for line in held:
                say(line)


def _describe(cloud: LocalCloud, console: str) -> list[str]:
    python = os.path.relpath(sys.executable) if Path(sys.executable).is_relative_to(Path.cwd()) else sys.executable
    return [
        "",
        "The cloud runs; Ctrl-C ends it.",
        "",
        f"  console           {console}",
        f"  iTwin Platform    {cloud.platform_address}",
        f"  managed identity  {cloud.identity_address}",
        f"  Key Vault         {cloud.vault_address}",
        f"  Functions host    {cloud.host.address}",
        f"  drop storage      {cloud.connection_string}",
        "",
        f"Drop a file:  {python} -m local drop FILE",
        "",
    ]
