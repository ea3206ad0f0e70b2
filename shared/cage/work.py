"""What a process does with the one file that it gets: examine it, ask for memory, normalize it, say how it ended.

Or it unpacks a file that was stored as a website's is; another process gets what comes out of that.
"""

from __future__ import annotations

import ctypes
import errno
import traceback
import zlib
from typing import TYPE_CHECKING, Any

from shared.cage.conversation import described
from shared.errors import Bug, DropError
from shared.image import examine_image

if TYPE_CHECKING:
    from collections.abc import Callable

    from shared.image import ImageLimits

_MAX_TRACEBACK = 4_000
_GZIP_WINDOW = 16 + zlib.MAX_WBITS  # gzip alone, and not zlib
_PACKED_BYTES, _UNPACKED_BYTES = 65_536, 1_048_576
"""In one piece: with more, zlib would copy what is left of it, again and again."""


def normalize_file(
    content: bytes, limits: ImageLimits, ask: Callable[[dict[str, Any]], object], deliver: Callable[[bytes], object]
) -> dict[str, Any]:
    """Return the last message. `ask` sends the one before it and waits for leave; `deliver` takes the image's bytes.

    Whatever a decoder says once an allocation failed, be it "damaged", is the limit's doing: many swallow the failure
    and go on with what they have.
    """
    allocations = Allocations()
    try:
        examined = examine_image(content, limits)
        ask({"needs": examined.peak_bytes})
        allocations.watch()
        image = examined.normalize()
        if not (is_untouched := image.data is content):
            deliver(image.data)
        return {"image": described(image, is_untouched=is_untouched)}
    except BaseException as error:  # noqa: BLE001 - whatever comes out of a decoder is said, and the process ends
        return _said_of(error, allocations)


def unpack_file(content: bytes, most_bytes: int, write: Callable[[bytes], object]) -> dict[str, Any]:
    """Return the last message. What was gzipped is handed to `write` piece by piece, and `most_bytes` at the most."""
    allocations = Allocations()
    stream, size = zlib.decompressobj(_GZIP_WINDOW), 0
    try:
        for start in range(0, len(content), _PACKED_BYTES):
            packed, unpacked = content[start : start + _PACKED_BYTES], b""
            while packed or len(unpacked) == _UNPACKED_BYTES:
                unpacked = stream.decompress(packed, _UNPACKED_BYTES)
                size += len(unpacked)
                if size > most_bytes:
                    return {"unpacked": most_bytes + 1}
                write(unpacked)
                packed = stream.unconsumed_tail
            if stream.eof:
                return {"unpacked": size}
    except zlib.error:
        pass
    except BaseException as error:  # noqa: BLE001 - as above
        return _said_of(error, allocations)
    return {"unpacked": None}


def _said_of(error: BaseException, allocations: Allocations) -> dict[str, Any]:
    if allocations.have_failed() or _is_about_memory(error):
        return {"starved": type(error).__name__}
    if isinstance(error, DropError) and not isinstance(error, Bug):
        return {"refused": type(error).__name__, "message": error.message}
    return {"bug": "".join(traceback.format_exception(error))[-_MAX_TRACEBACK:]}


def _is_about_memory(error: BaseException | None) -> bool:
    while error:
        if isinstance(error, MemoryError):
            return True
        error = error.__cause__ or error.__context__
    return False


class Allocations:
    """Tells whether any allocation of this thread has failed: `malloc` says so in `errno`, and success leaves it."""

    def __init__(self) -> None:
        locate = getattr(ctypes.pythonapi, "__errno_location", None)  # of glibc and musl
        self._errno: Any = None
        if locate is not None:
            locate.restype = ctypes.POINTER(ctypes.c_int)
            self._errno = locate()
        self.watch()

    def watch(self) -> None:
        """Forget what was."""
        if self._errno:
            self._errno[0] = 0

    def have_failed(self) -> bool:
        """Say whether one has failed since."""
        return bool(self._errno) and self._errno[0] == errno.ENOMEM
