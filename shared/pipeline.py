"""The story of a drop, top to bottom: gather what is known, decide, apply, publish."""

from __future__ import annotations

import logging
import time
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING

from azure.core.exceptions import AzureError

from shared.decisions import Action, decide, is_settled, retry_delay_s, unsettled_until, version_for
from shared.drop import read_source
from shared.errors import BlobNameRefused, Bug, DropError, DropGone, ITwinBusy
from shared.ledger import Upload
from shared.outcome import Known, Outcome, Stopwatch
from shared.results import ImageFacts, Superseded
from shared.retries import Attempt
from shared.storage import storage_error

if TYPE_CHECKING:
    from shared.drop import Source
    from shared.image import NormalizedImage
    from shared.ledger import Call, Entry
    from shared.services import App, Services

log = logging.getLogger("itwin_image_drop")


def process_drop(attempt: Attempt, services: Services, *, invocation_id: str = "") -> None:
    """Take a drop to its iTwin and write its result, or have it tried again later.

    Raises azure.core.exceptions.AzureError where storage lets neither be written down: then the host tries again.
    """
    drop = attempt.drop
    if drop.is_reserved(services.results_container) or drop.is_housekeeping():
        return
    now = services.now()
    attempt = attempt.begun_by(now)
    known, source, image = Known(attempt, invocation_id, now, Stopwatch()), None, None
    try:
        known = known.plus(recorded=services.results.read(drop))
        app = services.app()
        app.throttle.check()
        source = _read_unless_settled(known, services, app.settings.max_source_bytes)
        if source is None or source.facts.is_directory_marker():
            return
        version = version_for(attempt, source.facts.version, known.recorded)
        known = known.plus(attempt=attempt.at(version, known.started_at), source=source.facts)
        entry = app.ledger.read(drop.itwin_id)

        is_current = _is_current(source, entry, services)
        spacing = timedelta(seconds=app.settings.retries.min_delay_s)
        decision = decide(
            attempt, version, known.recorded, entry, is_current=is_current, now=services.now(), spacing=spacing
        )
        match decision.action, entry.upload:
            case Action.IGNORE, _:
                return
            case Action.SUPERSEDED, Upload() as newer:
                outcome = known.ended(Superseded(newer), services.now())
            case Action.REPEAT, Upload() as same:
                outcome = Outcome(known, dict(same.document))
            case Action.WAIT, _:
                message = "Another image is being uploaded to this iTwin, or was a moment ago."
                raise ITwinBusy(message, retry_after_s=decision.wait_s)
            case _:
                with known.stopwatch.timed("normalize"):
                    image = app.normalize(source.content())
                known = known.plus(image=ImageFacts.of(image, source))
                outcome = _upload(image, known, entry, app, services)
    except DropError as error:
        outcome = _postpone_or_end(known, error, services)
    except AzureError as error:
        outcome = _postpone_or_end(known, storage_error(error), services)
    finally:
        # Storage's errors, as that about a result that is not there yet, are cycles that keep the frames of all their
        # callers until the garbage is collected; by then a handful of files would have filled the memory.
        if source:
            source.release()
        image = None
    _publish(outcome, services)


def _read_unless_settled(known: Known, services: Services, max_bytes: int) -> Source | None:
    """Return the version that storage has; None where it is the recorded one, and nothing is left to do for it."""
    drop, recorded = known.attempt.drop, known.recorded
    settled = recorded.etag if is_settled(known.attempt, recorded, known.started_at) else None
    with known.stopwatch.timed("read"):
        return read_source(
            services.storage, drop, max_bytes=max_bytes if drop.names_an_itwin() else 0, unless_etag=settled
        )


def _is_current(source: Source, entry: Entry, services: Services) -> bool:
    """Ask storage whether it still has the version, where only storage can tell the later of two."""
    version, up = source.facts.version, entry.upload
    if not (up and version.ties_with(up.version)):
        return True
    return read_source(services.storage, source.drop, max_bytes=0, unless_etag=version.etag) is None


def _upload(image: NormalizedImage, known: Known, entry: Entry, app: App, services: Services) -> Outcome:
    """Note the upload in the ledger, send, and record what came of it. Raises DropError and AzureError."""
    itwin_id, version = known.attempt.drop.itwin_id, known.attempt.version
    assert version  # noqa: S101 - it has been read
    app.throttle.wait()
    app.platform.authorize(time.monotonic() + app.settings.timeout_s)
    call = app.ledger.begin(itwin_id, entry, version)
    try:
        with known.stopwatch.timed("upload"):
            uploaded = app.platform.upload_image(itwin_id, image, time.monotonic() + app.settings.timeout_s)
    except DropError as error:
        _record_failure(itwin_id, call, app, is_settled=error.is_settled)
        raise
    outcome = known.ended(uploaded, services.now())
    upload = Upload(version, services.now(), outcome.document)
    _record_upload(call, upload, known, services, is_settled=not uploaded.response.resent)
    return outcome


