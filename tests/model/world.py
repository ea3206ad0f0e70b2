"""One iTwin, its drops and the app, in simulated time: whatever happens to them is written down beforehand.

The app's code is the real one, down to the clients of storage and of the platform. Every request is a moment at which
others go on, time passes, the process dies or storage fails.
"""

from __future__ import annotations

import hashlib
import json
import logging
import random
import sys
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache, partial
from typing import TYPE_CHECKING, Any, Literal, NoReturn, cast

from azure.core.exceptions import AzureError
from greenlet import greenlet
from PIL import Image

from benchmarks.simulation.loop import Loop
from benchmarks.simulation.services import EverlastingTokens
from benchmarks.simulation.storage import Account, BlobService, storage_error
from local.itwin_platform import ReceivedRequest
from local.samples import encode
from shared.admission import Admission
from shared.attempt import Attempt
from shared.clock import Clock
from shared.credentials import AccessTokens
from shared.dead_letters import drop_poisoned
from shared.drop import Drop, Version
from shared.errors import EXHAUSTION
from shared.http_client import NoResponse, Response
from shared.image import normalize_image
from shared.itwin_platform import ITwinPlatform
from shared.pipeline import process_drop
from shared.records import Recorded
from shared.results import ResultStore, result_name
from shared.retries import RetryQueue
from shared.services import App, Services, open_ledger
from shared.settings import Settings
from shared.throttle import Throttle
from tools.chaos_judge import Evidence, Written

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from azure.storage.blob import BlobServiceClient
    from azure.storage.queue import QueueClient

    from shared.image import NormalizedImage


ITWIN_ID = str(uuid.UUID(int=1))
PATH = f"/itwins/{ITWIN_ID}/image"
START = datetime(2026, 11, 23, 12, tzinfo=UTC)
SETTINGS = Settings.from_environ(
    {
        "DropStorage": "UseDevelopmentStorage=true",
        "ITWIN_LOGIN": "gateway",
        "ITWIN_API_URL": "https://gateway.example",
        "ITWIN_TOKEN_SCOPE": "api://simulated/.default",
    }
)
RESULTS = SETTINGS.storage.results_container

NO_PICTURE = b"not an image"

# As host.json has it, for both triggers.
MAX_DELIVERIES = 5
STEP_S = 0.01
GATEWAY_S = 1.0
# What the SDK spends on its own tries before the app hears of a failure.
STORAGE_GIVES_UP_S = 10.0
# A process stands still for so long in all, at most; the platform may be late by so much. The call and what may come of
# it late end before the ledger takes it for settled.
LONGEST_PAUSE_S, LATEST_S = 60.0, 200.0
CAUGHT_UP_S = 900.0
LONGEST_S = 7 * 24 * 3600

# The statuses of a gateway that does not know what the platform does; 503 is the platform's own.
HEARSAY = (202, 500, 502, 504, 520)
BODIES: dict[int | None, bytes] = {0: b"{", 503: b'{"error": {"code": "ServiceUnavailable", "message": "Later."}}'}


@dataclass(frozen=True)
class Write:
    """A blob is written, some time after the last one, and announced so many times, so late.

    `caught_up_after_s` says when an operator, or a dead letter, sends it into the retry queue: always, if nothing else
    announces it. Its content is a `picture`, by default one that no other drop has; if it is not legal, it is a text,
    or nothing at all.
    """

    blob: str
    after_s: float
    legal: bool
    announced_after_s: Sequence[float]
    caught_up_after_s: Sequence[float] = ()
    picture: int | None = None
    is_empty: bool = False

    def content(self, order: int) -> bytes:
        """Return the bytes."""
        if self.legal:
            return picture(order if self.picture is None else self.picture)
        return b"" if self.is_empty else NO_PICTURE


@dataclass(frozen=True)
class Deletion:
    """A blob is deleted, if it is there then."""

    blob: str
    at_s: float


@dataclass(frozen=True)
class Touch:
    """A blob's metadata is set, if it is there then: its ETag and date change, and nobody is told."""

    blob: str
    at_s: float


