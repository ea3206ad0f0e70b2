"""Azurite, Microsoft's storage emulator, as a child process: blobs and queues on loopback, with its access log.

https://github.com/Azure/Azurite
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from local.locks import claim_folder
from local.processes import PROJECT, Child, wait_until
from local.serving import LOOPBACK, LocalCloudError, listen

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

AZURITE = PROJECT / "node_modules" / "azurite" / "dist" / "src" / "azurite.js"
RUNNER = Path(__file__).with_name("run_azurite.js")
START_TIMEOUT_S = 120.0

# For clients of the storage SDK: storage on this machine responds at once, or has ended. By default they would retry
# for most of a minute.
QUICK_RETRIES: dict[str, Any] = {
    "retry_total": 3,
    "initial_backoff": 0.2,
    "increment_base": 1,
    "random_jitter_range": 0,
}

# The development account is public knowledge:
# https://learn.microsoft.com/azure/storage/common/storage-connect-azurite#well-known-storage-account-and-key
ACCOUNT = "devstoreaccount1"
ACCOUNT_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="

_LISTENING = re.compile(r"Azurite (Blob|Queue) service is successfully listening at (https?://\S+)")


class Azurite:
    """A running Azurite. A port of 0 chooses a free one; without a data folder, its data is deleted when it ends.

    A data folder is locked, because two Azurites that write to the same one would lose its data.

    With a certificate and its key (PEM files) it speaks https, and also accepts access tokens of managed identities.
    """

    def __init__(
        self,
        *,
        data: Path | None = None,
        blob_port: int = 0,
        queue_port: int = 0,
        certificate: tuple[Path, Path] | None = None,
        program: Path = AZURITE,
    ) -> None:
        self._data = data
        self._certificate = certificate
        self._program = program
        self._ports = (blob_port, queue_port)
        self._watchers: list[Callable[[str], None]] = []
        self._addresses: dict[str, str] = {}
        self._listening = threading.Event()
        self._child: Child | None = None
        self._folder = contextlib.ExitStack()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Launch it and wait until it listens; LocalCloudError says in one sentence why it cannot."""
        self.launch()
        self.wait()

    def launch(self) -> None:
        """Start it, so that something else can be done before `wait`. Raises LocalCloudError."""
        node = shutil.which("node")
        if node is None:
            raise LocalCloudError("Node.js was not found: install it, as Azurite, the storage emulator, needs it.")
        if not self._program.exists():
            raise LocalCloudError("Azurite is not installed: run `make demo` first, or `npm ci` in the project folder.")
        for port in filter(None, self._ports):
            listen(port).close()
        folder, locks = self._open_folder()
        blob_port, queue_port = map(str, self._ports)
        command = [node, str(RUNNER), str(self._program), "--location", str(folder)]
        command += ["--blobHost", LOOPBACK, "--blobPort", blob_port]
        command += ["--queueHost", LOOPBACK, "--queuePort", queue_port]
        # The storage SDK speaks newer API versions than Azurite knows; telemetry would call out.
        command += ["--skipApiVersionCheck", "--disableTelemetry"]
        if self._certificate:
            certificate, key = (str(file.resolve()) for file in self._certificate)
            command += ["--cert", certificate, "--key", key, "--oauth", "basic"]
        environment = {"PATH": os.environ.get("PATH", ""), "TEMPORARY": "" if self._data else "1"}
        self._listening.clear()
        self._addresses.clear()
        self._child = Child(command, environment=environment, directory=folder, on_line=self._read, inherited=locks)

    def wait(self) -> None:
        """Wait until what was launched listens. Raises LocalCloudError."""
        child = self._child
        if child is None:
            raise LocalCloudError("Azurite was not launched.")
        wait_until(lambda: self._listening.is_set() or child.exit_code is not None, timeout_s=START_TIMEOUT_S)
        if not self._listening.is_set():
            self.stop()  # which waits for the rest of its output
            reason = child.lines[-1] if child.lines else "it printed nothing"
            where = f" with the data in {self._data}" if self._data else ""
            raise LocalCloudError(f"Azurite could not start{where}: {reason}")

    def stop(self) -> None:
        """Stop it, if it is running."""
        if self._child:
            # What is temporary need not be saved.
            _ = self._child.stop() if self._data else self._child.kill()
            self._child = None
        self._folder.close()

    def watch(self, on_access: Callable[[str], None]) -> None:
        """Pass every line of the access log to `on_access` from now on; it must return quickly."""
        self._watchers.append(on_access)

    def unwatch(self, on_access: Callable[[str], None]) -> None:
        """Undo `watch`."""
        self._watchers.remove(on_access)

    @property
    def exit_code(self) -> int | None:
        """None while it runs."""
        return self._child.exit_code if self._child else None

    @property
    def pid(self) -> int | None:
        """The process that runs it."""
        return self._child.pid if self._child else None

    @property
    def blob_url(self) -> str:
        """The account's blob service."""
        return f"{self._addresses['Blob']}/{ACCOUNT}"

    @property
    def queue_url(self) -> str:
        """The account's queue service."""
        return f"{self._addresses['Queue']}/{ACCOUNT}"

    @property
    def connection_string(self) -> str:
        """For any Azure Storage SDK; the key in it is the public development key.

        There are no tables. Core Tools request one nevertheless: here they are refused at once, instead of contacting
        the public address of somebody else's account.
        """
        return (
            f"DefaultEndpointsProtocol=http;AccountName={ACCOUNT};AccountKey={ACCOUNT_KEY};"
            f"BlobEndpoint={self.blob_url};QueueEndpoint={self.queue_url};TableEndpoint={self.blob_url};"
        )

    def _open_folder(self) -> tuple[Path, list[int]]:
        """Return where the data is, and the descriptors of its locks. Raises LocalCloudError."""
        if self._data is None:
            temporary = tempfile.TemporaryDirectory(prefix="azurite-", ignore_cleanup_errors=True)
            return Path(self._folder.enter_context(temporary)), []
        try:
            self._data.mkdir(parents=True, exist_ok=True)
            return self._data.resolve(), [self._folder.enter_context(claim_folder(self._data))]
        except OSError as error:
            raise LocalCloudError(f"The data folder {self._data} cannot be used ({error.strerror}).") from error

    def _read(self, line: str) -> None:
        if not self._listening.is_set():
            found = _LISTENING.match(line)
            if found:
                self._addresses[found[1]] = found[2]
                if len(self._addresses) == len(self._ports):
                    self._listening.set()
            return
        for watcher in tuple(self._watchers):
            watcher(line)
