"""Inspects a JPEG: which of its parts are sent, and whether it may be passed through.

The format is ITU-T T.81 (https://www.w3.org/Graphics/JPEG/itu-t81.pdf, annex B): segments, among them a frame's header,
and scans. JFIF is T.871, Adobe's marker is in T.872, the ICC segments are in ICC.1 annex B.

Whether the pixels between the markers are intact is decided in `jpeg_integrity`, while they are decoded.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING, NamedTuple

from shared.errors import CorruptImage
from shared.image import colour
from shared.image.formats import exif, text_mode
from shared.image.formats.jpeg_frame import FRAMES, Frame, Tables
from shared.image.formats.jpeg_quality import ANNEX_K_LUMA_SUM, quality_of
from shared.image.formats.jpeg_scans import demand_every_component, read_scan
from shared.image.formats.jpeg_segments import APPLICATION, COM, DNL, EOI, FILL, SOS, is_junk, next_segment, truncated
from shared.image.inspection import NOTHING, Inspection, joined
from shared.image.model import ImageHeader

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shared.image.formats.jpeg_scans import Scan
    from shared.image.formats.jpeg_segments import Segment

_APP0, _APP1, _APP2, _APP14 = 0xE0, 0xE1, 0xE2, 0xEE
_JFIF_BYTES, _ADOBE_BYTES = 14, 12
"""The length of a segment that states only colours: no thumbnail, nothing hidden after it."""

_PROFILE_NAME = b"ICC_PROFILE\0"
_PROFILE_HEAD = slice(len(_PROFILE_NAME), len(_PROFILE_NAME) + 2)
"""The number of a profile's segment, from 1, and the number of its segments."""

_MOST_PROFILE_SEGMENTS = colour.MAX_PROFILE_BYTES // 65_519 + 2
"""As many as a profile that is too large has; further ones are not read."""

_SOI_BYTES = 2
_SUBSAMPLED = 2
"""Samples per pixel; if several scans have more, a decoder keeps 6 or 8 bytes for each pixel."""


@dataclass(frozen=True)
class JpegInspection(Inspection):
    """What the markers say."""

    scans: tuple[Scan, ...] = ()
    luma_scale_percent: float = 100.0
    is_opaque: bool = True

    @property
    def end(self) -> int:
        """Where the picture ends, including its end marker."""
        return self.kept[-1][1]

    @property
    def entropy_bytes(self) -> int:
        """How many bytes describe pixels."""
        return sum(scan.end - scan.start for scan in self.scans)


class _Structure(NamedTuple):
    """A file up to its first end marker: the parts that are always sent, and what application segments say."""

    frame: Frame
    tables: Tables
    scans: tuple[Scan, ...]
    pieces: tuple[tuple[int, int], ...]
    notes: _Notes


def inspect(data: bytes) -> JpegInspection:
    """Read the segments up to the first end marker; refuse a truncated or malformed file."""
    if text_mode.has_converted_line_ends(data):
        raise text_mode.converted()
    with text_mode.explaining_damage(data):
        frame, tables, scans, pieces, notes = _read(data)
    depends = notes.tell_colours_of(frame)
    is_adobe_rgb = notes.is_adobe_rgb and len(frame.components) in {1, 3}
    table_sum = tables.divisors.get(frame.luma.table, ANNEX_K_LUMA_SUM)
    is_kept_whole = len(scans) > 1 or frame.is_progressive
    samples = frame.samples_per_pixel
    return JpegInspection(
        data=data,
        sampling=frame.sampling,
        header=ImageHeader("image/jpeg", frame.width, frame.height),
        orientation=notes.orientation,
        has_metadata=pieces != ((0, len(data)),),
        profile=notes.profile,
        fits_as_is=len(frame.components) in {1, 3} and not depends,
        quality=quality_of(table_sum),
        kept=joined(sorted((*pieces, *notes.burdened))) if depends else pieces,
        colours=colour.ADOBE_RGB if is_adobe_rgb else None,
        inserted=(notes.jfif_end, _adobe_profile(is_grey=len(frame.components) == 1)) if is_adobe_rgb else NOTHING,
        scans=scans,
        luma_scale_percent=max(1.0, 100 * table_sum / ANNEX_K_LUMA_SUM),
        buffer_bytes=ceil(2 * samples * frame.width * frame.height) if is_kept_whole else 0,
        weight=2 if len(scans) > 1 and samples > _SUBSAMPLED else 1,
    )


def _read(data: bytes) -> _Structure:
    frame, tables, position = None, Tables(), _SOI_BYTES
    scans: list[Scan] = []
    pieces, noted, has_junk = [(0, position)], [], False
    while (segment := next_segment(data, position, may_skip=not scans)).marker != EOI:
        has_junk = has_junk or is_junk(data, position, segment.start)
        position = segment.end
        if segment.marker in APPLICATION or segment.marker == COM:
            if _is_note(data, segment):
                noted.append(segment)
            if not _is_colour_alone(data, segment):
                continue
        elif segment.marker in FRAMES:
            if frame:
                raise CorruptImage("The JPEG is damaged: a second picture begins inside the first one. Save it again.")
            frame = Frame.read(data, segment)
        elif segment.marker == DNL:  # the frame's header has already stated what it says
            continue
        elif segment.marker == SOS:
            scan, position = read_scan(data, segment, frame, tables)
            scans.append(scan)
        tables = tables.after(data, segment)
        pieces.append((segment.start, position))
    if not frame:
        raise truncated()
    demand_every_component(scans, frame)
    pieces.append((segment.start, segment.end))
    return _Structure(frame, tables, tuple(scans), joined(pieces), _Notes.read(data, noted))


