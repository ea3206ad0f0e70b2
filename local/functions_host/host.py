"""One app's host: its functions indexed, its listeners running, its web app ready to be served."""

from __future__ import annotations

import base64
import logging
import os
import threading
from typing import TYPE_CHECKING

from local.functions_host.http import HostKeys, host_app
from local.functions_host.indexing import (
    BLOB_TRIGGER,
    HTTP_TRIGGER,
    QUEUE_TRIGGER,
    FunctionInError,
    IndexedFunction,
    index_function,
    load_functions,
)
from local.functions_host.listeners import QueueListener, listen_to_blobs, listen_to_queue, send
from local.functions_host.settings import DEFAULT_CONNECTION, blob_service, queue_service, read_host_options
from local.functions_host.worker import Worker
from local.serving import LocalCloudError

if TYPE_CHECKING:
    from pathlib import Path

HOST_ID = "local"

log = logging.getLogger("local.functions_host")


class FunctionsHost:
    """Loads the app when it is created; raises LocalCloudError if it cannot."""

    def __init__(self, app_folder: Path, *, keys: HostKeys, visibility_timeout_s: float) -> None:
        self._options = read_host_options(app_folder, os.environ)
        self._host_queues = queue_service(DEFAULT_CONNECTION)
        self._trigger_queue = self._host_queues.get_queue_client(f"azure-webjobs-blobtrigger-{HOST_ID}")
        self._visibility_timeout_s = visibility_timeout_s
        self.functions = _index(app_folder)
        self._worker = Worker()
        self._listeners = self._make_listeners()
        self.app = host_app(
            self._with(HTTP_TRIGGER),
            worker=self._worker,
            keys=keys,
            route_prefix=self._options.route_prefix,
            enqueue=self._enqueue,
        )

    def start(self) -> None:
        """Begin to receive messages."""
        for listener in self._listeners:
            listener.start()

    def stop(self, grace_s: float) -> None:
        """Stop receiving messages and let running functions finish, for at most `grace_s`."""
        stoppers = [threading.Thread(target=listener.stop, args=(grace_s,)) for listener in self._listeners]
        for stopper in stoppers:
            stopper.start()
        for stopper in stoppers:
            stopper.join()
        self._worker.close()

    def _with(self, kind: str) -> list[IndexedFunction]:
        return [function for function in self.functions if function.kind == kind]

    def _make_listeners(self) -> list[QueueListener]:
        blob_functions = self._with(BLOB_TRIGGER)
        listeners = []
        if blob_functions:
            connections = {function.connection for function in blob_functions}
            listeners.append(
                listen_to_blobs(
                    blob_functions,
                    self._trigger_queue,
                    worker=self._worker,
                    options=self._options.blobs,
                    blob_services={name: blob_service(name) for name in connections},
                    queue_services={name: queue_service(name) for name in connections},
                    on_poison=self._notify,
                    visibility_timeout_s=self._visibility_timeout_s,
                )
            )
        listeners += [
            listen_to_queue(
                function,
                queue_service(function.connection),
                worker=self._worker,
                options=self._options.queues,
                on_poison=self._notify,
                visibility_timeout_s=self._visibility_timeout_s,
            )
            for function in self._with(QUEUE_TRIGGER)
        ]
        return listeners

    def _enqueue(self, body: bytes) -> None:
        send(self._trigger_queue, base64.b64encode(body).decode())
        self._notify(self._trigger_queue.queue_name)

    def _notify(self, queue_name: str) -> None:
        for listener in self._listeners:
            if listener.queue.queue_name == queue_name:
                listener.notify()


def _index(app_folder: Path) -> list[IndexedFunction]:
    try:
        declared = load_functions(app_folder)
    except LocalCloudError:
        raise
    except Exception as error:
        log.exception("Worker failed to load the functions of %s.", app_folder)
        raise LocalCloudError(f"function_app cannot be imported: {error!r}") from error
    indexed = []
    for function in declared:
        name = function.get_function_name()
        try:
            indexed.append(index_function(function, app_folder, os.environ))
        except FunctionInError as error:
            log.error("The '%s' function is in error: %s", name, error)  # noqa: TRY400 - its text says everything
    log.info("Functions:")
    for runnable in indexed:
        log.info("        %s: %s", runnable.name, runnable.kind)
    return indexed
