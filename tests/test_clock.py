"""The time that instances share, whatever their own clocks say."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from shared.clock import StorageTime

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    "skew", [timedelta(hours=-5), timedelta(seconds=-3), timedelta(seconds=3), timedelta(days=400)]
)
def test_instances_with_different_clocks_agree_on_storages_time(skew: timedelta) -> None:
    """They compare the same times."""
    time = StorageTime(lambda: NOON + skew)
    time.observe(format_datetime(NOON, usegmt=True))
    assert time.now() == NOON


def test_a_correct_clock_is_not_adjusted() -> None:
    """A Date has whole seconds: following it would make time jump."""
    right = NOON + timedelta(milliseconds=900)
    time = StorageTime(lambda: right)
    time.observe(format_datetime(NOON, usegmt=True))
    assert time.now() == right


@pytest.mark.parametrize("date", ["", "soon", "Mon, 99 Nov 2026 12:00:00 GMT", "-1", "Fri, 31 Dec 9999 23:59:59 -0500"])
def test_an_invalid_date_is_ignored(date: str) -> None:
    """Whoever sent it."""
    time = StorageTime(lambda: NOON)
    time.observe(date)
    assert (time.now(), time.is_told()) == (NOON, False)
    time.observe(format_datetime(NOON, usegmt=True))
    assert time.is_told()


def test_a_corrected_clock_is_trusted_again() -> None:
    """The last response counts."""
    local = [NOON + timedelta(hours=1)]
    time = StorageTime(lambda: local[0])
    time.observe(format_datetime(NOON, usegmt=True))
    local[0] = NOON
    time.observe(format_datetime(NOON, usegmt=True))
    assert time.now() == NOON
