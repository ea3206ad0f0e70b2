"""What works and what does not, in plain words: asked after a deployment, and when drops do not arrive.

Every check does what the app itself does with a drop, leaves nothing behind, and says what to do where it fails.
"""

from __future__ import annotations

import base64
import logging
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import requests
from azure.core.exceptions import AzureError, ResourceExistsError, ResourceNotFoundError
from azure.storage.blob import StorageErrorCode

from shared.credentials import ManagedIdentityLogin, open_tokens
from shared.drop import ITWIN_ID, Drop
from shared.errors import DropError, InvalidSettings, StorageUnavailable, TokenUnavailable
from shared.http_client import USER_AGENT, HttpClient
from shared.ledger import LEDGER_CONTAINER
from shared.results import result_name
from shared.retries import RETRY_QUEUE
from shared.settings import Settings, StorageSettings
from shared.storage import open_blobs, open_queue, storage_error
from shared.undeliverable import LETTERS_QUEUE
from shared.untrusted_json import parse_object

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from shared.credentials import AccessTokens

PERMISSION = "itwins_modify"
# Where the host puts what it gave up, for the app to write results of.
GIVEN_UP_QUEUES = ("webjobs-blobtrigger-poison", f"{RETRY_QUEUE}-poison", f"{LETTERS_QUEUE}-poison")
# Not named by an iTwin ID, so that a probe ends as rejected and the iTwin Platform never hears of it.
PROBE_CONTAINER = "preflight"
PROBE_INTERVAL_S = 0.5
# Event Grid takes a second or two, and an instance that must start first some ten more.
EVENT_TIMEOUT_S = 60.0
# Hidden for so long, and gone soon after, if the probe could not be taken back.
PROBE_HIDDEN_S, PROBE_LIFE_S = 60, 90
REQUEST_TIMEOUT_S = (10, 30)
TOKEN_CLAIMS = 1  # of a JSON Web Token's three parts
# How Microsoft Entra's two kinds of tokens, and OAuth 2.0's (RFC 9068), call the app that a token was given to.
CLIENT_CLAIMS = ("appid", "azp", "client_id")
STORAGE_ADVICE = (
    "Check the account that DropStorage__blobServiceUri and DropStorage__queueServiceUri name, its rules and DNS."
)

OK = 200
UNAUTHORIZED = 401
NOT_FOUND = 404

Verdict = Literal["works", "fails", "not checked"]
Value = TypeVar("Value")

log = logging.getLogger("itwin_image_drop")


@dataclass(frozen=True)
class Finding:
    """What one check found, in a sentence or two; where it fails, with what to do."""

    subject: str
    verdict: Verdict
    text: str

    def __str__(self) -> str:
        return f"[{self.verdict}] {self.subject}: {self.text}"


@dataclass(frozen=True)
class Report:
    """All findings, in the order in which a drop meets what they are about."""

    findings: tuple[Finding, ...]

    @property
    def is_good(self) -> bool:
        """Whether nothing fails."""
        return all(finding.verdict != "fails" for finding in self.findings)

    def __str__(self) -> str:
        good, bad = "Nothing that was checked fails.", "What fails must be repaired before drops arrive."
        return "\n".join([*map(str, self.findings), "", good if self.is_good else bad, ""])


class _FailedError(Exception):
    """The check failed; says why and what to do."""


class _NotCheckedError(Exception):
    """The check could not be made; says why."""


def examine(
    environ: Mapping[str, str], *, itwin_id: str | None = None, event_timeout_s: float = EVENT_TIMEOUT_S
) -> Report:
    """Check everything that a drop needs, for some `event_timeout_s` at most; never raises.

    `itwin_id` is an iTwin that images shall be dropped for.
    """
    storage = _unless_wrong(lambda: StorageSettings.from_environ(environ))
    settings = _unless_wrong(lambda: Settings.from_environ(environ))
    tokens = open_tokens(settings.login, HttpClient()) if settings else None
    checks: tuple[tuple[str, Callable[[], str]], ...] = (
        ("Settings", lambda: _check_settings(environ)),
        ("Access token", lambda: _check_token(_given(settings), _given(tokens))),
        ("iTwin", lambda: _check_permission(_given(settings), _given(tokens), itwin_id)),
        ("Drops", lambda: _check_reading(_given(storage), itwin_id)),
        ("Results", lambda: _check_writing(_given(storage), _given(storage).results_container)),
        ("Ledger", lambda: _check_writing(_given(storage), LEDGER_CONTAINER)),
        ("Queues", lambda: _check_queues(_given(storage))),
        ("Events", lambda: _check_events(_given(storage), event_timeout_s)),
    )
    with ThreadPoolExecutor(len(checks)) as pool:
        return Report(tuple(pool.map(lambda check: _finding(*check), checks)))


