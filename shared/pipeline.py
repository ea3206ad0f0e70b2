"""The story of a drop, top to bottom: read, take its turn, normalize, upload, write what came of it."""

from __future__ import annotations

import json
import logging
import random
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from azure.core.exceptions import AzureError

from shared.drop import Drop, read_source
from shared.errors import BlobNameRefused, Bug, DropError, DropGone, PlatformSilent
from shared.image import examine_image
from shared.ledger import Upload
from shared.results import Recorded, Result, Superseded
from shared.retries import MAX_DELAY_S, Attempt, retry_delay_s
from shared.storage import storage_error

if TYPE_CHECKING:
    from collections.abc import Iterator

    from shared.drop import Source
    from shared.image import NormalizedImage
    from shared.itwin_platform import UploadedImage
    from shared.ledger import Turn
    from shared.services import App, Services

log = logging.getLogger("itwin_image_drop")


@dataclass
class Progress:
    """What is known of an attempt so far; its result tells all of it."""

    attempt: Attempt
    invocation_id: str
    started_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    recorded: Recorded = field(default_factory=Recorded)
    source: Source | None = None
    image: NormalizedImage | None = None
    error: str | None = None
    cause: str | None = None
    timings_s: dict[str, float] = field(default_factory=dict)

    def note(self, error: DropError) -> None:
        """Keep the error's name and its cause's; the error itself would keep all of this in its traceback."""
        self.error = error.code
        self.cause = type(error.__cause__).__name__ if error.__cause__ else None

    def forget_file(self) -> None:
        """Let the file go now.

        Storage's errors, as those about results that are not there yet, are cycles that keep the frames of all their
        callers until the garbage is collected, which goes by the number of objects: a handful of files would fill the
        memory first.
        """
        if self.source:
            self.source.forget_content()

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Note how long the block takes."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.timings_s[stage] = round(time.perf_counter() - began, 3)

    def document(
        self, verdict: UploadedImage | Superseded | DropError, next_attempt_at: datetime | None = None
    ) -> dict[str, Any]:
        """Return the result as it stands; of a version that could not be read again, what is recorded of it.

        Where a blob has gone of which no version is known, the one that is recorded has gone with it.
        """
        attempt, recorded, now = self.attempt, self.recorded, datetime.now(UTC)
        result = Result(attempt, self.source, self.image, verdict, self.started_at, now, next_attempt_at)
        document = result.document()
        is_gone = attempt.etag is None and isinstance(verdict, DropGone)
        if self.source is None and recorded.etag and (is_gone or attempt.etag == recorded.etag):
            source = document["source"]
            source.update({name: value for name, value in recorded.source.items() if name in source})
        return document


def process_drop(attempt: Attempt, services: Services, *, invocation_id: str = "") -> None:
    """Take a drop to its iTwin and write its result, or have it tried again later.

    Raises azure.core.exceptions.AzureError where storage lets neither be written down: then the host tries again.
    """
    drop = attempt.drop
    if drop.is_reserved(services.results_container) or drop.is_housekeeping():
        return
    progress = Progress(attempt, invocation_id)
    try:
        document = _take_to_itwin(progress, services)
    except DropError as error:
        document = _postpone_or_end(progress, error, services)
    except AzureError as error:
        document = _postpone_or_end(progress, storage_error(error), services)
    progress.forget_file()
    if document:
        _publish(progress, document, services)


