"""Decides how pixels become a JPEG or PNG that fits, with one encode, or two where the first turned out too large.

What came without losses leaves without, where it is predicted to fit as a PNG: by rows from all over the picture, whose
share of it is a twentieth and more, within 5 %. All else becomes a JPEG, with as much colour as detail where it fits at
a quality of 85 so, and with a quarter of it else; what was a JPEG keeps the sampling that it had.

The size of a JPEG is predicted instead of searched for: about 500 tiles of 32 x 32 pixels from all over the picture
are encoded as one mosaic, in 9 ms whatever the picture, with a standard error of 1.6 %; strips of rows err by up to
300 %. `optimize` costs 2.45 x the time for 5 % of the bytes and `progressive` 4.9 x for 7.5 %, so neither is used.
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
"""With a quarter of the colours, a better quality than this shows less than all of the colours with it."""


class Sampling(IntEnum):
    """How much colour there is for each pixel, by Pillow's numbers."""

    WHOLE = 0  # 4:4:4
    HALF = 1  # 4:2:2
    QUARTER = 2  # 4:2:0

    @property
    def busy_bits(self) -> float:
        """What hardly any photo exceeds for a pixel at the top quality: below what this makes, nothing is predicted."""
        return (4.0, 3.5, 3.0)[self]

    @property
    def most_bits(self) -> float:
        """What nothing exceeds: random bits in each channel take 17.4, 11.2 and 9.5."""
        return (19.0, 13.0, 12.0)[self]


_JPEG_HEADER_BYTES = 623
_OF_EDGES = 0.985
"""What a mosaic's size is taken for: where its tiles meet, it has edges that the picture has not."""

_TILE = 32
_TILES = 512
_MANY_TILES = 1_024
_FEW_TILES = 128
_VERY_FEW_TILES = 32
_FEW_COLOURS = 64
"""Of dithered and hatched drawings; a photo in grey has up to 256."""

_COMPRESSION_LEVEL = 4
"""Of a PNG. Pillow's default of 6 takes up to 9 x the CPU where few values follow one another by chance: 10 s for 16
million pixels of 16 greys, of which it saves nothing; of drawings it saves 10 %."""

_BAND_ROWS = 16
_FEWEST_BANDS, _MOST_BANDS = 8, 32
_ROWS_PIXELS = 600_000
"""How many bands of so many rows a PNG is predicted by, and with how many pixels at the most, if bands are enough."""

_PNG_AIM, _SURE_PNG = 0.94, 0.8
"""Which share of the limit a PNG may have by its rows, and by its tiles."""

_TORN, _TORN_DRAWING, _HOPELESS = 1.3, 3.0, 2.0
"""How much too large tiles may make a PNG seem, and very few of them: where they say more, it will not fit."""

_AIM = 0.97
"""Which share of the limit is aimed at: two standard errors below."""
_SURE_AIM = 0.93
"""The same where one encode was in vain. From 1,024 tiles, or a size that is known, 2 % is the worst that was seen."""
_NEAR = 0.96
"""Which share of the aim is near enough: one step of quality is 2 to 5 % of the size."""


@dataclass(frozen=True)
class Encoded:
    """What leaves."""

    data: bytes
    media_type: MediaType
    size: tuple[int, int]
    changes: tuple[Change, ...]


def recognize_drawing(picture: Picture) -> Picture:
    """Find out whether a JPEG would spoil it: it is transparent, has few colours, or is flat at least half over."""
    if picture.quality is not None:
        return picture
    image = picture.image
    if image.mode in {"LA", "RGBA"} and image.getchannel("A").getextrema() == (255, 255):
        picture = picture.recast(image.mode[:-1])
    return replace(picture, is_drawing=picture.image.mode not in {"L", "RGB"} or _is_drawn(picture.image))


def encode(picture: Picture) -> Encoded:
    """Return a PNG of a drawing or of what came without losses, if it fits as one, and a JPEG of everything else."""
    if not (picture.is_drawing or picture.is_lossless) or not _will_fit_as_png(picture):
        return _jpeg_that_fits(flatten(picture))
    data = _png(picture.image, picture.profile)
    if len(data) > picture.limits.max_output_bytes:
        return _jpeg_that_fits(flatten(picture), is_second=True)
    return Encoded(data, "image/png", picture.image.size, picture.changes)


def _is_drawn(image: Image.Image) -> bool:
    """Say whether it has few colours, or at least half of its pixels are the same as the one on their left."""
    sample = mosaic(image, _FEW_TILES)
    if sample.getcolors(_FEW_COLOURS) and image.getcolors(_FEW_COLOURS):
        return True
    sample = sample.convert("L")
    same = ImageChops.difference(sample, ImageChops.offset(sample, 1, 0)).histogram()[0]
    return 2 * same >= sample.width * sample.height


