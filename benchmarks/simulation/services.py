"""Storage and the platform as one process of the app sees them: requests that take time, fail, and are counted."""

from __future__ import annotations

import math
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

from azure.core.exceptions import AzureError, HttpResponseError, ResourceNotModifiedError

from local.itwin_platform.rate_limit import RateLimit
from shared.admission import Admission
from shared.drop import Drop, Version
from shared.errors import DropError, ITwinBusy, PlatformSilent
from shared.itwin_platform import ITwinPlatform, UploadedImage, decipher_response
from shared.ledger import SOMEBODY, Entry, Ledger, Upload
from shared.results import FINAL, Recorded, may_replace
from shared.retries import RetryQueue
from shared.services import DOUBT_TIMEOUTS, TURN_MARGIN_S, App, Services
from shared.settings import Settings
from shared.throttle import Throttle

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from azure.storage.blob import BlobServiceClient
    from azure.storage.queue import QueueClient

    from benchmarks.simulation.instances import Process
    from benchmarks.simulation.run import World
    from shared.credentials import AccessTokens
    from shared.image import NormalizedImage

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
SETTINGS = Settings.from_environ(
    {"DropStorage": "UseDevelopmentStorage=true", "ITWIN_TOKEN_SCOPE": "api://simulated/.default"}
)

# Assumed, seconds: a storage request; an upload of some 2 MB (median and spread of a log-normal distribution).
STORAGE_S = (0.005, 0.02)
UPLOAD_S, UPLOAD_SPREAD = 0.8, 0.4
# What the SDK spends on its own tries before the app hears of a failure.
STORAGE_GIVES_UP_S = 10.0
# How long the platform may still work on a call whose caller has gone.
LATE_S = 200.0
TURN_S = SETTINGS.timeout_s + TURN_MARGIN_S
DOUBT_LASTS = timedelta(seconds=DOUBT_TIMEOUTS * SETTINGS.timeout_s)

HOUR_S = 3600


class Crash(BaseException):
    """The process is gone: nothing of it may go on."""


def version_of(world: World, index: int) -> Version:
    """Return what storage says of a drop. The order of the indices is that of the writing."""
    written_at = EPOCH + timedelta(seconds=math.floor(world.scenario.written_at(index)))
    return Version(written_at, f"0x{index:08X}", f"{index}.jpg")


def drop_of(world: World, index: int) -> Drop:
    """Return the drop of an index."""
    return Drop(f"{world.scenario.itwin(index):08x}-0000-4000-8000-000000000000", f"{index}.jpg")


def index_of(drop: Drop) -> int:
    """Return the index of a drop."""
    return int(drop.blob[:-4])


def open_services(process: Process) -> Services:
    """Put together what a process of the app has."""
    throttle = Throttle(clock=process.world.clock, sleep=process.sleep)
    app = App(SETTINGS, throttle, Platform(process, throttle), cast("Ledger", SimulatedLedger(process)), Admission())
    services = SimpleNamespace(
        results_container=SETTINGS.storage.results_container,
        storage=cast("BlobServiceClient", Drops(process)),
        results=Results(process),
        retries=RetryQueue(cast("QueueClient", Queue(process))),
        retry_policy=SETTINGS.retries,
        app=app,
    )
    return cast("Services", services)


@dataclass(frozen=True)
class Drops:
    """The blobs that were dropped; their content is their index."""

    process: Process

    def get_blob_client(self, container: str, blob: str) -> Drops.Blob:  # noqa: ARG002 - the name says it all
        """Return what reads the blob."""
        return Drops.Blob(self.process, blob)

    @dataclass(frozen=True)
    class Blob:
        """One of them."""

        process: Process
        name: str

        def download_blob(self, *, etag: str | None = None, **_: object) -> Any:
            """Read it, unless it still is of the version `etag`."""
            self.process.request_storage()
            version = version_of(self.process.world, int(self.name[:-4]))
            if etag == f'"{version.etag}"':
                raise ResourceNotModifiedError
            properties = SimpleNamespace(last_modified=version.last_modified, etag=version.etag, metadata={})
            return SimpleNamespace(readall=self.name[:-4].encode, properties=properties)