def _take_to_itwin(progress: Progress, services: Services) -> dict[str, Any] | None:
    """Return the final result; None where there is nothing to say. Raises DropError and AzureError."""
    drop = progress.attempt.drop
    progress.recorded = services.results.read(drop)
    app = services.app
    app.throttle.check()
    source = _read(progress, services, max_bytes=app.settings.max_source_bytes if drop.names_an_itwin() else 0)
    if source is None or source.is_directory_marker():
        return None
    if progress.attempt.again and progress.attempt.etag not in (None, source.version.etag):
        return None  # overwritten since; the later version has its own event
    progress.source = source
    progress.attempt = attempt = progress.attempt.of_version(source.version, progress.started_at)

    itwin_id = drop.itwin_id
    entry = app.ledger.read(itwin_id)
    up = entry.upload
    if up and source.version.ties_with(up.version) and not _is_still_there(source, drop, services):
        return None  # overwritten since; the later version has its own event
    if up and up.supersedes(source.version):
        return progress.document(Superseded(up))
    if up and up.version == source.version and not attempt.again:
        return dict(up.document)
    entry.check_free(source.version, datetime.now(UTC), timedelta(seconds=app.settings.retries.min_delay_s))

    progress.image = _normalize(source.content(), progress, app)
    app.throttle.wait()
    with app.ledger.turn(itwin_id, entry) as turn:
        try:
            with progress.timed("upload"):
                uploaded = app.platform.upload_image(itwin_id, progress.image)
        except PlatformSilent:
            turn.leave_in_doubt(source.version)
            raise
        document = progress.document(uploaded)
        _write_down(turn, Upload(source.version, datetime.now(UTC), document), progress, services)
    return document


def _read(progress: Progress, services: Services, *, max_bytes: int) -> Source | None:
    """Return the version that storage has; None where nothing is left to do for it."""
    attempt = progress.attempt
    settled = settled_etag(attempt, progress.recorded, progress.started_at)
    try:
        with progress.timed("read"):
            return read_source(services.storage, attempt.drop, max_bytes=max_bytes, unless_etag=settled)
    except DropGone:
        if not (attempt.again and progress.recorded.is_final):
            raise
        log.warning("%s/%s could not be done again: it was deleted.", attempt.drop.container, attempt.drop.blob)
        return None  # what it ended as stays true


def settled_etag(attempt: Attempt, recorded: Recorded, now: datetime) -> str | None:
    """Return the version of which nothing is left to do for this attempt.

    It has its final result, or a message is on its way that makes another attempt than this one.
    """
    if attempt.again:
        return None
    is_another = attempt.number <= recorded.attempts or attempt.etag != recorded.etag
    left_s = (recorded.next_attempt_at - now).total_seconds() if recorded.next_attempt_at else 0
    waiting = is_another and 0 < left_s < MAX_DELAY_S  # no message waits longer: somebody damaged it
    return recorded.etag if recorded.is_final or waiting else None


def _normalize(content: bytes, progress: Progress, app: App) -> NormalizedImage:
    limits = app.settings.limits
    with progress.timed("examine"):
        examined = examine_image(content, limits)
    with app.admission.admit(len(content) + examined.peak_bytes), progress.timed("normalize"):
        return examined.normalize()


def _is_still_there(source: Source, drop: Drop, services: Services) -> bool:
    return read_source(services.storage, drop, max_bytes=0, unless_etag=source.version.etag) is None


def _write_down(turn: Turn, upload: Upload, progress: Progress, services: Services) -> None:
    """Record what is up, and have it sent once more when no other image can come to lie over it any longer.

    It is up, whatever fails from here on; so where it cannot be recorded, it is sent once more as well.
    """
    once_more = Attempt.once_more(progress.attempt.drop, upload.version)
    try:
        if in_doubt_until := turn.entry.in_doubt_until(upload.version):
            services.retries.postpone(once_more, (in_doubt_until - upload.at).total_seconds())
        turn.record(upload)
    except AzureError as error:
        where = progress.attempt.drop.container, progress.attempt.drop.blob, type(error).__name__
        log.warning("%s/%s is up, but that could not be recorded (%s); it is sent once more.", *where)
        services.retries.postpone(once_more, services.retry_policy.min_delay_s)


def _postpone_or_end(progress: Progress, error: DropError, services: Services) -> dict[str, Any]:
    """Send the message that makes the next attempt, where there is one, and return the result."""
    progress.note(error)
    delay_s = _delay_s(progress, error, services)
    next_attempt_at = None if delay_s is None else services.retries.postpone(progress.attempt, delay_s)
    return progress.document(error, next_attempt_at)


def _delay_s(progress: Progress, error: DropError, services: Services) -> float | None:
    attempt = progress.attempt
    elapsed_s = (datetime.now(UTC) - attempt.first_at).total_seconds()
    return retry_delay_s(error, attempt.number, elapsed_s, services.retry_policy, random.uniform)


