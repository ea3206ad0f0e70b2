"""Every way a drop can fail, and who can fix it."""

from __future__ import annotations

import inspect

import pytest

from shared import errors
from shared.errors import DropError, ITwinNotFound, NeedsOperator, NeedsTime, Rejected

ALL_ERRORS = [e for _, e in inspect.getmembers(errors, inspect.isclass) if issubclass(e, DropError)]


@pytest.mark.parametrize("error", ALL_ERRORS, ids=lambda error: error.__name__)
def test_every_error_is_shown_in_the_tree(error: type[DropError]) -> None:
    """The module's docstring has the whole tree, so that nobody has to search for it."""
    assert f" {error.__name__}" in (errors.__doc__ or "").replace("\n    DropError", " DropError")


@pytest.mark.parametrize("error", ALL_ERRORS, ids=lambda error: error.__name__)
def test_only_errors_that_the_uploader_can_fix_are_rejected(error: type[DropError]) -> None:
    """`rejected` tells an uploader to act, perhaps after some retries; everything else ends as `failed`."""
    assert (error.status == "rejected") == issubclass(error, Rejected | ITwinNotFound)
    assert sum(issubclass(error, group) for group in (Rejected, NeedsTime, NeedsOperator)) <= 1


# What results and log lines have, and what programs and alerts look for.
CODES = """
    AspectRatioRefused BlobNameRefused Bug ContainerNotAnITwin CorruptImage DropGone EmptySource ITwinBusy ITwinNotFound
    InvalidSettings PlatformAnswerUnreadable PlatformForbidden PlatformRedirected PlatformRejected PlatformSilent
    PlatformThrottled PlatformUnauthorized PlatformUnavailable SourceTooLarge StorageForbidden StorageUnavailable
    TokenServiceUnavailable TokenUnavailable TooManyPixels UnexpectedRefusal UnsupportedFormat
"""


def test_error_codes_never_change() -> None:
    """A class may be renamed without readers of results noticing."""
    assert set(CODES.split()) <= {error.code for error in ALL_ERRORS}
