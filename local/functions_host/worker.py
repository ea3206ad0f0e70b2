"""Calls functions as the Python worker does: with which arguments, on which thread or event loop, and with which logs.

The worker's source: https://github.com/Azure/azure-functions-python-worker
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import json
import logging
import os
import secrets
import sys
import threading
import time
import uuid
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from azure.functions import get_binding_registry
from azure.functions.meta import Datum
from azurefunctions.extensions.base import Datum as SdkTypeDatum
from azurefunctions.extensions.base import get_binding_registry as get_sdk_type_registry

from local.functions_host.indexing import QUEUE_TRIGGER
from local.terminal import printable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from azure.storage.queue import QueueMessage

    from local.functions_host.indexing import IndexedFunction

log = logging.getLogger("local.functions_host")
_invocation_id: contextvars.ContextVar[str | None] = contextvars.ContextVar("invocation_id", default=None)


@dataclass(frozen=True)
class ModelBindingData:
    """What is passed from the host to the worker for an SDK type: a reference, without content."""

    version: str
    source: str
    content_type: str
    content: bytes


@dataclass(frozen=True)
class TraceContext:
    """A W3C trace context, https://www.w3.org/TR/trace-context/; it begins with the invocation."""

    trace_parent: str
    trace_state: str = ""
    attributes: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class RetryContext:
    """No trigger here has a retry policy, so the counts stay 0."""

    retry_count: int = 0
    max_retry_count: int = 0
    exception: None = None


@dataclass(frozen=True)
class Context:
    """The argument for a parameter named `context`; `azure.functions.Context` describes it."""

    invocation_id: str
    function_name: str
    function_directory: str
    trace_context: TraceContext
    retry_context: RetryContext
    thread_local_storage: threading.local


class Worker:
    """Runs functions: sync ones on a pool of threads, async ones on one event loop."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(_thread_count(), thread_name_prefix="function")
        self._loop = asyncio.new_event_loop()
        self._loop_thread = threading.Thread(target=self._loop.run_forever, daemon=True, name="async functions")
        self._loop_thread.start()
        self._thread_local = threading.local()

    def submit(self, function: IndexedFunction, argument: Any, reason: str) -> Future[Any]:
        """Run `function` once; the future holds what it returned or raised, and both are logged."""
        invocation_id = str(uuid.uuid4())
        arguments = {function.trigger["name"]: argument}
        if function.takes_context:
            arguments["context"] = self._context(function, invocation_id)
        if function.is_async:
            return asyncio.run_coroutine_threadsafe(_run_async(function, arguments, invocation_id, reason), self._loop)
        return self._pool.submit(_run, function, arguments, invocation_id, reason)

    def close(self) -> None:
        """Accept no more calls; running functions are abandoned with the process."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._loop.call_soon_threadsafe(self._loop.stop)

    def _context(self, function: IndexedFunction, invocation_id: str) -> Context:
        trace_parent = f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-00"
        return Context(
            invocation_id=invocation_id,
            function_name=function.name,
            function_directory=str(function.folder),
            trace_context=TraceContext(trace_parent),
            retry_context=RetryContext(),
            thread_local_storage=self._thread_local,
        )


def bind_blob(function: IndexedFunction, container: str, blob: str) -> Any:
    """Create the SDK type for a blob with the extension's own converter; only names are passed, no content."""
    content = {"Connection": function.connection, "ContainerName": container, "BlobName": blob}
    reference = ModelBindingData("1.0", "AzureStorageBlobs", "application/json", json.dumps(content).encode())
    converter: Any = get_sdk_type_registry().get(function.kind)
    return converter.decode(
        SdkTypeDatum(reference, "model_binding_data"), trigger_metadata={}, pytype=function.parameter_type
    )


def bind_queue_message(function: IndexedFunction, message: QueueMessage, body: bytes) -> Any:
    """Create the argument of a queue trigger: a string, bytes or a QueueMessage, according to the annotation."""
    if function.parameter_type is bytes:
        return body
    text = body.decode("utf-8")
    if function.parameter_type is str:
        return text
    metadata = {
        "Id": Datum(message.id, "string"),
        "DequeueCount": Datum(message.dequeue_count, "int"),
        "PopReceipt": Datum(message.pop_receipt, "string"),
        "ExpirationTime": Datum(_timestamp(message.expires_on), "string"),
        "InsertionTime": Datum(_timestamp(message.inserted_on), "string"),
        "NextVisibleTime": Datum(_timestamp(message.next_visible_on), "string"),
    }
    converter: Any = get_binding_registry().get(QUEUE_TRIGGER)  # type: ignore[no-untyped-call]  # it has no annotations
    return converter.decode(Datum(text, "string"), trigger_metadata=metadata)


def log_to_stdout() -> None:
    """Print the host's and the app's logs as `func` does, uncaught exceptions with their traceback."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(_Formatter())
    handler.addFilter(_is_wanted)
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    logging.getLogger("uvicorn").setLevel(logging.WARNING)


def _run(function: IndexedFunction, arguments: dict[str, Any], invocation_id: str, reason: str) -> Any:
    token = _invocation_id.set(invocation_id)
    try:
        with _logged(function, invocation_id, reason):
            return function.call(**arguments)
    finally:
        _invocation_id.reset(token)


async def _run_async(function: IndexedFunction, arguments: dict[str, Any], invocation_id: str, reason: str) -> Any:
    _invocation_id.set(invocation_id)
    with _logged(function, invocation_id, reason):
        return await function.call(**arguments)


@contextlib.contextmanager
def _logged(function: IndexedFunction, invocation_id: str, reason: str) -> Iterator[None]:
    started = time.perf_counter()
    outcome = "Succeeded"
    log.info("Executing 'Functions.%s' (Reason='%s', Id=%s)", function.name, reason, invocation_id)
    try:
        yield
    except BaseException:
        outcome = "Failed"
        log.exception("Exception while executing function: Functions.%s", function.name)
        raise
    finally:
        duration_ms = (time.perf_counter() - started) * 1000
        text = "Executed 'Functions.%s' (%s, Id=%s, Duration=%.0fms)"
        log.info(text, function.name, outcome, invocation_id, duration_ms)


def _is_wanted(record: logging.LogRecord) -> bool:
    # The real host's own requests are made by another process; here they must not be mistaken for the app's.
    return not record.name.startswith("azure.") or _invocation_id.get() is not None


class _Formatter(logging.Formatter):
    def __init__(self) -> None:
        super().__init__("[%(asctime)s] %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - inherited
        """Keep to one line, whatever a blob in the message is named."""
        return printable(super().formatMessage(record))

    def formatException(self, ei: Any) -> str:  # noqa: N802 - inherited
        """Indent each line, so that no line of an error's text looks like a line of the log."""
        return "\n".join(f"    {printable(line)}" for line in super().formatException(ei).splitlines())

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: ARG002, N802 - inherited
        return datetime.fromtimestamp(record.created, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


def _thread_count() -> int:
    # https://learn.microsoft.com/azure/azure-functions/functions-app-settings#python_threadpool_thread_count
    try:
        return max(1, int(os.environ["PYTHON_THREADPOOL_THREAD_COUNT"]))
    except (KeyError, ValueError):
        return min(32, (os.cpu_count() or 1) + 4)


def _timestamp(moment: datetime | None) -> str | None:
    return moment.isoformat() if moment else None
