"""The relay between an Azurite and its subscribers: delivers events as Event Grid does, and retries as long."""

from __future__ import annotations

import contextlib
import heapq
import itertools
import json
import logging
import random
import threading
import time
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Self

import requests
from azure.core.exceptions import AzureError, ResourceExistsError, ResourceNotFoundError
from azure.storage.blob import BlobServiceClient, ContentSettings
from azure.storage.queue import QueueServiceClient, TextBase64EncodePolicy

from local.azurite import QUICK_RETRIES
from local.event_grid.events import TOPIC, blob_created_event, read_access_line, timestamp
from local.serving import LocalCloudError

if TYPE_CHECKING:
    from types import TracebackType

    from local.azurite import Azurite
    from local.event_grid.events import BlobWrite
    from local.event_grid.subscription import Subscription

RETRY_DELAYS_S = (10, 30, 60, 300, 600, 1800, 3600, 3 * 3600, 6 * 3600, 12 * 3600)
RESPONSE_TIMEOUT_S = 30.0
WORKERS = 8

ACCEPTED_STATUSES = frozenset({200, 201, 202, 203, 204})
UNCURABLE_STATUSES = frozenset({400, 401, 403, 413})
OUTCOMES = {
    400: "BadRequest",
    401: "Unauthorized",
    403: "Forbidden",
    404: "NotFound",
    408: "TimedOut",
    413: "PayloadTooLarge",
    503: "Busy",
}

_log = logging.getLogger("local.event_grid")
_log.setLevel(logging.WARNING)


@dataclass
class _Delivery:
    """One event on its way to one subscriber."""

    write: BlobWrite
    subscription: Subscription
    sequence: int
    event_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    published: datetime = field(default_factory=lambda: datetime.now(UTC))
    born: float = field(default_factory=time.monotonic)
    event: dict[str, Any] | None = None
    attempts: int = 0
    last_outcome: str = ""
    last_attempt: datetime | None = None