@dataclass(frozen=True)
class Results:
    """The results container; of each document only what decides is kept."""

    process: Process

    def read(self, drop: Drop) -> Recorded:
        """Return what is recorded of the drop."""
        self.process.request_storage()
        return self._recorded(drop)

    def _recorded(self, drop: Drop) -> Recorded:
        world = self.process.world
        kept = world.results[index_of(drop)]
        if kept is None:
            return Recorded()
        status, attempts, next_attempt_at, is_of_version, tag = kept
        version = version_of(world, index_of(drop))
        source = {
            "container": drop.container,
            "blob": drop.blob,
            "etag": version.etag if is_of_version else None,
            "lastModified": version.last_modified.isoformat() if is_of_version else None,
        }
        document = {"status": status, "source": source, "attempts": attempts, "nextAttemptAt": next_attempt_at}
        return Recorded(document, str(tag))

    def write(self, drop: Drop, document: Mapping[str, Any], recorded: Recorded, *, again: bool = False) -> bool:
        """Write the document over what is `recorded`, as the real one does."""
        world, new = self.process.world, Recorded(document)
        while may_replace(recorded, new, again=again):
            self.process.request_storage()
            there = self._recorded(drop)
            if there.tag != recorded.tag:
                recorded = self.read(drop)
                continue
            kept = (new.status, new.attempts, document["nextAttemptAt"], new.etag is not None, int(there.tag or 0) + 1)
            world.results[index_of(drop)] = kept
            if new.is_final and there.status not in FINAL:
                world.note_end(index_of(drop), str(new.status))
            return True
        return False


@dataclass(frozen=True)
class Queue:
    """The retry queue, as a sender sees it."""

    process: Process

    def send_message(self, text: str, *, visibility_timeout: int, **_: object) -> None:
        """Have a message delivered after a while."""
        self.process.request_storage()
        self.process.world.instances.send(text, visibility_timeout)


@dataclass
class Kept:
    """What the ledger's blob of an iTwin holds, and who leases it until when."""

    tag: int = 0
    index: int = -1
    uploaded_at: float = 0
    attempts: int = 0
    doubts: Mapping[str, datetime] = field(default_factory=dict)
    holder: object = None
    until: float = 0


@dataclass(frozen=True)
class SimulatedLedger:
    """The ledger container."""

    process: Process

    def read(self, itwin_id: str) -> Entry:
        """Return what is known of the iTwin."""
        self.process.request_storage()
        world = self.process.world
        kept = world.ledger.get(itwin_id)
        if kept is None:
            return Entry()
        now = EPOCH + timedelta(seconds=world.loop.now)
        is_taken = kept.holder is not None and world.loop.now < kept.until
        doubts = {etag: until for etag, until in kept.doubts.items() if until > now}
        if kept.holder is not None and not is_taken:
            doubts[SOMEBODY] = now + DOUBT_LASTS
        upload = None
        if kept.index >= 0:
            version = version_of(world, kept.index)
            source = {"blob": version.blob, "etag": version.etag, "lastModified": version.last_modified.isoformat()}
            document = {"status": "uploaded", "source": source, "attempts": kept.attempts, "nextAttemptAt": None}
            upload = Upload(version, EPOCH + timedelta(seconds=kept.uploaded_at), document)
        return Entry(upload, is_taken, str(kept.tag), doubts, read_at=world.loop.now)

    @contextmanager
    def turn(self, itwin_id: str, entry: Entry) -> Iterator[SimulatedTurn]:
        """Lease the blob, unless it is another than that of `entry`."""
        world = self.process.world
        if world.loop.now - entry.read_at > TURN_S:
            entry, known = self.read(itwin_id), entry
            if entry.tag != known.tag:
                raise ITwinBusy("Another image was uploaded to this iTwin meanwhile.")
        kept = world.ledger.get(itwin_id)
        if entry.tag is None:
            self.process.request_storage()
            kept = world.ledger.get(itwin_id)
            if kept is not None:
                raise ITwinBusy("Another image is being uploaded to this iTwin.")
            kept = world.ledger[itwin_id] = Kept()
        self.process.request_storage()
        assert kept is not None  # noqa: S101 - a tag is that of a blob
        if str(kept.tag) != (entry.tag or "0") or (kept.holder is not None and world.loop.now < kept.until):
            raise ITwinBusy("Another image is being uploaded to this iTwin.")
        turn = SimulatedTurn(self.process, kept, entry)
        kept.holder, kept.until = turn, world.loop.now + TURN_S
        try:
            if SOMEBODY in entry.doubts:
                turn.keep_doubts()
            yield turn
        except (AzureError, Crash):
            raise
        except DropError:
            turn.give_back()
            raise
        turn.give_back()


