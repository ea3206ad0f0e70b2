"""Every file is examined and decoded in a process of its own, whose limits the kernel enforces: the app's side of it.

The app believes nothing that comes back but a message of a known form, and an image that begins as one. What an end
means is decided here:

| how the process ended                          | what becomes of the drop                                     |
|------------------------------------------------|--------------------------------------------------------------|
| with an image, or a reason to refuse the file  | that                                                         |
| out of memory, below the budget                | it is decoded once more, alone, with the whole budget        |
| out of memory, with the whole budget           | `TooDemanding`, final                                        |
| out of CPU                                     | `TooDemanding`, final                                        |
| by a signal of its own, or without a word      | it is tried again at once, with the whole budget             |
| so again, though with as much as was predicted | `DecoderCrashed`, final                                      |
| so again, with less, or later with more memory | `TooDemanding`, final: some decoders do not bear to get none |
| by SIGKILL from outside, or not in time        | `ResourcesExhausted`, which is ours: tried again later       |
"""

from __future__ import annotations

import math
import signal
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from shared.admission import Admission
from shared.cage.conversation import Nonsense, bytes_needed, image_of, refusal_of, unpacked_bytes
from shared.cage.file_process import NOT_BEGUN, ProcessesLost
from shared.errors import DecoderCrashed, OutOfTime, ResourcesExhausted, SourceTooLarge, TooDemanding

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from contextlib import AbstractContextManager

    from shared.cage.file_process import FileProcess, HeldFile, Processes
    from shared.image import ImageLimits, NormalizedImage

EXAMINATION_BYTES, EXAMINATION_CPU_S = 64_000_000, 2
"""What it may take to read a file's structure, beside the file itself. Nothing is decoded for that."""

_MARGIN_BYTES = 32_000_000
_MOST_LOSSES = 2
_SAME_PEAK_BYTES = 4_000_000
"""By so much may the peaks differ of two processes that came to the same point."""

_KILLED, _OUT_OF_CPU = getattr(signal, "SIGKILL", None), getattr(signal, "SIGXCPU", None)
_ADVICE = "Save it again as an ordinary JPEG or PNG, or send a smaller one."


_Made = TypeVar("_Made")


@dataclass(frozen=True)
class CageLimits:
    """What files may take: all together of memory, each of CPU; and how many are worked on at once."""

    budget_bytes: int = 1_000_000_000
    processes: int = 4
    cpu_s: int = 10
    wall_s: int = 60
    """How long a process may be silent: as long as a busy instance keeps one waiting that needs all of its CPU. Beyond,
    it was stopped, or the instance is hopelessly busy."""