class EventGrid:
    """The relay between an Azurite and its subscribers.

    `retry_scale` shortens the retry schedule and the time to live: 0.01 makes ten seconds a tenth of one.
    """

    def __init__(self, azurite: Azurite, *, retry_scale: float = 1.0) -> None:
        self._azurite = azurite
        self._retry_scale = retry_scale
        self._blobs = BlobServiceClient.from_connection_string(azurite.connection_string, logger=_log, **QUICK_RETRIES)
        self._queues = QueueServiceClient.from_connection_string(
            azurite.connection_string, logger=_log, **QUICK_RETRIES
        )
        self._subscriptions: dict[str, Subscription] = {}
        self._due: list[tuple[float, int, _Delivery]] = []
        self._changed = threading.Condition()
        self._sequence = itertools.count(1)
        self._order = itertools.count()
        self._session = requests.Session()
        self._session.mount("http://", requests.adapters.HTTPAdapter(pool_maxsize=WORKERS))
        self._session.trust_env = False
        self._chance = random.Random()  # noqa: S311 - spreads retries, protects nothing
        self._stopping = False
        self._workers: list[threading.Thread] = []

    def __enter__(self) -> Self:
        self._azurite.watch(self._read)
        self._workers = [threading.Thread(target=self._deliver_due, daemon=True) for _ in range(WORKERS)]
        for worker in self._workers:
            worker.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._azurite.unwatch(self._read)
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        for worker in self._workers:
            worker.join()
        self._session.close()
        self._blobs.close()
        self._queues.close()

    def subscribe(self, subscription: Subscription) -> None:
        """Create or replace a subscription; a webhook must pass the validation handshake.

        https://learn.microsoft.com/azure/event-grid/end-point-validation-event-grid-events-schema
        """
        if subscription.queue:
            self._subscriptions[subscription.name] = subscription
            return
        code = str(uuid.uuid4())
        event = {
            "id": str(uuid.uuid4()),
            "topic": TOPIC,
            "subject": "",
            "data": {
                "validationCode": code,
                "validationUrl": f"https://localhost/eventsubscriptions/validate?id={code}",
            },
            "eventType": "Microsoft.EventGrid.SubscriptionValidationEvent",
            "eventTime": timestamp(datetime.now(UTC)),
            "metadataVersion": "1",
            "dataVersion": "2",
        }
        headers = _headers(subscription, "SubscriptionValidation", data_version="2", delivery_count=0)
        failure = f"The event subscription '{subscription.name}' could not be created"
        try:
            response = self._session.post(
                subscription.endpoint, data=json.dumps([event]), headers=headers, timeout=RESPONSE_TIMEOUT_S
            )
            body = response.json() if response.ok else {}
        except (requests.RequestException, ValueError) as error:
            raise LocalCloudError(f"{failure}: its endpoint gave no valid response.") from error
        if not isinstance(body, dict) or body.get("validationResponse") != code:
            raise LocalCloudError(
                f"{failure}: its endpoint responded to the validation handshake with status {response.status_code} and "
                "without the code."
            )
        self._subscriptions[subscription.name] = subscription

    def unsubscribe(self, name: str) -> None:
        """Delete a subscription; what is on its way is still delivered."""
        self._subscriptions.pop(name, None)

    def publish(self, write: BlobWrite) -> None:
        """Tell the subscribers of a write."""
        sequence = next(self._sequence)
        for subscription in tuple(self._subscriptions.values()):
            if subscription.wants(write):
                self._schedule(_Delivery(write, subscription, sequence), delay_s=0.0)

    def _read(self, line: str) -> None:
        write = read_access_line(line)
        if write is not None:
            self.publish(write)

    def _schedule(self, delivery: _Delivery, *, delay_s: float) -> None:
        with self._changed:
            heapq.heappush(self._due, (time.monotonic() + delay_s, next(self._order), delivery))
            self._changed.notify()

    def _deliver_due(self) -> None:
        while (delivery := self._next()) is not None:
            try:
                self._attempt(delivery)
            except Exception:  # noqa: BLE001 - the relay outlives whatever one delivery does
                _log.exception("A delivery to '%s' failed unexpectedly.", delivery.subscription.name)

    def _next(self) -> _Delivery | None:
        with self._changed:
            while not self._stopping:
                if not self._due:
                    self._changed.wait()
                    continue
                wait_s = self._due[0][0] - time.monotonic()
                if wait_s <= 0:
                    return heapq.heappop(self._due)[2]
                self._changed.wait(wait_s)
        return None

    def _attempt(self, delivery: _Delivery) -> None:
        if delivery.event is None:
            try:
                delivery.event = self._make_event(delivery)
            except ResourceNotFoundError:
                return  # deleted since; its subscriber would find nothing
            except AzureError:
                self._schedule(delivery, delay_s=1.0)
                return
        status = self._send(delivery) if delivery.subscription.queue else self._post(delivery)
        if status in ACCEPTED_STATUSES:
            return
        if status in UNCURABLE_STATUSES:
            self._dead_letter(delivery, "UndeliverableDueToClientError")
        elif delivery.attempts >= delivery.subscription.max_delivery_attempts:
            self._dead_letter(delivery, "MaxDeliveryAttemptsExceeded")
        else:
            self._retry(delivery)

    def _retry(self, delivery: _Delivery) -> None:
        delay_s = RETRY_DELAYS_S[min(delivery.attempts, len(RETRY_DELAYS_S)) - 1] * self._retry_scale
        delay_s *= self._chance.uniform(1.0, 1.1)
        age_s = time.monotonic() - delivery.born
        if age_s + delay_s > delivery.subscription.time_to_live_s * self._retry_scale:
            self._dead_letter(delivery, "TimeToLiveExceeded")
        else:
            self._schedule(delivery, delay_s=delay_s)

    def _send(self, delivery: _Delivery) -> int:
        """Put the event into a queue, as base64: https://learn.microsoft.com/azure/event-grid/handler-storage-queues."""
        delivery.attempts += 1
        delivery.last_attempt = datetime.now(UTC)
        queue = self._queues.get_queue_client(
            str(delivery.subscription.queue), message_encode_policy=TextBase64EncodePolicy()
        )
        try:
            queue.send_message(json.dumps(delivery.event))
        except AzureError as error:
            delivery.last_outcome = "Aborted"
            return getattr(error, "status_code", None) or 0
        return 200

    def _post(self, delivery: _Delivery) -> int:
        """Deliver once; 0 stands for no response."""
        headers = _headers(delivery.subscription, "Notification", data_version="", delivery_count=delivery.attempts)
        delivery.attempts += 1
        delivery.last_attempt = datetime.now(UTC)
        try:
            response = self._session.post(
                delivery.subscription.endpoint,
                data=json.dumps([delivery.event]),
                headers=headers,
                timeout=RESPONSE_TIMEOUT_S,
                allow_redirects=False,
            )
        except requests.Timeout:
            delivery.last_outcome = "TimedOut"
            return 0
        except requests.RequestException:
            delivery.last_outcome = "SocketError"
            return 0
        delivery.last_outcome = OUTCOMES.get(response.status_code, "Aborted")
        return response.status_code

    def _make_event(self, delivery: _Delivery) -> dict[str, Any]:
        client = self._blobs.get_blob_client(delivery.write.container, delivery.write.blob)
        return blob_created_event(
            delivery.write,
            client.get_blob_properties(retry_total=0),  # the schedule is the retry
            account_url=self._blobs.url.rstrip("/"),
            event_id=delivery.event_id,
            sequence=delivery.sequence,
            published=delivery.published,
        )

    def _dead_letter(self, delivery: _Delivery, reason: str) -> None:
        subscription = delivery.subscription
        if subscription.dead_letter_container is None:
            return
        letter = {
            **(delivery.event or {}),
            "deadLetterReason": reason,
            "deliveryAttempts": delivery.attempts,
            "lastDeliveryOutcome": delivery.last_outcome,
            "publishTime": timestamp(delivery.published),
            "lastDeliveryAttemptTime": timestamp(delivery.last_attempt or delivery.published),
        }
        now = datetime.now(UTC)
        name = f"{subscription.name.upper()}/{now.year}/{now.month}/{now.day}/{now.hour}/{uuid.uuid4()}.json"
        container = self._blobs.get_container_client(subscription.dead_letter_container)
        with contextlib.suppress(ResourceExistsError):
            container.create_container()
        container.upload_blob(
            name, json.dumps([letter]), content_settings=ContentSettings(content_type="application/json")
        )


def _headers(subscription: Subscription, kind: str, *, data_version: str, delivery_count: int) -> dict[str, str]:
    return {
        "Content-Type": "application/json; charset=utf-8",
        "aeg-event-type": kind,
        "aeg-subscription-name": subscription.name.upper(),
        "aeg-delivery-count": str(delivery_count),
        "aeg-data-version": data_version,
        "aeg-metadata-version": "1",
    }
