"""What would happen to one file; the processes that examine files import only this module."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

from shared.drop import Drop, Source, SourceFacts, Version
from shared.errors import DropError
from shared.image import examine_image, normalize_image

if TYPE_CHECKING:
    from pathlib import Path

    from shared.image import ImageLimits, NormalizedImage

IGNORED = "Its name is that of a system file, an unfinished copy or a folder marker: the app ignores it."
_KILOBYTE = 1000
SUFFIXES = {"image/jpeg": (".jpg", ".jpeg"), "image/png": (".png",)}


@dataclass(frozen=True)
class Rules:
    """What the app's settings say about images."""

    limits: ImageLimits
    max_source_bytes: int


@dataclass(frozen=True)
class Question:
    """A file to examine; `target` is where to write what would be sent, if that is wanted."""

    file: Path
    target: Path | None = None


@dataclass(frozen=True)
class Preview:
    """What would happen to a file. `image` lacks its bytes, which stay in the process that made them."""

    file: str
    status: Literal["accepted", "rejected", "ignored", "failed"]
    source_bytes: int
    code: str | None = None
    reason: str | None = None
    image: NormalizedImage | None = None
    sent_bytes: int = 0
    written_to: str | None = None

    def document(self) -> dict[str, Any]:
        """Return it as JSON; fields that the result document also has are named and shaped alike."""
        image = self.image
        header = image.source if image else None
        return {
            "file": self.file,
            "status": self.status,
            "reason": self.reason,
            "error": {"code": self.code, "message": self.reason} if self.code else None,
            "source": {
                "bytes": self.source_bytes,
                "mediaType": header.media_type if header else None,
                "width": header.width if header else None,
                "height": header.height if header else None,
            },
            "sent": image
            and {
                "mediaType": image.media_type,
                "bytes": self.sent_bytes,
                "width": image.width,
                "height": image.height,
                "changes": list(image.changes),
            },
            "writtenTo": self.written_to,
        }

    def line(self) -> str:
        """Return it as a line of text."""
        image = self.image
        if image is None:
            code = f" ({self.code})" if self.code else ""
            return printable(f"{self.file}: {self.status}{code}. {self.reason}")
        after = _extent(image.media_type, image.width, image.height, self.sent_bytes)
        if not image.changes:
            return printable(f"{self.file}: accepted as it is, {after}")
        header = image.source
        before = _extent(header.media_type, header.width, header.height, self.source_bytes)
        return printable(f"{self.file}: accepted, {before} -> {after}: {', '.join(image.changes)}")


def look_at(question: Question, rules: Rules) -> Preview:
    """Return what would happen to one file, and write what would be sent, if that is wanted."""
    file, size = str(question.file), 0
    try:
        source = _read(question.file, rules.max_source_bytes)
        size = source.facts.size
        if Drop("", question.file.name).is_housekeeping() or source.facts.is_directory_marker():
            return Preview(file, "ignored", size, reason=IGNORED)
        image = normalize_image(source.content(), rules.limits)
        written_to = _write(image, question.target) if question.target else None
    except DropError as error:
        return Preview(file, error.status, size, code=error.code, reason=error.message)
    except OSError as error:
        reason = f"It could not be read or written: {error.strerror}."
        return Preview(file, "failed", size, code=type(error).__name__, reason=reason)
    described = replace(image, data=b"")
    return Preview(file, "accepted", size, image=described, sent_bytes=len(image.data), written_to=written_to)


def bytes_needed(file: Path, rules: Rules) -> int:
    """Return how much memory it takes to examine the file."""
    try:
        content = _read(file, rules.max_source_bytes).content()
        return len(content) + examine_image(content, rules.limits).peak_bytes
    except (DropError, OSError):
        return 0


def _read(file: Path, max_bytes: int) -> Source:
    """Read the file like a drop: a larger one without its content. Raises OSError."""
    status = file.stat()
    size, data = status.st_size, None
    if size <= max_bytes:
        with file.open("rb") as opened:
            data = opened.read(max_bytes + 1)
        size = len(data)
        if size > max_bytes:
            data = None  # it has grown
    version = Version(datetime.fromtimestamp(status.st_mtime, UTC), "", file.name)
    return Source(Drop("", file.name), SourceFacts(version, size, None, {}), data)


def _write(image: NormalizedImage, target: Path) -> str:
    """Write the image and return where."""
    target = with_suffix(target, image.media_type)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(image.data)
    return str(target)


def with_suffix(target: Path, media_type: str) -> Path:
    """Return the file's own name if its suffix matches the media type, otherwise with another suffix appended."""
    suffixes = SUFFIXES[media_type]
    return target if target.suffix.lower() in suffixes else target.with_name(target.name + suffixes[0])


def _extent(media_type: str, width: int, height: int, size: int) -> str:
    amount = f"{size} bytes" if size < _KILOBYTE else f"{size / _KILOBYTE:,.0f} kB"
    return f"{media_type.removeprefix('image/')} {width} x {height}, {amount}"


def printable(text: str) -> str:
    """Return the text with everything escaped that a terminal would act on: a file may have any name."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