def _record_failure(itwin_id: str, call: Call, app: App, *, is_settled: bool) -> None:
    try:
        app.ledger.record_failure(itwin_id, call, is_settled=is_settled)
    except AzureError as error:
        log.warning("The end of a call for %s could not be recorded (%s).", itwin_id, type(error).__name__)


def _record_upload(call: Call, upload: Upload, known: Known, services: Services, *, is_settled: bool) -> None:
    """Record what is up, and have it sent again when no other image can come to be shown over it any longer.

    It is up, whatever fails from here on; so where it cannot be recorded, it is sent again as well.
    """
    drop = known.attempt.drop
    resend = Attempt.replay(drop, services.now(), upload.version)
    try:
        if until := unsettled_until(upload.version, call.noted):
            services.retries.postpone(resend, (until - upload.at).total_seconds())
        services.app().ledger.record_upload(drop.itwin_id, call, upload, is_settled=is_settled)
    except AzureError as error:
        where = drop.container, drop.blob, type(error).__name__
        log.warning("%s/%s is up, but that could not be recorded (%s); it is sent again.", *where)
        services.retries.postpone(resend, services.retry_policy.min_delay_s)


def _postpone_or_end(known: Known, error: DropError, services: Services) -> Outcome:
    """Send the message that makes the next attempt, where there is one, and return what to publish."""
    delay_s = _delay_s(known, error, services)
    next_attempt_at = None if delay_s is None else services.retries.postpone(known.attempt, delay_s)
    return known.ended(error, services.now(), next_attempt_at).after(error)


def _delay_s(known: Known, error: DropError, services: Services) -> float | None:
    elapsed_s = (services.now() - known.attempt.first_at).total_seconds()
    return retry_delay_s(error, known.attempt.number, elapsed_s, services.retry_policy, services.uniform)


def _publish(outcome: Outcome, services: Services) -> None:
    """Write the result, and one line to the log; neither where a duplicate has nothing to add to what is recorded."""
    known, attempt = outcome.known, outcome.known.attempt
    try:
        written = services.results.write(attempt.drop, outcome.document, known.recorded, is_replay=attempt.is_replay)
        if not written and not attempt.is_replay:
            return
    except AzureError as error:
        log.warning("The result of %s/%s could not be written now.", attempt.drop.container, attempt.drop.blob)
        if outcome.status != "retrying":
            delay_s = _delay_s(known, storage_error(error), services)
            if delay_s is None:
                raise
            services.retries.postpone(attempt, delay_s)
    outcome.log()


def drop_poisoned(attempt: Attempt, services: Services, *, invocation_id: str = "") -> None:
    """Write the result of a drop on which the app failed so often that the host stopped retrying."""
    drop = attempt.drop
    if drop.is_reserved(services.results_container):
        return
    now = services.now()
    known = Known(attempt.begun_by(now), invocation_id, now, Stopwatch())
    try:
        known = known.plus(recorded=services.results.read(drop))
        outcome = _result_of_poisoned(known, services)
    except AzureError as error:
        outcome = _postpone_or_end(known, storage_error(error), services)
    if outcome:
        _publish(outcome, services)


def _result_of_poisoned(known: Known, services: Services) -> Outcome | None:
    """Return that the drop failed, or that it did not: the crash may have come after the upload."""
    attempt = known.attempt
    with suppress(DropGone, BlobNameRefused):
        source = _read_unless_settled(known, services, 0)
        if source is None or attempt.etag not in (None, source.facts.version.etag):
            return None  # it has ended or is waiting; or it is a later version, which has its own event
        known = known.plus(attempt=attempt.at(source.facts.version, known.started_at), source=source.facts)
        with suppress(DropError):
            upload = services.app().ledger.read(attempt.drop.itwin_id).upload
            is_up = upload is not None and upload.version == known.attempt.version
            was_up = known.recorded.status == "uploaded" and known.recorded.etag == source.facts.version.etag
            if (is_up or was_up) and _is_sent_later(known, services):
                return None
            if upload and is_up:
                return Outcome(known, dict(upload.document))
    bug = Bug("The app failed on this drop again and again, and stopped retrying: see the log. Drop the image again.")
    return known.ended(bug, services.now()).after(bug)


def _is_sent_later(known: Known, services: Services) -> bool:
    """Go on with what is to be sent again: an older image may be shown over it, whatever kept the app from doing so."""
    attempt, policy = known.attempt, services.retry_policy
    if not attempt.is_replay or (known.started_at - attempt.first_at).total_seconds() > policy.horizon_s:
        return False
    log.error("%s/%s could not be sent again; that is tried later.", attempt.drop.container, attempt.drop.blob)
    services.retries.postpone(attempt, policy.max_delay_s)
    return True
