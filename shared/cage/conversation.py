"""What is said between the app and the process that has a file: who says what, and what of it is believed.

::

    app                                              process
    a job, with the file                         ->
                                                 <-  {"needs": 51200000}       how much memory the rest may take
    leave to go on                               ->
                                                 <-  {"image": {...}}          the image itself lies where it was told

A process that is only to unpack a file says `{"unpacked": size}`, or null where that is not packed. Instead of any of
these messages it may say how it ended otherwise: `{"refused": class, "message": ...}`, `{"bug": traceback}`,
`{"starved": "..."}` where it got no more memory.

Whoever sends a file may have made the process say anything. So every value is checked for its type and its range, and
what it says can become an error about the file or an image that the API takes, and nothing else.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from struct import Struct
from typing import TYPE_CHECKING, Any, get_args

from shared import errors
from shared.errors import Bug, DropError, ImageRefused
from shared.image.model import Change, ImageHeader, ImageLimits, MediaType, NormalizedImage

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

MAX_MESSAGE_BYTES = 60_000
REQUEST, REPLY = Struct("=i"), Struct("=iidq")
"""Between app and template: the process that is to be reaped, or 0. The new process, or 0; and of the one that was
reaped its status, its CPU in seconds, and the most memory that it held."""

JOB = Struct("=?6q")
"""Whether the file is only to be unpacked; its bytes and those of its room; the soft and the hard limit of memory, and
of CPU. It is no JSON, for what reads that lies on pages that each forked process would have to copy."""

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


class Nonsense(Exception):
    """The process said something that none of ours says."""


class ProcessTraceback(Exception):
    """The traceback of another process, as the cause of the error that tells of it."""


def pack(message: Mapping[str, Any]) -> bytes:
    """Return a message as it is sent."""
    return json.dumps(message).encode()


def unpack(data: bytes) -> dict[str, Any]:
    """Return a message as it was sent. Raises Nonsense."""
    try:
        message = json.loads(data)
    except (ValueError, RecursionError):
        message = None
    if not isinstance(message, dict) or not message:
        raise Nonsense
    return message


def limits_as_json(limits: ImageLimits) -> dict[str, Any]:
    """Return the limits of images for a message."""
    return asdict(limits)


def described(image: NormalizedImage, *, is_untouched: bool) -> dict[str, Any]:
    """Return what is said of an image beside its bytes, which are not sent where they are those of the file."""
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
    """Return what the rest may take. Raises Nonsense."""
    return _number(message.get("needs"), _MAX_NUMBER)


def image_of(said: Any, left: Callable[[int], bytes], source: bytes | None, limits: ImageLimits) -> NormalizedImage:
    """Return the image that a process made of its file; `left` reads from where it was to put it.

    `source` is the file itself where it is small enough to leave. Raises Nonsense.
    """
    if not isinstance(said, dict):
        raise Nonsense
    untouched = said.get("untouched") is True
    size = _number(said.get("bytes"), limits.max_output_bytes)
    content = source if untouched else left(size)
    changes, header = said.get("changes"), said.get("source")
    media_type = next((known for known in _SIGNATURES if known == said.get("mediaType")), None)
    if media_type is None or not content or not content.startswith(_SIGNATURES[media_type]):
        raise Nonsense
    if len(content) != size or not isinstance(changes, list) or not isinstance(header, list):
        raise Nonsense
    if untouched != (not changes):
        raise Nonsense
    if any(change not in get_args(Change) for change in changes) or len(changes) > len(get_args(Change)):
        raise Nonsense
    width, height = _number(said.get("width"), _MAX_SIDE), _number(said.get("height"), _MAX_SIDE)
    if max(width, height) > limits.max_aspect_ratio * min(width, height):
        raise Nonsense
    return NormalizedImage(content, media_type, width, height, tuple(changes), _header(*header))


def unpacked_bytes(message: Mapping[str, Any], most: int) -> int | None:
    """Return how many bytes a file has when it is unpacked, `most` and one where those are more; None where it is not
    packed. Raises Nonsense.
    """  # noqa: D205
    size = message["unpacked"]
    if size is not None and (type(size) is not int or not 0 <= size <= most + 1):
        raise Nonsense
    return size


def refusal_of(message: Mapping[str, Any]) -> DropError:
    """Return the error that a process ended with. Raises Nonsense."""
    code = message.get("refused")
    if isinstance(code, str) and code in _CODES:
        return _CODES[code](_text(message.get("message")))
    if "bug" in message:
        bug = Bug("The image could not be normalized because of a fault in the app.")
        bug.__cause__ = ProcessTraceback(_text(message["bug"]))
        return bug
    raise Nonsense


def _header(media_type: Any = None, width: Any = None, height: Any = None, *more: Any) -> ImageHeader:
    if more or not isinstance(media_type, str) or len(media_type) > _MAX_TEXT or not media_type.isprintable():
        raise Nonsense
    return ImageHeader(media_type, _number(width, _MAX_SIDE), _number(height, _MAX_SIDE))


def _number(value: Any, most: int) -> int:
    if type(value) is not int or not 0 < value <= most:
        raise Nonsense
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str) or len(value) > _MAX_TEXT:
        raise Nonsense
    return "".join(c if c.isprintable() or c == "\n" else "?" for c in value)
