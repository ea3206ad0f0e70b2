"""The Functions host as a child of the local cloud: the embedded one, or Azure Functions Core Tools."""

from __future__ import annotations

import os
import secrets
import shutil
import sys
from typing import TYPE_CHECKING, Literal

import requests

from local.functions_host.contract import BLOBS_EXTENSION_KEY, FUNCTION_KEY, WEBHOOK_PATH
from local.processes import LEASH, PROJECT, Child, wait_until
from local.serving import LOOPBACK, LocalCloudError, listen

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

HostKind = Literal["embedded", "func"]

# What any program needs from its environment; nothing else in the developer's environment reaches the app.
INHERITED = (
    *("PATH", "HOME", "USER", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR", "SSL_CERT_FILE"),
    *("no_proxy", "NO_PROXY"),  # where these are not set, macOS asks the proxies of its own settings
)
START_TIMEOUT_S = 120.0


class HostProcess:
    """One app's host, on a port that stays the same across restarts. Its settings are its whole environment."""

    def __init__(
        self,
        app_folder: Path,
        settings: Mapping[str, str],
        *,
        kind: HostKind = "embedded",
        port: int = 0,
        visibility_timeout_s: float | None = None,
        on_line: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._take_port(port)
        self._any_port = not port  # until it has started once
        self.settings = dict(settings)
        self.function_key = secrets.token_urlsafe(32)
        self._blobs_extension_key = secrets.token_urlsafe(32)
        self._app_folder = app_folder
        self._kind = kind
        self._visibility_timeout_s = visibility_timeout_s
        self._on_line = on_line
        self._child: Child | None = None

    def start(self) -> None:
        """Start it and wait until it responds; LocalCloudError says why it does not."""
        while (reason := self._try_to_start()) is not None:
            if not self._any_port or _is_free(self.port):
                raise LocalCloudError(f"The Functions host could not start: {reason}")
            self._take_port(0)  # somebody was faster: the port was free when it was chosen
        self._any_port = False

    def _try_to_start(self) -> str | None:
        """Return why it ended at once; None if it is running. Raises LocalCloudError if it does neither in time."""
        self._child = child = Child(
            self._command(),
            environment=self._environment(),
            directory=PROJECT if self._kind == "embedded" else self._app_folder,
            on_line=self._on_line,
        )
        wait_until(lambda: child.exit_code is not None or self._responds(), timeout_s=START_TIMEOUT_S, interval_s=0.05)
        if child.exit_code is not None:
            self.stop()
            return child.lines[-1] if child.lines else "it printed nothing"
        if not self._responds():
            self.kill()
            raise LocalCloudError(f"The Functions host did not respond within {START_TIMEOUT_S:.0f} s.")
        return None

    def _take_port(self, port: int) -> None:
        with listen(port) as listener:
            self.port = int(listener.getsockname()[1])
        self.address = f"http://{LOOPBACK}:{self.port}"

    def stop(self) -> int | None:
        """End it as a deployment does: running functions may finish. Returns its exit code."""
        return self._child.stop() if self._child else None

    def kill(self) -> int | None:
        """End it as a crash or an out-of-memory kill does. Returns its exit code."""
        return self._child.kill() if self._child else None

    def restart(self) -> None:
        """Stop it and start it again, with the current settings."""
        self.stop()
        self.start()

    @property
    def pid(self) -> int | None:
        """The process that runs it."""
        return self._child.pid if self._child else None

    @property
    def exit_code(self) -> int | None:
        """None while it runs."""
        return self._child.exit_code if self._child else None

    @property
    def lines(self) -> list[str]:
        """What it has printed recently."""
        return list(self._child.lines) if self._child else []

    def webhook(self, function: str) -> str:
        """Return the address for Event Grid, key included: https://learn.microsoft.com/azure/azure-functions/functions-event-grid-blob-trigger."""
        return f"{self.address}{WEBHOOK_PATH}?functionName=Host.Functions.{function}&code={self._blobs_extension_key}"

    def _command(self) -> list[str]:
        if self._kind == "func":
            return [*LEASH, find_core_tools(), "start", "--port", str(self.port)]
        command = [sys.executable, "-m", "local.functions_host", "--port", str(self.port), "--end-with-input"]
        command += ["--app-folder", str(self._app_folder)]
        if self._visibility_timeout_s is not None:
            command += ["--visibility-timeout", str(self._visibility_timeout_s)]
        return command

    def _environment(self) -> dict[str, str]:
        environment = {name: os.environ[name] for name in INHERITED if name in os.environ}
        environment |= {"PYTHONUNBUFFERED": "1", **self.settings}
        if self._kind == "func":
            executable = "languageWorkers__python__defaultExecutablePath"
            return environment | {"FUNCTIONS_WORKER_RUNTIME": "python", executable: sys.executable}
        keys = {BLOBS_EXTENSION_KEY: self._blobs_extension_key, FUNCTION_KEY: self.function_key}
        return environment | keys

    def _responds(self) -> bool:
        try:
            return requests.get(f"{self.address}/admin/host/ping", timeout=5).ok
        except requests.RequestException:
            return False


def _is_free(port: int) -> bool:
    try:
        listen(port).close()
    except LocalCloudError:
        return False
    return True


def find_core_tools() -> str:
    """Return the path of `func`. Raises LocalCloudError if it was not found."""
    func = shutil.which("func")
    if func is None:
        raise LocalCloudError(
            "Azure Functions Core Tools (func) is not on the PATH: install it, or use --host embedded."
        )
    return func
