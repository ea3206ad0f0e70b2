"""Decode images in separate processes: no image is decoded or parsed in the process that all drops share.

::

    images          the app's side: which attempts are made, what is admitted, and what the end of a process means
    instance        how much memory is available for images
    caged           on Linux: a forked child per file, with limits that the kernel enforces
    processes       the template that forks, and its children, as the app sees them
    plain           elsewhere (Windows, macOS): a process per file, and files in a private folder
    launching       how the programs of the cage are started
    conversation    the messages between the app and these processes, and how they are validated
    template, plain_child, work, warming, confinement    what runs inside these processes
"""

from __future__ import annotations

import os
import socket
from importlib.util import find_spec
from typing import TYPE_CHECKING

from shared.cage.images import CageLimits, Images

if TYPE_CHECKING:
    from shared.image import ImageLimits

__all__ = ["CageLimits", "Images", "open_images"]


def open_images(limits: ImageLimits, cage: CageLimits) -> Images:
    """Return what normalizes files on this system; nothing is started yet."""
    if _has_cage():
        from shared.cage.caged import Cage  # noqa: PLC0415 - it imports what other systems lack

        return Images(limits, cage, Cage(limits, cage))
    from shared.cage.plain import PlainProcesses  # noqa: PLC0415 - not needed where there is a cage

    return Images(limits, cage, PlainProcesses(limits))


def _has_cage() -> bool:
    has_calls = hasattr(os, "memfd_create") and hasattr(os, "fork") and hasattr(socket, "send_fds")
    return has_calls and find_spec("resource") is not None and find_spec("fcntl") is not None