@dataclass(frozen=True)
class Archival:
    """A blob is archived, if it is there then, and rehydrated later, or never."""

    blob: str
    at_s: float
    rehydrated_after_s: float | None = None


@dataclass(frozen=True)
class Replay:
    """An operator replays a drop, if it has ended by then."""

    blob: str
    at_s: float


@dataclass(frozen=True)
class Answer:
    """What becomes of an upload: a status, or None where nothing is heard, or the end of the process that calls.

    Where there is no answer, nobody left to hear it, or only that of a gateway (`HEARSAY`), the image is up `late_s`
    after the call; None: never.
    """

    status: int | Literal["crash"] | None
    late_s: float | None


StrikeKind = Literal["pause", "crash", "busy", "condition not met", "outage", "lacking"]


@dataclass(frozen=True)
class Strike:
    """What happens at one of the moments: for how long, or how long until the message of a crashed process is back."""

    kind: StrikeKind
    seconds: float


@dataclass(frozen=True)
class Fate:
    """All that will happen: `strikes` by the number of the moment; then all goes well.

    Conditional writes take so long to arrive, the first one first. The messages that are `doomed`, by their number,
    kill every process that takes them, at that moment of its life. Those in `echoes` are delivered once more, so much
    later, whatever became of them. The clocks of processes are apart by `skews_s`, one after the other.
    """

    writes: Sequence[Write]
    deletions: Sequence[Deletion] = ()
    touches: Sequence[Touch] = ()
    writes_held_up_s: Sequence[float] = ()
    answers: Sequence[Answer] = ()
    strikes: Mapping[int, Strike] = field(default_factory=dict)
    doomed: Mapping[int, int] = field(default_factory=dict)
    replays: Sequence[Replay] = ()
    archivals: Sequence[Archival] = ()
    echoes: Mapping[int, float] = field(default_factory=dict)
    skews_s: Sequence[float] = (0.0,)


# What a request, or the work on an image, may find that the instance lacks.
LACKS = (
    MemoryError(),
    *(OSError(number, "As the system says.") for number in EXHAUSTION),
)


