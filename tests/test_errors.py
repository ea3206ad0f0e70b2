"""Every way a drop can fail, and who can fix it."""

from __future__ import annotations

import inspect

import pytest

from shared import errors
from shared.errors import DropError, ITwinNotFound, NeedsOperator, NeedsTime, Rejected

ALL_ERRORS = [e for _, e in inspect.getmembers(errors, inspect.isclass) if issubclass(e, DropError)]


@pytest.mark.parametrize("error", ALL_ERRORS, ids=lambda error: error.__name__)
def test_every_error_is_drawn_in_the_tree(error: type[DropError]) -> None:
    """The module's docstring shows the whole tree, so that nobody has to search it."""
    assert f" {error.__name__}" in (errors.__doc__ or "").replace("\n    DropError", " DropError")


@pytest.mark.parametrize("error", ALL_ERRORS, ids=lambda error: error.__name__)
def test_only_what_the_uploader_can_fix_is_rejected(error: type[DropError]) -> None:
    """`rejected` tells an uploader to act, if at first it may be time's; everything else ends as `failed`."""
    assert (error.status == "rejected") == issubclass(error, Rejected | ITwinNotFound)
    assert sum(issubclass(error, group) for group in (Rejected, NeedsTime, NeedsOperator)) <= 1


# What results and log lines have, and what programs and alerts look for.
CODES = """
    AspectRatioRefused BlobNameRefused Bug ContainerNotAnITwin CorruptImage DropGone EmptySource ITwinBusy ITwinNotFound
    InvalidSettings PlatformAnswerUnreadable PlatformForbidden PlatformRedirected PlatformRejected PlatformSilent
    PlatformThrottled PlatformUnauthorized PlatformUnavailable SourceTooLarge StorageForbidden StorageUnavailable
    TokenServiceUnavailable TokenUnavailable TooManyPixels UnexpectedRefusal UnsupportedFormat
"""


def test_no_code_ever_changes() -> None:
    """A class may be renamed; who reads results does not notice."""
    assert set(CODES.split()) <= {error.code for error in ALL_ERRORS}
