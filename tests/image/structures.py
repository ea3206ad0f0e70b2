"""Writes the structures of file formats byte by byte, where no encoder writes what a test is about."""

from __future__ import annotations

import struct
import zlib


def segment(marker: int, body: bytes) -> bytes:
    """Return a JPEG segment."""
    return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body


def chunk(kind: bytes, body: bytes) -> bytes:
    """Return a PNG chunk."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def with_segment(jpeg: bytes, extra: bytes) -> bytes:
    """Return a JPEG with one more segment, after the first."""
    return jpeg[:20] + extra + jpeg[20:]


def with_chunk(png: bytes, extra: bytes) -> bytes:
    """Return a PNG with one more chunk, after the header."""
    return png[:33] + extra + png[33:]


def png_header(width: int, height: int, depth: int = 8, colour_type: int = 2) -> bytes:
    """Return the signature and header of a PNG."""
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0))


def with_item_boxes(data: bytes, **contents: bytes) -> bytes:
    """Return a HEIF whose items are described, at the end of its `meta`, by further boxes."""
    at = data.index(b"meta") - 4
    size = int.from_bytes(data[at : at + 4], "big")
    more = b"".join(box(kind.encode(), content) for kind, content in contents.items())
    return data[:at] + struct.pack(">I", size + len(more)) + data[at + 4 : at + size] + more + data[at + size :]


def boxes(data: bytes, at: int = 0) -> dict[bytes, bytes]:
    """Return the boxes of an ISO container from a place on, by their type; the last of each."""
    found = {}
    while at < len(data):
        size, kind = struct.unpack_from(">I4s", data, at)
        found[kind] = data[at + 8 : at + size]
        at += size
    return found


def box(kind: bytes, *content: bytes) -> bytes:
    """Return one box of an ISO container."""
    body = b"".join(content)
    return struct.pack(">I4s", 8 + len(body), kind) + body
