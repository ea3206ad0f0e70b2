"""What a process does with its one file: examine it, ask for memory, normalize it, and report how that ended.

Or it only unpacks a file that was stored gzipped; another process gets the unpacked content.
"""

from __future__ import annotations

import ctypes
import errno
import traceback
import zlib
from typing import TYPE_CHECKING, Any

from shared.cage.conversation import described
from shared.errors import Bug, DropError, is_exhaustion
from shared.image import examine_image

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from shared.image import ImageLimits

_MAX_TRACEBACK = 4_000
_GZIP_WINDOW = 16 + zlib.MAX_WBITS  # gzip only, not zlib
_PACKED_BYTES, _UNPACKED_BYTES = 65_536, 1_048_576
"""The most that zlib is given and returns at once: with larger input, it would copy the unconsumed rest repeatedly."""


def normalize_file(
    content: bytes, limits: ImageLimits, ask: Callable[[dict[str, Any]], object], deliver: Callable[[bytes], object]
) -> dict[str, Any]:
    """Return the last message. `ask` sends the one before and awaits permission; `deliver` takes the image's bytes.

    Once an allocation has failed, any error of a decoder, even "damaged", is attributed to the memory limit: many
    decoders ignore the failure and go on with what they have.
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
    except BaseException as error:  # noqa: BLE001 - every exception of a decoder is reported, and the process ends
        return _said_of(error, allocations)


def unpack_file(content: bytes, most_bytes: int, write: Callable[[bytes], object]) -> dict[str, Any]:
    """Return the last message. Gunzipped content is passed to `write` piece by piece, `most_bytes` at most."""
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
    causes = list(_causes(error))
    if allocations.have_failed() or any(isinstance(cause, MemoryError) for cause in causes):
        return {"outOfMemory": type(error).__name__}
    if any(is_exhaustion(cause) for cause in causes):
        return {"exhausted": type(error).__name__}
    if isinstance(error, DropError) and not isinstance(error, Bug):
        return {"refused": type(error).__name__, "message": error.message}
    return {"bug": "".join(traceback.format_exception(error))[-_MAX_TRACEBACK:]}


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an exception and those that led to it: a refusal as "damaged" may come of anything."""
    while error:
        yield error
        error = error.__cause__ or error.__context__


class Allocations:
    """Tells whether an allocation of this thread has failed: `malloc` sets `errno` only on failure."""

    def __init__(self) -> None:
        locate = getattr(ctypes.pythonapi, "__errno_location", None)  # in glibc and musl
        self._errno: Any = None
        if locate is not None:
            locate.restype = ctypes.POINTER(ctypes.c_int)
            self._errno = locate()
        self.watch()

    def watch(self) -> None:
        """Clear it."""
        if self._errno:
            self._errno[0] = 0

    def have_failed(self) -> bool:
        """Say whether an allocation has failed since."""
        return bool(self._errno) and self._errno[0] == errno.ENOMEM
