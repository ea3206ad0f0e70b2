"""Secrets that were told: what the whole suite logs and writes down is searched, whatever a test is about.

`pytest` loads this as a plugin (tests/conftest.py), which hears

- what is logged in its own process, but for the runs of the model in tests/model, which log nothing;
- what every program prints that is started as a `Child`: Functions hosts, and `python -m local` with the host in it;
  Azurite's access log, which names what its clients ask for, is not the app's;
- all results and ledger entries that were ever written to an Azurite, be they overwritten, which it still has on its
  disk when it is stopped: by its own object, or by ending the `Child` that it belongs to.

Not heard are programs that a test runs to their end to see what they print, and stores that are gone when their
program has ended by itself. The test at whose end a secret is found fails. Secrets that tests invent have `hush` in
them.
"""

from __future__ import annotations

import json
import logging
import re
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from local.azurite import ACCOUNT_KEY, Azurite
from local.functions_host.contract import BLOBS_EXTENSION_KEY, FUNCTION_KEY
from local.host_process import HostProcess
from local.processes import Child

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

TOKEN = re.compile(r"eyJ[\w-]{8,}\.|[Bb]earer [\w-]{8,}|SharedKey \w|hush")
SIGNATURE = re.compile(r"[?&;](sig|code)=")
SECRET_SETTINGS = (BLOBS_EXTENSION_KEY, FUNCTION_KEY, "IDENTITY_HEADER", "ITWIN_CLIENT_SECRET")
# How the app's own documents begin: results, and entries of the ledger.
DOCUMENT = re.compile(rb'\{\s*"(status|doubts)":')
LONGEST_DOCUMENT = 100_000
# `python -m local` tells its developer the way to the storage, with the key that all the world knows.
TOLD_ON_PURPOSE = "  drop storage "
SHORTEST_SECRET = 6


def tells_secret(text: str, secrets: Collection[str] = ()) -> bool:
    """Whether there is a token, a signed URL or one of the `secrets` in a log line."""
    return bool(TOKEN.search(text) or SIGNATURE.search(text)) or any(secret in text for secret in secrets)


def publishes_secret(document: Mapping[str, Any], secrets: Collection[str] = ()) -> bool:
    """Whether there is one in a result: signed URLs belong there, but into the platform's own object alone."""
    whole = json.dumps(document)
    apart = json.dumps({**document, "image": None})
    return bool(TOKEN.search(whole) or SIGNATURE.search(apart)) or any(secret in whole for secret in secrets)


class Ear(logging.Handler):
    """Hears all that is said while tests run, and keeps what should not have been."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.secrets = {ACCOUNT_KEY}
        self.heard = 0
        self._leaks: list[str] = []
        self._guard = threading.Lock()

    def emit(self, record: logging.LogRecord) -> None:
        """Take in a record of this process, with its traceback."""
        self.line(logging.Formatter().format(record))

    def line(self, line: str) -> None:
        """Take in a line of a program."""
        with self._guard:
            self.heard += 1
            if tells_secret(line, self.secrets):
                self._leaks.append(f"logged: {line[:400]}")

    def document(self, name: str, document: Mapping[str, Any]) -> None:
        """Take in a result, or a ledger's entry with the result in it."""
        with self._guard:
            self.heard += 1
            for part in (document, document.get("result")):
                if isinstance(part, dict) and publishes_secret({**part, "result": None}, self.secrets):
                    self._leaks.append(f"published: {name}")

    def keep_secrets(self, settings: Mapping[str, str]) -> None:
        """Learn what an app is not to tell, from its own settings."""
        found = {settings.get(name, "") for name in SECRET_SETTINGS}
        with self._guard:
            self.secrets |= {secret for secret in found if len(secret) >= SHORTEST_SECRET and "@" not in secret}

    def leaks(self) -> list[str]:
        """Return what was found since the last time."""
        with self._guard:
            found, self._leaks = self._leaks, []
        return found


def listen_to_programs(ear: Ear, patch: pytest.MonkeyPatch) -> None:
    """Have every program heard that is started, beside whoever starts it, and learn the keys of the hosts."""
    make_child, make_host = Child.__init__, HostProcess.__init__

    def make_child_heard(
        child: Child, command: Sequence[str], *, on_line: Callable[[str], None] = lambda _: None, **options: Any
    ) -> None:
        def hear(line: str) -> None:
            if not line.startswith(TOLD_ON_PURPOSE):
                ear.line(line)
            on_line(line)

        make_child(child, command, on_line=on_line if is_azurite(command) else hear, **options)

    def make_host_known(host: HostProcess, *arguments: Any, **options: Any) -> None:
        make_host(host, *arguments, **options)
        ear.keep_secrets(host._environment())

    patch.setattr(Child, "__init__", make_child_heard)
    patch.setattr(HostProcess, "__init__", make_host_known)


def search_what_is_stored(ear: Ear, patch: pytest.MonkeyPatch) -> None:
    """Have every Azurite searched before its data goes with it."""
    stop, signal_child = Azurite.stop, Child._signal

    def search_and_stop(azurite: Azurite) -> None:
        folder = azurite._temporary.name if azurite._temporary else azurite._data
        try:
            if folder:
                search(Path(folder))
        finally:
            stop(azurite)

    def search_and_signal(child: Child, *arguments: Any) -> None:
        try:
            for folder in stores_within(child.pid):
                search(folder)
        finally:
            signal_child(child, *arguments)

    def search(folder: Path) -> None:
        for document in stored_documents(folder):
            ear.document(str(folder), document)

    patch.setattr(Azurite, "stop", search_and_stop)
    patch.setattr(Child, "_signal", search_and_signal)


def is_azurite(command: Sequence[str]) -> bool:
    """Whether a command runs Azurite."""
    return any(part.endswith("azurite.js") for part in command)


def stores_within(pid: int) -> Iterator[Path]:
    """Yield the folders of the Azurites that a process has started."""
    with suppress(psutil.Error):  # it has ended
        for process in psutil.Process(pid).children(recursive=True):
            with suppress(psutil.Error):
                if is_azurite(process.cmdline()):
                    yield Path(process.cwd())


def stored_documents(folder: Path) -> Iterator[dict[str, Any]]:
    """Yield all results and ledger entries that were ever written to a store, by the folder of its data."""
    decoder = json.JSONDecoder()
    for file in folder.glob("__blobstorage__/*"):
        content = file.read_bytes()
        for found in DOCUMENT.finditer(content):
            text = content[found.start() : found.start() + LONGEST_DOCUMENT].decode(errors="replace")
            with suppress(ValueError):  # damaged by a test, or part of something else
                yield decoder.raw_decode(text)[0]


@pytest.fixture(scope="session", autouse=True)
def ear() -> Iterator[Ear]:
    """Listen while tests run."""
    ear, app = Ear(), logging.getLogger("itwin_image_drop")
    logging.getLogger().addHandler(ear)
    app.setLevel(logging.INFO)
    with pytest.MonkeyPatch.context() as patch:
        listen_to_programs(ear, patch)
        search_what_is_stored(ear, patch)
        yield ear
    logging.getLogger().removeHandler(ear)
    assert ear.leaks() == []


@pytest.fixture(autouse=True)
def _nobody_tells_a_secret(ear: Ear) -> Iterator[None]:
    """Fail the test at whose end a secret was told."""
    yield
    assert ear.leaks() == []
