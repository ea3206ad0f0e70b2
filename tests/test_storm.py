"""What is promised holds while everything fails: the short form of `make chaos`."""

from __future__ import annotations

import shutil

from tools.chaos import Chaos, Storm


def test_no_drop_is_lost_and_the_newest_wins_while_everything_fails() -> None:
    """Every drop ends in one true result, and each iTwin with its newest legal drop; no secret leaks."""
    report = Chaos(Storm()).run()
    assert report.violations == [], report
    assert report.drops >= 100
    assert report.kills >= 3
    assert report.clocks_apart_s > 0 or shutil.which("cc") is None
    assert min(report.touched, report.gzip_labels, report.outages, report.hangs) >= 1
    assert sum(report.storage_faults.values()) >= 5
    assert sum(count for status, count in report.answers.items() if status != 201) >= 5
