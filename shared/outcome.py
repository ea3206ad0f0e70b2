"""What is known of an attempt, how it ended, and the one line that the log has of it."""

from __future__ import annotations

import json
import logging
import time
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from shared.results import Recorded, Result

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from shared.drop import SourceFacts
    from shared.errors import DropError
    from shared.itwin_platform import UploadedImage
    from shared.results import ImageFacts, Superseded
    from shared.retries import Attempt

log = logging.getLogger("itwin_image_drop")

NOTHING = Recorded()
LEVELS = {"uploaded": logging.INFO, "superseded": logging.INFO, "failed": logging.ERROR}


class Stopwatch:
    """How long the stages of an attempt take, seconds."""

    def __init__(self) -> None:
        self._began = time.perf_counter()
        self._stages: dict[str, float] = {}

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Note how long the block takes."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self._stages[stage] = round(time.perf_counter() - began, 3)

    def read(self) -> dict[str, float]:
        """Return each stage's time, and the total until now."""
        return {**self._stages, "total": round(time.perf_counter() - self._began, 3)}


@dataclass(frozen=True)
class Known:
    """What is known of an attempt so far; its result tells all of it."""

    attempt: Attempt
    invocation_id: str
    started_at: datetime
    stopwatch: Stopwatch
    recorded: Recorded = NOTHING
    source: SourceFacts | None = None
    image: ImageFacts | None = None

    def plus(self, **facts: Any) -> Known:
        """Return this with what was learnt since."""
        return replace(self, **facts)

    def ended(
        self,
        verdict: UploadedImage | Superseded | DropError,
        finished_at: datetime,
        next_attempt_at: datetime | None = None,
    ) -> Outcome:
        """Return how the attempt ended, by its verdict."""
        facts = self.attempt, self.recorded, self.source, self.image
        document = Result(*facts, verdict, self.started_at, finished_at, next_attempt_at).document()
        return Outcome(self, document)


@dataclass(frozen=True)
class Outcome:
    """What is to be published of an attempt.

    `error` is the app's own name for what failed, and `cause` that of the exception behind it, which is the operator's
    business alone. The exceptions themselves would keep the file in memory, in their tracebacks.
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
        """Return this with the names of what failed."""
        cause = type(error.__cause__).__name__ if error.__cause__ else None
        return replace(self, error=error.code, cause=cause)

    def log(self) -> None:
        """Write one line of JSON: no URL and nothing of the image.

        `code` is what the result says, which may be the platform's own; `error` is the app's name for it.
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
