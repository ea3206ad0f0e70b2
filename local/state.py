"""Where the cloud of this project is: in a file that other commands read, and that is locked while the cloud runs.

The lock is what counts. The system takes it back however its holder ends, so what a killed cloud has left tells nobody
of a cloud, whatever listens on its ports by now; and of two clouds that start at once, one is refused.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from local.locks import name_holder, try_lock
from local.processes import PROJECT, wait_until
from local.serving import LocalCloudError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

READERS_PATIENCE_S = 0.2  # a reader that looks whether a cloud runs holds the lock for an instant


@contextlib.contextmanager
def claim_state() -> Iterator[Callable[[Mapping[str, Any]], None]]:
    """Be the one cloud of this project until the block ends; yields what publishes where everything is.

    Raises LocalCloudError where another one runs.
    """
    path = _state_file()
    with contextlib.ExitStack() as stack:
        with _signals_later():  # else one could come between the making of the file and what takes it away
            descriptor = _open_locked(path)
            stack.callback(os.close, descriptor)
            stack.callback(path.unlink, missing_ok=True)

        def publish(state: Mapping[str, Any]) -> None:
            text = json.dumps(state, indent=2).encode()
            os.pwrite(descriptor, text, 0)
            os.ftruncate(descriptor, len(text))

        publish({"pid": os.getpid()})
        yield publish


@contextlib.contextmanager
def _signals_later() -> Iterator[None]:
    """Hold back what ends the program until the block has ended."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def find_state() -> dict[str, Any] | None:
    """Return where this project's cloud is, as it was published; None where none runs, or not yet."""
    try:
        with _state_file().open("rb") as file:
            if try_lock(file.fileno(), shared=True):
                return None
            state: dict[str, Any] = json.loads(file.read())
    except (OSError, ValueError):
        return None
    return state if "connectionString" in state else None


def _open_locked(path: Path) -> int:
    while True:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            message = f"{path} cannot be written ({error.strerror}): name a folder of yours in LOCAL_CLOUD_FOLDER."
            raise LocalCloudError(message) from error
        if not wait_until(lambda: try_lock(descriptor), timeout_s=READERS_PATIENCE_S):  # noqa: B023 - called here alone
            holder = name_holder(descriptor)
            os.close(descriptor)
            raise LocalCloudError(f"A local cloud of this project is already running{holder}: end it first.")
        if os.fstat(descriptor).st_nlink:
            os.fchmod(descriptor, 0o600)
            return descriptor
        os.close(descriptor)  # a cloud that has just ended took this file away


def _state_file() -> Path:
    folder = os.environ.get("LOCAL_CLOUD_FOLDER")
    return (Path(folder) if folder else PROJECT / ".local") / "cloud.json"
