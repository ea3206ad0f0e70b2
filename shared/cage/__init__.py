"""No image is decoded, nor its structure read, in the process that all drops share.

::

    images          the app's side: what is tried, what is admitted, and what an end means
    instance        how much memory there is to admit
    caged           where the system offers a cage: a forked child per file, and limits that the kernel enforces
    processes       the template that forks, and its children, as the app holds them
    plain           where it does not (Windows, macOS): a process per file, and files in a private folder
    launching       how programs of the cage are started
    conversation    what is said between the app and them, and what of it is believed
    template, plain_child, work, warming, confinement    what runs in them
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
    """Return what normalizes files, in the way that this system allows; nothing is started yet."""
    if _has_cage():
        from shared.cage.caged import Cage  # noqa: PLC0415 - it imports what other systems lack

        return Images(limits, cage, Cage(limits, cage))
    from shared.cage.plain import PlainProcesses  # noqa: PLC0415 - not needed beside a cage

    return Images(limits, cage, PlainProcesses(limits))


def _has_cage() -> bool:
    has_calls = hasattr(os, "memfd_create") and hasattr(os, "fork") and hasattr(socket, "send_fds")
    return has_calls and find_spec("resource") is not None and find_spec("fcntl") is not None