@cache
def picture(number: int) -> bytes:
    """Return an image that no other drop has."""
    return encode(Image.new("RGB", (8 + number % 32, 8 + number // 32)), "PNG")


class Crash(BaseException):
    """The process is gone: nothing of it may go on."""


@dataclass
class Message:
    """An event (a drop and its ETag) or the app's own text; how often it was delivered; its number among all."""

    payload: tuple[Drop, str] | str
    number: int
    deliveries: int = 0

    def attempt(self, now: datetime) -> Attempt:
        """Return what the host's message, or the app's own, asks for."""
        if isinstance(self.payload, str):
            return Attempt.from_message(self.payload)
        drop, etag = self.payload
        return Attempt(drop, 1, now, etag) if self.deliveries > MAX_DELIVERIES else Attempt.event(drop)


class World:
    """Everything there is, and what is seen of it."""

    def __init__(self, fate: Fate) -> None:
        self.fate = fate
        self.loop = Loop()
        self.account = Account(self.now, self._note_result)
        self.evidence = Evidence()
        self.moments = 0
        self.calls = 0
        self.conditional_writes = 0
        self.mishaps = 0
        self.chance = random.Random(0)  # noqa: S311 - the delays that the app draws
        self.storage_is_out_until = 0.0
        self._sent = 0
        self._processes = 0
        self._written_as: dict[str, str] = {}
        self._unsettled = 0

    def now(self) -> datetime:
        """Return the time."""
        return START + timedelta(seconds=self.loop.now)

    def run(self) -> Evidence:
        """Let everything happen, until nothing more does."""
        at_s = 0.0
        for order, write in enumerate(self.fate.writes):
            at_s += write.after_s
            self.loop.at(at_s, partial(self._write, order, write))
        for deletion in self.fate.deletions:
            self.loop.at(deletion.at_s, partial(self._delete, deletion))
        for touch in self.fate.touches:
            self.loop.at(touch.at_s, partial(self._touch, touch))
        for archival in self.fate.archivals:
            self.loop.at(archival.at_s, partial(self._archive, archival))
        for replay in self.fate.replays:
            self.loop.at(replay.at_s, partial(self._replay, replay))
        logging.disable()
        try:
            self.loop.run(LONGEST_S)
        finally:
            logging.disable(logging.NOTSET)
        evidence = self.evidence
        evidence.queued = {"all": self._unsettled}
        stored = {name: blob for (container, name), blob in self.account.blobs.items() if container == RESULTS}
        evidence.stored = {name: json.loads(blob.content) for name, blob in stored.items()}
        return evidence

    def _write(self, order: int, write: Write) -> None:
        content = write.content(order)
        blob = self.account.write(ITWIN_ID, write.blob, content)
        sha256 = hashlib.sha256(content).hexdigest() if write.legal else None
        version = Version(blob.last_modified, blob.etag, write.blob, hashlib.sha256(content).hexdigest())
        kind: Literal["legal", "illegal"] = "legal" if write.legal else "illegal"
        self.evidence.written.append(Written(ITWIN_ID, version, order, kind, known=True, sha256=sha256))
        drop = Drop(ITWIN_ID, write.blob)
        for late_s in write.announced_after_s:
            self.send((drop, blob.etag), late_s)
        for late_s in write.caught_up_after_s or ([] if write.announced_after_s else [CAUGHT_UP_S]):
            self.send(Attempt.missed(drop).message(), late_s)

    def _delete(self, deletion: Deletion) -> None:
        if blob := self.account.blobs.pop((ITWIN_ID, deletion.blob), None):
            self.evidence.deleted.add(self._written_as.get(blob.etag, blob.etag))

    def _touch(self, touch: Touch) -> None:
        found = self.account.blobs.get((ITWIN_ID, touch.blob))
        touched = self.account.touch(ITWIN_ID, touch.blob)
        if not (found and touched):
            return
        self.mishaps += 1  # an event that comes now looks like that of a new drop
        etag = self._written_as[touched.etag] = self._written_as.get(found.etag, found.etag)
        version = Version(touched.last_modified, touched.etag, touch.blob)
        self.evidence.touched.setdefault(etag, []).append(version)

    def _archive(self, archival: Archival) -> None:
        found = self.account.blobs.get((ITWIN_ID, archival.blob))
        if found is None:
            return
        self.mishaps += 1
        self.evidence.archived.add(self._written_as.get(found.etag, found.etag))
        found.state = "BlobArchived"
        after_s = archival.rehydrated_after_s
        if after_s is not None:
            for later_s, state in ((after_s / 2, "BlobBeingRehydrated"), (after_s, None)):
                self.loop.at(self.loop.now + later_s, partial(self._set_state, archival.blob, found.content, state))

    def _set_state(self, blob: str, content: bytes, state: str | None) -> None:
        found = self.account.blobs.get((ITWIN_ID, blob))
        if found and found.content == content and found.state:
            found.state = state

    def _replay(self, replay: Replay) -> None:
        drop = Drop(ITWIN_ID, replay.blob)
        found = self.account.blobs.get((RESULTS, result_name(drop)))
        if found and Recorded.from_json(found.content).is_final:
            self.mishaps += 1
            self.evidence.replayed.add(result_name(drop))
            self.send(Attempt.replay(drop).message(), 1)

    def _note_result(self, container: str, name: str, content: bytes) -> None:
        if container == RESULTS:
            self.evidence.histories.setdefault(name, []).append(json.loads(content))

    def send(self, payload: tuple[Drop, str] | str, delay_s: float) -> None:
        """Put a message into its queue."""
        delays_s = [delay_s]
        if self._sent in self.fate.echoes:
            self.mishaps += 1
            delays_s.append(delay_s + self.fate.echoes[self._sent])
        for each_s in delays_s:
            self._unsettled += 1
            self.loop.at(self.loop.now + each_s, partial(self._deliver, Message(payload, self._sent)))
        self._sent += 1

    def next_skew_s(self) -> float:
        """Return by how much the clock of the next process is ahead."""
        self._processes += 1
        return self.fate.skews_s[self._processes % len(self.fate.skews_s)]

    def _deliver(self, message: Message) -> None:
        """Do what the host does with a message: run the function on it, at most five times, and then give it up."""
        if not isinstance(message.payload, str) and message.deliveries < MAX_DELIVERIES:
            drop, _ = message.payload
            if (drop.container, drop.blob) not in self.account.blobs:
                self._unsettled -= 1
                return
        message.deliveries += 1
        greenlet(partial(self._execute, message)).switch()

    def _execute(self, message: Message) -> None:
        process, attempt = Process(self, message), message.attempt(self.now())
        is_given_up = message.deliveries > MAX_DELIVERIES
        try:
            if is_given_up:
                self.evidence.dead_letters.append((result_name(attempt.drop), attempt.etag))
            (drop_poisoned if is_given_up else process_drop)(attempt, process.services())
        except Crash:
            self.loop.at(self.loop.now + process.back_after_s, partial(self._deliver, message))
        except (AzureError, OSError, MemoryError):
            self.loop.at(self.loop.now, partial(self._deliver, message))
        else:
            self._unsettled -= 1

    def next_write_held_up_s(self) -> float:
        """Return how long the next conditional write takes to arrive."""
        self.conditional_writes += 1
        held_up = self.fate.writes_held_up_s
        return held_up[self.conditional_writes - 1] if self.conditional_writes <= len(held_up) else 0

    def next_answer(self) -> Answer:
        """Return what becomes of the next upload."""
        self.calls += 1
        answer = self.fate.answers[self.calls - 1] if self.calls <= len(self.fate.answers) else Answer(201, None)
        self.mishaps += answer.status != 201
        return answer

    def show(self, image: bytes, status: int = 201, correlation_id: str = "") -> None:
        """Have the platform carry out an upload, or refuse to."""
        if status == 201:
            self.evidence.images[ITWIN_ID] = image
        sha256 = hashlib.sha256(image).hexdigest()
        self.evidence.answers.append(
            ReceivedRequest(
                self.now(),
                "PUT",
                PATH,
                status,
                len(image),
                sha256,
                "image/png",
                bearer=True,
                correlation_id=correlation_id,
            )
        )


class Process:
    """A process of the app with one message in its hands."""

    def __init__(self, world: World, message: Message) -> None:
        self.world = world
        self.back_after_s = STORAGE_GIVES_UP_S
        self._skew = timedelta(seconds=world.next_skew_s())
        self._message = message
        self._moments = 0
        self._patience_s = LONGEST_PAUSE_S
        self._is_dead = False

    def services(self) -> Services:
        """Put together what it has."""
        storage = cast("BlobServiceClient", BlobService(self.world.account, self.request_storage))

        def now() -> datetime:
            return self.world.now() + self._skew

        throttle = Throttle(
            clock=lambda: self.world.loop.now, sleep=self.world.loop.sleep, uniform=self.world.chance.uniform
        )
        queue = cast("QueueClient", self)

        def normalize(content: bytes, *_: float) -> NormalizedImage:
            self._pass_moment(may_lack=True)
            return normalize_image(content, SETTINGS.limits)

        tokens = AccessTokens(EverlastingTokens())
        platform = ITwinPlatform(SETTINGS.api_url, tokens, throttle, self, timeout_s=SETTINGS.timeout_s)
        ledger = open_ledger(storage, now, SETTINGS.timeout_s)
        return Services(
            results_container=RESULTS,
            storage=storage,
            results=ResultStore(storage, RESULTS),
            retries=RetryQueue(lambda: queue, now),
            app_or_problem=App(SETTINGS, throttle, platform, ledger, normalize, Admission(sys.maxsize)),
            clock=Clock(now, lambda: self.world.loop.now, self.world.loop.sleep),
            uniform=self.world.chance.uniform,
        )

    def request_storage(self, do: Callable[[], Any], has_condition: bool) -> Any:  # noqa: FBT001 - a callback
        """Ask storage for something. Raises AzureError where it refuses, and where it does not say that it was done."""
        self._pass_moment(storage_fails=True, has_condition=has_condition, may_lack=True)
        if has_condition:
            self._stand_still(self.world.next_write_held_up_s())
        if self.world.loop.now < self.world.storage_is_out_until:
            self._storage_fails()
        answer = do()
        self._pass_moment(storage_fails=True, has_condition=has_condition)
        return answer

    def send_message(self, text: str, *, visibility_timeout: int, **_: object) -> None:
        """Put a message into the retry queue, as the SDK's client does."""
        self.request_storage(partial(self.world.send, text, visibility_timeout), has_condition=False)

    def send(
        self,
        method: str,  # noqa: ARG002 - as the real client's
        url: str,  # noqa: ARG002
        *,
        deadline: float,  # noqa: ARG002
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
    ) -> Response:
        """Upload the image, as the app's HTTP client does. Raises NoResponse where no answer comes."""
        image = body
        world, answer, began = self.world, self.world.next_answer(), self.world.loop.now
        correlation_id = f"call {world.calls}"
        try:
            self._pass_moment()
            if answer.status == "crash":
                self._crash(STORAGE_GIVES_UP_S)
        except Crash:
            self._show_late(image, answer, began)
            raise
        if answer.status in (None, *HEARSAY):
            self._show_late(image, answer, began)
            world.loop.sleep(SETTINGS.timeout_s if answer.status is None else GATEWAY_S)
            if answer.status is None:
                raise NoResponse("It did not respond in time.", "time", may_have_arrived=True)
        world.show(image, answer.status or 201, correlation_id)
        headers = {"x-correlation-id": correlation_id, "retry-after": "7"}
        self._pass_moment()
        return Response(answer.status or 201, headers, BODIES.get(answer.status, b'{"image": {"id": "x"}}'))

    def _show_late(self, image: bytes, answer: Answer, began: float) -> None:
        if answer.late_s is not None:
            loop = self.world.loop
            loop.at(max(loop.now, began + answer.late_s), partial(self.world.show, image))

    def _pass_moment(self, *, storage_fails: bool = False, has_condition: bool = False, may_lack: bool = False) -> None:
        """Let others go on, and strike if it is time."""
        if self._is_dead:
            raise Crash
        world, number = self.world, self.world.moments
        world.moments += 1
        self._moments += 1
        world.loop.sleep(STEP_S)
        strike = world.fate.strikes.get(number, Strike("pause", 0))
        is_doomed = self._moments == world.fate.doomed.get(self._message.number)
        if strike.kind == "crash" or (is_doomed and self._message.deliveries <= MAX_DELIVERIES):
            self._crash(strike.seconds or STORAGE_GIVES_UP_S)
        if strike.kind == "pause":
            self._stand_still(strike.seconds)
        if strike.kind == "outage":
            world.storage_is_out_until = world.loop.now + strike.seconds
        if strike.kind == "busy" and storage_fails:
            self._storage_fails()
        if strike.kind == "lacking" and may_lack:
            world.mishaps += 1
            raise LACKS[number % len(LACKS)]
        if strike.kind == "condition not met" and has_condition:
            world.mishaps += 1
            raise storage_error(412)

    def _crash(self, back_after_s: float) -> NoReturn:
        self._is_dead = True
        self.back_after_s = back_after_s
        self.world.mishaps += 1
        raise Crash

    def _stand_still(self, seconds: float) -> None:
        pause_s = min(seconds, self._patience_s)
        self._patience_s -= pause_s
        if pause_s:
            self.world.mishaps += 1
            self.world.loop.sleep(pause_s)

    def _storage_fails(self) -> NoReturn:
        self.world.mishaps += 1
        self.world.loop.sleep(STORAGE_GIVES_UP_S)
        raise storage_error(503)
