"""The composition root: what lives as long as the process, built on first use and never at import."""

from __future__ import annotations

import os
import random
import threading
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from shared.admission import Admission
from shared.cage import CageLimits, open_images
from shared.cage.instance import instance_bytes, limits_for
from shared.clock import LOCAL, Clock, StorageTime, utc_now
from shared.credentials import open_tokens
from shared.decisions import RetryPolicy
from shared.errors import InvalidSettings
from shared.http_client import HttpClient
from shared.itwin_platform import ITwinPlatform
from shared.ledger import Ledger
from shared.results import ResultStore
from shared.retries import RETRY_QUEUE, RetryQueue
from shared.settings import DEFAULT_MAX_SOURCE_BYTES, Settings, StorageSettings
from shared.storage import open_blobs, open_queue, storage_identity
from shared.throttle import Throttle

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from azure.storage.blob import BlobServiceClient

    from shared.http_client import Sender
    from shared.image import NormalizedImage

    Normalize = Callable[[bytes, float, int], NormalizedImage]
    Normalizer = Callable[[Settings], Normalize]

# How long a busy instance may delay a process that needs all of its CPU time.
WALL_FACTOR = 6
# How much longer than its upload a call lasts, so that the outcome can be recorded.
CALL_MARGIN_S = 15
# For how many times the app's own timeout the platform may still apply an upload without a response. With the defaults
# that is 240 s: Azure's own front ends end every call after 230 s.
UNSETTLED_TIMEOUTS = 6


@dataclass(frozen=True)
class App:
    """The parts that need every setting to be valid."""

    settings: Settings
    throttle: Throttle
    platform: ITwinPlatform
    ledger: Ledger
    normalize: Normalize
    files: Admission
    """How many files are in memory at once: each from before it is read until it has become an image."""

    @classmethod
    def from_settings(
        cls, settings: Settings, storage: BlobServiceClient, http: Sender, clock: Clock, normalizer: Normalizer
    ) -> App:
        """Put the parts together; nothing is sent yet."""
        retries = settings.retries
        throttle = Throttle(scale=retries.min_delay_s / RetryPolicy().min_delay_s, max_pause_s=retries.max_delay_s)
        tokens = open_tokens(settings.login, http)
        platform = ITwinPlatform(settings.api_url, tokens, throttle, http, timeout_s=settings.timeout_s)
        ledger = open_ledger(storage, clock.now, settings.timeout_s)
        files = Admission(image_limits(settings).processes)
        return cls(settings, throttle, platform, ledger, normalizer(settings), files)


def caged(settings: Settings) -> Normalize:
    """Have a cage started, and return what normalizes images in it."""
    images = open_images(settings.limits, image_limits(settings))
    images.prepare()
    return images.normalize


def image_limits(settings: Settings) -> CageLimits:
    """Return what images may use: what the settings say, otherwise what the instance has to spare."""
    limits = limits_for(instance_bytes(), settings.max_source_bytes)
    return replace(
        limits,
        budget_bytes=settings.max_image_memory_mb * 1_000_000 or limits.budget_bytes,
        cpu_s=settings.max_image_cpu_s,
        wall_s=WALL_FACTOR * settings.max_image_cpu_s,
    )


def open_ledger(storage: BlobServiceClient, now: Callable[[], datetime], timeout_s: float) -> Ledger:
    """Return the ledger of an app whose uploads take at most `timeout_s` seconds."""
    return Ledger(storage, now, call_s=timeout_s + CALL_MARGIN_S, unsettled_s=UNSETTLED_TIMEOUTS * timeout_s)


@dataclass(frozen=True)
class Services:
    """Everything a drop needs.

    Storage is opened first and separately, so that any other wrong setting still leads to a result: `app_or_problem` is
    then an InvalidSettings.
    """

    results_container: str
    storage: BlobServiceClient
    results: ResultStore
    retries: RetryQueue
    app_or_problem: App | InvalidSettings
    clock: Clock = LOCAL
    uniform: Callable[[float, float], float] = random.uniform

    @classmethod
    def from_environ(
        cls,
        environ: Mapping[str, str],
        local_time: Callable[[], datetime] = utc_now,
        normalizer: Normalizer = caged,
    ) -> Services:
        """Open what the settings name; nothing is sent yet. Raises InvalidSettings if those of storage are wrong."""
        settings = StorageSettings.from_environ(environ)
        http, time = HttpClient(), StorageTime(local_time)
        identity = storage_identity(settings, http)
        storage, clock = open_blobs(settings, identity, time, http), Clock(time.now, is_told=time.is_told)
        try:
            app_or_problem: App | InvalidSettings = App.from_settings(
                Settings.from_environ(environ), storage, http, clock, normalizer
            )
        except InvalidSettings as problem:
            app_or_problem = problem
        return cls(
            settings.results_container,
            storage,
            ResultStore(storage, settings.results_container),
            RetryQueue(partial(open_queue, settings, RETRY_QUEUE, identity, time, http), clock.now),
            app_or_problem,
            clock,
        )

    def app(self) -> App:
        """Return the parts that need every setting. Raises InvalidSettings if one is wrong."""
        if isinstance(self.app_or_problem, InvalidSettings):
            # One exception object must not be raised in several threads.
            raise InvalidSettings(self.app_or_problem.problems)
        return self.app_or_problem

    @property
    def max_source_bytes(self) -> int:
        """The largest blob that is read; the default while settings are wrong."""
        app = self.app_or_problem
        return DEFAULT_MAX_SOURCE_BYTES if isinstance(app, InvalidSettings) else app.settings.max_source_bytes

    @property
    def retry_policy(self) -> RetryPolicy:
        """How often a drop is retried; the defaults while settings are wrong."""
        app = self.app_or_problem
        return RetryPolicy() if isinstance(app, InvalidSettings) else app.settings.retries


_lock = threading.Lock()
_services: Services | None = None


def open_services() -> Services:
    """Return the process's services. Raises InvalidSettings, and tries again at the next call."""
    global _services  # noqa: PLW0603 - the one place that knows what lives as long as the process
    with _lock:
        if _services is None:
            _services = Services.from_environ(os.environ)
        return _services
