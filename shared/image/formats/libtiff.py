"""Counts libtiff's errors and warnings, in the copy of libtiff that Pillow has loaded: Pillow itself ignores them.

libtiff repairs what it can, and reports it to handlers, which a process has only once. Both handlers are replaced when
this module is imported; their calls are counted per thread, and nothing is printed, which would flood the log. Pillow
removes the warning handler at each decode, so warnings without an error (a fax row that is too long or too short) are
found by reading the strips again, directly through libtiff. The callbacks have to be created in advance: a process that
holds a file can make no memory executable.

If libtiff is not found (not on Linux, or statically linked into Pillow), nothing is counted.
"""

from __future__ import annotations

import ctypes
import re
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import PIL._imaging  # noqa: F401 - it loads libtiff

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_Size, _Pointer = ctypes.c_ssize_t, ctypes.c_void_p
_HANDLER = ctypes.CFUNCTYPE(None, ctypes.c_char_p, ctypes.c_char_p, _Pointer)
_MAP = ctypes.CFUNCTYPE(ctypes.c_int, _Pointer, ctypes.POINTER(_Pointer), ctypes.POINTER(ctypes.c_uint64))
_UNMAP = ctypes.CFUNCTYPE(None, _Pointer, _Pointer, ctypes.c_uint64)
_READ = ctypes.CFUNCTYPE(_Size, _Pointer, _Pointer, _Size)
_SEEK = ctypes.CFUNCTYPE(ctypes.c_uint64, _Pointer, ctypes.c_uint64, ctypes.c_int)
_CLOSE = ctypes.CFUNCTYPE(ctypes.c_int, _Pointer)
_LENGTH = ctypes.CFUNCTYPE(ctypes.c_uint64, _Pointer)
_FAX, _ENTRY = b"Fax", b"TIFFFetch"
"""Prefixes of the functions that decode faxes, and of those that read directory entries, most of which are metadata."""


class _Reports(threading.local):
    """What libtiff has reported in this thread, and the file that it reads."""

    errors = 0
    fax_warnings = 0
    content: bytes = b""
    position = 0


_reports = _Reports()


def _error(where: bytes | None, _words: bytes, _values: int) -> None:
    _reports.errors += not (where or b"").startswith(_ENTRY)


def _warning(where: bytes | None, _words: bytes, _values: int) -> None:
    _reports.fax_warnings += bool(where and where.startswith(_FAX))


def _read(_file: int | None, buffer: int, size: int) -> int:
    piece = _reports.content[_reports.position : _reports.position + size]
    ctypes.memmove(buffer, piece, len(piece))
    _reports.position += len(piece)
    return len(piece)


def _seek(_file: int | None, offset: int, _whence: int) -> int:
    _reports.position = offset  # SEEK_SET: libtiff uses no other
    return offset


def _map(_file: int | None, base: Any, size: Any) -> int:
    base[0] = ctypes.cast(ctypes.c_char_p(_reports.content), _Pointer)
    size[0] = len(_reports.content)
    return 1


_ON_ERROR, _ON_WARNING = _HANDLER(_error), _HANDLER(_warning)
_FILE = (
    _READ(_read),
    _READ(lambda _file, _buffer, _size: 0),
    _SEEK(_seek),
    _CLOSE(lambda _file: 0),
    _LENGTH(lambda _file: len(_reports.content)),
    _MAP(_map),
    _UNMAP(lambda _file, _base, _size: None),
)
"""How libtiff reads a file in memory."""

_AS_IT_IS_CUT = b"rc"
"""Otherwise libtiff would split an uncompressed strip into many (`TIFFOpen`, C)."""


@contextmanager
def listening() -> Iterator[Callable[[], int]]:
    """Yield a function that returns how many errors were reported since."""
    before = _reports.errors
    yield lambda: _reports.errors - before


def fax_complaints(data: bytes) -> int:
    """Read every strip or tile, and return how many errors and warnings were reported."""
    before = _reports.errors + _reports.fax_warnings
    whole_pieces(data)
    return _reports.errors + _reports.fax_warnings - before


def whole_pieces(data: bytes) -> int:
    """Read every strip or tile, and return how many of them were complete."""
    return sum(bool(piece) for piece in pieces(data))


def is_found() -> bool:
    """Say whether libtiff was found; otherwise there are no pieces."""
    return bool(_LIBRARIES)


def pieces(data: bytes) -> Iterator[memoryview]:
    """Yield the pixels of every strip or tile of the first page, valid until the next one; stop at damage."""
    if not _LIBRARIES:
        return
    (library,) = _LIBRARIES[:1]
    _reports.content, _reports.position = data[:], 0
    library.TIFFSetWarningHandler(_ON_WARNING)
    try:
        file = library.TIFFClientOpen(b"image", _AS_IT_IS_CUT, None, *_FILE)
        if file:
            try:
                yield from _read_all(library, file)
            finally:
                library.TIFFClose(file)
    finally:
        _reports.content = b""


def _read_all(library: ctypes.CDLL, file: int) -> Iterator[memoryview]:
    kind = "Tile" if library.TIFFIsTiled(file) else "Strip"
    size = getattr(library, f"TIFF{kind}Size")(file)
    if size <= 0:
        return
    buffer = ctypes.create_string_buffer(size)
    read = getattr(library, f"TIFFReadEncoded{kind}")
    for piece in range(getattr(library, f"TIFFNumberOf{kind}s")(file)):
        yield memoryview(buffer)[: max(0, read(file, piece, buffer, -1))]


def _take_over() -> tuple[ctypes.CDLL, ...]:
    """Set the handlers in Pillow's copy of libtiff; return it, or None if it was not found."""
    try:
        maps = Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace")
        libraries = tuple(ctypes.CDLL(path) for path in set(re.findall(r"/\S*libtiff\S*\.so\S*", maps)))
        for library in libraries:
            library.TIFFClientOpen.restype = _Pointer
            library.TIFFClientOpen.argtypes = (ctypes.c_char_p, ctypes.c_char_p, _Pointer, *map(type, _FILE))
            library.TIFFIsTiled.argtypes = library.TIFFClose.argtypes = (_Pointer,)
            for kind in ("Strip", "Tile"):
                size, count = getattr(library, f"TIFF{kind}Size"), getattr(library, f"TIFFNumberOf{kind}s")
                size.argtypes, size.restype, count.argtypes = (_Pointer,), _Size, (_Pointer,)
                read = getattr(library, f"TIFFReadEncoded{kind}")
                read.argtypes, read.restype = (_Pointer, ctypes.c_uint32, _Pointer, _Size), _Size
            library.TIFFSetErrorHandler(_ON_ERROR)
    except (OSError, AttributeError):
        return ()
    return libraries


_LIBRARIES = _take_over()
