"""What tests share: one Azurite and one whole cloud for all of them, each started when it is first asked for.

Everything that they log and store is searched for secrets (tests/leaks.py).
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

    from tests.leaks import LeakDetector

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
    """Let another Functions host run the app in the stories."""
    parser.addoption(
        "--functions-host",
        choices=get_args(HostKind),
        default="embedded",
        help="what runs the app in the stories: the embedded host, or `func` on the PATH (default: %(default)s)",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Exempt this machine from proxies, as `python -m local` does, and check that the chosen host is there."""
    spare_loopback()
    if config.getoption("functions_host") == "func":
        try:
            find_core_tools()
        except LocalCloudError as error:
            raise pytest.UsageError(str(error)) from error


def pytest_report_header(config: pytest.Config) -> list[str]:
    """Say what runs the app, which marked tests are left out, and why."""
    marks = [str(mark) for mark in config.getini("markers")]
    left_out = [f"left out: {mark}" for mark in marks if f"not {mark.partition(':')[0]}" in config.option.markexpr]
    return [f"Functions host: {config.getoption('functions_host')}", *left_out]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run some files first."""
    items.sort(key=lambda item: FIRST.index(name) if (name := item.path.stem) in FIRST else len(FIRST))


@pytest.fixture(scope="session")
def azurite(leak_detector: LeakDetector) -> Iterator[Azurite]:
    """Run storage for tests of single parts, which use containers and queues of their own."""
    assert leak_detector
    with Azurite() as running:
        yield running


@pytest.fixture(scope="session")
def functions_host(pytestconfig: pytest.Config) -> HostKind:
    """Return what runs the app: `--functions-host`."""
    kind: HostKind = pytestconfig.getoption("functions_host")
    return kind


@pytest.fixture(scope="session")
def cloud(leak_detector: LeakDetector, functions_host: HostKind) -> Iterator[LocalCloud]:
    """Run the whole cloud with the app; each test creates an iTwin of its own."""
    assert leak_detector
    # It runs as long as the tests do, and its polls add up.
    with LocalCloud(
        host=functions_host,
        app_settings={"AzureFunctionsJobHost__extensions__queues__maxPollingInterval": "00:00:02"},
    ) as running:
        yield running


@dataclass(frozen=True)
class ReadableVault:
    """A key vault, and the environment variables of an identity that may read it."""

    identity: Mapping[str, str]
    address: str
    vault: KeyVault

    def hold(self, secret: str) -> str:
        """Put a secret into it and return its address."""
        name = f"secret-{uuid.uuid4()}"
        self.vault.set_secret(name, secret)
        return f"{self.address}/secrets/{name}"


@pytest.fixture(scope="session")
def readable_vault(leak_detector: LeakDetector) -> Iterator[ReadableVault]:
    """Serve a key vault and the identity that may read it."""
    assert leak_detector
    identity = ManagedIdentity()
    vault = KeyVault(identity.tokens, readers=[SYSTEM_ASSIGNED_ID])
    with serve(identity.app) as endpoint, serve(vault.app) as address:
        yield ReadableVault(identity.settings(endpoint), address, vault)
