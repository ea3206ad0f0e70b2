"""What becomes of a drop on which the app failed so often that the host stopped trying.

An exception is never the end: storage may have refused the app for a minute, or the worker was killed again and
again by a neighbour's file. So such a drop goes back to the retry queue, later each time, and only what fails again
after that is a bug of ours.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from azure.core.exceptions import AzureError

from shared.deadline import bounded
from shared.decisions import attempt_at, version_for, waits_s
from shared.errors import AttemptsInterrupted, Bug, DropError, DropGone
from shared.outcome import Known, Outcome, drop_error, postpone, postpone_or_end, publish
from shared.pipeline import read_unless_settled

if TYPE_CHECKING:
    from shared.attempt import Attempt
    from shared.services import Services

# How much later than a first retry such a drop comes back, in shortest delays: a minute and ten with the defaults.
COMES_BACK_DELAYS = (12, 120)


def drop_poisoned(attempt: Attempt, services: Services, *, invocation_id: str = "") -> None:
    """Have a drop tried again that the host stopped trying, or write the result that says that the app failed on it.

    Raises azure.core.exceptions.AzureError where storage lets neither be written down: then the host tries again.
    """
    drop = attempt.drop
    if drop.is_reserved(services.results_container) or drop.is_housekeeping():
        return
    known = Known.at_first(attempt, services, invocation_id)
    source = None
    try:
        with bounded(known.stopwatch.deadline, services.clock.monotonic):
            known = known.plus(recorded=services.results.read(drop)).dated(services.clock.now())
            with suppress(DropGone):
                source = read_unless_settled(known, services, services.max_source_bytes)
                if source is None or source.facts.is_directory_marker():
                    return
                version = version_for(known.attempt, source.facts.version, known.recorded)
                found = attempt_at(known.attempt, version, known.recorded, known.started_at)
                known = known.plus(attempt=found, source=source.facts)
            if left_s := _waits_s(known):
                postpone(known.attempt, left_s, known, services)
                return
            outcome = _tried_again(known, services) or _uploaded(known, services) or _failed(known, services)
    except (DropError, AzureError, OSError, MemoryError) as error:
        outcome = postpone_or_end(known, drop_error(error), services)
    finally:
        if source:
            source.release()
    publish(outcome, services)


def _waits_s(known: Known) -> float:
    """Return how long the drop waits by its record, which is believed before a message that says that it has failed."""
    is_recorded = known.recorded.etag in (None, known.attempt.etag)
    return waits_s(known.recorded, known.started_at) if is_recorded and not known.attempt.is_replay else 0


def _tried_again(known: Known, services: Services) -> Outcome | None:
    """Send the drop back to the retry queue; None where that was done often enough.

    A replay goes back for as long as any drop is tried: an older image may be shown over it. A count that no record
    bears out is not believed.
    """
    attempt, policy = known.attempt, services.retry_policy
    poisoned = attempt.poisoned if known.recorded.attempts else 0
    is_last = poisoned >= len(COMES_BACK_DELAYS)
    is_late = (known.started_at - attempt.first_at).total_seconds() > policy.horizon_s
    if is_late or (is_last and not attempt.is_replay):
        return None
    delay_s = policy.max_delay_s if is_last else COMES_BACK_DELAYS[poisoned] * policy.min_delay_s
    again = replace(attempt, poisoned=poisoned + 1)
    next_attempt_at = postpone(again, min(delay_s, policy.max_delay_s), known, services)
    interrupted = AttemptsInterrupted("The app failed on this drop several times in a row; it will be tried again.")
    return known.ended(interrupted, services.clock.now(), next_attempt_at).after(interrupted)


def _uploaded(known: Known, services: Services) -> Outcome | None:
    """Return that the drop is up, where the crashes came after its upload."""
    upload = services.app().ledger.read(known.attempt.drop.itwin_id).upload
    return Outcome(known, dict(upload.document)) if upload and upload.version == known.attempt.version else None


def _failed(known: Known, services: Services) -> Outcome:
    bug = Bug("The app failed on this drop repeatedly and has stopped retrying: see the log. Drop the image again.")
    return known.ended(bug, services.clock.now()).after(bug)
