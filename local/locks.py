"""How one process keeps others out: by a lock on a file, which the system takes back however its holder ends."""

from __future__ import annotations

import fcntl
import json
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from local.processes import wait_until
from local.serving import LocalCloudError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LOCK_FILE = ".lock"
PATIENCE_S = 5.0  # a cloud that was killed leaves an Azurite that saves what it has


def try_lock(descriptor: int, *, shared: bool = False) -> bool:
    """Lock the file, alone or with others who only look; False where somebody else holds it."""
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def name_holder(descriptor: int) -> str:
    """Return which process it is, as far as the locked file tells, to be put into a sentence."""
    try:
        return f" (process {json.loads(os.pread(descriptor, 65_536, 0))['pid']})"
    except (ValueError, KeyError, TypeError):
        return ""  # it has only just begun


@contextmanager
def claim_folder(folder: Path) -> Iterator[int]:
    """Be the one who writes to the folder until the block ends; yields the descriptor that holds the lock.

    A child that inherits the descriptor holds the lock as well, until it has ended too. Raises LocalCloudError where
    another one is there, and OSError.
    """
    descriptor = os.open(folder / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        if not wait_until(lambda: try_lock(descriptor), timeout_s=PATIENCE_S):
            holder = name_holder(descriptor)
            message = f"Another local cloud{holder} uses the folder {folder}: end it first, or choose another folder."
            raise LocalCloudError(message)
        text = json.dumps({"pid": os.getpid()}).encode()
        os.pwrite(descriptor, text, 0)
        os.ftruncate(descriptor, len(text))
        yield descriptor
    finally:
        os.close(descriptor)
