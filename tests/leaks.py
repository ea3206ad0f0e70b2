"""Searches what the whole suite logs and stores for secrets, whatever a test is about.

`pytest` loads this as a plugin (tests/conftest.py), which searches

- what is logged in its own process, except by the runs of the model in tests/model, which log nothing;
- what every program prints that is started as a `Child`: Functions hosts, and `python -m local` with the host in it.
  Azurite's access log is left out: it contains what its clients ask for, and is not the app's;
- all results and ledger entries that were ever written to an Azurite, including those overwritten since. They are still
  on its disk when it, or the program that it belongs to, is stopped, and when its folder is deleted.

Not searched are the output of programs that a test runs to their end, and stores that are gone when their program has
ended by itself. The test at whose end a secret is found fails.
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
from tools.leaks import contains_secret, publishes_secret

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

SECRET_SETTINGS = (BLOBS_EXTENSION_KEY, FUNCTION_KEY, "IDENTITY_HEADER")
# How the app's own documents begin: results, and entries of the ledger.
DOCUMENT = re.compile(rb'\{\s*"(status|upload)":')
LONGEST_DOCUMENT = 100_000
# `python -m local` prints the connection string of its storage, whose key is public knowledge.
PRINTED_ON_PURPOSE = "  drop storage "
SHORTEST_SECRET = 6


class LeakDetector(logging.Handler):
    """Searches all that is logged and stored while tests run, and keeps where a secret was found."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.secrets = {ACCOUNT_KEY}
        self.searched = 0
        self._leaks: list[str] = []
        self._leaks_lock = threading.Lock()

    def emit(self, record: logging.LogRecord) -> None:
        """Search a record of this process, including its traceback, or a line that a program printed."""
        command = getattr(record, "command", ())
        if not is_azurite(command) and not str(record.msg).startswith(PRINTED_ON_PURPOSE):
            self.search_line(logging.Formatter().format(record))

    def search_line(self, line: str) -> None:
        """Search a log line."""
        with self._leaks_lock:
            self.searched += 1
            if contains_secret(line, self.secrets):
                self._leaks.append(f"logged: {line[:400]}")

    def search_document(self, name: str, document: Mapping[str, Any]) -> None:
        """Search a result, or a ledger entry with the result in it."""
        with self._leaks_lock:
            self.searched += 1
            upload = document.get("upload")
            for part in (document, upload.get("result") if isinstance(upload, dict) else None):
                if isinstance(part, dict) and publishes_secret({**part, "upload": None}, self.secrets):
                    self._leaks.append(f"published: {name}")

    def learn_secrets(self, settings: Mapping[str, str]) -> None:
        """Learn which secrets to search for from the settings of an app."""
        found = {settings.get(name, "") for name in SECRET_SETTINGS}
        with self._leaks_lock:
            self.secrets |= {secret for secret in found if len(secret) >= SHORTEST_SECRET and "@" not in secret}

    def leaks(self) -> list[str]:
        """Return what was found since the last call."""
        with self._leaks_lock:
            found, self._leaks = self._leaks, []
        return found


class ProcessAudit:
    """Follows by Python's audit events which programs this process starts and ends, and has their stores searched.

    A hook stays as long as its process, so this one can be closed: https://docs.python.org/3/library/audit_events.html.
    """

    def __init__(self, detector: LeakDetector) -> None:
        self._detector: LeakDetector | None = detector
        sys.addaudithook(self._follow)

    def close(self) -> None:
        """Ignore all further events."""
        self._detector = None

    def _follow(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self._detector is None or event not in ("subprocess.Popen", "os.kill", "os.killpg", "shutil.rmtree"):
            return
        if event == "subprocess.Popen":
            self._detector.learn_secrets(arguments[3] or {})
            return
        for folder in [Path(arguments[0])] if event == "shutil.rmtree" else stores_of(arguments[0]):
            for document in stored_documents(folder):
                self._detector.search_document(str(folder), document)


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
def leak_detector() -> Iterator[LeakDetector]:
    """Search while tests run."""
    detector = LeakDetector()
    app, programs = logging.getLogger("itwin_image_drop"), logging.getLogger("local.processes")
    logging.getLogger().addHandler(detector)
    programs.addHandler(detector)
    app.setLevel(logging.INFO)
    programs.setLevel(logging.DEBUG)
    programs.propagate = False  # otherwise a test's own log would be full of them
    audit = ProcessAudit(detector)
    yield detector
    audit.close()
    programs.removeHandler(detector)
    logging.getLogger().removeHandler(detector)
    assert detector.leaks() == []


@pytest.fixture(autouse=True)
def _no_secret_leaks(leak_detector: LeakDetector) -> Iterator[None]:
    """Fail the test at whose end a secret is found."""
    yield
    assert leak_detector.leaks() == []
