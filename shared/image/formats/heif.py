"""Decides about HEIC and AVIF, which share a container: which of them it is, and how large its largest picture.

The container is ISO/IEC 14496-12 with the items of ISO/IEC 23008-12 (https://nokiatech.github.io/heif/technical.html);
AVIF's brands are in https://aomediacodec.github.io/av1-avif/. Both decoders apply the container's own rotation and
mirroring, beside which EXIF's orientation does not count.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING

from shared.errors import CorruptImage, UnsupportedFormat
from shared.image import colour
from shared.image.formats import av1
from shared.image.inspection import Inspection
from shared.image.model import ImageHeader

if TYPE_CHECKING:
    from collections.abc import Iterator

    from shared.image.colour import ColourSpace

_AVIF = {b"avif", b"avis"}
_HEIC = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"}
_EITHER = {b"mif1", b"msf1"}
_METADATA = (b"Exif", b"application/rdf+xml", b"thmb")
_UNSUPPORTED = {
    b"unci": "uncompressed pixels (unif, unci)",
    b"avc1": "a picture that is coded as AVC (avc1)",
    b"vvc1": "a picture that is coded as VVC (vvc1)",
    b"evc1": "a picture that is coded as EVC (evc1)",
    b"j2k1": "a picture that is coded as JPEG 2000 (j2k1)",
    b"jpeg": "a JPEG inside",
    b"mski": "a mask",
}
"""Kinds of items that no decoder here knows."""

_MAX_COUNT = 255
_MAX_DEPTH = 4
_STREAM_HEAD_BYTES = 65_536
"""Of a stream: what it says of its colours stands before its first picture (AV1, 7.5)."""

_SHORT_ITEMS = 2
"""The last version of `infe` in which an item's number has two bytes."""


def is_avif(head: bytes) -> bool:
    """Say whether a file begins as AVIF."""
    brands = _brands(head)
    return not brands.isdisjoint(_AVIF)


def is_heic(head: bytes) -> bool:
    """Say whether a file begins as HEIC, or as HEIF that is no AVIF."""
    brands = _brands(head)
    return not brands.isdisjoint(_HEIC | _EITHER) and brands.isdisjoint(_AVIF)


def inspect_avif(data: bytes) -> Inspection:
    """Inspect an AVIF, and what is in it: its decoder takes memory for that, and cuts nothing off (`clap`)."""
    source, contents = _inspect(data, "image/avif", "AVIF")
    numbers = filter(None, map(av1.cicp, _streams(data)))
    in_stream = next((colour.of_cicp(*pair) for pair in numbers), None)
    return replace(
        source,
        colours=source.colours or in_stream,
        crop=contents.clean_aperture(source.header.width, source.header.height),
    )


def inspect_heic(data: bytes) -> Inspection:
    """Inspect a HEIC."""
    source, _ = _inspect(data, "image/heic", "HEIC")
    return source


def _inspect(data: bytes, media_type: str, name: str) -> tuple[Inspection, _Contents]:
    found = list(_boxes(data, 0, len(data)))
    boxes = {kind: (body, stop) for kind, body, stop in found}
    if sum(kind == b"meta" for kind, *_ in found) > 1:
        raise CorruptImage(f"The {name} is damaged: it describes itself twice. Save it again.")
    if b"meta" not in boxes and b"moov" in boxes:
        raise UnsupportedFormat(f"The {name} holds no still image. Send one frame of it as a JPEG or PNG.")
    if b"meta" not in boxes:
        raise CorruptImage(f"The {name} is cut short: it holds no picture. Upload the whole file.")
    start, end = boxes[b"meta"]
    contents = _Contents.read(data, start + 4, end)
    sizes = [size for size in map(contents.size, range(len(contents.properties))) if size]
    if not sizes:
        raise CorruptImage(f"The {name} is damaged or cut short: it states no size. Upload the whole file.")
    width, height = max(sizes, key=lambda size: size[0] * size[1])
    if not width or not height:
        raise CorruptImage(f"The {name} is damaged: it states no size. Save it again.")
    types = _types(data, start + 4, end)
    if unsupported := _UNSUPPORTED.get(types.get(contents.first_coded(), b"")):
        raise UnsupportedFormat(f"The {name} holds {unsupported}, which is not supported. Save it as a JPEG.")
    _demand_extents(data, start + 4, end, name)
    source = Inspection(
        data,
        ImageHeader(media_type, width, height),
        has_metadata=b"moov" in boxes or any(data.find(word, start, end) >= 0 for word in _METADATA),
        depth=max((_depth(data[body:stop], kind) for kind, body, stop in contents.properties), default=8),
        colours=contents.colours(),
    )
    return source, contents


