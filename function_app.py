"""The triggers and nothing else: translate, call, return.

The functions import what they need on their first call, so that the host can index them sooner.
"""

import logging
import os

import azure.functions as func
from azurefunctions.extensions.bindings import blob

app = func.FunctionApp()

# The worker's root logger is at INFO, where the SDK logs every request it sends.
logging.getLogger("azure").setLevel(logging.WARNING)
# It logs responses of the identity endpoint, which may contain part of a token; the app logs failures in its own words.
logging.getLogger("azure.identity").setLevel(logging.CRITICAL)


@app.function_name("process_drop")
@app.blob_trigger(
    arg_name="reference",
    # Only nominal: with Event Grid as the source, the event names the container, and the subscription's filter decides
    # which events arrive. With a token such as {container} here, the host would not index the function at all.
    path="drops/{name}",
    connection="DropStorage",
    source=func.BlobSource.EVENT_GRID,
)
def process_drop(reference: blob.BlobClient, context: func.Context) -> None:
    """Process a blob that was just written."""
    from shared import deliveries

    deliveries.blob_written(reference.container_name, reference.blob_name, context.invocation_id)


@app.function_name("retry_drop")
@app.queue_trigger(arg_name="message", queue_name="drop-retries", connection="DropStorage")
def retry_drop(message: func.QueueMessage, context: func.Context) -> None:
    """Retry a drop whose delay is over."""
    from shared import deliveries

    deliveries.retry_due(message.get_body(), context.invocation_id, deliveries=message.dequeue_count or 1)


@app.function_name("bury_drop")
@app.queue_trigger(arg_name="message", queue_name="webjobs-blobtrigger-poison", connection="DropStorage")
def bury_drop(message: func.QueueMessage, context: func.Context) -> None:
    """Retry a drop that the host stopped trying; if it has failed too often, write its result."""
    from shared import deliveries

    deliveries.blob_poisoned(message.get_body(), context.invocation_id)


@app.function_name("bury_retry")
@app.queue_trigger(arg_name="message", queue_name="drop-retries-poison", connection="DropStorage")
def bury_retry(message: func.QueueMessage, context: func.Context) -> None:
    """Do the same for a message of the retry queue that the host stopped trying."""
    from shared import deliveries

    deliveries.retry_poisoned(message.get_body(), context.invocation_id)


@app.function_name("recover_event")
@app.queue_trigger(arg_name="message", queue_name="undeliverable-events", connection="DropStorage")
def recover_event(message: func.QueueMessage, context: func.Context) -> None:
    """Recover an event that Event Grid could not deliver."""
    from shared import deliveries

    deliveries.event_undeliverable(message.get_body(), context.invocation_id)


@app.function_name("bury_event")
@app.queue_trigger(arg_name="message", queue_name="undeliverable-events-poison", connection="DropStorage")
def bury_event(message: func.QueueMessage, context: func.Context) -> None:
    """Try such an event again; the host does this every ten minutes for a day."""
    from shared import deliveries

    deliveries.event_undeliverable(message.get_body(), context.invocation_id)


@app.function_name("preflight")
@app.route(route="preflight", methods=["GET"], auth_level=func.AuthLevel.FUNCTION)
def preflight(req: func.HttpRequest) -> func.HttpResponse:
    """Say in plain words what works and what does not; 503 where something fails."""
    from shared.preflight import examine

    report = examine(os.environ, itwin_id=req.params.get("itwin"))
    return func.HttpResponse(str(report), status_code=200 if report.is_good else 503, mimetype="text/plain")
