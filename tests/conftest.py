"""What tests share: one Azurite and one whole cloud for all of them, each started when it is first asked for.

And all are searched for secrets that were told.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from xdist.scheduler import LoadFileScheduling

from local.__main__ import spare_loopback
from local.azurite import Azurite
from local.cloud import LocalCloud

if TYPE_CHECKING:
    from collections.abc import Iterator

    from xdist.remote import Producer

    from tests.leaks import Ear

pytest_plugins = ["tests.leaks"]

# Taken first, so that none of them is all that is left in the end: two that wait the most, what computes beside them,
# and then what takes the longest of the others.
FIRST = (
    "test_stories",
    "test_pipeline",
    "test_simulation",
    "test_memory",
    "test_legality",
    "test_local_main",
    "test_chaos",
    "test_preview",
    "test_console",
)

# Of several workers one takes all of these, and the others start no whole cloud.
IN_THE_CLOUD = {
    "test_deliveries",
    "test_local_drops",
    "test_local_watch",
    "test_preflight",
    "test_readme",
    "test_recipes",
    "test_replay",
    "test_stories",
}


class Scheduling(LoadFileScheduling):  # type: ignore[misc]  # xdist has no types
    """Give the tests of a file to one worker, and those of the files that share the cloud too."""

    def _split_scope(self, nodeid: str) -> str:
        file = super()._split_scope(nodeid)
        return "the cloud" if Path(file).stem in IN_THE_CLOUD else file


def pytest_configure() -> None:
    """Ask no proxy for what runs on this machine, as `python -m local` does not."""
    spare_loopback()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Scheduling:
    """Say who runs which tests."""
    return Scheduling(config, log)


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
def cloud(ear: Ear) -> Iterator[LocalCloud]:
    """Run the whole cloud with the app; make an iTwin per test."""
    assert ear
    # It runs as long as the tests do, and its polls add up.
    with LocalCloud(
        app_settings={"AzureFunctionsJobHost__extensions__queues__maxPollingInterval": "00:00:02"}
    ) as running:
        yield running