def _publish(progress: Progress, document: dict[str, Any], services: Services) -> None:
    """Write the result, and one line to the log; neither where a duplicate has nothing to add to what is recorded."""
    attempt = progress.attempt
    try:
        written = services.results.write(attempt.drop, document, progress.recorded, again=attempt.again)
        if not written and not attempt.again:
            return
    except AzureError as error:
        log.warning("The result of %s/%s could not be written now.", attempt.drop.container, attempt.drop.blob)
        if document["status"] != "retrying":
            delay_s = _delay_s(progress, storage_error(error), services)
            if delay_s is None:
                raise
            services.retries.postpone(attempt, delay_s)
    level = {"uploaded": logging.INFO, "superseded": logging.INFO, "failed": logging.ERROR}
    entry = _log_entry(progress, document)
    log.log(level.get(document["status"], logging.WARNING), "%s", json.dumps(entry))


def _log_entry(progress: Progress, document: dict[str, Any]) -> dict[str, object]:
    """Return one line's fields: no URL and nothing of the image; the cause is the operator's business alone.

    `code` is what the result says, which may be the platform's own; `error` is the app's name for it.
    """
    response = document.get("response") or {}
    total_s = (datetime.now(UTC) - progress.started_at).total_seconds()
    return {
        "itwin": progress.attempt.drop.container,
        "blob": progress.attempt.drop.blob,
        "etag": document["source"]["etag"],
        "status": document["status"],
        "error": progress.error,
        "code": (document.get("error") or {}).get("code"),
        "reason": document.get("reason"),
        "cause": progress.cause,
        "changes": (document.get("sent") or {}).get("changes"),
        "attempts": document.get("attempts"),
        "nextAttemptAt": document.get("nextAttemptAt"),
        "httpStatus": response.get("httpStatus"),
        "correlationId": response.get("correlationId"),
        "invocationId": progress.invocation_id,
        "timingsS": {**progress.timings_s, "total": round(total_s, 3)},
    }


def bury_drop(attempt: Attempt, services: Services, *, invocation_id: str = "") -> None:
    """Write the result of a drop on which the app failed so often that the host gave it up."""
    drop = attempt.drop
    if drop.is_reserved(services.results_container):
        return
    progress = Progress(attempt, invocation_id)
    try:
        document = _last_word(progress, services)
    except AzureError as error:
        document = _postpone_or_end(progress, storage_error(error), services)
    if document:
        _publish(progress, document, services)


def _last_word(progress: Progress, services: Services) -> dict[str, Any] | None:
    """Return that the drop failed, or that it did not: the crash may have come after the upload."""
    attempt = progress.attempt
    progress.recorded = services.results.read(attempt.drop)
    with suppress(DropGone, BlobNameRefused):
        progress.source = source = _read(progress, services, max_bytes=0)
        if source is None or attempt.etag not in (None, source.version.etag):
            return None  # it has ended or is waiting; or it is a later version, which has its own event
        progress.attempt = attempt = attempt.of_version(source.version, progress.started_at)
        with suppress(DropError):
            up = services.app.ledger.read(attempt.drop.itwin_id).upload
            is_up = up is not None and up.version == source.version
            was_up = progress.recorded.status == "uploaded" and progress.recorded.etag == source.version.etag
            if (is_up or was_up) and _is_sent_later(progress, services):
                return None
            if up and is_up:
                return dict(up.document)
    bug = Bug("The app failed on this drop again and again, and it was given up: see the log. Drop the image again.")
    progress.note(bug)
    return progress.document(bug)


def _is_sent_later(progress: Progress, services: Services) -> bool:
    """Go on with what is to be sent once more: an older image may lie over it, whatever kept the app from doing so."""
    attempt, policy = progress.attempt, services.retry_policy
    if not attempt.again or (progress.started_at - attempt.first_at).total_seconds() > policy.horizon_s:
        return False
    log.error("%s/%s could not be sent once more; that is tried again.", attempt.drop.container, attempt.drop.blob)
    services.retries.postpone(attempt, policy.max_delay_s)
    return True
