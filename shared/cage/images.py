"""Examines and decodes every file in a process of its own, whose limits the kernel enforces: the app's side of it.

The app accepts only messages of a known form, and an image that begins like one. This module decides what the end of a
process means:

| how the process ended                             | what happens to the drop                                     |
|---------------------------------------------------|--------------------------------------------------------------|
| with an image, or a reason to refuse the file     | that is its outcome                                          |
| out of memory, with less than the budget          | it is decoded again, with the whole budget                   |
| out of memory, with the whole budget              | `TooDemanding`, final                                        |
| out of CPU time                                   | `TooDemanding`, final                                        |
| by its own signal, or with no message             | it is tried again at once, with the whole budget             |
| the same twice, with the memory predicted         | `DecoderCrashed`, final                                      |
| the same twice, with less, or with a higher peak  | `TooDemanding`, final: some decoders crash if `malloc` fails |
| by SIGKILL from outside, or not in time           | `ResourcesExhausted`, not the file's fault: tried later      |
| for lack of descriptors or disk space             | the same                                                     |
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
from shared.cage.conversation import InvalidMessage, bytes_needed, image_of, refusal_of, unpacked_bytes
from shared.cage.file_process import NOT_BEGUN, ProcessesLost
from shared.errors import DecoderCrashed, OutOfTime, ResourcesExhausted, SourceTooLarge, TooDemanding

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from contextlib import AbstractContextManager

    from shared.cage.file_process import FileProcess, HeldFile, Processes
    from shared.image import ImageLimits, NormalizedImage

EXAMINATION_BYTES, EXAMINATION_CPU_S = 64_000_000, 2
"""The memory for reading a file's structure, in addition to the file itself. Nothing is decoded meanwhile."""

_MARGIN_BYTES = 32_000_000
_MOST_LOSSES = 2
_SAME_PEAK_BYTES = 4_000_000
"""How much the peaks of two processes that failed at the same point may differ."""

_KILLED, _OUT_OF_CPU = getattr(signal, "SIGKILL", None), getattr(signal, "SIGXCPU", None)
_ADVICE = "Save it again as an ordinary JPEG or PNG, or send a smaller one."


_Made = TypeVar("_Made")


@dataclass(frozen=True)
class CageLimits:
    """What files may use: memory for all of them together, CPU time for each; and how many are processed at once."""

    budget_bytes: int = 1_000_000_000
    processes: int = 4
    cpu_s: int = 10
    wall_s: int = 60
    """How long a process may be silent: as long as one that needs all of its CPU time takes on a busy instance. A
    process that is silent for longer was stopped, or the instance is hopelessly overloaded."""


