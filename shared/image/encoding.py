"""Decides how pixels become a JPEG or PNG that fits, with one encode, or two if the first one turns out too large.

Lossless sources become a PNG if one is predicted to fit, from bands of rows all over the picture: a twentieth of it or
more, with an error within 5 %. Everything else becomes a JPEG, with full chroma resolution (4:4:4) if that fits at
quality 85, otherwise 4:2:0; a picture that was a JPEG keeps its sampling.

The size of a JPEG is predicted instead of searched for: about 500 tiles of 32 x 32 pixels from all over the picture are
encoded as one mosaic, in 9 ms whatever the picture, with a standard error of 1.6 %; strips of rows err by up to 300 %.
`optimize` costs 2.45 x the time for 5 % of the bytes and `progressive` 4.9 x for 7.5 %, so neither is used.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import IntEnum
from io import BytesIO
from math import ceil, log, sqrt
from random import Random
from typing import TYPE_CHECKING, Any

from PIL import Image, ImageChops

from shared.image.formats.jpeg_quality import table_scale
from shared.image.transforming import flatten, shrink

if TYPE_CHECKING:
    from shared.image.model import Change, MediaType
    from shared.image.picture import Picture

TOP_QUALITY = 92
FLOOR_QUALITY = 70
CRISP_QUALITY = 85
"""4:4:4 at this quality looks better than 4:2:0 at a higher one."""


class Sampling(IntEnum):
    """Chroma subsampling, by Pillow's numbers."""

    WHOLE = 0  # 4:4:4
    HALF = 1  # 4:2:2
    QUARTER = 2  # 4:2:0

    @property
    def busy_bits(self) -> float:
        """Bits per pixel that hardly any photo exceeds at the top quality: if that many fit, nothing is predicted."""
        return (4.0, 3.5, 3.0)[self]

    @property
    def most_bits(self) -> float:
        """Bits per pixel that nothing exceeds: random pixels take 17.4, 11.2 and 9.5."""
        return (19.0, 13.0, 12.0)[self]


_JPEG_HEADER_BYTES = 623
_EDGES_FACTOR = 0.985
"""Factor for a mosaic's size: where its tiles meet, it has edges that the picture does not have."""

_TILE = 32
_TILES = 512
_MANY_TILES = 1_024
_FEW_TILES = 128
_VERY_FEW_TILES = 32
_FEW_COLOURS = 64
"""Dithered and hatched drawings have at most this many; a grey photo has up to 256."""

_COMPRESSION_LEVEL = 4
"""Of a PNG. Pillow's default of 6 takes up to 9 x the CPU time if a few values follow one another at random: 10 s for
16 million pixels of 16 greys, without any gain; for drawings it saves 10 % of the bytes."""

_BAND_ROWS = 16
_FEWEST_BANDS, _MOST_BANDS = 8, 32
_ROWS_PIXELS = 600_000
"""The number of bands of this many rows that a PNG's size is predicted from, and their pixels in all (at least the
fewest bands are taken)."""

_PNG_AIM, _SURE_PNG = 0.94, 0.8
"""The shares of the limit that a PNG may have as predicted from rows, and from tiles."""

_TORN, _TORN_DRAWING, _HOPELESS = 1.3, 3.0, 2.0
"""By which factor a prediction from tiles, and from very few tiles, may exceed a PNG's size: beyond that, it cannot
fit."""

_AIM = 0.97
"""The share of the limit to aim at: two standard errors below it."""
_SURE_AIM = 0.93
"""The same after one encode that was too large. From 1,024 tiles, or a known size, the worst error seen was 2 %."""
_NEAR = 0.96
"""The share of the aim that is close enough: one step of quality is 2 to 5 % of the size."""


@dataclass(frozen=True)
class Encoded:
    """The encoded image."""

    data: bytes
    media_type: MediaType
    size: tuple[int, int]
    changes: tuple[Change, ...]


def recognize_drawing(picture: Picture) -> Picture:
    """Find out whether a JPEG would spoil it: it is transparent, has few colours, or at least half of it is flat."""
    if picture.quality is not None:
        return picture
    image = picture.image
    if image.mode in {"LA", "RGBA"} and image.getchannel("A").getextrema() == (255, 255):
        picture = picture.recast(image.mode[:-1])
    return replace(picture, is_drawing=picture.image.mode not in {"L", "RGB"} or _is_drawn(picture.image))


def encode(picture: Picture) -> Encoded:
    """Return a PNG of a drawing or of a lossless source, if a PNG fits, and a JPEG of everything else."""
    if not (picture.is_drawing or picture.is_lossless) or not _will_fit_as_png(picture):
        return _jpeg_that_fits(flatten(picture))
    data = _png(picture.image, picture.profile)
    if len(data) > picture.limits.max_output_bytes:
        return _jpeg_that_fits(flatten(picture), is_second=True)
    return Encoded(data, "image/png", picture.image.size, picture.changes)


