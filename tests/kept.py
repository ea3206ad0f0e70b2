"""Keeps the files that a failed test has made, and names them in its report: many are random, and differ in every run.

Hypothesis reports its own examples. `pytest` loads this as a plugin (tests/conftest.py).
"""

from __future__ import annotations

from collections import deque
from functools import cache, wraps
from pathlib import Path
from typing import TYPE_CHECKING, ParamSpec, cast

import pytest

from tools.failures import FAILURES, keep

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

P = ParamSpec("P")

# Of loops and of Hypothesis, the last is the one that failed.
_made: deque[bytes] = deque(maxlen=8)


def noted(data: bytes) -> bytes:
    """Note a file as one that the running test is about, and return it."""
    _made.append(data)
    return data


def made_once(make: Callable[P, bytes]) -> Callable[P, bytes]:
    """Make each file once for all tests, and note it for each test that asks for it."""
    make_once = cast("Callable[P, bytes]", cache(make))

    @wraps(make)
    def get(*args: P.args, **kwargs: P.kwargs) -> bytes:
        return noted(make_once(*args, **kwargs))

    return get


class Intact(dict[str, bytes]):
    """Files that are made once for all tests; each is noted for the test that takes it."""

    def __getitem__(self, kind: str) -> bytes:
        return noted(super().__getitem__(kind))


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let the folder be chosen."""
    parser.addoption(
        "--failures",
        type=Path,
        default=FAILURES,
        metavar="FOLDER",
        help="where the files of failed tests are kept (default: %(default)s)",
    )


def pytest_runtest_setup() -> None:
    """Forget the files of the previous test."""
    _made.clear()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Keep the files of a test that failed."""
    report = yield
    if report.failed:
        folder: Path = item.config.getoption("failures")
        kept = [keep(f"{item.nodeid} {number}", data, folder) for number, data in enumerate(_made)]
        if kept:
            report.sections.append(("Files that it made, the most recent one last", "\n".join(map(str, kept))))
    return report
