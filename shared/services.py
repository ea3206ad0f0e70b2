"""The composition root: what lives as long as the process, built on first use and never at import."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from shared.admission import Admission
from shared.credentials import open_tokens
from shared.errors import InvalidSettings
from shared.itwin_platform import ITwinPlatform
from shared.ledger import Ledger
from shared.results import ResultStore
from shared.retries import RETRY_QUEUE, RetryPolicy, RetryQueue
from shared.settings import Settings, StorageSettings
from shared.storage import open_blobs, open_queue, storage_identity
from shared.throttle import Throttle

if TYPE_CHECKING:
    from collections.abc import Mapping

    from azure.storage.blob import BlobServiceClient

# https://learn.microsoft.com/rest/api/storageservices/lease-blob: a lease lasts 15 to 60 seconds
SHORTEST_LEASE_S, LONGEST_LEASE_S = 15, 60
# A turn outlasts its upload by enough to write down what is up.
TURN_MARGIN_S = 15
# For so many times the patience of the app, the platform may still carry out an upload that it did not answer. With
# the defaults that is 240 s: Azure's own front ends end every call after 230.
DOUBT_TIMEOUTS = 6


class Services:
    """Everything a drop needs.

    Storage comes first and alone, so that a wrong setting of the rest still ends in a result: `app` raises
    InvalidSettings when it is asked for.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        """Open the storage. Raises InvalidSettings where its own settings are wrong."""
        self._environ = environ
        self._lock = threading.Lock()
        self._app: App | None = None
        self._storage_settings = storage = StorageSettings.from_environ(environ)
        self.results_container = storage.results_container
        self._identity = storage_identity(storage)
        self.storage = open_blobs(storage, self._identity)
        self.results = ResultStore(self.storage, storage.results_container)

    @cached_property
    def retries(self) -> RetryQueue:
        """Return the queue of what waits, which is opened when the first drop must."""
        return RetryQueue(open_queue(self._storage_settings, RETRY_QUEUE, self._identity))

    @property
    def app(self) -> App:
        """Return what all settings together make. Raises InvalidSettings, and tries anew at the next call."""
        with self._lock:
            if self._app is None:
                self._app = App.from_settings(Settings.from_environ(self._environ), self.storage)
            return self._app

    @property
    def retry_policy(self) -> RetryPolicy:
        """Return how often a drop is tried; the defaults while settings are wrong."""
        try:
            return self.app.settings.retries
        except InvalidSettings:
            return RetryPolicy()


@dataclass(frozen=True)
class App:
    """What needs every setting to be right."""

    settings: Settings
    throttle: Throttle
    platform: ITwinPlatform
    ledger: Ledger
    admission: Admission

    @classmethod
    def from_settings(cls, settings: Settings, storage: BlobServiceClient) -> App:
        """Put the parts together; nothing is sent yet."""
        throttle = Throttle(scale=settings.retries.min_delay_s / RetryPolicy().min_delay_s)
        tokens = open_tokens(settings.login)
        platform = ITwinPlatform(settings.api_url, tokens, throttle, timeout_s=settings.timeout_s)
        turn_s = min(max(settings.timeout_s + TURN_MARGIN_S, SHORTEST_LEASE_S), LONGEST_LEASE_S)
        ledger = Ledger(storage, turn_s=turn_s, doubt_s=DOUBT_TIMEOUTS * settings.timeout_s)
        return cls(settings, throttle, platform, ledger, Admission())


_lock = threading.Lock()
_services: Services | None = None


def open_services() -> Services:
    """Return the process's services. Raises InvalidSettings, and tries anew at the next call."""
    global _services  # noqa: PLW0603 - the one place that knows what lives as long as the process
    with _lock:
        if _services is None:
            _services = Services(os.environ)
        return _services
