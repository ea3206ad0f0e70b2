"""The drop account: how its clients are opened, and what its errors mean for a drop."""

from __future__ import annotations

from email.utils import format_datetime
from functools import partial
from http import HTTPStatus
from importlib import import_module
from typing import TYPE_CHECKING, Any

from azure.core.exceptions import AzureError, ClientAuthenticationError, HttpResponseError
from azure.storage.blob import BlobServiceClient, ExponentialRetry

from shared.deadline import left_s
from shared.drop import MAX_READABLE_BYTES, UNREADABLE
from shared.errors import (
    ResourcesExhausted,
    StorageForbidden,
    StorageLocked,
    StorageUnavailable,
)
from shared.http_client import HttpClient, NoResponse
from shared.identity import IdentityFailed, ManagedIdentity
from shared.sdk_transport import StorageTransport, error_code

if TYPE_CHECKING:
    from collections.abc import Mapping

    from azure.core.credentials import TokenCredential
    from azure.core.pipeline import PipelineRequest, PipelineResponse
    from azure.storage.queue import QueueClient

    from shared.clock import StorageTime
    from shared.errors import DropError
    from shared.http_client import Sender
    from shared.settings import StorageSettings


def storage_identity(settings: StorageSettings, http: Sender | None = None) -> TokenCredential:
    """Return the identity that the settings name; all clients share it, since it caches their tokens."""
    return ManagedIdentity(http or HttpClient(), settings.client_id, settings="DropStorage__clientId")


def open_blobs(
    settings: StorageSettings,
    identity: TokenCredential | None = None,
    time: StorageTime | None = None,
    http: HttpClient | None = None,
) -> BlobServiceClient:
    """Open the blob service, by default as the identity that the settings name; nothing is sent yet."""
    # A byte more than is ever read, so that a response to a larger blob's read announces too much.
    options = _options(time, http) | {"max_single_get_size": MAX_READABLE_BYTES + 1}
    if settings.connection_string:
        return BlobServiceClient.from_connection_string(settings.connection_string, **options)
    return BlobServiceClient(settings.blob_service_url, credential=identity or storage_identity(settings), **options)


def open_queue(
    settings: StorageSettings,
    name: str,
    identity: TokenCredential | None = None,
    time: StorageTime | None = None,
    http: HttpClient | None = None,
) -> QueueClient:
    """Open a queue whose messages the Functions host can read, which expects them in base64."""
    # Imported only when needed: few drops are postponed, and the others should not pay for the import.
    from azure.storage.queue import QueueClient, TextBase64DecodePolicy, TextBase64EncodePolicy  # noqa: PLC0415

    import_module("shared.queue_models")

    options = _options(time, http) | {
        "message_encode_policy": TextBase64EncodePolicy(),
        "message_decode_policy": TextBase64DecodePolicy(),
    }
    if settings.connection_string:
        return QueueClient.from_connection_string(settings.connection_string, name, **options)
    return QueueClient(settings.queue_service_url, name, credential=identity or storage_identity(settings), **options)


def _options(time: StorageTime | None, http: HttpClient | None) -> dict[str, Any]:
    """Return the options of all clients."""
    return {
        "transport": StorageTransport(http or HttpClient()),
        "permit_redirects": False,
        "retry_policy": _Tries(),
        "raw_request_hook": partial(_date, time) if time else None,
        "raw_response_hook": partial(_observe_date, time) if time else None,
    }


def _date(time: StorageTime, request: PipelineRequest[Any]) -> None:
    """Date a request by storage's clock before it is signed: an account key's signature is valid for 15 minutes."""
    request.http_request.headers["x-ms-date"] = format_datetime(time.now(), usegmt=True)


def _observe_date(time: StorageTime, response: PipelineResponse[Any, Any]) -> None:
    time.observe(response.http_response.headers.get("Date", ""))


