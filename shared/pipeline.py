"""The story of a drop, top to bottom: gather what is known, decide, apply, publish."""

from __future__ import annotations

import logging
from contextlib import ExitStack
from datetime import timedelta
from typing import TYPE_CHECKING

from azure.core.exceptions import AzureError

from shared.attempt import Attempt
from shared.deadline import bounded
from shared.decisions import Action, attempt_at, decide, is_settled, unsettled_until, version_for
from shared.drop import is_current, read_source
from shared.errors import DropError, ITwinBusy, OutOfTime, UnsupportedFormat
from shared.outcome import Known, Outcome, drop_error, postpone, postpone_or_end, publish
from shared.records import Upload
from shared.results import ImageFacts, Superseded

if TYPE_CHECKING:
    from shared.drop import Source
    from shared.image import NormalizedImage
    from shared.ledger import Call
    from shared.records import Entry
    from shared.services import App, Services

log = logging.getLogger("itwin_image_drop")


def process_drop(attempt: Attempt, services: Services, *, invocation_id: str = "") -> None:
    """Upload a drop to its iTwin and write its result, or schedule another attempt.

    Raises azure.core.exceptions.AzureError if storage accepts neither the result nor the message of another attempt:
    then the host tries again.
    """
    drop, clock = attempt.drop, services.clock
    if drop.is_reserved(services.results_container) or drop.is_housekeeping():
        return
    known = Known.at_first(attempt, services, invocation_id)
    source = image = None
    try:
        with bounded(known.stopwatch.deadline, clock.monotonic), ExitStack() as held:
            known = known.plus(recorded=services.results.read(drop)).dated(clock.now())
            app = services.app()
            held.enter_context(app.files.admit(1, known.stopwatch.deadline))
            source = read_unless_settled(known, services, app.settings.max_source_bytes)
            if source is None or source.facts.is_directory_marker():
                return
            version = version_for(known.attempt, source.facts.version, known.recorded)
            asked, attempt = known.attempt, attempt_at(known.attempt, version, known.recorded, known.started_at)
            known = known.plus(attempt=attempt, source=source.facts)
            itwin_id = drop.itwin_id
            source.facts.check_complete(clock.now())
            entry = app.ledger.read(itwin_id)

            is_last = _is_last(source, entry, services)
            spacing = timedelta(seconds=app.settings.retries.min_delay_s)
            decision = decide(
                asked, version, known.recorded, entry, is_current=is_last, now=clock.now(), spacing=spacing
            )
            match decision.action, entry.upload:
                case Action.IGNORE, _:
                    return
                case Action.SUPERSEDED, Upload() as newer:
                    outcome = known.ended(Superseded(newer), clock.now())
                case Action.REPEAT, Upload() as same:
                    outcome = Outcome(known, dict(same.document))
                case Action.WAIT, _:
                    message = "Another image is being uploaded to this iTwin, or was a moment ago."
                    raise ITwinBusy(message, retry_after_s=decision.wait_s)
                case _:
                    app.throttle.hold()
                    with known.stopwatch.timed("normalize"):
                        image = _normalized(source, known, app)
                    held.close()
                    known = known.plus(image=ImageFacts.of(image, source))
                    outcome = _upload(image, known, entry, app, services)
    except (DropError, AzureError, OSError, MemoryError) as error:
        outcome = postpone_or_end(known, drop_error(error), services)
    finally:
        # Storage's exceptions, such as the one for a result that does not exist yet, are reference cycles that keep all
        # their callers' frames alive until garbage collection; by then a handful of files would fill the memory.
        if source:
            source.release()
        image = None
    publish(outcome, services)


def read_unless_settled(known: Known, services: Services, max_bytes: int) -> Source | None:
    """Return the version in storage; None if it is the recorded one and nothing is left to do for it."""
    drop, recorded = known.attempt.drop, known.recorded
    settled = recorded.etag if is_settled(known.attempt, recorded, known.started_at) else None
    with known.stopwatch.timed("read"):
        return read_source(
            services.storage, drop, max_bytes=max_bytes if drop.names_an_itwin() else 0, unless_etag=settled
        )


def _is_last(source: Source, entry: Entry, services: Services) -> bool:
    """Whether storage still has this version; it is asked only if two versions have the same Last-Modified."""
    facts, up = source.facts, entry.upload
    if not (up and facts.version.ties_with(up.version)):
        return True
    return is_current(services.storage, source.drop, facts.version, up.version, max_bytes=facts.size)


def _normalized(source: Source, known: Known, app: App) -> NormalizedImage:
    most_unpacked = app.settings.max_source_bytes if source.is_labelled_gzip else 0
    try:
        return app.normalize(source.take(), known.stopwatch.deadline, most_unpacked)
    except UnsupportedFormat as error:
        raise source.not_supported(error) from error


def _upload(image: NormalizedImage, known: Known, entry: Entry, app: App, services: Services) -> Outcome:
    """Note the upload in the ledger, send it, and record its outcome. Raises DropError and AzureError."""
    itwin_id, version = known.attempt.drop.itwin_id, known.attempt.version
    assert version  # noqa: S101 - it has been read
    app.throttle.wait(known.stopwatch.deadline)
    app.platform.authorize(known.stopwatch.deadline)
    call = app.ledger.begin(itwin_id, entry, version)
    try:
        with known.stopwatch.timed("upload"):
            left_s = call.noted.busy_s(services.clock.now())
            if left_s <= 0:
                raise ITwinBusy("No time was left for the upload.")
            deadline = min(known.stopwatch.deadline, services.clock.monotonic() + left_s)
            uploaded = app.platform.upload_image(itwin_id, image, deadline)
    except DropError as error:
        _record_failure(itwin_id, call, app, is_settled=error.is_settled)
        raise
    outcome = known.ended(uploaded, services.clock.now())
    # A clock that was set back meanwhile must not date the upload before the image: such an entry counts as damaged.
    upload = Upload(version, max(services.clock.now(), version.last_modified), outcome.document)
    _record_upload(call, upload, known, services, is_settled=not uploaded.response.resent)
    return outcome


def _record_failure(itwin_id: str, call: Call, app: App, *, is_settled: bool) -> None:
    try:
        app.ledger.record_failure(itwin_id, call, is_settled=is_settled)
    except (AzureError, OutOfTime) as error:
        log.warning("The end of a call for %s could not be recorded (%s).", itwin_id, type(error).__name__)


def _record_upload(call: Call, upload: Upload, known: Known, services: Services, *, is_settled: bool) -> None:
    """Record the upload. If another version is unsettled, schedule this one to be resent once that can no longer win.

    The image is up, whatever fails from here on; so if it cannot be recorded, it is resent as well.
    """
    drop = known.attempt.drop
    resend = Attempt.replay(drop, upload.version)
    try:
        if until := unsettled_until(upload.version, call.noted):
            postpone(resend, (until - upload.at).total_seconds(), known, services)
        services.app().ledger.record_upload(drop.itwin_id, call, upload, is_settled=is_settled)
    except (AzureError, OutOfTime) as error:
        where = drop.container, drop.blob, type(error).__name__
        log.warning("%s/%s was uploaded, but that could not be recorded (%s); it will be sent again.", *where)
        postpone(resend, services.retry_policy.min_delay_s, known, services)
