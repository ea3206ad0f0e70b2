"""How one process keeps others out: with a lock on a file, which the system releases however its holder ends."""

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
PATIENCE_S = 5.0  # a cloud that was told to stop needs a moment
SAVING_S = 30.0  # after a cloud was killed, its Azurite is still saving its data, as run_azurite.js lets it


def try_lock(descriptor: int, *, shared: bool = False) -> bool:
    """Lock the file, exclusively or shared with other readers; False if somebody else has locked it."""
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def name_holder(descriptor: int) -> str:
    """Return which process holds the lock, as far as the file says, to be inserted into a sentence."""
    try:
        return f" (process {_holder(descriptor)})"
    except (ValueError, KeyError, TypeError):
        return ""  # it has only just begun


def _holder(descriptor: int) -> int:
    return int(json.loads(os.pread(descriptor, 65_536, 0))["pid"])


def _holder_was_killed(descriptor: int) -> bool:
    try:
        os.kill(_holder(descriptor), 0)
    except ProcessLookupError:
        return True
    except (ValueError, KeyError, TypeError, OSError):
        return False
    return False


@contextmanager
def claim_folder(folder: Path) -> Iterator[int]:
    """Be the only one to write to the folder until the block ends; yields the descriptor that holds the lock.

    A child that inherits the descriptor holds the lock too, until it has ended as well. Raises LocalCloudError if
    another cloud uses the folder, and OSError.
    """
    descriptor = os.open(folder / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        is_locked = wait_until(lambda: try_lock(descriptor), timeout_s=PATIENCE_S)
        if not is_locked and _holder_was_killed(descriptor):
            is_locked = wait_until(lambda: try_lock(descriptor), timeout_s=SAVING_S)
        if not is_locked:
            holder = name_holder(descriptor)
            message = f"Another local cloud{holder} is using the folder {folder}: stop it first, or choose another one."
            raise LocalCloudError(message)
        text = json.dumps({"pid": os.getpid()}).encode()
        os.pwrite(descriptor, text, 0)
        os.ftruncate(descriptor, len(text))
        yield descriptor
    finally:
        os.close(descriptor)