def _is(data: bytes, segment: Segment, marker: int, word: bytes) -> bool:
    """Say whether a segment has this marker, and begins with these bytes."""
    return segment.marker == marker and data[segment.body : min(segment.end, segment.body + len(word))] == word


def _is_jfif(data: bytes, segment: Segment) -> bool:
    return segment.size >= _JFIF_BYTES and _is(data, segment, _APP0, b"JFIF\0")


def _is_adobe(data: bytes, segment: Segment) -> bool:
    return segment.size >= _ADOBE_BYTES and _is(data, segment, _APP14, b"Adobe")


def _is_exif(data: bytes, segment: Segment) -> bool:
    return _is(data, segment, _APP1, b"Exif\0")


def _is_profile(data: bytes, segment: Segment) -> bool:
    return _is(data, segment, _APP2, _PROFILE_NAME)


def _is_note(data: bytes, segment: Segment) -> bool:
    return any(is_one(data, segment) for is_one in (_is_jfif, _is_adobe, _is_exif, _is_profile))


def _is_bare(segment: Segment) -> bool:
    return segment.size == (_JFIF_BYTES if segment.marker == _APP0 else _ADOBE_BYTES)


def _is_colour_alone(data: bytes, segment: Segment) -> bool:
    """Say whether a decoder needs it to show the right colours, and it holds nothing else: JFIF, Adobe, ICC."""
    is_bare = _is_bare(segment) and (_is_jfif(data, segment) or _is_adobe(data, segment))
    return is_bare or _is_profile(data, segment)


def _profile(data: bytes, segments: list[Segment]) -> bytes | None:
    """Return a profile in the order of its segments' numbers, or None if one is missing or repeated (ICC.1, B.4)."""
    bodies = [memoryview(data)[segment.body : segment.end] for segment in segments]
    bodies.sort(key=lambda body: bytes(body[_PROFILE_HEAD]))
    numbers = [tuple(body[_PROFILE_HEAD]) for body in bodies]
    if numbers != [(number, len(bodies)) for number in range(1, len(bodies) + 1)]:
        return None
    return b"".join(body[_PROFILE_HEAD.stop :] for body in bodies[:_MOST_PROFILE_SEGMENTS]) or None


def _adobe_profile(*, is_grey: bool) -> bytes:
    """Return the segment that says by a profile what EXIF said (ICC.1, B.4)."""
    body = _PROFILE_NAME + b"\1\1" + colour.ADOBE_RGB.profile(is_grey=is_grey)
    return bytes((FILL, _APP2)) + (len(body) + 2).to_bytes(2, "big") + body


@dataclass(frozen=True)
class _Notes:
    """What application segments say about a picture.

    `profile` is the one in all of its segments: Pillow finds only what precedes the frame's header. `burdened` are
    those that state colours and hold something else as well, such as a thumbnail, as (start, end). `is_adobe_rgb`: EXIF
    states it, and there is no profile; a profile can be inserted at `jfif_end`.
    """

    orientation: int
    profile: bytes | None
    is_adobe_rgb: bool
    jfif_end: int
    has_jfif: bool
    has_adobe: bool
    burdened: tuple[tuple[int, int], ...]

    @classmethod
    def read(cls, data: bytes, segments: Sequence[Segment]) -> _Notes:
        """Read the application segments."""
        of_exif = next((segment for segment in segments if _is_exif(data, segment)), None)
        of_colours = [segment for segment in segments if _is_jfif(data, segment) or _is_adobe(data, segment)]
        block = memoryview(data)[of_exif.body + 6 : of_exif.end] if of_exif else b""
        of_profile = [segment for segment in segments if _is_profile(data, segment)]
        return cls(
            exif.orientation(block),
            profile=_profile(data, of_profile),
            is_adobe_rgb=not of_profile and exif.states_adobe_rgb(block),
            jfif_end=max((segment.end for segment in of_colours if segment.marker == _APP0), default=_SOI_BYTES),
            has_jfif=any(segment.marker == _APP0 and _is_bare(segment) for segment in of_colours),
            has_adobe=any(segment.marker == _APP14 for segment in of_colours),
            burdened=tuple((segment.start, segment.end) for segment in of_colours if not _is_bare(segment)),
        )

    def tell_colours_of(self, frame: Frame) -> bool:
        """Say whether a decoder would assume other colours if the segment with the thumbnail were removed."""
        identifiers = bytes(component.identifier for component in frame.components)
        is_clear = self.has_jfif or not (self.has_adobe or identifiers == b"RGB")
        return bool(self.burdened) and not (is_clear and len(frame.components) <= 3)  # noqa: PLR2004 - RGB, not CMYK
