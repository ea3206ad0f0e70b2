"""The triggers and nothing else: translate, call, return.

What the functions need is imported when the first drop comes, so that the host knows them sooner.
"""

import json
import logging

import azure.functions as func
from azurefunctions.extensions.bindings import blob

app = func.FunctionApp()

# The worker's root logger is at INFO, where the SDK logs every request it sends.
logging.getLogger("azure").setLevel(logging.WARNING)


@app.function_name("process_drop")
@app.blob_trigger(
    arg_name="reference",
    # Nominal: with Event Grid as the source, the event names the container, and the subscription's filter decides
    # which events come. A token in the container's place would keep the function from being indexed at all.
    path="drops/{name}",
    connection="DropStorage",
    source=func.BlobSource.EVENT_GRID,
)
def process_drop(reference: blob.BlobClient) -> None:
    """Take one dropped blob to its iTwin."""
    from shared.drop import Drop
    from shared.pipeline import process_drop as process
    from shared.services import open_services

    process(Drop(reference.container_name, reference.blob_name), open_services())


@app.function_name("bury_poison")
@app.queue_trigger(arg_name="message", queue_name="webjobs-blobtrigger-poison", connection="DropStorage")
def bury_poison(message: func.QueueMessage) -> None:
    """Write the result of a drop that the host gave up after five failed attempts."""
    from shared.drop import Drop
    from shared.pipeline import bury_poison as bury
    from shared.services import open_services

    reference = json.loads(message.get_body())
    bury(Drop(reference["ContainerName"], reference["BlobName"]), open_services())