def _finding(subject: str, check: Callable[[], str]) -> Finding:
    try:
        return Finding(subject, "works", check())
    except _NotCheckedError as reason:
        return Finding(subject, "not checked", str(reason))
    except _FailedError as reason:
        return Finding(subject, "fails", str(reason))
    except DropError as error:
        return Finding(subject, "fails", error.message)
    except AzureError as error:
        return Finding(subject, "fails", _tell(storage_error(error)))
    except Exception as error:
        log.exception("The preflight's check of %s failed.", subject)
        return Finding(subject, "fails", f"An unexpected {type(error).__name__}; the log has more of it.")


def _tell(error: DropError) -> str:
    if isinstance(error, StorageUnavailable):
        return f"{error.message} {STORAGE_ADVICE}"
    return error.message


def _unless_wrong(read: Callable[[], Value]) -> Value | None:
    try:
        return read()
    except InvalidSettings:
        return None


def _given(value: Value | None) -> Value:
    if value is None:
        raise _NotCheckedError("The settings must be right first.")
    return value


def _check_settings(environ: Mapping[str, str]) -> str:
    settings = Settings.from_environ(environ)
    way = "the managed identity" if isinstance(settings.login, ManagedIdentityLogin) else "client credentials"
    return f"All are there and right. Images go to {settings.api_url} with a token by {way}."


def _check_token(settings: Settings, tokens: AccessTokens) -> str:
    login = settings.login
    giver = "The managed identity" if isinstance(login, ManagedIdentityLogin) else login.token_url
    said = (
        _describe(_claims(tokens.get(time.monotonic() + REQUEST_TIMEOUT_S[1])))
        or "It is opaque: it says neither its audience nor its expiry."
    )
    return f"{giver} gave one for the scope {login.scope!r}. {said}"


