"""What works and what does not, in plain words: for use after a deployment, and when drops do not arrive.

Every check does what the app itself does with a drop, leaves nothing behind, and says what to do if it fails.
"""

from __future__ import annotations

import base64
import logging
import threading
import time
import uuid
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from azure.core.exceptions import AzureError, ResourceExistsError, ResourceNotFoundError
from azure.storage.blob import StorageErrorCode

from shared.credentials import (
    AccessTokens,
    ClientCredentials,
    IdentityTokens,
    ManagedIdentityLogin,
    read_by_identity,
)
from shared.deadline import bounded
from shared.drop import ITWIN_ID, Drop
from shared.errors import (
    DropError,
    InvalidSettings,
    ITwinNotFound,
    OutOfTime,
    PlatformRejected,
    PlatformThrottled,
    StorageUnavailable,
    TokenServiceUnavailable,
    TokenUnavailable,
)
from shared.http_client import HttpClient, NoResponse
from shared.image import ImageHeader, NormalizedImage
from shared.itwin_platform import ITwinPlatform
from shared.ledger import LEDGER_CONTAINER
from shared.results import result_name
from shared.retries import RETRY_QUEUE
from shared.settings import Settings, StorageSettings
from shared.storage import open_blobs, open_queue, storage_error
from shared.throttle import Throttle
from shared.undeliverable import LETTERS_QUEUE
from shared.untrusted_json import parse_object

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from shared.http_client import Response
    from shared.vault import VaultSecret

PERMISSION = "itwins_modify"
# Where the host puts messages that it stopped trying, for the app to take back.
POISON_QUEUES = ("webjobs-blobtrigger-poison", f"{RETRY_QUEUE}-poison", f"{LETTERS_QUEUE}-poison")
# Its name is not an iTwin ID, so that a probe is rejected and nothing is sent to the iTwin Platform.
PROBE_CONTAINER = "preflight"
PROBE_INTERVAL_S = 0.5
# What is sent to the iTwin Platform: a PNG of one pixel, for an iTwin that cannot exist (RFC 9562, 5.9).
NIL_ITWIN = "00000000-0000-0000-0000-000000000000"
PIXEL = base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNoAAAAggCBd81ytgAAAABJRU5ErkJggg==")
# Azure ends every HTTP call to a function after 230 s: https://learn.microsoft.com/azure/azure-functions/functions-scale
CHECK_TIMEOUT_S = 30.0
# Event Grid takes a second or two; an instance that has to start first takes about ten more.
EVENT_TIMEOUT_S = 45.0
# For writing and deleting the probe, in addition to waiting for its event.
PROBE_TIMEOUT_S = 10.0
# A check that reaches its deadline reports that itself within this time.
GRACE_S = 1.0
# How long a probe is hidden, and when it expires if it could not be deleted.
PROBE_HIDDEN_S, PROBE_LIFE_S = 60, 90
TOKEN_CLAIMS = 1  # of a JSON Web Token's three parts
# The claims that name the client of a token: in Microsoft Entra's two kinds of tokens, and in OAuth 2.0's (RFC 9068).
CLIENT_CLAIMS = ("appid", "azp", "client_id")
STORAGE_ADVICE = (
    "Check DropStorage__blobServiceUri and DropStorage__queueServiceUri, and the network rules and DNS of the account "
    "that they name."
)

OK = 200
UNAUTHORIZED = 401
NOT_FOUND = 404

Verdict = Literal["works", "fails", "not checked"]
Value = TypeVar("Value")

log = logging.getLogger("itwin_image_drop")


@dataclass(frozen=True)
class Finding:
    """What one check found, in a sentence or two; if it fails, with what to do."""

    subject: str
    verdict: Verdict
    text: str

    def __str__(self) -> str:
        return f"[{self.verdict}] {self.subject}: {self.text}"


@dataclass(frozen=True)
class Report:
    """All findings, in the order in which they matter to a drop."""

    findings: tuple[Finding, ...]

    @property
    def is_good(self) -> bool:
        """Whether nothing fails."""
        return all(finding.verdict != "fails" for finding in self.findings)

    def __str__(self) -> str:
        good, bad = "Everything that was checked works.", "Fix the failures before dropping images."
        return "\n".join([*map(str, self.findings), "", good if self.is_good else bad, ""])


