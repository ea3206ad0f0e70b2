"""Hears what libtiff says of a file, in the copy of it that Pillow has loaded: Pillow itself does not listen.

libtiff repairs what it can, and says so through handlers, of which a whole process has one each. Both are taken over
once, when this module is imported; what they are told is counted for each thread, and nothing of it is printed, which
would flood the log. Pillow takes the handler of warnings away at each decode, so what only they say (that a row of a
fax was too long or too short) is heard by reading the strips once more, through libtiff itself. What libtiff calls has
to be made beforehand: a process that holds a file can make no memory executable.

Where libtiff cannot be found (no Linux, or a Pillow that has it inside), nothing is heard.
"""

from __future__ import annotations

import ctypes
import re
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import PIL._imaging  # noqa: F401 - which loads it

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
"""How the names of those functions begin that read faxes, and entries of a directory, of which most are notes."""


class _Heard(threading.local):
    """What was said in this thread, and the file that it reads."""

    errors = 0
    fax_warnings = 0
    content: bytes = b""
    position = 0


_heard = _Heard()


def _error(where: bytes | None, _words: bytes, _values: int) -> None:
    _heard.errors += not (where or b"").startswith(_ENTRY)


def _warning(where: bytes | None, _words: bytes, _values: int) -> None:
    _heard.fax_warnings += bool(where and where.startswith(_FAX))


def _read(_file: int | None, buffer: int, size: int) -> int:
    piece = _heard.content[_heard.position : _heard.position + size]
    ctypes.memmove(buffer, piece, len(piece))
    _heard.position += len(piece)
    return len(piece)


def _seek(_file: int | None, offset: int, _whence: int) -> int:
    _heard.position = offset  # from the start on: libtiff asks for nothing else
    return offset


def _map(_file: int | None, base: Any, size: Any) -> int:
    base[0] = ctypes.cast(ctypes.c_char_p(_heard.content), _Pointer)
    size[0] = len(_heard.content)
    return 1


_ON_ERROR, _ON_WARNING = _HANDLER(_error), _HANDLER(_warning)
_FILE = (
    _READ(_read),
    _READ(lambda _file, _buffer, _size: 0),
    _SEEK(_seek),
    _CLOSE(lambda _file: 0),
    _LENGTH(lambda _file: len(_heard.content)),
    _MAP(_map),
    _UNMAP(lambda _file, _base, _size: None),
)
"""How libtiff reads a file: all of it is in memory."""

_AS_IT_IS_CUT = b"rc"
"""Or libtiff would take one strip that is not compressed for many (`TIFFOpen`, C)."""


@contextmanager
def listening() -> Iterator[Callable[[], int]]:
    """Hand out a function that returns how many errors were heard of meanwhile."""
    before = _heard.errors
    yield lambda: _heard.errors - before


def fax_complaints(data: bytes) -> int:
    """Read every strip or tile, and return how many errors and warnings came of it."""
    before = _heard.errors + _heard.fax_warnings
    whole_pieces(data)
    return _heard.errors + _heard.fax_warnings - before


def whole_pieces(data: bytes) -> int:
    """Read every strip or tile, and return how many of them had all the bytes that they should have."""
    return sum(bool(piece) for piece in pieces(data))


def is_found() -> bool:
    """Say whether libtiff could be found: without it, there are no pieces."""
    return bool(_LIBRARIES)


def pieces(data: bytes) -> Iterator[memoryview]:
    """Yield the pixels of every strip or tile of the first page, valid until the next: none where it is damaged."""
    if not _LIBRARIES:
        return
    (library,) = _LIBRARIES[:1]
    _heard.content, _heard.position = data[:], 0
    library.TIFFSetWarningHandler(_ON_WARNING)
    try:
        file = library.TIFFClientOpen(b"image", _AS_IT_IS_CUT, None, *_FILE)
        if file:
            try:
                yield from _read_all(library, file)
            finally:
                library.TIFFClose(file)
    finally:
        _heard.content = b""


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
    """Set the handlers in the copy that Pillow has loaded; return it, or nothing where there is none to be found."""
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
