"""Secrets that were told: every log line and every result of the whole suite is searched, whatever a test is about.

`pytest` loads this as a plugin (tests/conftest.py). It sees what is logged in its own process and by each Functions
host that a test starts, and reads all results and ledgers of an Azurite before that ends. The test at whose end a
secret is found fails. Secrets that tests invent have `hush` in them.
"""

from __future__ import annotations

import json
import logging
import re
import threading
from typing import TYPE_CHECKING, Any

import pytest
from azure.core.exceptions import AzureError
from azure.storage.blob import BlobServiceClient

from local.azurite import ACCOUNT_KEY, Azurite
from local.functions_host.__main__ import BLOBS_EXTENSION_KEY, FUNCTION_KEY
from local.host_process import HostProcess

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping

TOKEN = re.compile(r"eyJ[\w-]{8,}\.|[Bb]earer [\w-]{8,}|SharedKey \w|hush")
SIGNATURE = re.compile(r"[?&;](sig|code)=")
SECRET_SETTINGS = (BLOBS_EXTENSION_KEY, FUNCTION_KEY, "IDENTITY_HEADER", "ITWIN_CLIENT_SECRET")
KEPT = re.compile(r"^(results|ledger)")
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
        """Take in a line of a host."""
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


def listen_to_hosts(ear: Ear, patch: pytest.MonkeyPatch) -> None:
    """Have every host heard that is made, beside whoever makes it."""
    make = HostProcess.__init__

    def make_heard(
        host: HostProcess, *arguments: Any, on_line: Callable[[str], None] = lambda _: None, **options: Any
    ) -> None:
        def hear(line: str) -> None:
            ear.line(line)
            on_line(line)

        make(host, *arguments, on_line=hear, **options)
        ear.keep_secrets(host._environment())

    patch.setattr(HostProcess, "__init__", make_heard)


def read_what_is_stored(ear: Ear, patch: pytest.MonkeyPatch) -> None:
    """Have every Azurite searched before it ends."""
    stop = Azurite.stop

    def search_and_stop(azurite: Azurite) -> None:
        try:
            if azurite.exit_code is None and azurite._addresses.get("Blob", "").startswith("http://"):
                for name, document in stored_documents(azurite.connection_string):
                    ear.document(name, document)
        finally:
            stop(azurite)

    patch.setattr(Azurite, "stop", search_and_stop)


def stored_documents(connection_string: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield all results and ledger entries that are JSON."""
    with BlobServiceClient.from_connection_string(connection_string, retry_total=0) as storage:
        try:
            for container in storage.list_containers():
                if not KEPT.match(container.name):
                    continue
                client = storage.get_container_client(container.name)
                for name in client.list_blob_names():
                    try:
                        document = json.loads(client.download_blob(name).readall())
                    except ValueError:
                        continue
                    if isinstance(document, dict):
                        yield f"{container.name}/{name}", document
        except AzureError:
            return  # it is ending, or was killed by a test


@pytest.fixture(scope="session", autouse=True)
def ear() -> Iterator[Ear]:
    """Listen while tests run."""
    ear, app = Ear(), logging.getLogger("itwin_image_drop")
    logging.getLogger().addHandler(ear)
    app.setLevel(logging.INFO)
    with pytest.MonkeyPatch.context() as patch:
        listen_to_hosts(ear, patch)
        read_what_is_stored(ear, patch)
        yield ear
    logging.getLogger().removeHandler(ear)
    assert ear.leaks() == []


@pytest.fixture(autouse=True)
def _nobody_tells_a_secret(ear: Ear) -> Iterator[None]:
    """Fail the test at whose end a secret was told."""
    yield
    assert ear.leaks() == []
