"""Turns messages into invocations: batches, visibility, attempts, and poison queues.

It behaves like QueueListener, QueueProcessor, BlobQueueTriggerExecutor and SharedBlobQueueListenerFactory of the
storage extensions: the message of a failed attempt is visible again at once, that of a crash when the visibility
timeout is over, and both count.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import json
import logging
import random
import threading
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, Any

from azure.core.exceptions import AzureError, HttpResponseError, ResourceNotFoundError

import local.functions_host.queue_models  # noqa: F401 - before its threads use the SDK
from local.functions_host.worker import bind_blob, bind_queue_message

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from azure.storage.blob import BlobServiceClient
    from azure.storage.queue import QueueClient, QueueMessage, QueueServiceClient

    from local.functions_host.indexing import IndexedFunction
    from local.functions_host.settings import QueueOptions
    from local.functions_host.worker import Worker

BLOB_POISON_QUEUE = "webjobs-blobtrigger-poison"
POISON_SUFFIX = "-poison"
MAX_QUEUE_NAME_LENGTH = 63
VISIBILITY_TIMEOUT_S = 600.0
MAX_VISIBILITY_TIMEOUT_S = 7 * 24 * 3600  # https://learn.microsoft.com/rest/api/storageservices/get-messages
MIN_POLLING_INTERVAL_S = 0.1
HEADS_PER_ATTEMPT = 3  # as many as the extension sends, for anyone who counts requests

log = logging.getLogger("local.functions_host")


class QueueListener:
    """Receives messages of one queue; `execute` returns a running function for each, or None to drop it."""

    def __init__(
        self,
        queue: QueueClient,
        *,
        options: QueueOptions,
        execute: Callable[[QueueMessage, bytes], Future[Any] | None],
        poison_queue: Callable[[bytes], QueueClient | None],
        on_poison: Callable[[str], None] = lambda _: None,
        visibility_timeout_s: float = VISIBILITY_TIMEOUT_S,
    ) -> None:
        self.queue = queue
        self._options = options
        self._execute = execute
        self._poison_queue = poison_queue
        self._on_poison = on_poison
        self._visibility_timeout_s = visibility_timeout_s
        self._processing: set[Future[None]] = set()
        self._woken = threading.Event()
        self._stopping = threading.Event()
        parallelism = options.batch_size + options.new_batch_threshold
        self._pool = ThreadPoolExecutor(parallelism, thread_name_prefix=f"{queue.queue_name} message")
        self._thread = threading.Thread(target=self._listen, daemon=True, name=f"{queue.queue_name} listener")

    def start(self) -> None:
        """Begin to receive messages."""
        self._thread.start()

    def notify(self) -> None:
        """Look for messages now instead of at the end of the polling interval."""
        self._woken.set()

    def stop(self, timeout_s: float) -> None:
        """Stop receiving messages and let those in progress finish, for at most `timeout_s`."""
        self._stopping.set()
        self._woken.set()
        self._thread.join(timeout_s)
        wait(self._processing, timeout_s)
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _listen(self) -> None:
        interval_s = MIN_POLLING_INTERVAL_S
        while not self._stopping.is_set():
            self._woken.clear()
            messages = self._receive()
            if messages:
                interval_s = MIN_POLLING_INTERVAL_S
                self._processing.update(self._pool.submit(self._process, message) for message in messages)
                self._wait_for_threshold()
            else:
                self._woken.wait(interval_s)
                jitter = random.uniform(0.8, 1.2)  # noqa: S311 - spreads polls, not a secret
                interval_s = min(interval_s * 2 * jitter, self._options.max_polling_interval_s)

    def _receive(self) -> list[QueueMessage]:
        count = self._options.batch_size
        try:
            # One page is one request; the iterator would ask for more. The next poll is the retry.
            pages = self.queue.receive_messages(
                messages_per_page=count,
                max_messages=count,
                visibility_timeout=int(self._visibility_timeout_s),
                retry_total=0,
            ).by_page()
            return list(next(pages, ()))
        except ResourceNotFoundError:
            return []  # the queue does not exist yet
        except AzureError as error:
            log.warning("Queue '%s' cannot be read: %s", self.queue.queue_name, type(error).__name__)
            return []

    def _wait_for_threshold(self) -> None:
        self._processing = {future for future in self._processing if not future.done()}
        while len(self._processing) > self._options.new_batch_threshold and not self._stopping.is_set():
            _, self._processing = wait(self._processing, timeout=0.5, return_when=FIRST_COMPLETED)

    def _process(self, message: QueueMessage) -> None:
        try:
            self._process_or_raise(message)
        except Exception:  # as in the host: the message stays invisible until its timeout is over
            log.exception("Message %s of queue '%s' could not be processed.", message.id, self.queue.queue_name)

    def _process_or_raise(self, message: QueueMessage) -> None:
        try:
            body = decode_body(message.content, base64_encoded=self._options.base64)
        except ValueError:
            self._poison(message, message.content.encode())
            return
        if (message.dequeue_count or 0) > self._options.max_dequeue_count:
            self._poison(message, body)
        elif self._succeeds(message, body):
            self._delete(message)
        elif (message.dequeue_count or 0) >= self._options.max_dequeue_count:
            self._poison(message, body)
        elif self._poison_queue(body):
            self._update(message, self._options.visibility_timeout_s)
            self.notify()
        # As in the extension: without a poison queue, a message is redelivered after ten minutes.

    def _succeeds(self, message: QueueMessage, body: bytes) -> bool:
        future = self._execute(message, body)
        while future is not None:
            # Renewed halfway to the timeout.
            done, _ = wait([future], timeout=self._visibility_timeout_s / 2)
            if done:
                return future.exception() is None
            self._update(message, self._visibility_timeout_s)
        return True

    def _poison(self, message: QueueMessage, body: bytes) -> None:
        poison_queue = self._poison_queue(body)
        if poison_queue is None:
            return  # as in the extension: the message is redelivered after ten minutes, until it expires
        log.warning(
            "Message has reached MaxDequeueCount of %d. Moving message to queue '%s'.",
            self._options.max_dequeue_count,
            poison_queue.queue_name,
        )
        send(poison_queue, message.content)  # unchanged, even if it could not be decoded
        self._delete(message)
        self._on_poison(poison_queue.queue_name)

    def _delete(self, message: QueueMessage) -> None:
        with contextlib.suppress(HttpResponseError):  # received by another host, or deleted
            self.queue.delete_message(message)

    def _update(self, message: QueueMessage, visible_in_s: float) -> None:
        with contextlib.suppress(HttpResponseError):  # received by another host, or deleted
            updated = self.queue.update_message(message, visibility_timeout=int(visible_in_s))
            message.pop_receipt = updated.pop_receipt


def listen_to_blobs(
    functions: Iterable[IndexedFunction],
    queue: QueueClient,
    *,
    worker: Worker,
    options: QueueOptions,
    blob_services: Mapping[str, BlobServiceClient],
    queue_services: Mapping[str, QueueServiceClient],
    on_poison: Callable[[str], None],
    visibility_timeout_s: float,
) -> QueueListener:
    """Create the one listener that all blob triggers share; services are keyed by connection."""
    by_id = {function.id: function for function in functions}

    def execute(message: QueueMessage, body: bytes) -> Future[Any] | None:
        trigger = json.loads(body)
        function = by_id.get(trigger["FunctionId"])
        container, blob = trigger["ContainerName"], trigger["BlobName"]
        if function is None:
            log.debug("Blob '%s' is ignored: there is no function %s.", blob, trigger["FunctionId"])
            return None
        blob_client = blob_services[function.connection].get_blob_client(container, blob)
        try:
            for _ in range(HEADS_PER_ATTEMPT):
                blob_client.get_blob_properties()
        except ResourceNotFoundError:
            log.debug("Blob '%s' of message %s is gone.", blob, message.id)
            return None
        return worker.submit(
            function, bind_blob(function, container, blob), f"New blob detected(EventGrid): {container}/{blob}"
        )

    def poison_queue(body: bytes) -> QueueClient | None:
        try:
            function = by_id.get(json.loads(body)["FunctionId"])
        except (ValueError, KeyError):
            function = None
        service = queue_services[function.connection] if function else None
        return service.get_queue_client(BLOB_POISON_QUEUE) if service else None

    return QueueListener(
        queue,
        options=options,
        execute=execute,
        poison_queue=poison_queue,
        on_poison=on_poison,
        visibility_timeout_s=visibility_timeout_s,
    )


def listen_to_queue(
    function: IndexedFunction,
    service: QueueServiceClient,
    *,
    worker: Worker,
    options: QueueOptions,
    on_poison: Callable[[str], None],
    visibility_timeout_s: float,
) -> QueueListener:
    """Create the listener of a queue trigger."""
    name = str(function.trigger["queueName"]).lower()
    poison_name = name + POISON_SUFFIX

    def execute(message: QueueMessage, body: bytes) -> Future[Any]:
        try:
            argument = bind_queue_message(function, message, body)
        except ValueError as error:
            failed: Future[Any] = Future()
            failed.set_exception(error)
            return failed
        return worker.submit(function, argument, f"New queue message detected on '{name}'.")

    def poison_queue(_: bytes) -> QueueClient | None:
        if name.endswith(POISON_SUFFIX) or len(poison_name) > MAX_QUEUE_NAME_LENGTH:
            return None
        return service.get_queue_client(poison_name)

    return QueueListener(
        service.get_queue_client(name),
        options=options,
        execute=execute,
        poison_queue=poison_queue,
        on_poison=on_poison,
        visibility_timeout_s=visibility_timeout_s,
    )


def send(queue: QueueClient, content: str) -> None:
    """Add a message, and create the queue if it does not exist."""
    try:
        queue.send_message(content)
    except ResourceNotFoundError:
        with contextlib.suppress(HttpResponseError):  # created by another host meanwhile
            queue.create_queue()
        queue.send_message(content)


def decode_body(content: str, *, base64_encoded: bool) -> bytes:
    """Undo the message encoding; raises ValueError if the content is not encoded like that."""
    if not base64_encoded:
        return content.encode()
    try:
        return base64.b64decode(content, validate=True)
    except binascii.Error as error:
        raise ValueError("The message is not base64.") from error