class Images:
    """Normalizes files, each in a process of its own."""

    def __init__(self, limits: ImageLimits, cage: CageLimits, processes: Processes) -> None:
        self._limits = limits
        self._cage = cage
        self._processes = processes
        self._places = Admission(cage.processes)
        self._memory = Admission(cage.budget_bytes)

    def prepare(self) -> None:
        """Begin to start the processes, so that they are ready when the first file has been read."""
        self._processes.prepare()

    def close(self) -> None:
        """End every process."""
        self._processes.close()

    def normalize(self, content: bytes, deadline: float = math.inf, most_unpacked: int = 0) -> NormalizedImage:
        """Return `content` as an image that the API accepts, as `shared.image.normalize_image` does.

        If `most_unpacked` is given, gzipped content is first unpacked, to at most that many bytes; other content is
        taken as it is. If the caller keeps no reference to `content`, its memory is freed at once, unless it is small
        enough to be sent. Raises ImageRefused if the content is at fault, SourceTooLarge if it unpacks to more,
        ResourcesExhausted if the instance is short of something, OutOfTime at the `deadline` (an instant of
        `time.monotonic`), Bug if the app is at fault.
        """
        kept = content if len(content) <= self._limits.max_output_bytes else None
        with ExitStack() as held:
            file = held.enter_context(self._processes.hold(content))
            del content
            if most_unpacked:
                unpacked = self._retry(partial(self._unpack, file, most_unpacked, deadline), deadline)
                if unpacked:
                    with held.pop_all():
                        file = held.enter_context(unpacked.file)
                    kept = unpacked.kept
            return self._retry(partial(self._attempt, file, kept, deadline), deadline)

    def _retry(self, attempt: Callable[[int], _Made], deadline: float) -> _Made:
        """Make an attempt, which takes its least memory, and repeat it if that may help; return its result."""
        losses = least_bytes = 0
        crashed: _Crashed | None = None
        while True:
            try:
                with self._places.admit(1, deadline):
                    return attempt(least_bytes)
            except _OutOfMemory as out_of_memory:
                stage = out_of_memory.stage
                if not stage.is_decoding or stage.memory_bytes >= self._cage.budget_bytes:
                    raise _out_of_memory(stage) from None
            except _Crashed as crash:
                if crashed and crash.stage and crash.lacked_memory(crashed):
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
        """Have one process unpack the file; return None if it is not packed. Raises _OutOfMemory and _Crashed."""
        stage = _Stage("Unpacking the file", EXAMINATION_BYTES, EXAMINATION_CPU_S, makes="unpacked")
        try:
            with self._memory.admit(most_bytes, deadline), file.open_process(most_bytes) as process:
                said = self._last_message(process, self._receive(process, deadline), stage, deadline)
                size = unpacked_bytes(said, most_bytes)
                if size is None:
                    return None
                if size > most_bytes:
                    raise SourceTooLarge(
                        "The blob is larger than MAX_SOURCE_BYTES allows once it is unpacked. "
                        "Send a smaller image, or have the operator raise that setting."
                    )
                kept = process.image(size) if size <= self._limits.max_output_bytes else None
                return _Unpacked(process.file(size), kept)
        except InvalidMessage:
            raise _Crashed from None

    def _attempt(self, file: HeldFile, kept: bytes | None, deadline: float, least_bytes: int) -> NormalizedImage:
        """Normalize the file in one process, with at least `least_bytes`. Raises _OutOfMemory and _Crashed."""
        stage = _Stage("Reading the file's structure", EXAMINATION_BYTES, EXAMINATION_CPU_S)
        try:
            with file.open_process() as process:
                said = self._receive(process, deadline)
                if "needs" not in said:
                    return self._image(process, said, stage, kept, deadline)
                wanted_bytes, most_bytes = bytes_needed(said) * 5 // 4 + _MARGIN_BYTES, self._cage.budget_bytes
                stage = _Stage(
                    "Decoding the file",
                    min(max(wanted_bytes, least_bytes), most_bytes),
                    self._cage.cpu_s,
                    is_decoding=True,
                    is_short=wanted_bytes > most_bytes,
                )
                with self._memory.admit(stage.memory_bytes + file.size, deadline):
                    process.go_on(stage.memory_bytes, stage.cpu_s)
                    return self._image(process, self._receive(process, deadline), stage, kept, deadline)
        except InvalidMessage:
            raise _Crashed from None

    def _image(
        self, process: FileProcess, said: Mapping[str, Any], stage: _Stage, kept: bytes | None, deadline: float
    ) -> NormalizedImage:
        """Return the image once the process has ended; raise the error that its end means."""
        said = self._last_message(process, said, stage, deadline)
        return image_of(said["image"], process.image, kept, self._limits)

    def _last_message(
        self, process: FileProcess, said: Mapping[str, Any], stage: _Stage, deadline: float
    ) -> Mapping[str, Any]:
        """Return the process's last message once it has ended; raise the error that its end means."""
        if said and self._receive(process, deadline):
            raise InvalidMessage
        end = process.end()
        if end.signal == _OUT_OF_CPU or (end.signal == _KILLED and end.cpu_s >= stage.cpu_s):
            raise TooDemanding(
                f"{stage.doing} took more than {stage.cpu_s} s of CPU time; no file may take more. {_ADVICE}"
            )
        if end.signal == _KILLED:
            raise ResourcesExhausted(
                "The process that was decoding the image was killed from outside before it had finished."
            )
        if end.status == NOT_BEGUN and not said:
            raise ProcessesLost
        if end.signal or end.status or not said:
            raise _Crashed(stage, end.peak_bytes)
        if "outOfMemory" in said:
            raise _OutOfMemory(stage)
        if stage.makes in said:
            return said
        raise refusal_of(said)

    def _receive(self, process: FileProcess, deadline: float) -> Mapping[str, Any]:
        """Return the process's next message, or an empty one if it has ended.

        Raises InvalidMessage, ResourcesExhausted and OutOfTime, and ProcessesLost if the other processes hang as well.
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
            f"although it had used less than its {self._cage.cpu_s} s of CPU time."
        )


@dataclass(frozen=True)
class _Stage:
    """What a process does, and what it may use for that."""

    doing: str
    memory_bytes: int
    cpu_s: int
    is_decoding: bool = False
    is_short: bool = False
    """Whether it has less memory than was predicted."""
    makes: str = "image"


@dataclass(frozen=True)
class _Unpacked:
    """The content of a packed file, and its bytes if it is small enough to be sent."""

    file: AbstractContextManager[HeldFile]
    kept: bytes | None


class _OutOfMemory(Exception):
    """An allocation failed in the process."""

    def __init__(self, stage: _Stage) -> None:
        super().__init__(stage)
        self.stage = stage


class _Crashed(Exception):
    """The process ended by a signal that it raised, or sent an invalid message."""

    def __init__(self, stage: _Stage | None = None, peak_bytes: int = 0) -> None:
        super().__init__(stage, peak_bytes)
        self.stage = stage
        self._peak_bytes = peak_bytes

    def lacked_memory(self, earlier: _Crashed) -> bool:
        """Say whether it lacked memory: it had too little, or its peak was higher with more. Never without limits."""
        is_short = bool(self.stage and self.stage.is_short)
        went_further = self._peak_bytes > earlier._peak_bytes + _SAME_PEAK_BYTES
        return self._peak_bytes > 0 and (is_short or went_further)


def _out_of_memory(stage: _Stage) -> TooDemanding:
    return TooDemanding(
        f"{stage.doing} took more than {stage.memory_bytes / 1e6:,.0f} MB of memory; no file may take more. {_ADVICE}"
    )
