"""Reads the host's settings: `host.json` with its overrides in app settings, and connections by a setting's name."""

from __future__ import annotations

import json
import logging
import os
import re
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from azure.identity import ManagedIdentityCredential
from azure.storage.blob import BlobServiceClient
from azure.storage.queue import QueueServiceClient

from local.serving import LocalCloudError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

DEFAULT_CONNECTION = "AzureWebJobsStorage"
MAX_BATCH_SIZE = 32
_OVERRIDE = "AzureFunctionsJobHost__"

# The host's own requests do not belong in the app's log.
_storage_log = logging.getLogger("local.functions_host.storage")
_storage_log.setLevel(logging.WARNING)

# Short delays between retries, as in the .NET SDK; the Python SDK begins with 15 s.
_CLIENT_OPTIONS: dict[str, Any] = {
    "user_agent": "functions-host",  # distinguishes its requests from the app's
    "logger": _storage_log,
    "initial_backoff": 1,
    "increment_base": 2,
    "random_jitter_range": 0,
    "retry_total": 2,
}


@dataclass(frozen=True)
class QueueOptions:
    """The settings of a queue's listener, named as in host.json.

    https://learn.microsoft.com/azure/azure-functions/functions-bindings-storage-queue#hostjson-settings
    """

    batch_size: int = 16
    new_batch_threshold: int = 8
    max_dequeue_count: int = 5
    visibility_timeout_s: float = 0.0
    max_polling_interval_s: float = 60.0
    base64: bool = True


@dataclass(frozen=True)
class HostOptions:
    """What the host uses of host.json and its overrides."""

    blobs: QueueOptions
    queues: QueueOptions
    route_prefix: str = "api"


def read_host_options(app_folder: Path, environment: Mapping[str, str]) -> HostOptions:
    """Read host.json; raises LocalCloudError, which names the invalid setting."""
    path = app_folder / "host.json"
    try:
        document = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        document = {}
    except (OSError, ValueError) as error:
        raise LocalCloudError(f"{path} cannot be read: {error}") from error
    if not isinstance(document, dict):
        raise LocalCloudError(f"{path} must hold a JSON object.")
    # https://learn.microsoft.com/azure/azure-functions/functions-host-json#override-hostjson-values
    for name, value in environment.items():
        if name.startswith(_OVERRIDE):
            _put(document, name.removeprefix(_OVERRIDE).split("__"), value)
    extensions = _Section(document, "extensions")
    return HostOptions(
        blobs=_blob_options(_Section(extensions.values, "blobs")),
        queues=_queue_options(_Section(extensions.values, "queues")),
        route_prefix=str(_Section(extensions.values, "http").get("routePrefix", "api")).strip("/"),
    )


def resolve_settings(text: str, environment: Mapping[str, str]) -> str:
    """Replace every `%NAME%` by the app setting of that name, as the host does in paths and queue names."""

    def value_of(match: re.Match[str]) -> str:
        if match[1] not in environment:
            raise LocalCloudError(f"'%{match[1]}%' does not resolve to a value.")
        return environment[match[1]]

    return re.sub(r"%([^%]+)%", value_of, text)


def blob_service(connection: str) -> BlobServiceClient:
    """Open the blob service that a connection's app settings name."""
    name, value = _find_connection(connection, "blob")
    if value is None:
        return BlobServiceClient.from_connection_string(os.environ[name], **_CLIENT_OPTIONS)
    return BlobServiceClient(value, credential=_credential(name), **_CLIENT_OPTIONS)


def queue_service(connection: str) -> QueueServiceClient:
    """Open the queue service that a connection's app settings name."""
    name, value = _find_connection(connection, "queue")
    if value is None:
        return QueueServiceClient.from_connection_string(os.environ[name], **_CLIENT_OPTIONS)
    return QueueServiceClient(value, credential=_credential(name), **_CLIENT_OPTIONS)


