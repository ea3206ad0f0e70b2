"""The settings of an app inside a benchmark, and a log that is discarded."""

from __future__ import annotations

import contextlib
import logging
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


@contextlib.contextmanager
def environment(settings: Mapping[str, str]) -> Iterator[None]:
    """Set what the SDKs read for themselves: the identity's address, and the trusted certificates."""
    before = dict(os.environ)
    os.environ.update(settings)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@contextlib.contextmanager
def silent_log() -> Iterator[None]:
    """Write the app's log as the host does, to nowhere."""
    log = logging.getLogger("itwin_image_drop")
    with open(os.devnull, "w") as nowhere:  # noqa: PTH123 - a device, not a file
        handler = logging.StreamHandler(nowhere)
        log.addHandler(handler)
        log.setLevel(logging.INFO)
        try:
            yield
        finally:
            log.removeHandler(handler)