class _Tries(ExponentialRetry):
    """Four tries within about twenty seconds, and none for whose pause there is no time: then the last error stays.

    The SDK's default starts with fifteen seconds. Longer waits are left to the queue. A login that has no token has
    tried for itself, and is not asked again.
    """

    def __init__(self) -> None:
        super().__init__(initial_backoff=1, increment_base=2, retry_total=3, random_jitter_range=1)

    def increment(self, settings: dict[str, Any], *request: Any, **ended: Any) -> bool:
        """Count a try that failed, and say whether another one follows; its pause is drawn here."""
        may_follow = super().increment(settings, *request, **ended)
        if isinstance(ended.get("error"), ClientAuthenticationError):
            return False
        settings["pause_s"] = super().get_backoff_time(settings)
        return may_follow and settings["pause_s"] < left_s()

    def get_backoff_time(self, settings: dict[str, Any]) -> float:
        """Return how long to pause before the next try."""
        pause_s: float = settings["pause_s"]
        return pause_s


# What storage says about a blob that no retry changes, or only time:
# https://learn.microsoft.com/rest/api/storageservices/blob-service-error-codes
BLOB_STATES: Mapping[str, tuple[type[DropError], str]] = {
    **UNREADABLE,
    **dict.fromkeys(
        (
            "BlobImmutableDueToPolicy",
            "BlobImmutableDueToLegalHold",
            "LeaseIdMissing",
            "LeaseIdMismatchWithBlobOperation",
        ),
        (
            StorageLocked,
            "A lease, a legal hold or an immutability policy is on a result or on the ledger: remove it.",
        ),
    ),
}


def storage_error(error: AzureError) -> DropError:
    """Return what an error of storage means for a drop; the cause is the one that storage itself states."""
    if isinstance(error, IdentityFailed):
        return type(error.problem)(error.problem.message, retry_after_s=error.problem.retry_after_s)
    status = error.status_code if isinstance(error, HttpResponseError) else None
    if status is None and isinstance(error, ClientAuthenticationError):
        return StorageForbidden(
            "No request to the drop account could be signed: correct the AccountKey in DropStorage."
        )
    if status is None:
        return _unheard(error.__cause__)
    code = error_code(error) or "no error code"
    if known := BLOB_STATES.get(code):
        kind, message = known
        return kind(message)
    if isinstance(error, ClientAuthenticationError) or status == HTTPStatus.FORBIDDEN:
        return StorageForbidden(f"The drop account refused the app ({code}): {ADVICE.get(code, GENERAL_ADVICE)}")
    return StorageUnavailable(f"The drop account responded with {status} ({code}).")


def _unheard(cause: BaseException | None) -> DropError:
    """Say why storage did not respond."""
    if not isinstance(cause, NoResponse):
        return StorageUnavailable("The drop account could not be reached.")
    if cause.cause == "exhausted":
        return ResourcesExhausted(cause.message)
    what = "may have been reached, but did not respond" if cause.may_have_arrived else "could not be reached"
    return StorageUnavailable(f"The drop account {what}: {cause.message}")


ROLES = "the roles Storage Blob Data Contributor and Storage Queue Data Contributor on that account"
# https://learn.microsoft.com/rest/api/storageservices/common-rest-api-error-codes
ADVICE = {
    "AuthorizationPermissionMismatch": (
        "the app's identity lacks a role, or its shared access signature a permission. Give the identity that "
        f"DropStorage__clientId names {ROLES}."
    ),
    "AuthorizationFailure": (
        "the account's network rules do not admit it, or a shared access signature does not. Let the app's network in "
        "(Networking: virtual networks, private endpoints, firewall)."
    ),
    "AuthenticationFailed": (
        "the account does not accept the signature. If a key was renewed or revoked, or a shared access signature has "
        "expired, put the new connection string into DropStorage."
    ),
    "KeyBasedAuthenticationNotPermitted": (
        "the account accepts no keys. Set DropStorage__blobServiceUri and DropStorage__queueServiceUri instead of "
        f"DropStorage, and give the app's identity {ROLES}."
    ),
}
GENERAL_ADVICE = (
    f"look up this error code, give the app's identity {ROLES}, and check the settings DropStorage__clientId and "
    "...Uri, the account's network rules and, where DropStorage is set, its key."
)