def _demand_extents(data: bytes, start: int, end: int, name: str) -> None:
    """Refuse items whose bytes are not there. They may share some (14496-12, 8.11.3), as tiles of one colour do."""
    stored = next((stop - body for kind, body, stop in _boxes(data, start, end) if kind == b"idat"), 0)
    for _, within, place, length in _extents(data, start, end):
        if place + length > (stored if within else len(data)):
            raise CorruptImage(f"The {name} is cut short: it names more bytes than it has. Upload the whole file.")


@dataclass(frozen=True)
class _Contents:
    """What is said of the pictures in a file: their properties, who has which, and which are derived from others.

    `primary` is the item that is shown.
    """

    data: bytes
    properties: list[tuple[bytes, int, int]]
    owned: dict[int, list[int]]
    parts: dict[int, tuple[int, ...]]
    primary: int

    @classmethod
    def read(cls, data: bytes, start: int, end: int) -> _Contents:
        """Read what is inside `meta`."""
        primary = 0
        for kind, body, _ in _boxes(data, start, end):
            if kind == b"pitm":
                primary = int.from_bytes(data[body + 4 : body + (8 if data[body] else 6)], "big")
        properties = list(_nested(data, start, end, (b"iprp", b"ipco")))
        owned = _owned(data, start, end)
        return cls(data, properties, owned, _parts(data, start, end), primary)

    def size(self, number: int) -> tuple[int, int] | None:
        """Return the width and height that a property states (`ispe`)."""
        kind, body, stop = self.properties[number]
        if kind != b"ispe" or body + 12 > stop:
            return None
        width, height = struct.unpack_from(">II", self.data, body + 4)
        return width, height

    def first_coded(self) -> int:
        """Return the item whose pixels are decoded first for the picture."""
        item = self.primary
        for _ in range(_MAX_DEPTH):
            item = next(iter(self.parts.get(item, ())), item)
        return item

    def colours(self) -> ColourSpace | None:
        """Return what `colr` says of the picture by numbers (`nclx`), or of the first that it is put together of."""
        for item in (self.primary, *self.parts.get(self.primary, ())[:1]):
            for body, stop in self._of(item, b"colr"):
                if self.data[body : body + 4] == b"nclx" and body + 10 <= stop:
                    return colour.of_cicp(*struct.unpack_from(">HH", self.data, body + 4))
        return None

    def clean_aperture(self, width: int, height: int) -> tuple[int, int, int, int] | None:
        """Return which part of the picture is shown (`clap`, 14496-12, 12.1.4.1); None where that is all of it."""
        for body, stop in self._of(self.primary, b"clap"):
            numbers = struct.unpack_from(">iIiIiIiI", self.data, body) if body + 32 <= stop else ()
            if numbers and all(numbers[1::2]):
                across, down, right, below = map(Fraction, numbers[::2], numbers[1::2])
                left, top = round((width - across) / 2 + right), round((height - down) / 2 + below)
                box = left, top, left + round(across), top + round(down)
                if 0 <= left < box[2] <= width and 0 <= top < box[3] <= height:
                    return box
        return None

    def alphas_without_size(self) -> list[int]:
        """Return the items that say how transparent another one is (`auxC`, 23008-12, 6.5.8), and not how large."""
        return [
            item
            for item, numbers in self.owned.items()
            if any(b":alpha" in self.data[body:stop] for body, stop in self._of(item, b"auxC"))
            and not any(map(self.size, numbers))
        ]

    def _of(self, item: int, wanted: bytes) -> Iterator[tuple[int, int]]:
        """Yield where the content of an item's properties of a kind is."""
        for number in self.owned.get(item, []):
            kind, body, stop = self.properties[number]
            if kind == wanted:
                yield body, stop


def _depth(body: bytes, kind: bytes) -> int:
    """Return the bits of each channel that a decoder is told of (av1C, AV1-ISOBMFF 2.3.3; hvcC, 14496-15, 8.3.3.1)."""
    if kind == b"av1C":
        return 8 + 2 * (body[2] >> 6 & 1) + 2 * (body[2] >> 5 & 1)
    return 8 + (body[17] & 7) if kind == b"hvcC" else 8


