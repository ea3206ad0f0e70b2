"""The composition root: what lives as long as the process, built on first use and never at import."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

from azure.identity import ManagedIdentityCredential
from azure.storage.blob import BlobServiceClient

from shared.credentials import open_tokens
from shared.drop import MAX_READABLE_BYTES
from shared.itwin_platform import ITwinPlatform
from shared.results import ResultStore
from shared.settings import Settings, StorageSettings

if TYPE_CHECKING:
    from collections.abc import Mapping


class Services:
    """Everything a drop needs.

    Storage comes first and alone, so that a wrong setting of the rest still ends in a result: `settings` and
    `platform` raise InvalidSettings when they are asked for.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        """Open the storage. Raises InvalidSettings where its own settings are wrong."""
        self._environ = environ
        self._lock = threading.Lock()
        self._platform: ITwinPlatform | None = None
        self._settings: Settings | None = None
        storage = StorageSettings.from_environ(environ)
        self.results_container = storage.results_container
        self.storage = _open_storage(storage)
        self.results = ResultStore(self.storage, storage.results_container)

    @property
    def settings(self) -> Settings:
        """Every setting. Raises InvalidSettings."""
        with self._lock:
            if self._settings is None:
                self._settings = Settings.from_environ(self._environ)
            return self._settings

    @property
    def platform(self) -> ITwinPlatform:
        """The client of the API. Raises InvalidSettings."""
        settings = self.settings
        with self._lock:
            if self._platform is None:
                self._platform = ITwinPlatform(
                    settings.api_url,
                    open_tokens(settings.login),
                    connect_timeout_s=settings.connect_timeout_s,
                    read_timeout_s=settings.read_timeout_s,
                )
            return self._platform


def _open_storage(settings: StorageSettings) -> BlobServiceClient:
    if settings.connection_string:
        return BlobServiceClient.from_connection_string(
            settings.connection_string, max_single_get_size=MAX_READABLE_BYTES
        )
    credential = ManagedIdentityCredential(client_id=settings.client_id)
    return BlobServiceClient(settings.blob_service_url, credential=credential, max_single_get_size=MAX_READABLE_BYTES)


_lock = threading.Lock()
_services: Services | None = None


def open_services() -> Services:
    """Return the process's services. Raises InvalidSettings, and tries anew at the next call."""
    global _services  # noqa: PLW0603 - the one place that knows what lives as long as the process
    with _lock:
        if _services is None:
            _services = Services(os.environ)
        return _services
