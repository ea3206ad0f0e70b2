"""Decides, step by step, what is done to an image before it may leave: the story of this package."""

from __future__ import annotations

from pkgutil import resolve_name
from typing import TYPE_CHECKING, cast

from shared.errors import Bug, DropError
from shared.image import formats
from shared.image.blame import blaming_the_file
from shared.image.model import ImageLimits, NormalizedImage
from shared.image.refusals import fits_ratio, refuse_ratio, refuse_too_many_pixels

if TYPE_CHECKING:
    from collections.abc import Iterable

    from shared.image.formats import Format
    from shared.image.model import Change, MediaType
    from shared.image.survey import Survey

DEFAULT_LIMITS = ImageLimits()


def normalize_image(data: bytes, limits: ImageLimits = DEFAULT_LIMITS) -> NormalizedImage:
    """Return `data` as an image that the API accepts: untouched where it is one, changed as little as possible else.

    Raises only `DropError`: `ImageRefused` and its subclasses where the content is at fault, `Bug` where we are.
    """
    try:
        kind = formats.recognize(data)
        with blaming_the_file(kind.name):
            source = kind.survey(data)
        size = source.header.width, source.header.height
        refuse_too_many_pixels(*size, source.weight, kind, limits)
        refuse_ratio(*size, limits)
        return _pass_on(source, kind, limits) or _make_anew(source, kind, limits)
    except DropError:
        raise
    except Exception as error:
        raise Bug("The image could not be normalized, and the fault is ours.") from error


def _pass_on(source: Survey, kind: Format, limits: ImageLimits) -> NormalizedImage | None:
    """Return it with its pixels untouched, or None where they cannot stay so."""
    width, height = source.header.width, source.header.height
    if not source.fits_as_is or source.orientation != 1 or not fits_ratio(width, height, limits):
        return None
    if source.bytes_that_leave > limits.max_output_bytes:
        return None
    with blaming_the_file(kind.name):
        data: bytes = resolve_name(kind.passer)(source)
    return _normalized(data, cast("MediaType", source.header.media_type), (width, height), (), source)


def _make_anew(source: Survey, kind: Format, limits: ImageLimits) -> NormalizedImage:
    from shared.image.remaking import remake  # noqa: PLC0415 - it imports Pillow: 40 ms that a refusal does not need

    remade = remake(source, kind, limits)
    change: Change = "recompressed" if remade.media_type == source.header.media_type else "converted"
    return _normalized(remade.data, remade.media_type, remade.size, (*remade.changes, change), source)


def _normalized(
    data: bytes, media_type: MediaType, size: tuple[int, int], changes: Iterable[Change], source: Survey
) -> NormalizedImage:
    cut: tuple[Change, ...] = ("metadata-removed",) if source.has_metadata else ()
    return NormalizedImage(data, media_type, *size, (*changes, *cut), source.header)