def with_sized_alpha(data: bytes) -> bytes:
    """Return an AVIF whose transparency states its size, which older encoders left out and Pillow's decoder demands.

    It has the size of the picture. `meta` is written again behind all else, and the place where it was is left free, so
    that nothing moves to which an offset points.
    """
    for kind, body, stop in _boxes(data, 0, len(data)):
        if kind == b"meta":
            contents = _Contents.read(data, body + 4, stop)
            missing = contents.alphas_without_size()
            if not missing:
                return data
            size = next(number for number in contents.owned[contents.primary] if contents.size(number))
            meta = _with_property(data, body, stop, dict.fromkeys(missing, size + 1))
            return b"".join((data[: body - 4], b"free", data[body:], struct.pack(">I4s", 8 + len(meta), b"meta"), meta))
    return data


def _with_property(data: bytes, start: int, end: int, added: dict[int, int]) -> bytes:
    """Return the content of `meta` in which some items have one property more."""
    content = data[start : start + 4]
    for kind, body, stop in _boxes(data, start + 4, end):
        inside = data[body:stop]
        if kind == b"iprp":
            inside = b"".join(
                _box(inner, _with_associations(data[at:until], added) if inner == b"ipma" else data[at:until])
                for inner, at, until in _boxes(data, body, stop)
            )
        content += _box(kind, inside)
    return content


def _with_associations(content: bytes, added: dict[int, int]) -> bytes:
    """Return the content of `ipma` in which some items have one property more."""
    item_bytes, index_bytes = 4 if content[0] else 2, 2 if content[3] & 1 else 1
    made, at = content[:8], 8
    for _ in range(int.from_bytes(content[4:8], "big")):
        item, count = int.from_bytes(content[at : at + item_bytes], "big"), content[at + item_bytes]
        listed = at + item_bytes + 1
        after = listed + count * index_bytes
        extra = added[item].to_bytes(index_bytes, "big") if item in added and count < _MAX_COUNT else b""
        made += content[at : listed - 1] + bytes((count + bool(extra),)) + content[listed:after] + extra
        at = after
    return made


def _box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(content), kind) + content


def _types(data: bytes, start: int, end: int) -> dict[int, bytes]:
    """Return what each item is (`infe`, 14496-12, 8.11.6); refuse a type, a name or a media type that is no UTF-8.

    pi-heif makes a string of it for everything beside the picture, does not look whether it could, and crashes.
    """
    types = {}
    for kind, body, stop in _boxes(data, start, end):
        if kind == b"iinf":
            for _, inside, until in _boxes(data, body + (8 if data[body] else 6), stop):
                at = inside + (10 if data[inside] > _SHORT_ITEMS else 8)
                str(data[at:until], "utf-8")
                types[int.from_bytes(data[inside + 4 : at - 2], "big")] = data[at : at + 4]
    return types


def _owned(data: bytes, start: int, end: int) -> dict[int, list[int]]:
    """Return which of the properties each item has, by their place among them (`ipma`, 23008-12, 9.3)."""
    count_of_properties = sum(1 for _ in _nested(data, start, end, (b"iprp", b"ipco")))
    owned: dict[int, list[int]] = {}
    for kind, body, stop in _nested(data, start, end, (b"iprp",)):
        if kind != b"ipma":
            continue
        version, flags, count = data[body], data[body + 3], int.from_bytes(data[body + 4 : body + 8], "big")
        at, item_bytes, index_bytes = body + 8, 4 if version else 2, 2 if flags & 1 else 1
        for _ in range(count):
            if at >= stop:
                break
            item, of = int.from_bytes(data[at : at + item_bytes], "big"), data[at + item_bytes]
            at += item_bytes + 1
            for _ in range(of):
                index = int.from_bytes(data[at : at + index_bytes], "big") & (0x7FFF if flags & 1 else 0x7F)
                at += index_bytes
                if 0 < index <= count_of_properties:
                    owned.setdefault(item, []).append(index - 1)
    return owned


def _parts(data: bytes, start: int, end: int) -> dict[int, tuple[int, ...]]:
    """Return what each derived picture is put together of."""
    parts: dict[int, tuple[int, ...]] = {}
    for kind, body, stop in _boxes(data, start, end):
        if kind == b"iref":
            item = "I" if data[body] else "H"
            for reference, inside, until in _boxes(data, body + 4, stop):
                named = inside + struct.calcsize(f">{item}H")
                if reference == b"dimg" and named <= until:
                    whole, count = struct.unpack_from(f">{item}H", data, inside)
                    if whole in parts:
                        raise CorruptImage("The image is damaged: it is put together in two ways. Save it again.")
                    parts[whole] = struct.unpack_from(f">{count}{item}", data, named)
    return parts


