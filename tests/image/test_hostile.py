"""A hostile file costs its own result and nothing else: a generated corpus, and the most that each file may cost."""

from __future__ import annotations

import random
import re
import struct
import warnings
import zlib
from contextlib import suppress

import pytest
import pyvips
from PIL import Image

from shared.errors import CorruptImage, DropError, ImageRefused, TooManyPixels, UnsupportedFormat
from shared.image import normalize_image
from shared.image.damage import as_corrupt_image
from shared.image.formats import av1
from tests.costs import cost, cost_in_photos, decode, memory_bytes
from tests.image.bombs import (
    BOMBS,
    bomb,
    deflated_zeros,
    heic_of_tiles,
    jpeg_of_many_scans,
    tiff_of_overlapping_values,
    webp_of_one_colour,
)
from tests.image.corpus import KINDS, damaged, intact
from tests.image.pictures import decodable, encoded, legal, pattern, photo
from tests.image.structures import box, chunk, png_header, segment
from tests.image.tiff_files import tiff, tiff_of_one_tile
from tests.kept import noted

MAX_REFUSAL_BYTES = 10_000_000


@pytest.mark.parametrize("kind", KINDS)
def test_an_intact_file_of_every_kind_comes_out_legal(kind: str) -> None:
    """The corpus proves nothing if its seeds are refused."""
    normalized = normalize_image(intact()[kind])
    assert legal(normalized.data) == (normalized.width, normalized.height)


@pytest.mark.parametrize("kind", KINDS)
def test_any_mutated_file_is_refused_or_becomes_legal(kind: str) -> None:
    """No other exception, and no output that another decoder rejects."""
    for data in damaged(intact()[kind], seed=len(kind)):
        with suppress(ImageRefused):
            normalized = normalize_image(data)
            assert decodable(normalized.data) == (normalized.width, normalized.height)


@pytest.mark.parametrize("kind", KINDS)
def test_any_mutated_file_costs_little(kind: str) -> None:
    """All damaged files together cost less than sixty photos, so no single one occupies a worker for long."""
    files = list(damaged(intact()[kind], seed=len(kind)))
    noted(intact()[kind])

    def normalize_all() -> None:
        for data in files:
            with suppress(ImageRefused):
                normalize_image(data)

    assert cost_in_photos(normalize_all) < 60


@pytest.mark.parametrize(
    ("said", "error", "words"),
    [
        ("image file is truncated (12 bytes not processed)", CorruptImage, "ends too soon"),
        ("Decoder plugin generated an error: Unexpected end of file", CorruptImage, "ends too soon"),
        (
            "Unsupported feature: Unsupported data version",
            UnsupportedFormat,
            "uses a feature that its decoder does not",
        ),
        ("Invalid input: 'pitm' box references an unsupported item", CorruptImage, "could not be decoded[.] Save"),
        ("decoder error -2", CorruptImage, "could not be decoded[.] Save"),
    ],
)
def test_a_refusal_claims_no_more_than_its_decoder(said: str, error: type[ImageRefused], words: str) -> None:
    """The message names no cause that is not established."""
    with pytest.raises(error, match=words) as refused, as_corrupt_image("TIFF"):
        raise OSError(said)
    assert str(refused.value).startswith("The TIFF ")
    assert not re.search("damaged|cut short", str(refused.value))


@pytest.mark.parametrize("name", [b"mif2", b"mif3", b"unif", b"avci", b"vvic", b"j2ki"])
def test_an_image_with_an_unsupported_brand_is_not_called_a_video(name: bytes) -> None:
    """Its container is that of videos; its brand says what it is."""
    with pytest.raises(UnsupportedFormat, match=f"image.*{name.decode()}"):
        normalize_image(box(b"ftyp", name, bytes(4), name, b"miaf") + box(b"meta", bytes(60)))