def _is_drawn(image: Image.Image) -> bool:
    """Say whether it has few colours, or at least half of its pixels equal their left neighbour."""
    sample = mosaic(image, _FEW_TILES)
    if sample.getcolors(_FEW_COLOURS) and image.getcolors(_FEW_COLOURS):
        return True
    sample = sample.convert("L")
    same = ImageChops.difference(sample, ImageChops.offset(sample, 1, 0)).histogram()[0]
    return 2 * same >= sample.width * sample.height


def _will_fit_as_png(picture: Picture) -> bool:
    """Predict whether a PNG fits, from tiles if these are conclusive, otherwise from rows.

    A PNG stores only once what rows have in common. Tiles break that up, and take up to 2.4 times as much of a drawing;
    photos have no such repetition.
    """
    image, most = picture.image, picture.limits.max_output_bytes - len(picture.profile or b"")
    if not picture.is_drawing and _png_bytes(image, mosaic(image, _VERY_FEW_TILES)) > _HOPELESS * most:
        return False
    predicted = _png_bytes(image, mosaic(image, _FEW_TILES))
    if predicted > (_TORN_DRAWING if picture.is_drawing else _TORN) * most:
        return False
    return predicted <= _SURE_PNG * most or _png_bytes(image, _rows(image)) <= _PNG_AIM * most


def _png_bytes(image: Image.Image, sample: Image.Image) -> float:
    return _share(image, sample) * len(_png(sample))


