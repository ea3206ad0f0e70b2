"""One platform for the tests of the stand-in; each test gets it as new."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from local.itwin_platform import ITwinPlatform
from local.serving import serve
from tests.local_itwin_platform.client import ADMINISTRATOR, AUDIENCE, CLIENTS, IDENTITY, Client, Clock

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def served() -> Iterator[Client]:
    """One platform for the tests that need nothing special."""
    platform = ITwinPlatform(
        identity=IDENTITY,
        identity_audience=AUDIENCE,
        clients=CLIENTS,
        organization_administrators=[ADMINISTRATOR],
    )
    with serve(platform.app) as address:
        yield Client(platform, address)


@pytest.fixture
def client(served: Client) -> Client:
    """Return the same, as new."""
    served.platform.reset()
    return served


@pytest.fixture
def itwin(client: Client) -> str:
    """Make an iTwin that everybody may modify."""
    return client.platform.add_itwin()


@pytest.fixture
def timed() -> Iterator[tuple[Client, Clock]]:
    """Serve a platform whose clock the test moves, and that allows three calls a minute and five an hour."""
    clock = Clock()
    platform = ITwinPlatform(
        identity=IDENTITY, identity_audience=AUDIENCE, requests_per_minute=3, requests_per_hour=5, clock=clock
    )
    with serve(platform.app) as address:
        yield Client(platform, address), clock