class _FailedError(Exception):
    """The check failed; the message says why and what to do."""


class _NotCheckedError(Exception):
    """The check could not be made; the message says why."""


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
    platform = _Platform.of(settings, http, deadline) if settings else None
    checks = (
        _Check("Settings", lambda: _check_settings(environ), deadline),
        _Check("Access token", lambda: _check_token(_given(platform)), deadline),
        _Check("iTwin Platform", lambda: _check_platform(_given(platform)), deadline),
        _Check("iTwin", lambda: _check_permission(_given(platform), itwin_id), deadline),
        _Check("Drops", lambda: _check_reading(_given(storage), itwin_id), deadline),
        _Check("Results", lambda: _check_writing(_given(storage), _given(storage).results_container), deadline),
        _Check("Ledger", lambda: _check_writing(_given(storage), LEDGER_CONTAINER), deadline),
        _Check("Queues", lambda: _check_queues(_given(storage)), deadline),
        _Check("Poison queues", lambda: _check_poison_queues(_given(storage)), deadline),
        _Check("Events", lambda: _check_events(_given(storage), event_timeout_s), latest),
    )
    return Report(tuple(_findings(checks)))


@dataclass(frozen=True)
class _Check:
    subject: str
    find: Callable[[], str]
    deadline: float


@dataclass(frozen=True)
class _Platform:
    """What the checks of the platform have in common."""

    settings: Settings
    tokens: AccessTokens
    secret: VaultSecret | None
    http: HttpClient
    deadline: float

    @classmethod
    def of(cls, settings: Settings, http: HttpClient, deadline: float) -> _Platform:
        """Read the secret that the key vault has now, not the cached one that drops are uploaded with."""
        login = settings.login
        if isinstance(login, ManagedIdentityLogin):
            return cls(settings, AccessTokens(IdentityTokens(login, http)), None, http, deadline)
        secret = read_by_identity(login, http)
        return cls(settings, AccessTokens(ClientCredentials(login, http, secret)), secret, http, deadline)

    def token(self) -> str:
        """Return an access token. Raises _NotCheckedError: another check says why there is none."""
        try:
            return self.tokens.get(self.deadline)
        except (TokenUnavailable, TokenServiceUnavailable) as error:
            message = "An access token is needed first."
            raise _NotCheckedError(message) from error


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
    except _NotCheckedError as reason:
        finding = Finding(check.subject, "not checked", str(reason))
    except _FailedError as reason:
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
        raise _NotCheckedError("The settings must be valid first.")
    return value


def _check_settings(environ: Mapping[str, str]) -> str:
    settings = Settings.from_environ(environ)
    login = "from the managed identity" if isinstance(settings.login, ManagedIdentityLogin) else "by client credentials"
    return f"Every setting is valid. Images go to {settings.api_url} with a token {login}."


def _check_token(platform: _Platform) -> str:
    login = platform.settings.login
    issuer = "The managed identity" if isinstance(login, ManagedIdentityLogin) else login.token_url
    claims = _describe(_claims(platform.tokens.get(platform.deadline)))
    said = claims or "It is opaque: its audience and expiry cannot be read."
    return f"{issuer} issued one for the scope {login.scope!r}. {said}{_describe_secret(platform)}"


def _describe_secret(platform: _Platform) -> str:
    """Return which version of the secret the key vault has now; drops may still use an earlier one."""
    if platform.secret is None:
        return ""
    secret = platform.secret.current(platform.deadline)
    expiry = f"expires on {secret.expires_at:%Y-%m-%d}" if secret.expires_at else "has no expiry date"
    return (
        f" It was obtained with version {secret.version} of the client secret, the vault's current one, which {expiry}."
    )


