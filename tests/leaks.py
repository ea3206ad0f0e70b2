"""Secrets that were told: what the whole suite logs and writes down is searched, whatever a test is about.

`pytest` loads this as a plugin (tests/conftest.py), which hears

- what is logged in its own process, but for the runs of the model in tests/model, which log nothing;
- what every program prints that is started as a `Child`: Functions hosts, and `python -m local` with the host in it;
  Azurite's access log, which names what its clients ask for, is not the app's;
- all results and ledger entries that were ever written to an Azurite, be they overwritten, which it still has on its
  disk when it is stopped, or the program that it belongs to, and when its folder is removed.

Not heard are programs that a test runs to their end to see what they print, and stores that are gone when their
program has ended by itself. The test at whose end a secret is found fails. Secrets that tests invent have `hush` in
them.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from local.azurite import ACCOUNT_KEY
from local.functions_host.contract import BLOBS_EXTENSION_KEY, FUNCTION_KEY

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

TOKEN = re.compile(r"eyJ[\w-]{8,}\.|[Bb]earer [\w-]{8,}|SharedKey \w|hush")
SIGNATURE = re.compile(r"[?&;](sig|code)=")
SECRET_SETTINGS = (BLOBS_EXTENSION_KEY, FUNCTION_KEY, "IDENTITY_HEADER")
# How the app's own documents begin: results, and entries of the ledger.
DOCUMENT = re.compile(rb'\{\s*"(status|upload)":')
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
        """Take in a record of this process, with its traceback, or what a program printed."""
        command = getattr(record, "command", ())
        if not is_azurite(command) and not str(record.msg).startswith(TOLD_ON_PURPOSE):
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
            upload = document.get("upload")
            for part in (document, upload.get("result") if isinstance(upload, dict) else None):
                if isinstance(part, dict) and publishes_secret({**part, "upload": None}, self.secrets):
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


class Watch:
    """Sees what this process does to others by Python's own audit events, and shows it to an ear.

    https://docs.python.org/3/library/audit_events.html: a hook stays as long as its process, so this one can be closed.
    """

    def __init__(self, ear: Ear) -> None:
        self._ear: Ear | None = ear
        sys.addaudithook(self._see)

    def close(self) -> None:
        """See nothing more."""
        self._ear = None

    def _see(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self._ear is None or event not in ("subprocess.Popen", "os.kill", "os.killpg", "shutil.rmtree"):
            return
        if event == "subprocess.Popen":
            self._ear.keep_secrets(arguments[3] or {})
            return
        for folder in [Path(arguments[0])] if event == "shutil.rmtree" else stores_of(arguments[0]):
            for document in stored_documents(folder):
                self._ear.document(str(folder), document)


def is_azurite(command: Sequence[str]) -> bool:
    """Whether a command runs Azurite."""
    return any(part.endswith("azurite.js") for part in command)


def stores_of(pid: int) -> Iterator[Path]:
    """Yield the folders of the Azurites that a process is or has started."""
    with suppress(psutil.Error):  # it has ended
        process = psutil.Process(pid)
        for found in (process, *process.children(recursive=True)):
            with suppress(psutil.Error):
                if is_azurite(found.cmdline()):
                    yield Path(found.cwd())


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
    ear, app, programs = Ear(), logging.getLogger("itwin_image_drop"), logging.getLogger("local.processes")
    logging.getLogger().addHandler(ear)
    programs.addHandler(ear)
    app.setLevel(logging.INFO)
    programs.setLevel(logging.DEBUG)
    programs.propagate = False  # or a test's own log were full of them
    watch = Watch(ear)
    yield ear
    watch.close()
    programs.removeHandler(ear)
    logging.getLogger().removeHandler(ear)
    assert ear.leaks() == []


@pytest.fixture(autouse=True)
def _nobody_tells_a_secret(ear: Ear) -> Iterator[None]:
    """Fail the test at whose end a secret was told."""
    yield
    assert ear.leaks() == []