def _extents(data: bytes, start: int, end: int) -> Iterator[tuple[int, bool, int, int]]:
    """Yield where the bytes of each item are (`iloc`, 14496-12, 8.11.3): item, whether in `idat`, place and length.

    Of a length of 0, they are all that there are.
    """
    for kind, body, _ in _boxes(data, start, end):
        if kind != b"iloc":
            continue
        version, sizes = data[body], data[body + 4 : body + 6].hex()
        offset, length, base, index = (int(digit, 16) for digit in sizes)
        wide = 4 if version == 2 else 2  # noqa: PLR2004 - the version with longer numbers
        at = body + 6 + wide
        for _ in range(int.from_bytes(data[body + 6 : at], "big")):
            item = int.from_bytes(data[at : at + wide], "big")
            at += wide + (4 if version else 2) + base
            within = bool(version and data[at - base - 3] & 15)
            place = int.from_bytes(data[at - base : at], "big")
            extents = int.from_bytes(data[at : at + 2], "big")
            at += 2
            if at > end:
                break
            for _ in range(extents):
                at += (index if version else 0) + offset + length
                here = int.from_bytes(data[at - length - offset : at - length], "big")
                yield item, within, place + here, int.from_bytes(data[at - length : at], "big")


def _streams(data: bytes) -> Iterator[bytes]:
    """Yield how the streams of an AVIF begin: its items, and the first picture of each track where it is animated."""
    for kind, body, stop in _boxes(data, 0, len(data)):
        if kind == b"meta":
            yield from _items(data, body + 4, stop)
        elif kind == b"moov":
            for track, inside, until in _boxes(data, body, stop):
                if track == b"trak" and data.find(b"av01", inside, until) >= 0:
                    yield _first_sample(data, inside, until)


def _items(data: bytes, start: int, end: int) -> Iterator[bytes]:
    types = _types(data, start, end)
    own = next((body for kind, body, _ in _boxes(data, start, end) if kind == b"idat"), 0)
    heads: dict[int, bytes] = {}
    for item, within, place, length in _extents(data, start, end):
        if types.get(item) == b"av01":
            head, at = heads.get(item, b""), place + own if within else place
            heads[item] = head + data[at : at + min(length or len(data), _STREAM_HEAD_BYTES - len(head))]
    return iter(heads.values())


def _first_sample(data: bytes, start: int, end: int) -> bytes:
    """Return how the first sample of a track begins (14496-12, 8.7.3 and 8.7.5)."""
    tables = {kind: body for kind, body, _ in _nested(data, start, end, (b"mdia", b"minf", b"stbl"))}
    sizes = tables[b"stsz"] + 4
    (place,) = (
        struct.unpack_from(">I", data, tables[b"stco"] + 8)
        if b"stco" in tables
        else struct.unpack_from(">Q", data, tables[b"co64"] + 8)
    )
    size, _, first = struct.unpack_from(">III", data, sizes)
    return data[place : place + min(size or first, _STREAM_HEAD_BYTES)]


def _brands(head: bytes) -> set[bytes]:
    if head[4:8] != b"ftyp":
        return set()
    size = int.from_bytes(head[:4], "big")
    return {head[8:12]} | {head[at : at + 4] for at in range(16, min(size, len(head)), 4)}


def _nested(data: bytes, start: int, end: int, path: tuple[bytes, ...]) -> Iterator[tuple[bytes, int, int]]:
    """Yield the boxes that are inside the boxes of `path`."""
    for kind, body, stop in _boxes(data, start, end):
        if not path:
            yield kind, body, stop
        elif kind == path[0]:
            yield from _nested(data, body, stop, path[1:])


def _boxes(data: bytes, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield type, start and end of the content of each box (14496-12, 4.2)."""
    while start + 8 <= end:
        size, kind = struct.unpack_from(">I4s", data, start)
        body = start + 8
        if size == 1 and body + 8 <= end:
            (size,) = struct.unpack_from(">Q", data, body)
            body += 8
        stop = end if size == 0 else start + size
        if stop < body or stop > end:
            return
        yield kind, body, stop
        start = stop