@dataclass(frozen=True, eq=False)
class SimulatedTurn:
    """The turn on an iTwin, while it lasts."""

    process: Process
    kept: Kept
    entry: Entry

    def record(self, upload: Upload) -> None:
        """Write down what is up now."""
        self._write(self.entry.doubts)
        self.kept.index = int(upload.version.blob[:-4])
        self.kept.uploaded_at = (upload.at - EPOCH).total_seconds()
        self.kept.attempts = upload.document["attempts"]

    def leave_in_doubt(self, version: Version) -> None:
        """Write down that nobody knows whether the version is up."""
        now = EPOCH + timedelta(seconds=self.process.world.loop.now)
        self._write({**self.entry.doubts, version.etag: now + DOUBT_LASTS})

    def keep_doubts(self) -> None:
        """Write down what is in doubt as yet."""
        self._write(self.entry.doubts)

    def _write(self, doubts: Mapping[str, datetime]) -> None:
        self.process.request_storage()
        if self.kept.holder is not self or self.process.world.loop.now >= self.kept.until:
            raise storage_failure(412)
        self.kept.tag += 1
        self.kept.doubts = doubts

    def give_back(self) -> None:
        """End the turn."""
        self.process.request_storage(may_fail=False)
        if self.kept.holder is self:
            self.kept.holder = None


class Tokens:
    """Access tokens, always good."""

    def get(self) -> str:
        """Return one."""
        return "token"

    def renew(self, rejected: str) -> str:
        """Return another."""
        return rejected


class Platform(ITwinPlatform):
    """The real client, whose call goes to the simulated platform."""

    def __init__(self, process: Process, throttle: Throttle) -> None:
        super().__init__(SETTINGS.api_url, cast("AccessTokens", Tokens()), throttle, timeout_s=SETTINGS.timeout_s)
        self._process = process

    def _put(self, itwin_id: str, image: NormalizedImage, token: str, deadline: float) -> UploadedImage | DropError:  # noqa: ARG002 - as the real one
        return self._process.world.platform.answer(self._process, int(image.data))


class SimulatedPlatform:
    """The iTwin Platform: one limit for all who call, and the image that each iTwin shows."""

    def __init__(self, world: World) -> None:
        self._world = world
        limit = world.scenario.calls_per_minute
        self._limit = RateLimit(
            requests_per_minute=limit,
            requests_per_hour=world.scenario.calls_per_hour or 60 * limit,
            clock=world.clock,
        )
        self.shown: dict[int, int] = {}

    def answer(self, process: Process, index: int) -> UploadedImage | DropError:
        """Answer the upload of a drop. Raises PlatformSilent where no answer comes."""
        world = self._world
        chance, faults, tally = world.chance, world.scenario.faults, world.tally
        tally.calls += 1
        takes_s = chance.lognormvariate(math.log(UPLOAD_S), UPLOAD_SPREAD)
        try:
            process.sleep(takes_s * 0.75)
        except Crash:
            if chance.random() < 0.5:  # noqa: PLR2004 - it had got the whole image, or had not
                self._show_late(index)
            raise
        minute = int(world.loop.now // 60)
        retry_after_s = self._limit.count("the app")
        if retry_after_s is not None:
            tally.refused += 1
            tally.refused_in[minute] += 1
            return decipher_response(429, {"Retry-After": str(retry_after_s)}, b"")
        tally.passed_in[minute] += 1
        fate = chance.random()
        if fate < faults.unavailable or faults.is_out(world.loop.now):
            return decipher_response(503, {}, b"")
        if fate < faults.unavailable + faults.silent:
            if chance.random() < 0.5:  # noqa: PLR2004 - the call was lost, or its answer
                self._show_late(index)
            process.sleep(SETTINGS.timeout_s - takes_s * 0.75)
            raise PlatformSilent("The iTwin Platform did not answer in time.")
        self._show(index)
        process.sleep(takes_s * 0.25)
        return decipher_response(201, {}, b'{"image": {"id": "x"}}')

    def _show_late(self, index: int) -> None:
        loop = self._world.loop
        loop.at(loop.now + self._world.chance.uniform(0, LATE_S), partial(self._show, index))

    def _show(self, index: int) -> None:
        world = self._world
        itwin = world.scenario.itwin(index)
        world.tally.uploads += 1
        if index == self.shown.get(itwin):
            world.tally.repeated += 1
        elif index < world.scenario.newest(itwin, world.loop.now):
            world.tally.outdated += 1
        self.shown[itwin] = index


def storage_failure(status: int = 503) -> HttpResponseError:
    """Return what the SDK raises when its own tries were in vain."""
    error = HttpResponseError(f"Simulated: {status}.")
    error.status_code = status
    return error
