"""The drop account: how its clients are opened, and what its errors mean for a drop."""

from __future__ import annotations

from typing import TYPE_CHECKING

from azure.core.exceptions import AzureError, ClientAuthenticationError, HttpResponseError
from azure.identity import ManagedIdentityCredential
from azure.storage.blob import BlobServiceClient, ExponentialRetry
from azure.storage.queue import QueueClient, TextBase64DecodePolicy, TextBase64EncodePolicy

from shared.drop import MAX_READABLE_BYTES
from shared.errors import StorageForbidden, StorageUnavailable

if TYPE_CHECKING:
    from shared.errors import DropError
    from shared.settings import StorageSettings

FORBIDDEN = 403


def open_blobs(settings: StorageSettings) -> BlobServiceClient:
    """Open the blob service; nothing is sent yet."""
    if settings.connection_string:
        return BlobServiceClient.from_connection_string(
            settings.connection_string, max_single_get_size=MAX_READABLE_BYTES, retry_policy=_retry_policy()
        )
    return BlobServiceClient(
        settings.blob_service_url,
        credential=ManagedIdentityCredential(client_id=settings.client_id),
        max_single_get_size=MAX_READABLE_BYTES,
        retry_policy=_retry_policy(),
    )


def open_queue(settings: StorageSettings, name: str) -> QueueClient:
    """Open a queue whose messages the Functions host can read, which expects them in base64."""
    encode, decode = TextBase64EncodePolicy(), TextBase64DecodePolicy()
    if settings.connection_string:
        return QueueClient.from_connection_string(
            settings.connection_string,
            name,
            message_encode_policy=encode,
            message_decode_policy=decode,
            retry_policy=_retry_policy(),
        )
    return QueueClient(
        settings.queue_service_url,
        name,
        credential=ManagedIdentityCredential(client_id=settings.client_id),
        message_encode_policy=encode,
        message_decode_policy=decode,
        retry_policy=_retry_policy(),
    )


def _retry_policy() -> ExponentialRetry:
    """Try four times in some ten seconds; the SDK's default begins with fifteen. Longer waits are the queue's."""
    return ExponentialRetry(initial_backoff=1, increment_base=2, retry_total=3, random_jitter_range=1)


def storage_error(error: AzureError) -> DropError:
    """Say what an error of storage means for the drop that met it."""
    status = error.status_code if isinstance(error, HttpResponseError) else None
    if isinstance(error, ClientAuthenticationError) or status == FORBIDDEN:
        return StorageForbidden(
            "The drop account refused the app: give its identity the roles Storage Blob Data Owner and Storage Queue "
            "Data Contributor on that account, and check the settings DropStorage__clientId and ...Uri."
        )
    if status is None:
        return StorageUnavailable("The drop account could not be reached.")
    code = getattr(error, "error_code", None) or "no error code"
    return StorageUnavailable(f"The drop account answered {status} ({code}).")
