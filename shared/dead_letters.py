"""What happens to a drop on which the app failed so often that the host stopped trying.

An exception is never final: storage may have refused the app for a minute, or another drop's file may have killed the
worker repeatedly. So such a drop goes back to the retry queue, each time with a longer delay; only if it still fails
after that is it a bug in the app.
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

# When such a drop is retried, in shortest delays: after one minute and ten minutes with the defaults.
COMES_BACK_DELAYS = (12, 120)


def drop_poisoned(attempt: Attempt, services: Services, *, invocation_id: str = "") -> None:
    """Retry a drop that the host stopped trying, or write the result that says that the app failed on it.

    Raises azure.core.exceptions.AzureError if storage accepts neither: then the host tries again.
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
    """Return how long the drop is still waiting by its record, which takes precedence over the message."""
    is_recorded = known.recorded.etag in (None, known.attempt.etag)
    return waits_s(known.recorded, known.started_at) if is_recorded and not known.attempt.is_replay else 0


def _tried_again(known: Known, services: Services) -> Outcome | None:
    """Send the drop back to the retry queue; None if that was done often enough.

    A replay is sent back until the horizon, because an older image may have replaced its own. A count that no record
    confirms is ignored.
    """
    attempt, policy = known.attempt, services.retry_policy
    poisoned = attempt.poisoned if known.recorded.attempts else 0
    is_last = poisoned >= len(COMES_BACK_DELAYS)
    elapsed_s = (known.started_at - attempt.first_at).total_seconds()
    is_late = services.clock.is_told() and elapsed_s > policy.horizon_s
    if is_late or (is_last and not attempt.is_replay):
        return None
    delay_s = policy.max_delay_s if is_last else COMES_BACK_DELAYS[poisoned] * policy.min_delay_s
    again = replace(attempt, poisoned=poisoned + 1)
    next_attempt_at = postpone(again, min(delay_s, policy.max_delay_s), known, services)
    interrupted = AttemptsInterrupted("The app failed on this drop several times in a row; it will be tried again.")
    return known.ended(interrupted, services.clock.now(), next_attempt_at).after(interrupted)


def _uploaded(known: Known, services: Services) -> Outcome | None:
    """Return the outcome of a drop that was uploaded before the app failed; None if it was not."""
    upload = services.app().ledger.read(known.attempt.drop.itwin_id).upload
    return Outcome(known, dict(upload.document)) if upload and upload.version == known.attempt.version else None


def _failed(known: Known, services: Services) -> Outcome:
    bug = Bug("The app failed on this drop repeatedly and has stopped retrying: see the log. Drop the image again.")
    return known.ended(bug, services.clock.now()).after(bug)