def _will_fit_as_png(picture: Picture) -> bool:
    """Predict it by tiles where it is clear, and by rows where it is not.

    What rows have in common, a PNG stores once; tiles tear it apart, and take up to 2.4 times as much of a drawing. In
    a photo there is nothing of the kind.
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
    """Return bands of rows from all over the picture as one, or all of it where it has few."""
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
    """Encode what is predicted to fit; and once more where it does not, by as much less as it turned out larger."""
    besides = _JPEG_HEADER_BYTES + _profile_bytes(picture.profile)
    room = picture.limits.max_output_bytes - besides
    quality, sampling = _top_quality(picture), _samplings(picture)[0][0]
    aim, tiles, bits = (_SURE_AIM, _MANY_TILES, sampling.most_bits) if is_second else (_AIM, _TILES, sampling.busy_bits)
    if picture.image.width * picture.image.height * bits / 8 > room:
        picture, quality, sampling = _made_to_fit(picture, aim * room, tiles=tiles)
    data = _jpeg(picture.image, quality, sampling, picture.profile)
    while len(data) > picture.limits.max_output_bytes:  # once: no picture is known that missed again
        bias = (len(data) - besides) / _Forecast.of(picture.image).size(quality, sampling)
        picture, quality, sampling = _made_to_fit(picture, _SURE_AIM * room, bias)
        data = _jpeg(picture.image, quality, sampling, picture.profile)
    return Encoded(data, "image/jpeg", picture.image.size, picture.changes)


def _top_quality(picture: Picture) -> int:
    return min(TOP_QUALITY, picture.quality or TOP_QUALITY)


def _samplings(picture: Picture) -> list[tuple[Sampling, int]]:
    """Return which samplings are tried in turn, and the least quality of each."""
    floor = min(FLOOR_QUALITY, _top_quality(picture))
    if picture.image.mode == "L" or picture.sampling == (2, 2):
        return [(Sampling.QUARTER, floor)]
    if picture.sampling is None:
        return [(Sampling.WHOLE, CRISP_QUALITY), (Sampling.QUARTER, floor)]
    across, down = picture.sampling
    own = Sampling.WHOLE if across == 1 else Sampling.HALF if down == 1 else Sampling.QUARTER
    return [(own, floor), (Sampling.QUARTER, floor)]


def _profile_bytes(profile: bytes | None) -> int:
    """Return how long a profile is in a JPEG, in segments of 65,519 bytes of it and 18 others (ICC.1, B.4)."""
    return len(profile) + 18 * ceil(len(profile) / 65_519) if profile else 0


def _made_to_fit(picture: Picture, aim: float, bias: float = 1.0, tiles: int = _TILES) -> tuple[Picture, int, Sampling]:
    """Return the picture, with fewer pixels if need be, and the quality and sampling that come to at most `aim` bytes.

    Of samplings the first that fits at its least quality, and the last where none does.
    """
    while True:
        forecast, top = _Forecast.of(picture.image, bias, tiles), _top_quality(picture)
        for sampling, floor in _samplings(picture):
            quality, predicted = _best_quality(forecast, sampling, (floor, top), aim)
            if predicted <= aim:
                return picture, quality, sampling
        # More detail falls on each of fewer pixels, and at least the floor's quality must be left to choose.
        picture = shrink(picture, 0.85 * aim / predicted * picture.image.width * picture.image.height)


@dataclass(frozen=True)
class _Forecast:
    """How large a picture's JPEG will be without its header, from a sample that is a part of it."""

    sample: Image.Image
    share: float

    @classmethod
    def of(cls, image: Image.Image, bias: float = 1.0, tiles: int = _TILES) -> _Forecast:
        """Take a sample; `bias` is by how much the picture turned out larger than was predicted before."""
        sample = mosaic(image, tiles)
        return cls(sample, bias * _share(image, sample) * (_OF_EDGES if sample is not image else 1))

    def size(self, quality: int, sampling: Sampling) -> float:
        return self.share * (len(_jpeg(self.sample, quality, sampling)) - _JPEG_HEADER_BYTES)


def _best_quality(forecast: _Forecast, sampling: Sampling, qualities: tuple[int, int], aim: float) -> tuple[int, float]:
    """Return the best quality that comes to at most `aim` bytes, and those bytes; the worst allowed where none does."""
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
    """Guess a quality between two: a JPEG's size falls with a power of the scale of its tables, which is about -0.6."""
    power = -0.6
    if too_bad[1]:
        power = log(too_bad[1] / too_good[1]) / log(table_scale(too_bad[0]) / table_scale(too_good[0]))
    scale = table_scale(too_good[0]) * (aim / too_good[1]) ** (1 / power)
    return min(too_good[0] - 1, max(too_bad[0] + 1, int(100 - scale / 2)))


def mosaic(image: Image.Image, tiles: int) -> Image.Image:
    """Return tiles from all over the picture as one, or the picture itself where it has no more than so many.

    Tiles lie on multiples of 32, so that a JPEG's blocks stay what they were; which ones, is the same every time.
    """
    columns, rows = image.width // _TILE, image.height // _TILE
    if columns * rows <= tiles:
        return image
    across = min(columns, max(1, round(sqrt(tiles * columns / rows))))
    down = min(rows, max(1, tiles // across))
    jitter = Random(0)  # noqa: S311 - no secret; the same picture must always give the same bytes
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
