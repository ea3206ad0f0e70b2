"""What would become of one file; a process that looks at files imports no more than this."""

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
SUFFIXES = {"image/jpeg": (".jpg", ".jpeg"), "image/png": (".png",)}


@dataclass(frozen=True)
class Rules:
    """What the app's settings say of images."""

    limits: ImageLimits
    max_source_bytes: int


@dataclass(frozen=True)
class Question:
    """A file to look at; `target` is where to write what would be sent, if it is to be written."""

    file: Path
    target: Path | None = None


@dataclass(frozen=True)
class Preview:
    """What would become of a file. `image` is without its bytes, which stay where they were made."""

    file: str
    status: Literal["accepted", "rejected", "ignored", "failed"]
    source_bytes: int
    code: str | None = None
    reason: str | None = None
    image: NormalizedImage | None = None
    sent_bytes: int = 0
    written_to: str | None = None

    def document(self) -> dict[str, Any]:
        """Return it as JSON; what the result document has too is called and shaped as there."""
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
        """Return it in words."""
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
    """Say what would become of one file, and write what would be sent where that is wanted."""
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
    """Return how much memory it takes to look at the file."""
    try:
        content = _read(file, rules.max_source_bytes).content()
        return len(content) + examine_image(content, rules.limits).peak_bytes
    except (DropError, OSError):
        return 0


def _read(file: Path, max_bytes: int) -> Source:
    """Read the file as a drop is read: of a larger one all but the content. Raises OSError."""
    status = file.stat()
    size, data = status.st_size, None
    if size <= max_bytes:
        with file.open("rb") as opened:
            data = opened.read(max_bytes + 1)
        size = len(data)
        if size > max_bytes:
            data = None  # it has grown since
    version = Version(datetime.fromtimestamp(status.st_mtime, UTC), "", file.name)
    return Source(Drop("", file.name), SourceFacts(version, size, None, {}), data)


def _write(image: NormalizedImage, target: Path) -> str:
    """Write the image and return where."""
    target = with_suffix(target, image.media_type)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(image.data)
    return str(target)


def with_suffix(target: Path, media_type: str) -> Path:
    """Return the file's own name if that fits what it is, else with one more suffix."""
    suffixes = SUFFIXES[media_type]
    return target if target.suffix.lower() in suffixes else target.with_name(target.name + suffixes[0])


def _extent(media_type: str, width: int, height: int, size: int) -> str:
    return f"{media_type.removeprefix('image/')} {width} x {height}, {size / 1000:,.0f} kB"


def printable(text: str) -> str:
    """Return the text without what a terminal would act on: a file may be called anything."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