def _rows(image: Image.Image) -> Image.Image:
    """Return bands of rows from all over the picture as one image, or the whole picture if it has few rows."""
    width = image.width // _TILE * _TILE or image.width
    count = min(_MOST_BANDS, max(_FEWEST_BANDS, _ROWS_PIXELS // (_BAND_ROWS * width)))
    if image.height <= count * _BAND_ROWS:
        return image
    sample = Image.new(image.mode, (width, count * _BAND_ROWS))
    if image.mode == "P":
        sample.putpalette(image.getpalette("RGB") or [], "RGB")
    for band in range(count):
        top = int((band + 0.5) * image.height / count - _BAND_ROWS / 2)
        sample.paste(image.crop((0, top, width, top + _BAND_ROWS)), (0, band * _BAND_ROWS))
    return sample


def _jpeg_that_fits(picture: Picture, *, is_second: bool = False) -> Encoded:
    """Encode what is predicted to fit; if it is too large, encode again with a prediction corrected by that error."""
    besides = _JPEG_HEADER_BYTES + _profile_bytes(picture.profile)
    room = picture.limits.max_output_bytes - besides
    quality, sampling = _top_quality(picture), _samplings(picture)[0][0]
    aim, tiles, bits = (_SURE_AIM, _MANY_TILES, sampling.most_bits) if is_second else (_AIM, _TILES, sampling.busy_bits)
    if picture.image.width * picture.image.height * bits / 8 > room:
        picture, quality, sampling = _made_to_fit(picture, aim * room, tiles=tiles)
    data = _jpeg(picture.image, quality, sampling, picture.profile)
    while len(data) > picture.limits.max_output_bytes:  # only once: no picture is known that is too large a second time
        bias = (len(data) - besides) / _Forecast.of(picture.image).size(quality, sampling)
        picture, quality, sampling = _made_to_fit(picture, _SURE_AIM * room, bias)
        data = _jpeg(picture.image, quality, sampling, picture.profile)
    return Encoded(data, "image/jpeg", picture.image.size, picture.changes)


def _top_quality(picture: Picture) -> int:
    return min(TOP_QUALITY, picture.quality or TOP_QUALITY)


def _samplings(picture: Picture) -> list[tuple[Sampling, int]]:
    """Return the samplings to try in turn, and the lowest quality for each."""
    floor = min(FLOOR_QUALITY, _top_quality(picture))
    if picture.image.mode == "L" or picture.sampling == (2, 2):
        return [(Sampling.QUARTER, floor)]
    if picture.sampling is None:
        return [(Sampling.WHOLE, CRISP_QUALITY), (Sampling.QUARTER, floor)]
    across, down = picture.sampling
    own = Sampling.WHOLE if across == 1 else Sampling.HALF if down == 1 else Sampling.QUARTER
    return [(own, floor), (Sampling.QUARTER, floor)]


def _profile_bytes(profile: bytes | None) -> int:
    """Return how many bytes a profile takes in a JPEG: 18 more for each segment of 65,519 (ICC.1, B.4)."""
    return len(profile) + 18 * ceil(len(profile) / 65_519) if profile else 0


def _made_to_fit(picture: Picture, aim: float, bias: float = 1.0, tiles: int = _TILES) -> tuple[Picture, int, Sampling]:
    """Return the picture, scaled down if need be, and the quality and sampling that take at most `aim` bytes.

    The first sampling is taken that fits at its lowest quality; if none does, the last one.
    """
    while True:
        forecast, top = _Forecast.of(picture.image, bias, tiles), _top_quality(picture)
        for sampling, floor in _samplings(picture):
            quality, predicted = _best_quality(forecast, sampling, (floor, top), aim)
            if predicted <= aim:
                return picture, quality, sampling
        # Each of fewer pixels holds more detail, so this leaves room to choose at least the lowest quality.
        picture = shrink(picture, 0.85 * aim / predicted * picture.image.width * picture.image.height)


@dataclass(frozen=True)
class _Forecast:
    """Predicts the size of a picture's JPEG without its header, from a sample of the picture."""

    sample: Image.Image
    share: float

    @classmethod
    def of(cls, image: Image.Image, bias: float = 1.0, tiles: int = _TILES) -> _Forecast:
        """Take a sample; `bias` is the factor by which the picture exceeded an earlier prediction."""
        sample = mosaic(image, tiles)
        return cls(sample, bias * _share(image, sample) * (_EDGES_FACTOR if sample is not image else 1))

    def size(self, quality: int, sampling: Sampling) -> float:
        return self.share * (len(_jpeg(self.sample, quality, sampling)) - _JPEG_HEADER_BYTES)


def _best_quality(forecast: _Forecast, sampling: Sampling, qualities: tuple[int, int], aim: float) -> tuple[int, float]:
    """Return the best quality that takes at most `aim` bytes, and those bytes; if none does, the lowest one allowed."""
    floor, top = qualities
    most = forecast.size(top, sampling)
    if most <= aim or top == floor:
        return top, most
    too_good, too_bad = (top, most), (floor - 1, 0.0)
    while too_good[0] - too_bad[0] > 1 and too_bad[1] < _NEAR * aim:
        quality = _interpolated(too_good, too_bad, aim)
        size = forecast.size(quality, sampling)
        if size <= aim:
            too_bad = quality, size
        else:
            too_good = quality, size
    return too_good if too_good[0] == floor else too_bad


def _interpolated(too_good: tuple[int, float], too_bad: tuple[int, float], aim: float) -> int:
    """Guess a quality between two: a JPEG's size is about the scale of its tables to the power of -0.6."""
    power = -0.6
    if too_bad[1]:
        power = log(too_bad[1] / too_good[1]) / log(table_scale(too_bad[0]) / table_scale(too_good[0]))
    scale = table_scale(too_good[0]) * (aim / too_good[1]) ** (1 / power)
    return min(too_good[0] - 1, max(too_bad[0] + 1, int(100 - scale / 2)))


def mosaic(image: Image.Image, tiles: int) -> Image.Image:
    """Return tiles from all over the picture as one image, or the picture itself if it has no more than that.

    Tiles are aligned to multiples of 32, so that a JPEG's blocks stay the same; the choice of tiles is deterministic.
    """
    columns, rows = image.width // _TILE, image.height // _TILE
    if columns * rows <= tiles:
        return image
    across = min(columns, max(1, round(sqrt(tiles * columns / rows))))
    down = min(rows, max(1, tiles // across))
    jitter = Random(0)  # noqa: S311 - not a secret; the same picture must always give the same bytes
    sample = Image.new(image.mode, (across * _TILE, down * _TILE))
    if image.mode == "P":
        sample.putpalette(image.getpalette("RGB") or [], "RGB")
    for row in range(down):
        for column in range(across):
            x = _TILE * int((column + jitter.random()) * columns / across)
            y = _TILE * int((row + jitter.random()) * rows / down)
            sample.paste(image.crop((x, y, x + _TILE, y + _TILE)), (column * _TILE, row * _TILE))
    return sample


def _share(image: Image.Image, sample: Image.Image) -> float:
    return image.width * image.height / (sample.width * sample.height)


def _png(image: Image.Image, profile: bytes | None = None) -> bytes:
    return _saved(image, "PNG", compress_level=_COMPRESSION_LEVEL, icc_profile=profile)


def _jpeg(image: Image.Image, quality: int, sampling: Sampling, profile: bytes | None = None) -> bytes:
    return _saved(image, "JPEG", quality=quality, subsampling=int(sampling), icc_profile=profile)


def _saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()