def _find_connection(connection: str, service: str) -> tuple[str, str | None]:
    """Return the setting's name and its service address, or None for the latter if it is a connection string."""
    for name in (f"AzureWebJobs{connection}", connection):
        if os.environ.get(name):
            return name, None
        address = os.environ.get(f"{name}__{service}ServiceUri")
        if address:
            return name, address
    message = (
        f"Storage account connection string '{connection}' does not exist. Make sure that it is a defined App Setting, "
        f"or that '{connection}__{service}ServiceUri' is."
    )
    raise LocalCloudError(message)


def _credential(name: str) -> ManagedIdentityCredential:
    return ManagedIdentityCredential(client_id=os.environ.get(f"{name}__clientId"))


def _blob_options(section: _Section) -> QueueOptions:
    # As the extension splits it: https://github.com/Azure/azure-sdk-for-net, SharedBlobQueueListenerFactory
    parallelism = section.whole_number("maxDegreeOfParallelism", 8 * (os.cpu_count() or 1), minimum=1)
    batch_size = min(MAX_BATCH_SIZE, parallelism // 2 + 1)
    return QueueOptions(
        batch_size=batch_size,
        new_batch_threshold=parallelism - batch_size,
        max_dequeue_count=section.whole_number("poisonBlobThreshold", 5, minimum=1),
    )


def _queue_options(section: _Section) -> QueueOptions:
    batch_size = section.whole_number("batchSize", 16, minimum=1, maximum=MAX_BATCH_SIZE)
    default_threshold = batch_size // 2 * (os.cpu_count() or 1)
    encoding = str(section.get("messageEncoding", "base64")).lower()
    if encoding not in {"base64", "none"}:
        raise LocalCloudError(f"{section.path}.messageEncoding in host.json must be 'base64' or 'none'.")
    return QueueOptions(
        batch_size=batch_size,
        new_batch_threshold=section.whole_number("newBatchThreshold", default_threshold, minimum=0),
        max_dequeue_count=section.whole_number("maxDequeueCount", 5, minimum=1),
        visibility_timeout_s=section.duration_s("visibilityTimeout", 0.0),
        max_polling_interval_s=section.duration_s("maxPollingInterval", 60.0, minimum_s=0.1),
        base64=encoding == "base64",
    )


class _Section:
    """One object of host.json; names are case-insensitive, as in .NET."""

    def __init__(self, parent: Mapping[str, Any], name: str) -> None:
        self.path = name
        found: Any = next((value for key, value in parent.items() if key.lower() == name.lower()), {})
        self.values: Mapping[str, Any] = found if isinstance(found, dict) else {}

    def get(self, name: str, default: Any) -> Any:
        return next((value for key, value in self.values.items() if key.lower() == name.lower()), default)

    def whole_number(self, name: str, default: int, *, minimum: int, maximum: int | None = None) -> int:
        value = self.get(name, default)
        try:
            number = int(value)
        except (TypeError, ValueError):
            number = minimum - 1
        if number < minimum or (maximum is not None and number > maximum):
            bounds = f"at least {minimum}" if maximum is None else f"from {minimum} to {maximum}"
            raise LocalCloudError(f"{self.path}.{name} in host.json is {value!r}, but must be a whole number {bounds}.")
        return number

    def duration_s(self, name: str, default_s: float, *, minimum_s: float = 0.0) -> float:
        value = self.get(name, None)
        if value is None:
            return default_s
        match = re.fullmatch(r"(?:(\d+)\.)?(\d+):(\d+):(\d+(?:\.\d+)?)", str(value))
        if match is None:
            raise LocalCloudError(f"{self.path}.{name} in host.json is {value!r}, but must look like '00:00:30'.")
        days, hours, minutes, seconds = (float(part or 0) for part in match.groups())
        duration_s = timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds).total_seconds()
        if duration_s < minimum_s:
            raise LocalCloudError(f"{self.path}.{name} in host.json must not be less than {minimum_s} s.")
        return duration_s


def _put(document: dict[str, Any], path: list[str], value: str) -> None:
    for name in path[:-1]:
        key = next((key for key in document if key.lower() == name.lower()), name)
        nested = document.setdefault(key, {})
        if not isinstance(nested, dict):
            return
        document = nested
    key = next((key for key in document if key.lower() == path[-1].lower()), path[-1])
    document[key] = value
