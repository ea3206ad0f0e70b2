"""What random tests were about: the files that a test has made are kept if it fails, and named in its report.

Pictures with noise in them are others in every run. What Hypothesis makes up, it says itself. `pytest` loads this as a
plugin (tests/conftest.py).
"""

from __future__ import annotations

from collections import deque
from functools import cache, wraps
from pathlib import Path
from typing import TYPE_CHECKING, ParamSpec

import pytest

from tools.failures import FAILURES, keep

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

P = ParamSpec("P")

# Of loops and of Hypothesis, the last is the one that failed.
_made: deque[bytes] = deque(maxlen=8)


def noted(data: bytes) -> bytes:
    """Return a file that the test which runs is about."""
    _made.append(data)
    return data


def made_once(make: Callable[P, bytes]) -> Callable[P, bytes]:
    """Have a file made once for all tests, and noted for each."""
    make_once = cache(make)

    @wraps(make)
    def get(*args: P.args, **kwargs: P.kwargs) -> bytes:
        return noted(make_once(*args, **kwargs))  # type: ignore[arg-type]  # all of them can be hashed

    return get


class Intact(dict[str, bytes]):
    """Files that are made once for all tests, and noted for each that takes one."""

    def __getitem__(self, kind: str) -> bytes:
        return noted(super().__getitem__(kind))


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let the place be chosen."""
    parser.addoption(
        "--failures",
        type=Path,
        default=FAILURES,
        metavar="FOLDER",
        help="where the files are kept that tests were about when they failed (default: %(default)s)",
    )


def pytest_runtest_setup() -> None:
    """Forget the files of the test before."""
    _made.clear()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Keep the files of a test that failed."""
    report = yield
    if report.failed:
        folder: Path = item.config.getoption("failures")
        kept = [keep(f"{item.nodeid} {number}", data, folder) for number, data in enumerate(_made)]
        if kept:
            report.sections.append(("Files that it made, the last one last", "\n".join(map(str, kept))))
    return report
