"""The messages between the app and the process that has a file, and how they are validated.

::

    app                                              process
    a job, with the file                         ->
                                                 <-  {"needs": 51200000}       how much memory decoding may take
    permission to go on                          ->
                                                 <-  {"image": {...}}          the image itself is in the output buffer

A process that only unpacks a file sends `{"unpacked": size}`, or null if the file is not packed. Instead of any of
these messages, it may report a failure: `{"refused": class, "message": ...}`, `{"bug": traceback}`, `{"outOfMemory":
"..."}` if an allocation failed, or `{"exhausted": "..."}` if the instance lacked anything else.

A hostile file may make its process send anything. So every value is checked for its type and range, and a message can
become only an error about the file, or an image that the API accepts.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from struct import Struct
from typing import TYPE_CHECKING, Any, get_args

from shared import errors
from shared.errors import Bug, DropError, ImageRefused, ResourcesExhausted
from shared.image.model import Change, ImageHeader, ImageLimits, MediaType, NormalizedImage

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

MAX_MESSAGE_BYTES = 60_000
REQUEST, REPLY = Struct("=i"), Struct("=iidq")
"""Between app and template: the process to reap, or 0. The reply: the new process, or 0; and for the reaped one, its
status, its CPU time in seconds, and its peak memory in bytes."""

JOB = Struct("=?6q")
"""Whether the file is only to be unpacked; its size and that of the output buffer; the soft and hard limits of memory
and of CPU time. Not JSON: the parser's pages would be copied in each forked process."""

GO_ON = b"go"
_MAX_TEXT = 4_000
_MAX_NUMBER = 2**40
_MAX_SIDE = 2**31
_SIGNATURES: dict[MediaType, bytes] = {"image/jpeg": b"\xff\xd8\xff", "image/png": b"\x89PNG\r\n\x1a\n"}
_CODES = {
    error.__name__: error
    for error in vars(errors).values()
    if isinstance(error, type) and issubclass(error, ImageRefused)
}


class InvalidMessage(Exception):
    """The process sent a message that our program never sends."""


class ProcessTraceback(Exception):
    """The traceback of another process, as the cause of the error that reports it."""


def pack(message: Mapping[str, Any]) -> bytes:
    """Return the bytes of a message."""
    return json.dumps(message).encode()


def unpack(data: bytes) -> dict[str, Any]:
    """Return the message in some bytes. Raises InvalidMessage."""
    try:
        message = json.loads(data)
    except (ValueError, RecursionError):
        message = None
    if not isinstance(message, dict) or not message:
        raise InvalidMessage
    return message


def limits_as_json(limits: ImageLimits) -> dict[str, Any]:
    """Return the image limits for a message."""
    return asdict(limits)


def described(image: NormalizedImage, *, is_untouched: bool) -> dict[str, Any]:
    """Return the fields of an image for a message; its bytes are not among them, and are not sent if unchanged."""
    return {
        "bytes": len(image.data),
        "untouched": is_untouched,
        "mediaType": image.media_type,
        "width": image.width,
        "height": image.height,
        "changes": list(image.changes),
        "source": [image.source.media_type, image.source.width, image.source.height],
    }


def bytes_needed(message: Mapping[str, Any]) -> int:
    """Return how many bytes of memory decoding may take. Raises InvalidMessage."""
    return _number(message.get("needs"), _MAX_NUMBER)


def image_of(said: Any, left: Callable[[int], bytes], source: bytes | None, limits: ImageLimits) -> NormalizedImage:
    """Return the image that a process made of its file; `left` reads the first bytes of the output buffer.

    `source` is the file itself if it is small enough to be sent. Raises InvalidMessage.
    """
    if not isinstance(said, dict):
        raise InvalidMessage
    untouched = said.get("untouched") is True
    size = _number(said.get("bytes"), limits.max_output_bytes)
    content = source if untouched else left(size)
    changes, header = said.get("changes"), said.get("source")
    media_type = next((known for known in _SIGNATURES if known == said.get("mediaType")), None)
    if media_type is None or not content or not content.startswith(_SIGNATURES[media_type]):
        raise InvalidMessage
    if len(content) != size or not isinstance(changes, list) or not isinstance(header, list):
        raise InvalidMessage
    if untouched != (not changes):
        raise InvalidMessage
    if any(change not in get_args(Change) for change in changes) or len(changes) > len(get_args(Change)):
        raise InvalidMessage
    width, height = _number(said.get("width"), _MAX_SIDE), _number(said.get("height"), _MAX_SIDE)
    if max(width, height) > limits.max_aspect_ratio * min(width, height):
        raise InvalidMessage
    return NormalizedImage(content, media_type, width, height, tuple(changes), _header(*header))


def unpacked_bytes(message: Mapping[str, Any], most: int) -> int | None:
    """Return the file's size when unpacked, `most` + 1 at most, or None if it is not packed. Raises InvalidMessage."""
    size = message["unpacked"]
    if size is not None and (type(size) is not int or not 0 <= size <= most + 1):
        raise InvalidMessage
    return size


def refusal_of(message: Mapping[str, Any]) -> DropError:
    """Return the error that a process reported. Raises InvalidMessage."""
    code = message.get("refused")
    if isinstance(code, str) and code in _CODES:
        return _CODES[code](_text(message.get("message")))
    if "exhausted" in message:
        return ResourcesExhausted("The process that was decoding the image lacked descriptors or disk space.")
    if "bug" in message:
        bug = Bug("The image could not be normalized because of a bug in the app.")
        bug.__cause__ = ProcessTraceback(_text(message["bug"]))
        return bug
    raise InvalidMessage


def _header(media_type: Any = None, width: Any = None, height: Any = None, *more: Any) -> ImageHeader:
    if more or not isinstance(media_type, str) or len(media_type) > _MAX_TEXT or not media_type.isprintable():
        raise InvalidMessage
    return ImageHeader(media_type, _number(width, _MAX_SIDE), _number(height, _MAX_SIDE))


def _number(value: Any, most: int) -> int:
    if type(value) is not int or not 0 < value <= most:
        raise InvalidMessage
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str) or len(value) > _MAX_TEXT:
        raise InvalidMessage
    return "".join(c if c.isprintable() or c == "\n" else "?" for c in value)
