"""A blob stored gzipped is unpacked in the cage; one that only claims to be is taken as it is."""

from __future__ import annotations

import gzip
import zlib
from typing import TYPE_CHECKING

import pytest

from shared.cage import CageLimits, Images
from shared.cage.caged import Cage
from shared.cage.conversation import InvalidMessage, unpacked_bytes
from shared.cage.plain import PlainProcesses
from shared.errors import DropError, SourceTooLarge, TooDemanding, UnsupportedFormat
from shared.image import ImageLimits
from tests.cage.costly import empty_blocks
from tests.cage.watching import Watched
from tests.deadlines import HANG_S
from tests.image.pictures import encoded, photo

if TYPE_CHECKING:
    from collections.abc import Iterator

    from shared.image import NormalizedImage

LIMITS = ImageLimits(max_output_bytes=300_000)
CAGE = CageLimits(wall_s=int(HANG_S))
MOST = 3_000_000
JPEG = encoded(photo(), "JPEG")
BMP = encoded(photo(1_000, 800), "BMP")
PACKED = gzip.compress(JPEG, mtime=0)


@pytest.fixture(scope="module")
def cage() -> Iterator[Watched]:
    """Run the real template."""
    cage = Cage(LIMITS, CAGE)
    yield Watched(cage)
    cage.close()


@pytest.fixture(params=["cage", "plain"])
def images(request: pytest.FixtureRequest, cage: Watched) -> Images:
    """Return the app's side of the cage, and of the processes of systems without one."""
    return Images(LIMITS, CAGE, cage if request.param == "cage" else PlainProcesses(LIMITS))


def outcome(images: Images, data: bytes, most_unpacked: int = 0) -> NormalizedImage | tuple[str, str]:
    """Return the image, or the refusal."""
    try:
        return images.normalize(data, most_unpacked=most_unpacked)
    except DropError as error:
        return error.code, error.message


def test_a_legal_image_that_was_gzipped_is_sent_decompressed_and_unchanged(images: Images) -> None:
    """The image's own bytes are sent, and no change is reported."""
    image = images.normalize(PACKED, most_unpacked=MOST)
    assert (image.data, image.changes) == (JPEG, ())


@pytest.mark.parametrize("data", [BMP, encoded(photo(1_200, 900), "PNG"), JPEG[:-5_000], b"", b"text"])
def test_a_gzipped_file_has_the_same_result_as_an_uncompressed_one(images: Images, data: bytes) -> None:
    """Images that are passed through, files that are refused, and images that are too large to pass through."""
    assert outcome(images, gzip.compress(data, mtime=0), MOST) == outcome(images, data)


@pytest.mark.parametrize(
    "data", [JPEG, BMP, b"", b"text", PACKED[:-9], PACKED[:5_000], zlib.compress(JPEG), PACKED[:40] + JPEG]
)
def test_a_wrong_content_encoding_is_ignored(images: Images, data: bytes) -> None:
    """The content is taken as it is, and tells its own format."""
    assert outcome(images, data, MOST) == outcome(images, data)


def test_bytes_after_the_end_of_the_gzip_stream_are_ignored(images: Images) -> None:
    """As every decompressor does."""
    assert images.normalize(PACKED + bytes(100), most_unpacked=MOST).data == JPEG


def test_a_file_that_was_gzipped_twice_is_decompressed_once(images: Images) -> None:
    """The label stands for one layer only; the remaining content is recognized as an archive."""
    with pytest.raises(UnsupportedFormat, match="gzip archive"):
        images.normalize(gzip.compress(PACKED), most_unpacked=MOST)


@pytest.mark.parametrize("end", [None, 5_000])
def test_a_file_that_decompresses_to_more_than_the_limit_is_refused(images: Images, end: int | None) -> None:
    """However little is stored, complete or not, and never beyond the limit."""
    bomb = gzip.compress(bytes(50_000_000), 9, mtime=0)[:end]
    with pytest.raises(SourceTooLarge, match=r"larger than MAX_SOURCE_BYTES allows once it is unpacked"):
        images.normalize(bomb, most_unpacked=MOST)


def test_a_file_that_decompresses_to_exactly_the_limit_is_accepted(images: Images) -> None:
    """To the byte."""
    assert images.normalize(PACKED, most_unpacked=len(JPEG)).data == JPEG
    with pytest.raises(SourceTooLarge):
        images.normalize(PACKED, most_unpacked=len(JPEG) - 1)


def test_a_file_that_takes_too_long_to_decompress_is_too_demanding(cage: Watched) -> None:
    """Empty blocks cost their sender little."""
    slow = b"\x1f\x8b\x08" + bytes(7) + empty_blocks(60_000_000)
    with pytest.raises(TooDemanding, match="Unpacking the file took more than 2 s of CPU"):
        Images(LIMITS, CAGE, cage).normalize(slow, most_unpacked=MOST)


def test_decompressing_needs_no_memory_beyond_its_output(cage: Watched) -> None:
    """The output is written in place, piece by piece."""
    began = len(cage.seen)
    for size in (1_000_000, 50_000_000):
        with pytest.raises(UnsupportedFormat):
            Images(LIMITS, CAGE, cage).normalize(gzip.compress(bytes(size), 1), most_unpacked=60_000_000)
    little, much = (process.ended.peak_bytes for process in cage.seen[began:] if process.ended)
    assert much - little < 50_000_000 + 5_000_000


@pytest.mark.parametrize("size", [-1, 12, 2**70, True, 1.5, "1", [1]])
def test_an_impossible_size_is_not_trusted(size: object) -> None:
    """Like every other message of a process that has a file."""
    with pytest.raises(InvalidMessage):
        unpacked_bytes({"unpacked": size}, 10)


@pytest.mark.parametrize("size", [None, 0, 10, 11])
def test_a_possible_size_is_accepted(size: int | None) -> None:
    """One more than the limit stands for anything larger."""
    assert unpacked_bytes({"unpacked": size}, 10) == size
