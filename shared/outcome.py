"""How an attempt ended: what is known about it, its result, the message of the next one, and its line in the log."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

from azure.core.exceptions import AzureError

from shared.deadline import ENDING_S, Stopwatch, bounded
from shared.decisions import retry_delay_s
from shared.errors import DropError, ResourcesExhausted, is_exhaustion
from shared.records import NOTHING, Recorded
from shared.results import Result
from shared.storage import storage_error

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from shared.attempt import Attempt
    from shared.clock import Clock
    from shared.drop import SourceFacts
    from shared.itwin_platform import UploadedImage
    from shared.results import ImageFacts, Superseded
    from shared.services import Services

T = TypeVar("T")

log = logging.getLogger("itwin_image_drop")

LEVELS = {"uploaded": logging.INFO, "superseded": logging.INFO, "failed": logging.ERROR}

# The pauses between tries to record how an attempt ended, while storage refuses it.
HOLD_S = (1.0, 2.0, 4.0, 8.0, 15.0)


@dataclass(frozen=True)
class Known:
    """What is known about an attempt so far; its result contains all of it.

    `is_dated` is true once storage has told the time. Until then nothing is late: the machine's own clock may be hours
    off.
    """

    attempt: Attempt
    invocation_id: str
    started_at: datetime
    stopwatch: Stopwatch
    is_dated: bool = False
    recorded: Recorded = NOTHING
    source: SourceFacts | None = None
    image: ImageFacts | None = None

    @classmethod
    def at_first(cls, attempt: Attempt, services: Services, invocation_id: str) -> Known:
        """Return what is known when an attempt begins."""
        return cls(attempt, invocation_id, services.clock.now(), Stopwatch(services.clock))

    def dated(self, now: datetime) -> Known:
        """Return this with storage's time, now that it has responded."""
        return self if self.is_dated else self.plus(attempt=self.attempt.begun_by(now), started_at=now, is_dated=True)

    def plus(self, **facts: Any) -> Known:
        """Return this with further facts."""
        return replace(self, **facts)

    def ended(
        self,
        verdict: UploadedImage | Superseded | DropError,
        finished_at: datetime,
        next_attempt_at: datetime | None = None,
    ) -> Outcome:
        """Return the outcome of the attempt, given its verdict."""
        facts = self.attempt, self.recorded, self.source, self.image
        document = Result(*facts, verdict, self.started_at, finished_at, next_attempt_at).document()
        return Outcome(self, document)


@dataclass(frozen=True)
class Outcome:
    """What to publish about an attempt.

    `error` is the app's own name for what failed, and `cause` the name of the exception behind it, which only concerns
    the operator. The exceptions themselves are not kept: their tracebacks would keep the file in memory.
    """

    known: Known
    document: dict[str, Any]
    error: str | None = None
    cause: str | None = None

    @property
    def status(self) -> str:
        """The result's status."""
        return str(self.document["status"])

    def after(self, error: DropError) -> Outcome:
        """Return this with the names of the error and its cause."""
        cause = type(error.__cause__).__name__ if error.__cause__ else None
        return replace(self, error=error.code, cause=cause)

    def log(self) -> None:
        """Write one line of JSON, without any URL or image data.

        `code` is the code in the result, which may be the platform's own; `error` is the app's name for it.
        """
        known, document = self.known, self.document
        response = document.get("response") or {}
        fields = {
            "itwin": known.attempt.drop.container,
            "blob": known.attempt.drop.blob,
            "etag": document["source"]["etag"],
            "status": self.status,
            "error": self.error,
            "code": (document.get("error") or {}).get("code"),
            "reason": document.get("reason"),
            "cause": self.cause,
            "changes": (document.get("sent") or {}).get("changes"),
            "attempts": document.get("attempts"),
            "nextAttemptAt": document.get("nextAttemptAt"),
            "httpStatus": response.get("httpStatus"),
            "correlationId": response.get("correlationId"),
            "invocationId": known.invocation_id,
            "timingsS": known.stopwatch.read(),
        }
        log.log(LEVELS.get(self.status, logging.WARNING), "%s", json.dumps(fields))


def drop_error(error: DropError | AzureError | OSError | MemoryError) -> DropError:
    """Return what an exception means for a drop. Raises it again if that is unknown."""
    if isinstance(error, DropError):
        return error
    if isinstance(error, AzureError):
        found = storage_error(error)
    elif is_exhaustion(error):
        found = ResourcesExhausted("The instance ran out of memory, file descriptors or disk space.")
    else:
        raise error
    found.__cause__ = error
    return found


def postpone_or_end(known: Known, error: DropError, services: Services) -> Outcome:
    """Send the message for the next attempt, if there is one, and return what to publish."""
    known = known.plus(attempt=known.attempt.met(error, services.clock.now()))
    delay_s = _delay_s(known, error, services)
    next_attempt_at = None if delay_s is None else postpone(known.attempt, delay_s, known, services)
    now = services.clock.now()
    return known.dated(now).ended(error, now, next_attempt_at).after(error)


def postpone(attempt: Attempt, delay_s: float, known: Known, services: Services) -> datetime:
    """Schedule another attempt after the delay, and return its time.

    While storage refuses that, keep trying until the attempt's deadline: raising would use up one of the host's five
    attempts at once. Raises azure.core.exceptions.AzureError.
    """
    return retried(lambda: services.retries.postpone(attempt, delay_s), known.stopwatch, services.clock)


def retried(request: Callable[[], T], stopwatch: Stopwatch, clock: Clock) -> T:
    """Repeat a request to storage until it succeeds or time is short, also while this instance lacks something for it.

    Raises azure.core.exceptions.AzureError, OSError and MemoryError.
    """
    tries = 0
    while True:
        pause_s = HOLD_S[min(tries, len(HOLD_S) - 1)]
        try:
            with bounded(stopwatch.ends_at, clock.monotonic):
                return request()
        except (AzureError, OSError, MemoryError) as error:
            drop_error(error)  # raises what is unknown
            if clock.monotonic() + pause_s > stopwatch.deadline:
                raise
        clock.sleep(pause_s)
        tries += 1


def _delay_s(known: Known, error: DropError, services: Services) -> float | None:
    since = known.attempt.tried_since(error)
    is_told = known.is_dated and services.clock.is_told()
    elapsed_s = (services.clock.now() - since).total_seconds() if is_told else 0
    return retry_delay_s(error, known.attempt.number, elapsed_s, services.retry_policy, services.uniform)


def publish(outcome: Outcome, services: Services) -> None:
    """Write the result, and one line to the log; neither if a duplicate adds nothing to what is recorded.

    Raises azure.core.exceptions.AzureError if neither the result nor the message of another attempt can be written.
    """
    known, attempt = outcome.known, outcome.known.attempt
    try:
        until = min(services.clock.monotonic() + ENDING_S, known.stopwatch.ends_at)
        with bounded(until, services.clock.monotonic):
            written = services.results.write(
                attempt.drop, outcome.document, known.recorded, is_replay=attempt.is_replay
            )
        if not written and not attempt.is_replay:
            return
    except (DropError, AzureError, OSError, MemoryError) as error:
        failure = drop_error(error)
        log.warning("The result of %s/%s could not be written now.", attempt.drop.container, attempt.drop.blob)
        if outcome.status != "retrying":
            delay_s = _delay_s(known, failure, services)
            if delay_s is None:
                raise
            postpone(attempt, delay_s, known, services)
    outcome.log()
