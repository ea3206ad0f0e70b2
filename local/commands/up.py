"""`python -m local`: start everything, print where it is, and run until Ctrl-C or SIGTERM."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from local.cloud import LocalCloud
from local.commands.running import cloud_errors_explained
from local.console import open_console
from local.ports import DEFAULT_PORTS, PARTS, claim_ports
from local.state import claim_state
from local.terminal import own_command, say

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

HEALTH_INTERVAL_S = 0.5
# Short enough to watch a drop survive an outage.
SHORT_WAITS = {"RETRY_MIN_DELAY_S": "1", "RETRY_MAX_DELAY_S": "10"}


@cloud_errors_explained()
def run(options: argparse.Namespace) -> int:
    """Run the cloud."""
    asked = {part: getattr(options, f"{part}_port") for part in PARTS}
    host_log = HostLog()
    with claim_ports(asked) as ports, claim_state() as publish:
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
                moved = [part for part in PARTS if asked[part] is None and not getattr(ports, part)]
                for line in _describe(cloud, console, moved):
                    say(line)
                host_log.release()
                while True:
                    cloud.check()
                    time.sleep(HEALTH_INTERVAL_S)
        finally:
            host_log.release()


class HostLog:
    """Prints the host's log, but only after `release`: the console's address should be printed first."""

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
        """Print the lines held back so far, and every further line at once."""
        with self._lock:
            held, self._held = self._held or [], None
            for line in held:
                say(line)


def _describe(cloud: LocalCloud, console: str, moved: Sequence[str]) -> list[str]:
    command = own_command()
    addresses = {
        "console": console,
        "blob": cloud.azurite.blob_url,
        "queue": cloud.azurite.queue_url,
        "platform": cloud.platform_address,
        "identity": cloud.identity_address,
        "vault": cloud.vault_address,
        "host": cloud.host.address,
    }
    return [
        "",
        "The cloud is running; Ctrl-C stops it.",
        "",
        f"  console           {addresses['console']}",
        f"  iTwin Platform    {addresses['platform']}",
        f"  managed identity  {addresses['identity']}",
        f"  Key Vault         {addresses['vault']}",
        f"  Functions host    {addresses['host']}",
        f"  drop storage      {cloud.connection_string}",
        "",
        *(_fallback(part, addresses[part]) for part in moved),
        *([""] if moved else []),
        f"Drop a file:        {command} drop FILE",
        f'For other programs: eval "$({command} env)"',
        "",
    ]


def _fallback(part: str, address: str) -> str:
    usual, port = getattr(DEFAULT_PORTS, part), urlsplit(address).port
    instead = " UseDevelopmentStorage=true will not find it." if part in ("blob", "queue") else ""
    return f"Port {usual} is in use, so the {part} service listens on {port}.{instead}"
