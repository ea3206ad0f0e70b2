"""Decides, step by step, what is done to an image before it may leave: the story of this package."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.errors import Bug, DropError
from shared.image import formats, jpeg, png
from shared.image.decoding import blaming_the_file, decode
from shared.image.model import ImageLimits, NormalizedImage

if TYPE_CHECKING:
    from shared.image.formats import Format
    from shared.image.survey import Survey


def normalize_image(data: bytes, limits: ImageLimits = ImageLimits()) -> NormalizedImage:  # noqa: B008 - frozen
    """Return `data` as an image that the API accepts: untouched where it is one, with as little change as possible else.

    Raises only `DropError`: `ImageRefused` and its subclasses where the content is at fault, `Bug` where we are.
    """
    try:
        kind = formats.recognize(data)
        with blaming_the_file(kind.name):
            source = kind.survey(data)
        formats.refuse_too_many_pixels(source, kind, limits.max_source_pixels)
        return _pass(source, kind, limits) or _transform(source, kind, limits)
    except DropError:
        raise
    except Exception as error:
        raise Bug("The image could not be normalized for a reason of our own.") from error


def _pass(source: Survey, kind: Format, limits: ImageLimits) -> NormalizedImage | None:
    """Return it with its pixels untouched, or None where they have to be touched."""
    width, height = source.header.width, source.header.height
    if (
        not source.fits_as_is
        or source.orientation != 1
        or max(width, height) > limits.max_aspect_ratio * min(width, height)
    ):
        return None
    module = jpeg if isinstance(source, jpeg.JpegSurvey) else png
    data = module.lossless(source)  # type: ignore[arg-type]
    if len(data) > limits.max_output_bytes:
        return None
    with blaming_the_file(kind.name):
        module.verify(source)  # type: ignore[arg-type]
    changes = ("metadata-removed",) if source.has_metadata else ()
    return NormalizedImage(data, source.header.media_type, width, height, changes, source.header)  # type: ignore[arg-type]


def _transform(source: Survey, kind: Format, limits: ImageLimits) -> NormalizedImage:
    from shared.image import encoding, transforming  # noqa: PLC0415 - they import Pillow

    steps = (
        transforming.reduce_depth,
        transforming.convert_colours,
        transforming.resize,
        encoding.recognize_drawing,
        transforming.orient,
        transforming.fit_ratio,
    )
    picture = decode(source, kind, limits)
    for step in steps:
        picture = step(picture)
    picture, data, media_type = encoding.encode(picture)
    first = "recompressed" if media_type == source.header.media_type else "converted"
    last = ("metadata-removed",) if source.has_metadata else ()
    return NormalizedImage(data, media_type, *picture.image.size, (first, *picture.changes, *last), source.header)
