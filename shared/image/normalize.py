"""Decides, step by step, what is done to an image before it is sent: the story of this package."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from pkgutil import resolve_name
from typing import TYPE_CHECKING, get_args

from shared.errors import Bug, DropError
from shared.image.damage import as_corrupt_image
from shared.image.examination import examine, may_pass
from shared.image.memory import peak_bytes
from shared.image.model import Change, ImageLimits, NormalizedImage

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from shared.image.formats.recognition import Format
    from shared.image.inspection import Inspection
    from shared.image.model import MediaType

DEFAULT_LIMITS = ImageLimits()


def normalize_image(data: bytes, limits: ImageLimits = DEFAULT_LIMITS) -> NormalizedImage:
    """Return `data` as an image that the API accepts: untouched if it is one, else changed as little as possible.

    Raises only `DropError`: `ImageRefused` and its subclasses if the content is at fault, `Bug` if the app is.
    """
    return examine_image(data, limits).normalize()


def examine_image(data: bytes, limits: ImageLimits = DEFAULT_LIMITS) -> ExaminedImage:
    """Inspect an image without decoding it, so that it can wait for the memory that it needs. Raises as above."""
    with _as_bug():
        return ExaminedImage(*examine(data, limits), limits)


@dataclass(frozen=True)
class ExaminedImage:
    """An image whose structure was accepted; its pixels have not been looked at yet."""

    kind: Format
    source: Inspection
    limits: ImageLimits

    @property
    def peak_bytes(self) -> int:
        """The most bytes that `normalize` takes, in addition to the file itself."""
        return peak_bytes(self.source, self.kind, self.limits)

    def normalize(self) -> NormalizedImage:
        """Do what `normalize_image` does."""
        with _as_bug():
            if may_pass(self.source, self.limits):
                return _pass_on(self.source, self.kind)
            return _re_encode(self.source, self.kind, self.limits)


@contextmanager
def _as_bug() -> Iterator[None]:
    try:
        yield
    except DropError:
        raise
    except Exception as error:
        raise Bug("The image could not be normalized because of a bug in the app.") from error


def _pass_on(source: Inspection, kind: Format) -> NormalizedImage:
    with as_corrupt_image(kind.name):
        data: bytes = resolve_name(kind.passer)(source)
    size = source.header.width, source.header.height
    media_type: MediaType = "image/png" if source.header.media_type == "image/png" else "image/jpeg"
    embedded: tuple[Change, ...] = ("profile-embedded",) if source.inserted[1] else ()
    return _normalized(data, media_type, size, (*source.early_changes, *embedded), source)


def _re_encode(source: Inspection, kind: Format, limits: ImageLimits) -> NormalizedImage:
    from shared.image.reencoding import reencode  # noqa: PLC0415 - it imports Pillow: 40 ms that a refusal does not need

    encoded = reencode(source, kind, limits)
    change: Change = "recompressed" if encoded.media_type == source.header.media_type else "converted"
    return _normalized(encoded.data, encoded.media_type, encoded.size, (*encoded.changes, change), source)


def _normalized(
    data: bytes, media_type: MediaType, size: tuple[int, int], changes: Iterable[Change], source: Inspection
) -> NormalizedImage:
    cut: tuple[Change, ...] = ("metadata-removed",) if source.has_metadata else ()
    # A flattened picture may turn out to be too large only then, and be resized.
    told = sorted((*changes, *cut), key=get_args(Change).index)
    return NormalizedImage(data, media_type, *size, tuple(told), source.header)