def _claims(token: str) -> Mapping[str, Any]:
    """Return the claims of a JSON Web Token (RFC 7519), unverified; nothing for any other token."""
    try:
        part = token.split(".")[TOKEN_CLAIMS]
        return parse_object(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    except (IndexError, ValueError):
        return {}


def _describe(claims: Mapping[str, Any]) -> str:
    """Describe the claims that an operator compares; any of them may be missing, as authorities differ."""
    named = {
        "audience": claims.get("aud"),
        "issuer": claims.get("iss"),
        "client": next((claims[name] for name in CLIENT_CLAIMS if name in claims), None),
    }
    facts = [f"{name} {value!r}" for name, value in named.items() if value and isinstance(value, str | list)]
    with suppress(KeyError, TypeError, ValueError, OverflowError, OSError):
        facts.append(f"valid until {datetime.fromtimestamp(claims['exp'], UTC).isoformat()}")
    return f"Its claims: {', '.join(facts)}." if facts else ""


def _check_platform(platform: _Platform) -> str:
    """Upload a pixel to an iTwin that cannot exist: only the platform itself refuses that with its own error object.

    This proves the address, any gateway on the way and the token, and changes no iTwin.
    """
    platform.token()
    api_url = platform.settings.api_url
    client = ITwinPlatform(api_url, platform.tokens, Throttle(), platform.http, timeout_s=CHECK_TIMEOUT_S)
    image = NormalizedImage(PIXEL, "image/png", 1, 1, (), ImageHeader("image/png", 1, 1))
    try:
        client.upload_image(NIL_ITWIN, image, platform.deadline)
    except (ITwinNotFound, PlatformRejected, PlatformThrottled) as error:
        response = error.response
        if response is None or response.error is None:
            raise
        return (
            f"{api_url} accepts the app's token: it refused an image for an iTwin that cannot exist, with the "
            f"platform's own error ({response.http_status} {response.error['code']})."
        )
    raise _FailedError(
        f"{api_url} accepted an image for an iTwin that cannot exist, so it is not the iTwin Platform: check "
        "ITWIN_API_URL."
    )


def _check_permission(platform: _Platform, itwin_id: str | None) -> str:
    """Ask what the app may do to the iTwin: https://developer.bentley.com/apis/access-control-v2/."""
    if not itwin_id:
        raise _NotCheckedError("Name an iTwin to learn whether the app may change its image: add ?itwin=<iTwin ID>.")
    if not ITWIN_ID.fullmatch(itwin_id):
        raise _FailedError("That is not an iTwin ID, which is a GUID in lower case with hyphens.")
    token = platform.token()
    try:
        response = platform.http.send(
            "GET",
            f"{platform.settings.api_url}/accesscontrol/itwins/{itwin_id}/permissions",
            headers={"Accept": "application/json", "Authorization": f"Bearer {token}"},
            deadline=platform.deadline,
        )
    except NoResponse as error:
        raise _FailedError(f"{error.message} Check ITWIN_API_URL and the network.") from error
    return _read_permissions(platform.settings.api_url, itwin_id, response)


def _read_permissions(api_url: str, itwin_id: str, response: Response) -> str:
    if response.status == UNAUTHORIZED:
        raise _FailedError(
            f"{api_url} does not accept the access token (401): check ITWIN_LOGIN and ITWIN_TOKEN_SCOPE. A managed "
            "identity's own token requires a gateway in front of the API that exchanges it."
        )
    if response.status == NOT_FOUND:
        raise _FailedError(
            f"{api_url} has no iTwin {itwin_id}, or does not show it to the app (404): check the ID and, if there is a "
            "gateway in front of the API, that it forwards /accesscontrol."
        )
    permissions = None
    with suppress(ValueError):
        permissions = parse_object(response.body).get("permissions") if response.status == OK else None
    if not isinstance(permissions, list):
        raise _FailedError(
            f"{api_url} responded with {response.status} without permissions: check ITWIN_API_URL, or try again."
        )
    if PERMISSION not in permissions:
        raise _FailedError(
            f"The app lacks the permission {PERMISSION} on the iTwin {itwin_id}: give the app's iTwin user (the e-mail "
            "address of the service app) a role with that permission."
        )
    return f"The app may change the image of {itwin_id} ({PERMISSION})."


def _check_reading(storage: StorageSettings, itwin_id: str | None) -> str:
    container = itwin_id if itwin_id and ITWIN_ID.fullmatch(itwin_id) else PROBE_CONTAINER
    with open_blobs(storage) as blobs:
        try:
            # A caller without permission gets the same refusal for a blob that does not exist.
            blobs.get_blob_client(container, str(uuid.uuid4())).download_blob()
        except ResourceNotFoundError as error:
            code = getattr(error, "error_code", None)
            if container == itwin_id and code == StorageErrorCode.CONTAINER_NOT_FOUND:
                message = f"There is no container {itwin_id}: create it, and drop images there."
                raise _FailedError(message) from error
            if code not in (StorageErrorCode.BLOB_NOT_FOUND, StorageErrorCode.CONTAINER_NOT_FOUND):
                raise  # not a response of a storage account
    if container == itwin_id:
        return f"The app may read what is dropped into {itwin_id}."
    return "The app may read blobs of the drop account."


def _check_writing(storage: StorageSettings, container: str) -> str:
    name = f".preflight/{uuid.uuid4()}"
    with open_blobs(storage) as blobs:
        blob = blobs.get_blob_client(container, name)
        try:
            blob.upload_blob(b"", overwrite=False)
        except ResourceNotFoundError as error:
            otherwise = ", or correct RESULTS_CONTAINER" if container == storage.results_container else ""
            message = f"The container {container!r} does not exist: deploy the infrastructure again{otherwise}."
            raise _FailedError(message) from error
        blob.delete_blob()
    return f"The app may write to the container {container!r}."


def _check_queues(storage: StorageSettings) -> str:
    waiting = _count_messages(storage, RETRY_QUEUE)
    with open_queue(storage, RETRY_QUEUE) as queue:
        probe = queue.send_message("preflight", visibility_timeout=PROBE_HIDDEN_S, time_to_live=PROBE_LIFE_S)
        queue.delete_message(probe)
    return f"The app may send and receive messages. About {waiting} drops are waiting in {RETRY_QUEUE} to be retried."


def _check_poison_queues(storage: StorageSettings) -> str:
    counts = {name: _count_messages(storage, name) for name in POISON_QUEUES}
    left = ", ".join(f"about {count} in {name}" for name, count in counts.items() if count)
    if left:
        raise _FailedError(
            f"Drops on which the app failed repeatedly are still in poison queues: {left}. The log says what failed "
            "(alert `poison` in the runbook); once that is fixed, they are retried within ten minutes, or run "
            "`python -m shared.replay`."
        )
    return f"There are no messages in {', '.join(POISON_QUEUES[:-1])} or {POISON_QUEUES[-1]}."


def _count_messages(storage: StorageSettings, name: str) -> int:
    with open_queue(storage, name) as queue:
        try:
            return queue.get_queue_properties().approximate_message_count or 0
        except ResourceNotFoundError as error:
            message = f"The queue {name!r} does not exist: deploy the infrastructure again."
            raise _FailedError(message) from error


def _check_events(storage: StorageSettings, timeout_s: float) -> str:
    """Drop a probe and wait for its result: the app cannot see the event subscription itself."""
    probe = Drop(PROBE_CONTAINER, f"{uuid.uuid4()}.probe")
    began = time.monotonic()
    with open_blobs(storage) as blobs:
        with suppress(ResourceExistsError):
            blobs.create_container(PROBE_CONTAINER)
        dropped = blobs.get_blob_client(probe.container, probe.blob)
        result = blobs.get_blob_client(storage.results_container, result_name(probe))
        dropped.upload_blob(b"", overwrite=False)
        try:
            while not result.exists():
                if time.monotonic() - began > timeout_s:
                    raise _FailedError(
                        f"A drop had no result after {timeout_s:.0f} s: check that the drop account's event "
                        "subscription exists and names the function process_drop and this app's key blobs_extension, "
                        "look for its events in the container undeliverable, and read the log."
                    )
                time.sleep(PROBE_INTERVAL_S)
        finally:
            for blob in (dropped, result):
                with suppress(ResourceNotFoundError):
                    blob.delete_blob()
    took_s = time.monotonic() - began
    return f"A drop reached the function and got its result within {took_s:.0f} s: the event subscription works."