class Images:
    """Normalizes files, in one process each."""

    def __init__(self, limits: ImageLimits, cage: CageLimits, processes: Processes) -> None:
        self._limits = limits
        self._cage = cage
        self._processes = processes
        self._places = Admission(cage.processes)
        self._memory = Admission(cage.budget_bytes)

    def prepare(self) -> None:
        """Begin to start what decodes, so that it is there when the first file has been read."""
        self._processes.prepare()

    def close(self) -> None:
        """End every process."""
        self._processes.close()

    def normalize(self, content: bytes, deadline: float = math.inf, most_unpacked: int = 0) -> NormalizedImage:
        """Return `content` as an image that the API accepts, as `shared.image.normalize_image` would.

        Where `most_unpacked` is given, what is gzipped is unpacked to so many bytes, and taken as it is where it is
        not. A caller who keeps no reference to `content` has its memory back at once, unless it may leave as it is.
        Raises ImageRefused where the content is at fault, SourceTooLarge where it unpacks to more, ResourcesExhausted
        where the instance is, OutOfTime at the `deadline` (an instant of `time.monotonic`), Bug where we are.
        """
        kept = content if len(content) <= self._limits.max_output_bytes else None
        with ExitStack() as held:
            file = held.enter_context(self._processes.hold(content))
            del content
            if most_unpacked:
                unpacked = self._insist(partial(self._unpack, file, most_unpacked, deadline), deadline)
                if unpacked:
                    with held.pop_all():
                        file = held.enter_context(unpacked.file)
                    kept = unpacked.kept
            return self._insist(partial(self._attempt, file, kept, deadline), deadline)

    def _insist(self, attempt: Callable[[int], _Made], deadline: float) -> _Made:
        """Return what an attempt comes to, which is told how much memory it may have at the least; try it again."""
        losses = least_bytes = 0
        crashed: _Crashed | None = None
        while True:
            try:
                with self._places.admit(1, deadline):
                    return attempt(least_bytes)
            except _Starved as starved:
                stage = starved.stage
                if not stage.is_decoding or stage.memory_bytes >= self._cage.budget_bytes:
                    raise _out_of_memory(stage) from None
            except _Crashed as crash:
                if crashed and crash.stage and crash.is_for_want_of_memory(crashed):
                    raise _out_of_memory(crash.stage) from None
                if crashed:
                    raise DecoderCrashed(f"The decoder crashed on the file twice. {_ADVICE}") from None
                crashed = crash
            except ProcessesLost:
                losses += 1
                if losses == _MOST_LOSSES:
                    raise
                continue
            least_bytes = self._cage.budget_bytes

    def _unpack(self, file: HeldFile, most_bytes: int, deadline: float, _: int) -> _Unpacked | None:
        """Have one process unpack the file; return None where it is not packed. Raises _Starved and _Crashed."""
        stage = _Stage("Unpacking it", EXAMINATION_BYTES, EXAMINATION_CPU_S, makes="unpacked")
        try:
            with self._memory.admit(most_bytes, deadline), file.open_process(most_bytes) as process:
                said = self._last(process, self._hear(process, deadline), stage, deadline)
                size = unpacked_bytes(said, most_bytes)
                if size is None:
                    return None
                if size > most_bytes:
                    raise SourceTooLarge(
                        "The blob has more bytes when it is unpacked than MAX_SOURCE_BYTES allows. "
                        "Send a smaller image, or have the operator raise that setting."
                    )
                kept = process.image(size) if size <= self._limits.max_output_bytes else None
                return _Unpacked(process.file(size), kept)
        except Nonsense:
            raise _Crashed from None

    def _attempt(self, file: HeldFile, kept: bytes | None, deadline: float, least_bytes: int) -> NormalizedImage:
        """Have one process do it, with what it is predicted to need, or `least_bytes`. Raises _Starved and _Crashed."""
        stage = _Stage("Reading its structure", EXAMINATION_BYTES, EXAMINATION_CPU_S)
        try:
            with file.open_process() as process:
                said = self._hear(process, deadline)
                if "needs" not in said:
                    return self._verdict(process, said, stage, kept, deadline)
                wanted_bytes, most_bytes = bytes_needed(said) * 5 // 4 + _MARGIN_BYTES, self._cage.budget_bytes
                stage = _Stage(
                    "Decoding it",
                    min(max(wanted_bytes, least_bytes), most_bytes),
                    self._cage.cpu_s,
                    is_decoding=True,
                    is_short=wanted_bytes > most_bytes,
                )
                with self._memory.admit(stage.memory_bytes + file.size, deadline):
                    process.go_on(stage.memory_bytes, stage.cpu_s)
                    return self._verdict(process, self._hear(process, deadline), stage, kept, deadline)
        except Nonsense:
            raise _Crashed from None

    def _verdict(
        self, process: FileProcess, said: Mapping[str, Any], stage: _Stage, kept: bytes | None, deadline: float
    ) -> NormalizedImage:
        """Wait until the process has ended, and return or raise what that means."""
        said = self._last(process, said, stage, deadline)
        return image_of(said["image"], process.image, kept, self._limits)

    def _last(self, process: FileProcess, said: Mapping[str, Any], stage: _Stage, deadline: float) -> Mapping[str, Any]:
        """Wait until the process has ended, and return what it said of what it made; raise what its end means else."""
        if said and self._hear(process, deadline):
            raise Nonsense
        end = process.end()
        if end.signal == _OUT_OF_CPU or (end.signal == _KILLED and end.cpu_s >= stage.cpu_s):
            raise TooDemanding(f"{stage.doing} took more than {stage.cpu_s} s of CPU; no file may take more. {_ADVICE}")
        if end.signal == _KILLED:
            raise ResourcesExhausted(
                "The process that was decoding the image was killed from outside before it had finished."
            )
        if end.status == NOT_BEGUN and not said:
            raise ProcessesLost
        if end.signal or end.status or not said:
            raise _Crashed(stage, end.peak_bytes)
        if "starved" in said:
            raise _Starved(stage)
        if stage.makes in said:
            return said
        raise refusal_of(said)

    def _hear(self, process: FileProcess, deadline: float) -> Mapping[str, Any]:
        """Return what the process says next; nothing where it has ended.

        Raises Nonsense, ResourcesExhausted, OutOfTime, and ProcessesLost where not that process alone stands still.
        """
        left_s = deadline - time.monotonic()
        if left_s > 0:
            with suppress(TimeoutError):
                return process.receive(min(self._cage.wall_s, left_s)) or {}
        if left_s < self._cage.wall_s:
            raise OutOfTime("The image was still being decoded when the attempt's time was over.")
        process.end()
        raise ResourcesExhausted(
            f"The process that was decoding the image had not finished after {self._cage.wall_s} s, "
            f"although it had used less than its {self._cage.cpu_s} s of CPU."
        )


@dataclass(frozen=True)
class _Stage:
    """What a process does, and what it may take for that."""

    doing: str
    memory_bytes: int
    cpu_s: int
    is_decoding: bool = False
    is_short: bool = False
    """Whether the memory is less than what was predicted."""
    makes: str = "image"


@dataclass(frozen=True)
class _Unpacked:
    """What came out of a packed file, and its bytes where it is small enough to leave."""

    file: AbstractContextManager[HeldFile]
    kept: bytes | None


class _Starved(Exception):
    """It was refused memory."""

    def __init__(self, stage: _Stage) -> None:
        super().__init__(stage)
        self.stage = stage


class _Crashed(Exception):
    """It ended by a signal of its own, or said nothing that makes sense."""

    def __init__(self, stage: _Stage | None = None, peak_bytes: int = 0) -> None:
        super().__init__(stage, peak_bytes)
        self.stage = stage
        self._peak_bytes = peak_bytes

    def is_for_want_of_memory(self, earlier: _Crashed) -> bool:
        """Say whether it lacked memory, where that is limited at all: it had too little, or came further with more."""
        is_short = bool(self.stage and self.stage.is_short)
        went_further = self._peak_bytes > earlier._peak_bytes + _SAME_PEAK_BYTES
        return self._peak_bytes > 0 and (is_short or went_further)


def _out_of_memory(stage: _Stage) -> TooDemanding:
    return TooDemanding(
        f"{stage.doing} took more than {stage.memory_bytes / 1e6:,.0f} MB of memory; no file may take more. {_ADVICE}"
    )
