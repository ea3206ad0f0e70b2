"""What a random test was about can be looked at when it has failed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tools.failures import kept_if_it_fails

if TYPE_CHECKING:
    from pathlib import Path


def test_the_data_of_a_random_test_that_fails_is_kept_and_named(tmp_path: Path) -> None:
    """The report says where it is, whatever the test is called."""
    with pytest.raises(AssertionError) as caught, kept_if_it_fails("a/test [7]", b"the data", tmp_path / "failures"):
        raise AssertionError
    (file,) = (tmp_path / "failures").iterdir()
    assert file.read_bytes() == b"the data"
    assert caught.value.__notes__ == [f"What it was about is kept in {file}"]


def test_nothing_is_kept_of_a_test_that_passes(tmp_path: Path) -> None:
    """A folder that is there tells that something failed."""
    with kept_if_it_fails("test", b"", tmp_path / "failures"):
        pass
    assert list(tmp_path.iterdir()) == []