def _claims(token: str) -> Mapping[str, Any]:
    """Read what a JSON Web Token (RFC 7519) says of itself; nothing where it is none. It is not verified."""
    try:
        part = token.split(".")[TOKEN_CLAIMS]
        return parse_object(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    except (IndexError, ValueError):
        return {}


def _describe(claims: Mapping[str, Any]) -> str:
    """Say what of a token an operator compares; any of it may be missing, as authorities differ."""
    named = {
        "audience": claims.get("aud"),
        "issuer": claims.get("iss"),
        "client": next((claims[name] for name in CLIENT_CLAIMS if name in claims), None),
    }
    facts = [f"{name} {value!r}" for name, value in named.items() if value and isinstance(value, str | list)]
    with suppress(KeyError, TypeError, ValueError, OverflowError, OSError):
        facts.append(f"good until {datetime.fromtimestamp(claims['exp'], UTC).isoformat()}")
    return f"It says of itself: {', '.join(facts)}." if facts else ""


def _check_permission(settings: Settings, tokens: AccessTokens, itwin_id: str | None) -> str:
    """Ask what the app may do to the iTwin: https://developer.bentley.com/apis/access-control-v2/."""
    if not itwin_id:
        raise _NotCheckedError("Name an iTwin to learn whether the app may change its image: add ?itwin=<iTwin ID>.")
    if not ITWIN_ID.fullmatch(itwin_id):
        raise _FailedError("That is no iTwin ID, which is a GUID in lower case with hyphens.")
    try:
        token = tokens.get(time.monotonic() + REQUEST_TIMEOUT_S[1])
    except TokenUnavailable as error:
        message = "There must be an access token first."
        raise _NotCheckedError(message) from error

    def authorize(request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {token}"
        return request

    try:
        answer = requests.get(
            f"{settings.api_url}/accesscontrol/itwins/{itwin_id}/permissions",
            headers={"Accept": "application/json", "User-Agent": USER_AGENT},
            auth=authorize,
            timeout=REQUEST_TIMEOUT_S,
            allow_redirects=False,
        )
    except requests.RequestException as error:
        message = f"{settings.api_url} could not be reached: check ITWIN_API_URL and the network."
        raise _FailedError(message) from error
    return _read_permissions(settings, itwin_id, answer)


def _read_permissions(settings: Settings, itwin_id: str, answer: requests.Response) -> str:
    if answer.status_code == UNAUTHORIZED:
        raise _FailedError(
            f"{settings.api_url} does not accept the access token (401): check ITWIN_LOGIN and ITWIN_TOKEN_SCOPE. A "
            "managed identity's own token needs a gateway before the API that exchanges it."
        )
    if answer.status_code == NOT_FOUND:
        raise _FailedError(
            f"{settings.api_url} knows no iTwin {itwin_id} (404): check the ID, and that a gateway before the API "
            "passes /accesscontrol on."
        )
    try:
        permissions = answer.json()["permissions"] if answer.status_code == OK else None
    except (ValueError, KeyError, TypeError):
        permissions = None
    if not isinstance(permissions, list):
        raise _FailedError(
            f"{settings.api_url} answered {answer.status_code} without permissions: check ITWIN_API_URL, or ask again."
        )
    if PERMISSION not in permissions:
        raise _FailedError(
            f"The app lacks the permission {PERMISSION} on the iTwin {itwin_id}: give the app's iTwin user, a service "
            "app has an e-mail address of its own, a role with it."
        )
    return f"The app may change the image of {itwin_id} ({PERMISSION})."


def _check_reading(storage: StorageSettings, itwin_id: str | None) -> str:
    container = itwin_id if itwin_id and ITWIN_ID.fullmatch(itwin_id) else PROBE_CONTAINER
    with open_blobs(storage) as blobs:
        try:
            # A blob that is not there is refused alike to whoever may not read it.
            blobs.get_blob_client(container, str(uuid.uuid4())).download_blob()
        except ResourceNotFoundError as error:
            code = getattr(error, "error_code", None)
            if container == itwin_id and code == StorageErrorCode.CONTAINER_NOT_FOUND:
                message = f"There is no container {itwin_id}: make one, and drop images there."
                raise _FailedError(message) from error
            if code not in (StorageErrorCode.BLOB_NOT_FOUND, StorageErrorCode.CONTAINER_NOT_FOUND):
                raise  # not an answer of a storage account
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
            message = f"The container {container!r} is not there: deploy the infrastructure again{otherwise}."
            raise _FailedError(message) from error
        blob.delete_blob()
    return f"The app may write to the container {container!r}."


def _check_queues(storage: StorageSettings) -> str:
    counts = {name: _count_messages(storage, name) for name in (RETRY_QUEUE, *GIVEN_UP_QUEUES)}
    with open_queue(storage, RETRY_QUEUE) as queue:
        probe = queue.send_message("preflight", visibility_timeout=PROBE_HIDDEN_S, time_to_live=PROBE_LIFE_S)
        queue.delete_message(probe)
    waiting = ", ".join(f"{name} {count}" for name, count in counts.items())
    return f"The app may send and take messages. About so many wait: {waiting}."


def _count_messages(storage: StorageSettings, name: str) -> int:
    with open_queue(storage, name) as queue:
        try:
            return queue.get_queue_properties().approximate_message_count or 0
        except ResourceNotFoundError as error:
            message = f"The queue {name!r} is not there: deploy the infrastructure again."
            raise _FailedError(message) from error


def _check_events(storage: StorageSettings, timeout_s: float) -> str:
    """Drop something and wait for its result: the app cannot see the event subscription itself."""
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
                        f"A drop had no result after {timeout_s:.0f} s: check that the event subscription of the drop "
                        "account is there and names the function process_drop and this app's key blobs_extension, "
                        "look for its events in the container of dead letters, and read the log."
                    )
                time.sleep(PROBE_INTERVAL_S)
        finally:
            for blob in (dropped, result):
                with suppress(ResourceNotFoundError):
                    blob.delete_blob()
    took_s = time.monotonic() - began
    return f"A drop reached the function and left its result within {took_s:.0f} s: the event subscription points here."
