"""Where the parts of this project's cloud are: a file that other commands read, which is locked while the cloud runs.

The lock is what counts. The system releases it however its holder ends, so the file of a killed cloud is ignored,
whatever listens on its ports by now; and if two clouds start at once, one of them is refused.
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
    """Be this project's only cloud until the block ends; yields a function that publishes where everything is.

    Raises LocalCloudError if another one is running.
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
    """Return what this project's running cloud has published; None if none is running, or it has not started yet."""
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
            message = f"{path} cannot be written ({error.strerror}): set LOCAL_CLOUD_FOLDER to a folder of your own."
            raise LocalCloudError(message) from error
        if not wait_until(lambda: try_lock(descriptor), timeout_s=READERS_PATIENCE_S):  # noqa: B023 - called here alone
            holder = name_holder(descriptor)
            os.close(descriptor)
            raise LocalCloudError(f"A local cloud of this project is already running{holder}: stop it first.")
        if os.fstat(descriptor).st_nlink:
            os.fchmod(descriptor, 0o600)
            return descriptor
        os.close(descriptor)  # a cloud that has just ended took this file away


def _state_file() -> Path:
    folder = os.environ.get("LOCAL_CLOUD_FOLDER")
    return (Path(folder) if folder else PROJECT / ".local") / "cloud.json"
