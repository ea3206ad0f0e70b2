"""Every way a drop can fail, and who can fix it."""

from __future__ import annotations

import inspect

import pytest

from shared import errors
from shared.errors import DropError, NeedsOperator, NeedsTime, Rejected

ALL_ERRORS = [e for _, e in inspect.getmembers(errors, inspect.isclass) if issubclass(e, DropError)]


@pytest.mark.parametrize("error", ALL_ERRORS, ids=lambda error: error.__name__)
def test_every_error_is_drawn_in_the_tree(error: type[DropError]) -> None:
    """The module's docstring shows the whole tree, so that nobody has to search it."""
    assert f" {error.__name__}" in (errors.__doc__ or "").replace("\n    DropError", " DropError")


@pytest.mark.parametrize("error", ALL_ERRORS, ids=lambda error: error.__name__)
def test_only_what_the_uploader_can_fix_is_rejected(error: type[DropError]) -> None:
    """`rejected` tells an uploader to act; everything else ends as `failed`."""
    assert (error.status == "rejected") == issubclass(error, Rejected)
    assert sum(issubclass(error, group) for group in (Rejected, NeedsTime, NeedsOperator)) <= 1
