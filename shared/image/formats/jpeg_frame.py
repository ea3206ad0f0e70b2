"""Reads what a JPEG says of its picture, in the frame's header (ITU-T T.81, B.2.2) and in tables (B.2.4)."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from math import ceil
from typing import TYPE_CHECKING, NamedTuple

from shared.errors import CorruptImage, UnsupportedFormat
from shared.image.formats.jpeg_segments import DHT, DQT, DRI, truncated

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from shared.image.formats.jpeg_segments import Segment

BASELINE, EXTENDED, PROGRESSIVE = 0xC0, 0xC1, 0xC2
_UNREAD = {
    **dict.fromkeys((0xC3, 0xC7, 0xCB, 0xCF), "lossless"),
    **dict.fromkeys((0xC9, 0xCA, 0xCD, 0xCE), "arithmetic-coded"),
    **dict.fromkeys((0xC5, 0xC6), "hierarchical"),
    0xF7: "a JPEG-LS file",
}
FRAMES = {BASELINE, EXTENDED, PROGRESSIVE, *_UNREAD}
"""SOF0 to SOF15 (table B.1), three of which are supported, and SOF55 (ITU-T T.87, C.1.1)."""

_BLOCK = 8


class Component(NamedTuple):
    """A component (channel): its identifier, its sampling factors and its quantization table."""

    identifier: int
    across: int
    down: int
    table: int


@dataclass(frozen=True)
class Frame:
    """A frame's coding, size and components."""

    process: int
    width: int
    height: int
    components: tuple[Component, ...]

    @classmethod
    def read(cls, data: bytes, segment: Segment) -> Frame:
        """Read a frame's header; refuse codings that are not supported."""
        body, end = segment.body, segment.end
        precision, count = data[body], data[body + 5 : body + 6]
        height, width = (int.from_bytes(data[at : at + 2], "big") for at in (body + 1, body + 3))
        if not count or segment.size != 6 + 3 * count[0]:
            raise truncated()
        if segment.marker in _UNREAD:
            kind = _UNREAD[segment.marker]
            raise UnsupportedFormat(f"The JPEG is {kind}, which is not supported. Save it as an ordinary JPEG.")
        if precision != 8:  # noqa: PLR2004 - bits
            raise UnsupportedFormat(
                f"The JPEG has {precision} bits per channel; 8 are supported. Save it as an 8-bit JPEG."
            )
        if not width:
            raise CorruptImage("The JPEG states no width. Save it again.")
        if not height:  # A.1.1, B.2.5
            raise UnsupportedFormat("The JPEG states its height only after its pixels. Save it again as a JPEG.")
        listed = (data[at : at + 3] for at in range(body + 6, end, 3))
        components = tuple(Component(name, factors >> 4 or 1, factors & 15 or 1, tq) for name, factors, tq in listed)
        frame = cls(segment.marker, width, height, components)
        many = len(components)
        if many not in {1, 3, 4}:
            raise UnsupportedFormat(f"The JPEG has {many} channels; 1, 3 and 4 are supported. Save it in RGB.")
        if len(frame.identifiers) != many:
            raise CorruptImage("The JPEG is damaged: its header describes a channel twice. Save it again.")
        return frame

    @property
    def identifiers(self) -> frozenset[int]:
        """The components' identifiers, as used in the headers of scans."""
        return frozenset(component.identifier for component in self.components)

    @property
    def is_progressive(self) -> bool:
        """Whether its scans refine it step by step (annex G)."""
        return self.process == PROGRESSIVE

    @property
    def luma(self) -> Component:
        """The first component, which is luminance or grey."""
        return self.components[0]

    @property
    def sampling(self) -> tuple[int, int]:
        """How many pixels share one chroma sample, across and down."""
        colours = self.components[1] if len(self.components) > 1 else Component(0, 1, 1, 0)
        return ceil(self.luma.across / colours.across), ceil(self.luma.down / colours.down)

    @property
    def samples_per_pixel(self) -> float:
        """The samples of all components per pixel: 3, or 1.5 with 4:2:0 subsampling."""
        across, down = self._most_factors()
        return sum(component.across * component.down for component in self.components) / (across * down)

    def units(self, identifiers: tuple[int, ...]) -> int:
        """Count the units (MCU, A.2) of a scan of some components."""
        across, down = self._most_factors()
        if len(identifiers) > 1:
            return ceil(self.width / (_BLOCK * across)) * ceil(self.height / (_BLOCK * down))
        (alone,) = (component for component in self.components if component.identifier == identifiers[0])
        columns = ceil(ceil(self.width * alone.across / across) / _BLOCK)
        return columns * ceil(ceil(self.height * alone.down / down) / _BLOCK)

    def _most_factors(self) -> tuple[int, int]:
        return max(each.across for each in self.components), max(each.down for each in self.components)


@dataclass(frozen=True)
class Tables:
    """The tables in force at some place, by their destination, and the restart interval, 0 for none.

    A quantization table is represented by the sum of its divisors, a Huffman table by the most bits of a coefficient.
    """

    divisors: Mapping[int, int] = field(default_factory=dict)
    most_bits: Mapping[int, int] = field(default_factory=dict)
    restart_interval: int = 0

    def after(self, data: bytes, segment: Segment) -> Tables:
        """Return the tables after a segment."""
        if segment.marker == DQT:
            return replace(self, divisors={**self.divisors, **dict(_divisors(data, segment))})
        if segment.marker == DHT:
            return replace(self, most_bits={**self.most_bits, **dict(_most_bits(data, segment))})
        if segment.marker == DRI:
            return replace(self, restart_interval=int.from_bytes(data[segment.body : segment.end], "big"))
        return self


def _divisors(data: bytes, segment: Segment) -> Iterator[tuple[int, int]]:
    """Yield the destination of each quantization table, and the sum of its 8- or 16-bit numbers (B.2.4.1)."""
    at = segment.body
    while at < segment.end:
        destination, width = data[at] & 15, 2 if data[at] >> 4 else 1
        table = data[at + 1 : at + 1 + 64 * width]
        high = sum(table[::2]) if width == 2 else 0  # noqa: PLR2004 - bytes
        yield destination, 256 * high + sum(table[width - 1 :: width])
        at += 1 + 64 * width


def _most_bits(data: bytes, segment: Segment) -> Iterator[tuple[int, int]]:
    """Yield the class and destination of each Huffman table (B.2.4.2), and the most bits that its symbols stand for.

    They are the low half of a symbol (F.1.2.2.1).
    """
    at = segment.body
    while at < segment.end:
        symbols = at + 17
        after = symbols + sum(data[at + 1 : symbols])
        yield data[at], max((symbol & 15 for symbol in data[symbols:after]), default=0)
        at = after