@pytest.mark.parametrize(
    ("kind", "words"), [(b"unci", "uncompressed pixels"), (b"avc1", "AVC"), (b"j2k1", "JPEG 2000")]
)
def test_a_heif_without_a_decoder_is_refused_with_a_message_that_names_its_kind(kind: bytes, words: str) -> None:
    """It is intact, and states its kind."""
    data = intact()["heic"]
    at = data.index(b"iinf")
    with pytest.raises(UnsupportedFormat, match=words):
        normalize_image(data[:at] + data[at:].replace(b"hvc1", kind, 1))


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_that_was_cut_in_half_is_refused(kind: str) -> None:
    """Half an upload is not an image."""
    if kind == "mpo":
        return  # its first picture is its first half
    data = intact()[kind]
    with pytest.raises(CorruptImage):
        normalize_image(data[: len(data) // 2])


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize(
    "magic", [b"\xff\xd8\xff\xe0", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"BM", b"II*\0", b"RIFF____WEBPVP8 "]
)
def test_a_wrong_signature_is_refused(magic: bytes, name: str) -> None:
    """A file's signature decides which single decoder gets to see it."""
    data = intact()[name]
    if data.startswith(magic[:2]):
        data = b"\0" * 16 + data
    with pytest.raises(ImageRefused):
        normalize_image(magic + data[len(magic) :])


def png_with(repeated: bytes, count: int) -> bytes:
    """Return a PNG that holds a chunk so many times."""
    data = encoded(photo(64, 64), "PNG")
    return data[:33] + repeated * count + data[33:]


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused_from_its_header(name: str) -> None:
    """It costs less than the decoding of five photos, and no memory to speak of."""
    data = bomb(name)
    assert memory_bytes(lambda: refuse(data)) < MAX_REFUSAL_BYTES
    assert cost_in_photos(lambda: refuse(data)) < 5


def refuse(data: bytes) -> None:
    """Demand that an image is refused."""
    with pytest.raises((TooManyPixels, CorruptImage, UnsupportedFormat)):
        normalize_image(data)


@pytest.mark.parametrize(
    "repeated",
    [
        chunk(b"iCCP", b"p\0\0" + zlib.compress(bytes(900_000), 9)) * 300,
        chunk(b"eXIf", b"II*\0" + struct.pack("<IH", 8, 1_000) + struct.pack("<HHII", 1, 3, 1, 1) * 1_000) * 3_000,
    ],
    ids=["300 profiles of 1 MB", "3,000 orientations"],
)
def test_repeated_chunks_of_a_png_are_skipped_unread(repeated: bytes) -> None:
    """The others are cut out unread."""
    data = png_with(repeated, 1)
    normalized = normalize_image(data)
    assert (normalized.changes, len(normalized.data)) == (("metadata-removed",), len(data) - len(repeated))
    assert cost_in_photos(lambda: normalize_image(data)) < 1


def test_a_jpeg_with_a_hundred_thousand_restarts_costs_no_more_than_a_decode() -> None:
    """Each run takes several calls to check, so not every one is checked if there are too many."""
    data = encoded(photo(2400, 2400), "JPEG", restart_marker_blocks=1)
    assert normalize_image(data).data is data
    assert cost(lambda: normalize_image(data), lambda: decode(data)) < 8


def test_a_png_without_its_palette_is_refused() -> None:
    """Pillow opens it."""
    data = encoded(pattern().quantize(), "PNG")
    start = data.index(b"PLTE") - 4
    length = int.from_bytes(data[start : start + 4], "big")
    with pytest.raises(CorruptImage, match="palette"):
        normalize_image(data[:start] + data[start + 12 + length :])


def test_an_avif_with_a_malicious_exif_directory_costs_nothing() -> None:
    """Pillow's plugin would read it, and warn of every entry."""
    block = tiff_of_overlapping_values(5_000)
    empty = (b"II*\0" + struct.pack("<IHI", 8, 0, 0)).ljust(len(block), b"\0")
    data = encoded(photo(), "AVIF", exif=empty).replace(empty, block)
    assert block in data
    assert memory_bytes(lambda: normalize_image(data)) < 20_000_000


def test_a_small_webp_of_28_bytes_is_intact() -> None:
    """The bomb above is refused because of its size, not because of damage."""
    assert normalize_image(webp_of_one_colour(64, 64)).width == 64


def test_endlessly_compressed_text_is_removed_unread() -> None:
    """Compressed text in a PNG is metadata: it is never inflated."""
    data = encoded(photo(), "PNG")
    normalized = normalize_image(data[:33] + chunk(b"zTXt", b"Comment\0\0" + deflated_zeros()) + data[33:])
    assert normalized.data == data


def test_a_malicious_exif_directory_is_removed_unread() -> None:
    """Pillow would warn of every entry, which is an error in these tests and thousands of lines in a log."""
    block = b"Exif\0\0" + tiff_of_overlapping_values(5_000)
    data = encoded(photo(), "JPEG")
    hostile = data[:20] + segment(0xE1, block) + data[20:]
    assert memory_bytes(lambda: normalize_image(hostile)) < 20_000_000
    assert normalize_image(hostile).data == data


@pytest.mark.parametrize("first", ["baseline", "png"])
@pytest.mark.parametrize("second", [b"<script>alert(1)</script>", b"PK\3\4", b"%PDF-1.7"])
def test_only_the_image_of_a_polyglot_is_sent(first: str, second: bytes) -> None:
    """A file that is valid in two formats is sent as one only."""
    normalized = normalize_image(intact()[first] + second)
    assert second not in normalized.data
    legal(normalized.data)


@pytest.mark.parametrize("kind", ["tiff lzw", "tiff jpeg", "tiff deflate", "heic", "avif", "progressive"])
def test_native_libraries_do_not_flood_the_log(kind: str, capfd: pytest.CaptureFixture[str]) -> None:
    """Libtiff prints every error that it finds, Pillow warns, and log lines cost money."""
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        for data in damaged(intact()[kind], seed=1):
            with suppress(DropError):
                normalize_image(data)
    assert not heard
    assert capfd.readouterr() == ("", "")


def test_a_heic_made_of_tiles_is_accepted() -> None:
    """Phones write them like that."""
    normalized = normalize_image(heic_of_tiles([1, 2, 3, 4], 2, (64, 64), (96, 64)))
    assert (normalized.width, normalized.height) == (96, 64)


def test_a_heic_whose_items_share_bytes_is_accepted() -> None:
    """Encoders store tiles once that are alike, and what several pictures have in common."""
    normalized = normalize_image(heic_of_tiles([1, 2, 3, 4], 2, (64, 64), (96, 64), shared=True))
    assert (normalized.width, normalized.height) == (96, 64)


def test_a_heic_may_be_laid_together_on_a_canvas() -> None:
    """Its parts may overlap, and reach over its lower right edge."""
    normalized = normalize_image(heic_of_tiles([1, 2], 2, (64, 64), (160, 96), offsets=(0, 0, 100, 40)))
    assert (normalized.width, normalized.height) == (160, 96)


@pytest.mark.parametrize("offsets", [(-1, 0), (0, -1), (0, 0, -20, 30)])
def test_a_heic_laid_over_the_upper_left_edge_of_a_canvas_is_refused_by_name(offsets: tuple[int, ...]) -> None:
    """The decoder would leave such parts out without a word."""
    tiles = [1, 2][: len(offsets) // 2]
    with pytest.raises(UnsupportedFormat, match="left or upper edge of its canvas"):
        normalize_image(heic_of_tiles(tiles, 1, (64, 64), (160, 96), offsets=offsets))


def test_a_heic_whose_items_are_beyond_its_end_is_cut_short() -> None:
    """It refers to bytes that do not exist."""
    data = heic_of_tiles([1, 2, 3, 4], 2, (64, 64), (96, 64))
    with pytest.raises(CorruptImage, match="more bytes than it has"):
        normalize_image(data[: -3 * len(data) // 5])


def test_a_tiff_with_a_progressive_jpeg_is_refused() -> None:
    """A progressive one of 88 million pixels takes 2 s and more before libtiff gives up."""
    pixels = encoded(photo(64, 64, "L"), "JPEG", progressive=True)
    entries = {256: (64,), 257: (64,), 258: (8,), 259: (7,), 262: (1,), 273: (8,), 277: (1,), 278: (64,)}
    with pytest.raises(UnsupportedFormat, match="progressive"):
        normalize_image(tiff({**entries, 279: (len(pixels),)}, pixels))


def test_a_jpeg_with_undeclared_restarts_is_refused_at_the_first() -> None:
    """25 million of them would take 6 s to read."""
    data = encoded(photo(64, 64), "JPEG")
    bomb = data[:-2] + b"".join(b"\xff" + bytes((0xD0 + turn % 8,)) for turn in range(8)) * 1_000_000 + data[-2:]
    assert cost_in_photos(lambda: refuse(bomb)) < 1


def test_a_progressive_jpeg_that_repeats_a_scan_is_refused() -> None:
    """Other decoders object to it, and repetition is what makes one slow."""
    with pytest.raises(CorruptImage, match="scans"):
        normalize_image(jpeg_of_many_scans(1))


def test_a_progressive_jpeg_whose_scans_refine_more_than_one_bit_is_refused() -> None:
    """Pillow reads one bit all the same, and so nothing is missing in the end; other decoders object."""
    data = bytearray(encoded(photo(160, 120), "JPEG", progressive=True))
    symbols = data.rindex(b"\xff\xc4") + 4 + 17
    data[data.index(b"\x01", symbols)] = 0x03
    with pytest.raises(pyvips.Error, match="bad Huffman code"):
        decodable(bytes(data))
    with pytest.raises(CorruptImage, match="table"):
        normalize_image(bytes(data))


@pytest.mark.parametrize("size", [(60_000, 3), (3, 30_000)])
def test_an_extremely_thin_image_is_padded_within_the_limit_of_pixels(size: tuple[int, int]) -> None:
    """60,000 x 3 pixels would become 720 million."""
    normalized = normalize_image(encoded(Image.new("RGB", size), "PNG"))
    assert normalized.width * normalized.height <= 16_100_000
    assert max(legal(normalized.data)) <= 5 * min(legal(normalized.data))


@pytest.mark.parametrize("was", [b"Exif", b"hvc1"])
def test_a_heic_whose_items_lack_a_type_is_refused(was: bytes) -> None:
    """The decoder's binding would end the process: found by the fuzzer."""
    data = intact()["heic"]
    at = data.index(b"iinf")
    with pytest.raises(CorruptImage):
        normalize_image(data[:at] + data[at:].replace(was, b"E\xff\xd0f", 1))


@pytest.mark.parametrize("side", [16, 256, 1_024, 8_192])
def test_the_tiles_of_a_tiff_may_extend_beyond_its_edges(side: int) -> None:
    """Programs write them of one size, however small the picture is."""
    assert normalize_image(tiff_of_one_tile(side)).width == 1


def progressive_in_tiff(kind: tuple[int, str] | None, *missing: int) -> bytes:
    """Return a TIFF that holds a progressive JPEG, whose offsets and counts are of a kind, or are missing."""
    pixels = encoded(photo(64, 64, "L"), "JPEG", progressive=True)
    entries = {
        256: (64,),
        257: (64,),
        258: (8,),
        259: (7,),
        262: (1,),
        273: (8,),
        277: (1,),
        278: (64,),
        279: (len(pixels),),
    }
    kinds = {273: kind, 279: kind} if kind else {}
    return tiff({tag: values for tag, values in entries.items() if tag not in missing}, pixels, kinds=kinds)


@pytest.mark.parametrize("hidden", [((9, "i"),), ((16, "Q"),), (None, 279), (None, 273, 279)])
def test_a_progressive_jpeg_cannot_hide_in_a_tiff(hidden: tuple[tuple[int, str] | None, int]) -> None:
    """The library reads more kinds of numbers than an intact file has, and guesses a length that is missing."""
    with pytest.raises(CorruptImage):
        normalize_image(progressive_in_tiff(*hidden))


def test_a_progressive_jpeg_at_an_offset_typed_as_a_directory_is_refused() -> None:
    """A kind of number that only offsets of directories should have, and that is read wherever it is."""
    with pytest.raises(UnsupportedFormat, match="progressive"):
        normalize_image(progressive_in_tiff((13, "I")))


@pytest.mark.parametrize("pieces", [{}, {273: (), 279: ()}])
def test_a_tiff_without_the_offsets_of_its_pixels_is_damaged(pieces: dict[int, tuple[int, ...]]) -> None:
    """The message does not claim that its pixels are of an unusual kind."""
    entries = {256: (64,), 257: (64,), 258: (8,), 259: (1,), 262: (1,), 277: (1,), 278: (64,)}
    with pytest.raises(CorruptImage, match="where its pixels are"):
        normalize_image(tiff({**entries, **pieces}, bytes(4_096)))


@pytest.mark.parametrize("twice", [{256: (64, 64)}, {259: (1, 1)}, {34_675: (1, 2, 3)}])
def test_a_tiff_with_a_duplicate_entry_is_refused(twice: dict[int, tuple[int, ...]]) -> None:
    """Pillow would warn of it: an error in these tests, and a line in the log of an app that read on."""
    entries = {256: (64,), 257: (64,), 258: (8,), 259: (1,), 262: (1,), 273: (8,), 277: (1,), 278: (64,), 279: (4_096,)}
    assert normalize_image(tiff(entries, bytes(4_096))).width == 64
    with pytest.raises(CorruptImage, match="twice"):
        normalize_image(tiff({**entries, **twice}, bytes(4_096)))


def test_a_tiff_with_two_widths_is_refused() -> None:
    """Otherwise the inspected page would not be the one that is decoded."""
    entries = {256: (64,), 257: (64,), 258: (8,), 259: (1,), 262: (1,), 273: (8,), 277: (1,), 278: (64,), 279: (4_096,)}
    data = tiff(entries, bytes(4_096)).replace(struct.pack("<HHI", 257, 4, 1), struct.pack("<HHI", 256, 4, 1))
    with pytest.raises(CorruptImage, match="twice"):
        normalize_image(data)


@pytest.mark.parametrize("number", [32_771, 34_925, 50_000, 50_001])
def test_a_tiff_with_a_rare_compression_is_refused_undecoded(number: int) -> None:
    """Each would be one more decoder that hostile bytes could reach."""
    entries = {256: (1,), 257: (1,), 258: (8,), 259: (number,), 262: (1,), 273: (8,), 277: (1,), 278: (1,), 279: (1,)}
    with pytest.raises(UnsupportedFormat, match=f"compressed.*{number}"):
        normalize_image(tiff(entries, b"x"))


@pytest.mark.parametrize("place", [20, -2])
@pytest.mark.parametrize("padding", [b"\xff", b"\0"])
def test_megabytes_of_padding_in_a_jpeg_cost_nothing(place: int, padding: bytes) -> None:
    """The format allows any number of 0xFF before a marker; Pillow walks over them in Python."""
    data = encoded(photo(64, 64), "JPEG")
    padded = data[:place] + padding * 4_000_000 + data[place:]
    if padding == b"\xff" or place > 0:
        assert normalize_image(padded).width == 64
        assert cost_in_photos(lambda: normalize_image(padded)) < 5
    else:
        assert cost_in_photos(lambda: refuse(padded)) < 5


@pytest.mark.parametrize("length", [0, 7, 51, 800])
def test_a_png_with_an_invalid_palette_is_refused(length: int) -> None:
    """Pillow opens it, others do not: no colours, an incomplete one, or more than 4 bits can index."""
    rows = zlib.compress(bytes(64 * 33))
    data = png_header(64, 64, 4, 3) + chunk(b"PLTE", bytes(length)) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    with pytest.raises(CorruptImage, match="palette"):
        normalize_image(data)


def test_a_png_that_understates_its_window_is_refused() -> None:
    """Python inflates it all the same; other decoders keep no more of what was than the stream says."""
    far = random.Random(2).randbytes(20_000) * 4  # noqa: S311 - no secret
    rows = b"".join(b"\0" + far[at : at + 300] for at in range(0, 60_000, 300))
    stream = zlib.compress(rows, 9)
    data = png_header(100, 200) + chunk(b"IDAT", stream) + chunk(b"IEND", b"")
    assert normalize_image(data).data is data
    with pytest.raises(CorruptImage):
        normalize_image(data.replace(chunk(b"IDAT", stream), chunk(b"IDAT", b"\x08\x1d" + stream[2:])))


def test_a_png_with_an_enormous_profile_is_refused_with_a_message_that_names_it() -> None:
    """It is not damaged, although Pillow would say so."""
    profile = bytes(36) + b"acsp" + random.Random(1).randbytes(5_000_000)  # noqa: S311 - no secret
    with pytest.raises(UnsupportedFormat, match="profile is larger than 4 MB"):
        normalize_image(png_with(chunk(b"iCCP", b"p\0\0" + zlib.compress(profile)), 1))


@pytest.mark.parametrize("delay", ["0", "1"])
@pytest.mark.parametrize(
    ("timing", "model"),
    [
        ("0", ""),
        ("1" + "0" * 64 + "0" + "0", ""),
        ("1" + "0" * 64 + "1" + "00101" + "1" + "00011" + "0" * 42, "1" + "0" * 9),
    ],
)
def test_the_colours_of_an_av1_stream_are_found_after_optional_fields(timing: str, model: str, delay: str) -> None:
    """Times and points of operation, of which there may be none or many."""
    points = ("0" * 12 + "01000" + "1" + model + ("10000" if delay == "1" else "")) * 2
    size = "1011" + "1010" + f"{3_999:012b}" + f"{1_999:011b}"
    tools = "0" + "000" + "0000" + "0" + "1" + "1" + "000"
    colours = "0" + "0" + "1" + f"{9:08b}" + f"{16:08b}"
    bits = "00000" + timing + delay + "00001" + points + size + tools + colours
    body = int(bits.ljust(320, "0"), 2).to_bytes(40, "big")
    assert av1.cicp(b"\x12\0\x0a" + bytes((len(body),)) + body) == (9, 16)


def test_a_drawing_that_hardly_compresses_is_encoded_quickly() -> None:
    """Of 16 greys by chance, deflate looks for long repetitions in vain, as Pillow on its own lets it."""
    greys = Image.effect_noise((1_000, 1_000), 200).point([16 * (value // 16) for value in range(256)])
    data = encoded(greys, "TIFF")
    assert normalize_image(data).media_type == "image/png"
    assert cost(lambda: normalize_image(data), lambda: encoded(greys, "PNG")) < 0.7
