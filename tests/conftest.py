"""What tests share: one Azurite and one whole cloud for all of them, each started when it is first asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from local.azurite import Azurite
from local.cloud import LocalCloud

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def azurite() -> Iterator[Azurite]:
    """Run storage for tests of single parts; use containers and queues that no other test uses."""
    with Azurite() as running:
        yield running


@pytest.fixture(scope="session")
def cloud() -> Iterator[LocalCloud]:
    """Run the whole cloud with the app; make an iTwin per test."""
    with LocalCloud() as running:
        yield running
