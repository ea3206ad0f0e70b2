"""What tests share: one Azurite and one whole cloud for all of them, each started when it is first asked for.

And all are searched for secrets that were told.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from local.__main__ import spare_loopback
from local.azurite import Azurite
from local.cloud import LocalCloud

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.leaks import Ear

pytest_plugins = ["tests.leaks"]


def pytest_configure() -> None:
    """Ask no proxy for what runs on this machine, as `python -m local` does not."""
    spare_loopback()


@pytest.fixture(scope="session")
def azurite(ear: Ear) -> Iterator[Azurite]:
    """Run storage for tests of single parts; use containers and queues that no other test uses."""
    assert ear
    with Azurite() as running:
        yield running


@pytest.fixture(scope="session")
def cloud(ear: Ear) -> Iterator[LocalCloud]:
    """Run the whole cloud with the app; make an iTwin per test."""
    assert ear
    with LocalCloud() as running:
        yield running
