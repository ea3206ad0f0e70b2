"""What tests share: one Azurite and one whole cloud for all of them, each started when it is first asked for.

And all are searched for secrets that were told.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, get_args

import pytest

from local.azurite import Azurite
from local.cloud import LocalCloud
from local.host_process import HostKind, find_core_tools
from local.key_vault import KeyVault
from local.managed_identity import SYSTEM_ASSIGNED_ID, ManagedIdentity
from local.proxies import spare_loopback
from local.serving import LocalCloudError, serve

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tests.leaks import Ear

pytest_plugins = ["tests.drop_bench", "tests.kept", "tests.leaks"]

# Taken first, so that none of them is all that is left in the end: two that wait the most, what computes beside them,
# and then what takes the longest of the others.
FIRST = (
    "test_pipeline",
    "test_stories",
    "test_local_main",
    "test_interrupts",
    "test_costly",
    "test_limits",
    "test_storm",
    "test_simulation",
    "test_memory",
    "test_bench",
    "test_legality",
    "test_preview",
    "test_hostile_code",
    "test_local_functions_host",
    "test_local_cloud",
    "test_hostile",
    "test_console",
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let the stories be told by another Functions host."""
    parser.addoption(
        "--functions-host",
        choices=get_args(HostKind),
        default="embedded",
        help="who runs the app in the stories: the embedded host, or `func` of the PATH (default: %(default)s)",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Ask no proxy for what runs on this machine, as `python -m local` does not; find the host that is wanted."""
    spare_loopback()
    if config.getoption("functions_host") == "func":
        try:
            find_core_tools()
        except LocalCloudError as error:
            raise pytest.UsageError(str(error)) from error


def pytest_report_header(config: pytest.Config) -> list[str]:
    """Say who runs the app, and which marked tests are left out, and why."""
    marks = [str(mark) for mark in config.getini("markers")]
    left_out = [f"left out: {mark}" for mark in marks if f"not {mark.partition(':')[0]}" in config.option.markexpr]
    return [f"Functions host: {config.getoption('functions_host')}", *left_out]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with some files."""
    items.sort(key=lambda item: FIRST.index(name) if (name := item.path.stem) in FIRST else len(FIRST))


@pytest.fixture(scope="session")
def azurite(ear: Ear) -> Iterator[Azurite]:
    """Run storage for tests of single parts; use containers and queues that no other test uses."""
    assert ear
    with Azurite() as running:
        yield running


@pytest.fixture(scope="session")
def functions_host(pytestconfig: pytest.Config) -> HostKind:
    """Return who runs the app: `--functions-host`."""
    kind: HostKind = pytestconfig.getoption("functions_host")
    return kind


@pytest.fixture(scope="session")
def cloud(ear: Ear, functions_host: HostKind) -> Iterator[LocalCloud]:
    """Run the whole cloud with the app; make an iTwin per test."""
    assert ear
    # It runs as long as the tests do, and its polls add up.
    with LocalCloud(
        host=functions_host,
        app_settings={"AzureFunctionsJobHost__extensions__queues__maxPollingInterval": "00:00:02"},
    ) as running:
        yield running


@dataclass(frozen=True)
class ReadableVault:
    """A key vault that whoever has the variables of `identity` may read."""

    identity: Mapping[str, str]
    address: str
    vault: KeyVault

    def hold(self, secret: str) -> str:
        """Put a secret into it and return its address."""
        name = f"secret-{uuid.uuid4()}"
        self.vault.set_secret(name, secret)
        return f"{self.address}/secrets/{name}"


@pytest.fixture(scope="session")
def readable_vault(ear: Ear) -> Iterator[ReadableVault]:
    """Serve a key vault and the identity that may read it."""
    assert ear
    identity = ManagedIdentity()
    vault = KeyVault(identity.tokens, readers=[SYSTEM_ASSIGNED_ID])
    with serve(identity.app) as endpoint, serve(vault.app) as address:
        yield ReadableVault(identity.settings(endpoint), address, vault)
