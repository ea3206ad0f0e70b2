"""Which checks are made, all at once, and what their exceptions mean."""

from __future__ import annotations

import logging
import threading
import time
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from azure.core.exceptions import AzureError

from shared.credentials import ManagedIdentityLogin
from shared.deadline import bounded
from shared.errors import DropError, InvalidSettings, OutOfTime, StorageUnavailable
from shared.http_client import HttpClient
from shared.ledger import LEDGER_CONTAINER
from shared.preflight.platform import PlatformAccess, check_permission, check_platform, check_token
from shared.preflight.report import CheckFailed, Finding, NotChecked, Report
from shared.preflight.storage import (
    check_events,
    check_poison_queues,
    check_queues,
    check_reading,
    check_writing,
)
from shared.settings import Settings, StorageSettings
from shared.storage import storage_error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

# Azure ends every HTTP call to a function after 230 s: https://learn.microsoft.com/azure/azure-functions/functions-scale
CHECK_TIMEOUT_S = 30.0
# Event Grid takes a second or two; an instance that has to start first takes about ten more.
EVENT_TIMEOUT_S = 45.0
# For writing and deleting the probe, in addition to waiting for its event.
PROBE_TIMEOUT_S = 10.0
# A check that reaches its deadline reports that itself within this time.
GRACE_S = 1.0
STORAGE_ADVICE = (
    "Check DropStorage__blobServiceUri and DropStorage__queueServiceUri, and the network rules and DNS of the account "
    "that they name."
)

Value = TypeVar("Value")

log = logging.getLogger("itwin_image_drop")


def examine(
    environ: Mapping[str, str],
    *,
    itwin_id: str | None = None,
    check_timeout_s: float = CHECK_TIMEOUT_S,
    event_timeout_s: float = EVENT_TIMEOUT_S,
) -> Report:
    """Check everything that a drop needs, concurrently; never raises.

    `itwin_id` is an iTwin for which images will be dropped. A check takes at most `check_timeout_s`, the check of the
    events `event_timeout_s` plus the time for its probe: with the defaults, all of them end within a minute.
    """
    storage = _unless_wrong(lambda: StorageSettings.from_environ(environ))
    settings = _unless_wrong(lambda: Settings.from_environ(environ))
    http = HttpClient()
    deadline, latest = (time.monotonic() + seconds for seconds in (check_timeout_s, event_timeout_s + PROBE_TIMEOUT_S))
    platform = PlatformAccess.of(settings, http, deadline) if settings else None
    checks = (
        _Check("Settings", lambda: _check_settings(environ), deadline),
        _Check("Access token", lambda: check_token(_given(platform)), deadline),
        _Check("iTwin Platform", lambda: check_platform(_given(platform)), deadline),
        _Check("iTwin", lambda: check_permission(_given(platform), itwin_id), deadline),
        _Check("Drops", lambda: check_reading(_given(storage), itwin_id), deadline),
        _Check("Results", lambda: check_writing(_given(storage), _given(storage).results_container), deadline),
        _Check("Ledger", lambda: check_writing(_given(storage), LEDGER_CONTAINER), deadline),
        _Check("Queues", lambda: check_queues(_given(storage)), deadline),
        _Check("Poison queues", lambda: check_poison_queues(_given(storage)), deadline),
        _Check("Events", lambda: check_events(_given(storage), event_timeout_s), latest),
    )
    return Report(tuple(_findings(checks)))


@dataclass(frozen=True)
class _Check:
    subject: str
    find: Callable[[], str]
    deadline: float


def _findings(checks: Iterable[_Check]) -> Iterable[Finding]:
    """Run all checks concurrently; one that takes too long is abandoned."""
    began = time.monotonic()
    running: list[tuple[_Check, Future[Finding]]] = []
    for check in checks:
        future: Future[Finding] = Future()
        threading.Thread(target=_find_into, args=(check, future), daemon=True, name=check.subject).start()
        running.append((check, future))
    for check, future in running:
        try:
            yield future.result(timeout=max(check.deadline + GRACE_S - time.monotonic(), 0))
        except TimeoutError:
            yield Finding(check.subject, "fails", _not_answered(check, began))


def _find_into(check: _Check, future: Future[Finding]) -> None:
    began = time.monotonic()
    try:
        with bounded(check.deadline, time.monotonic):
            finding = Finding(check.subject, "works", check.find())
    except NotChecked as reason:
        finding = Finding(check.subject, "not checked", str(reason))
    except CheckFailed as reason:
        finding = Finding(check.subject, "fails", str(reason))
    except OutOfTime:
        finding = Finding(check.subject, "fails", _not_answered(check, began))
    except DropError as error:
        finding = Finding(check.subject, "fails", _tell(error))
    except AzureError as error:
        finding = Finding(check.subject, "fails", _tell(storage_error(error)))
    except Exception as error:
        log.exception("The preflight's check of %s failed.", check.subject)
        finding = Finding(check.subject, "fails", f"Unexpected {type(error).__name__}; see the log for details.")
    future.set_result(finding)


def _not_answered(check: _Check, began: float) -> str:
    return f"No response within {max(check.deadline - began, 0):.0f} s. Check the network and the service's own health."


def _tell(error: DropError) -> str:
    if isinstance(error, StorageUnavailable):
        return f"{error.message} {STORAGE_ADVICE}"
    if error.response and error.response.error:  # of the platform, or of a gateway before it
        said = "{code}: {message}".format_map(error.response.error)
        return f"{error.message} The response says {said!r}."
    return error.message


def _unless_wrong(read: Callable[[], Value]) -> Value | None:
    try:
        return read()
    except InvalidSettings:
        return None


def _given(value: Value | None) -> Value:
    if value is None:
        raise NotChecked("The settings must be valid first.")
    return value


def _check_settings(environ: Mapping[str, str]) -> str:
    settings = Settings.from_environ(environ)
    login = "from the managed identity" if isinstance(settings.login, ManagedIdentityLogin) else "by client credentials"
    return f"Every setting is valid. Images go to {settings.api_url} with a token {login}."
