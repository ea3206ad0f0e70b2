"""Storage and the platform as one process of the app sees them: requests take time, may fail, and are counted."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, cast

from benchmarks.simulation.storage import BlobService
from local.itwin_platform.rate_limit import RateLimit
from shared.admission import Admission
from shared.clock import Clock
from shared.credentials import AccessTokens, Token
from shared.drop import Drop, Version
from shared.http_client import NoResponse, Response
from shared.itwin_platform import ITwinPlatform
from shared.results import ResultStore
from shared.retries import RetryQueue
from shared.services import App, Services, open_ledger
from shared.settings import Settings
from shared.throttle import Throttle

if TYPE_CHECKING:
    from collections.abc import Mapping

    from azure.storage.blob import BlobServiceClient
    from azure.storage.queue import QueueClient

    from benchmarks.simulation.instances import Process
    from benchmarks.simulation.run import World

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
SETTINGS = Settings.from_environ(
    {
        "DropStorage": "UseDevelopmentStorage=true",
        "ITWIN_LOGIN": "gateway",
        "ITWIN_API_URL": "https://gateway.example",
        "ITWIN_TOKEN_SCOPE": "api://simulated/.default",
    }
)

RESULTS = SETTINGS.storage.results_container

# Assumed, seconds: a storage request; an upload of some 2 MB (median and spread of a log-normal distribution).
STORAGE_S = (0.005, 0.02)
UPLOAD_S, UPLOAD_SPREAD = 0.8, 0.4
# The time that the SDK spends on its own retries before the app sees a failure.
STORAGE_GIVES_UP_S = 10.0
UNAVAILABLE = b'{"error": {"code": "ServiceUnavailable", "message": "Try again later."}}'
# How long the platform may still process a call whose caller has gone.
LATE_S = 200.0

HOUR_S = 3600


class Crash(BaseException):
    """The process has crashed: none of its code may continue."""


def version_of(world: World, index: int) -> Version:
    """Return a drop's properties in storage. The indices are in the order of writing."""
    written_at = EPOCH + timedelta(seconds=math.floor(world.scenario.written_at(index)))
    return Version(written_at, f"0x{index:08X}", f"{index}.jpg")


def drop_of(world: World, index: int) -> Drop:
    """Return the drop with an index."""
    return Drop(f"{world.scenario.itwin(index):08x}-0000-4000-8000-000000000000", f"{index}.jpg")


def index_of(drop: Drop) -> int:
    """Return the index of a drop."""
    return int(drop.blob[:-4])


def open_services(process: Process) -> Services:
    """Put together the services of one app process: the app's own code, with storage in memory."""
    world = process.world
    storage = cast("BlobServiceClient", BlobService(world.account, process.request_storage))
    queue = cast("QueueClient", process)
    throttle = Throttle(clock=world.clock, sleep=process.sleep, uniform=world.chance.uniform)
    tokens = AccessTokens(EverlastingTokens())
    platform = ITwinPlatform(SETTINGS.api_url, tokens, throttle, Wire(process), timeout_s=SETTINGS.timeout_s)
    ledger = open_ledger(storage, world.now, SETTINGS.timeout_s)
    return Services(
        results_container=RESULTS,
        storage=storage,
        results=ResultStore(storage, RESULTS),
        retries=RetryQueue(lambda: queue, world.now),
        app_or_problem=App(SETTINGS, throttle, platform, ledger, process.normalize, Admission(sys.maxsize)),
        clock=Clock(world.now, world.clock, process.sleep),
        uniform=world.chance.uniform,
    )


class EverlastingTokens:
    """Access tokens that are always valid."""

    def fetch(self, _deadline: float, *, renew: bool) -> Token:  # noqa: ARG002 - as those of a real login
        """Return a token."""
        return Token("token", lifetime_s=1e9)


@dataclass(frozen=True)
class Wire:
    """Replaces the app's HTTP client."""

    process: Process

    def send(
        self,
        method: str,  # noqa: ARG002 - as the real client's
        url: str,  # noqa: ARG002
        *,
        deadline: float,  # noqa: ARG002
        headers: Mapping[str, str] | None = None,  # noqa: ARG002
        body: bytes = b"",
    ) -> Response:
        """Upload a drop's image. Raises NoResponse if there is none."""
        return self.process.world.platform.answer(self.process, int(body))


class SimulatedPlatform:
    """The iTwin Platform: one rate limit for all callers, and the image of each iTwin."""

    def __init__(self, world: World) -> None:
        self._world = world
        limit = world.scenario.calls_per_minute
        self._limit = RateLimit(
            requests_per_minute=limit,
            requests_per_hour=world.scenario.calls_per_hour or 60 * limit,
            clock=world.clock,
        )
        self.shown: dict[int, int] = {}

    def answer(self, process: Process, index: int) -> Response:
        """Respond to the upload of a drop. Raises NoResponse if there is no response."""
        world = self._world
        chance, faults, tally = world.chance, world.scenario.faults, world.tally
        tally.calls += 1
        takes_s = chance.lognormvariate(math.log(UPLOAD_S), UPLOAD_SPREAD)
        try:
            process.sleep(takes_s * 0.75)
        except Crash:
            if chance.random() < 0.5:  # noqa: PLR2004 - it had received the whole image, or not
                self._show_late(index)
            raise
        minute = int(world.loop.now // 60)
        retry_after_s = self._limit.count("the app")
        if retry_after_s is not None:
            tally.refused += 1
            tally.refused_in[minute] += 1
            return Response(429, {"retry-after": str(retry_after_s)}, b"")
        tally.passed_in[minute] += 1
        fate = chance.random()
        if fate < faults.unavailable or faults.is_out(world.loop.now):
            return Response(503, {}, UNAVAILABLE)
        if fate < faults.unavailable + faults.silent:
            if chance.random() < 0.5:  # noqa: PLR2004 - the call was lost, or its response
                self._show_late(index)
            process.sleep(SETTINGS.timeout_s - takes_s * 0.75)
            raise NoResponse("It did not respond in time.", "time", may_have_arrived=True)
        self._show(index)
        process.sleep(takes_s * 0.25)
        return Response(201, {}, b'{"image": {"id": "x"}}')

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
