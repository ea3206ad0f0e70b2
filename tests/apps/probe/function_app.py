"""An app that says what its functions were handed, and misbehaves on demand."""

import hashlib
import json
import logging
import os
import threading
import time
from collections.abc import Mapping

import azure.functions as func
from azurefunctions.extensions.bindings import blob

app = func.FunctionApp()

SLOW_S, NAP_S = 2.5, 0.4
running = 0
lock = threading.Lock()


def told(environment: Mapping[str, str]) -> dict[str, str]:
    """Return what can be compared without being known: secrets are among them."""
    return {name: hashlib.sha256(value.encode()).hexdigest() for name, value in environment.items()}


def say(**facts: object) -> None:
    """Log what a test waits for."""
    logging.getLogger("probe").info("PROBE %s", json.dumps(facts))


@app.blob_trigger(arg_name="drop", path="nominal/{name}", connection="DropStorage", source=func.BlobSource.EVENT_GRID)
def on_blob(drop: blob.BlobClient, context: func.Context) -> None:
    """Do what the blob's name asks for."""
    global running  # noqa: PLW0603 - counts how many run at once
    with lock:
        running += 1
        say(
            function="on_blob",
            container=drop.container_name,
            blob=drop.blob_name,
            running=running,
            thread=threading.current_thread().name,
            invocation=context.invocation_id,
            name=context.function_name,
            folder=context.function_directory,
            trace=context.trace_context.trace_parent,
            retry=context.retry_context.retry_count,
            environment=told(os.environ),
        )
    try:
        if "fail" in drop.blob_name:
            raise RuntimeError("asked to fail")
        if "slow" in drop.blob_name:
            threading.Event().wait(SLOW_S)
        if "nap" in drop.blob_name:
            threading.Event().wait(NAP_S)
        say(function="on_blob ended", blob=drop.blob_name, content=drop.download_blob().readall().decode())
    finally:
        with lock:
            running -= 1


@app.blob_trigger(arg_name="drop", path="nominal/{name}", connection="DropStorage", source=func.BlobSource.EVENT_GRID)
async def on_blob_async(drop: blob.BlobClient) -> None:
    """Say on which thread the event loop runs."""
    say(function="on_blob_async", blob=drop.blob_name, thread=threading.current_thread().name)


@app.queue_trigger(arg_name="message", queue_name="%PROBE_QUEUE%", connection="DropStorage")
def on_message(message: func.QueueMessage) -> None:
    """Say what came."""
    say(
        function="on_message",
        id=message.id,
        body=message.get_body().decode(),
        count=message.dequeue_count,
        inserted=str(message.insertion_time),
    )
    if message.get_body() == b"fail":
        raise RuntimeError("asked to fail")


@app.queue_trigger(arg_name="message", queue_name="probe-poison", connection="DropStorage")
def on_poison(message: func.QueueMessage) -> None:
    """Say what came into a queue that is itself a poison queue, and fail."""
    say(function="on_poison", id=message.id, count=message.dequeue_count, at=time.time())
    raise RuntimeError("asked to fail")


@app.route(trigger_arg_name="request", route="hello/{who}", auth_level=func.AuthLevel.FUNCTION)
def hello(request: func.HttpRequest) -> func.HttpResponse:
    """Greet."""
    text = f"Hello, {request.route_params['who']} {request.params.get('mood')} {request.get_body().decode()}!"
    return func.HttpResponse(text, status_code=201, headers={"x-probe": "1"}, mimetype="text/greeting")


@app.route(trigger_arg_name="request", route="raises")
def raises(request: func.HttpRequest) -> str:
    """Raise."""
    raise RuntimeError(f"asked to raise by {request.method}")


@app.blob_trigger(arg_name="drop", path="{itwin}/{name}", connection="DropStorage", source=func.BlobSource.EVENT_GRID)
def token_in_container(drop: blob.BlobClient) -> None:
    """Never fires."""
    say(function="token_in_container", blob=drop.blob_name)


@app.blob_trigger(arg_name="drop", path="nominal/{name}", connection="DropStorage", source=func.BlobSource.EVENT_GRID)
def wants_bytes(drop: bytes) -> None:
    """Never fires: only SDK types are handed over."""
    say(function="wants_bytes", size=len(drop))


@app.blob_trigger(arg_name="drop", path="nominal/{name}", connection="DropStorage")
def polls(drop: blob.BlobClient) -> None:
    """Never fires: there is no polling on Flex Consumption."""
    say(function="polls", blob=drop.blob_name)


@app.blob_trigger(arg_name="drop", path="nominal/{name}", connection="Nowhere", source=func.BlobSource.EVENT_GRID)
def unconnected(drop: blob.BlobClient) -> None:
    """Never fires: its connection is not in the settings."""
    say(function="unconnected", blob=drop.blob_name)


@app.timer_trigger(arg_name="timer", schedule="0 0 * * * *")
def on_time(timer: func.TimerRequest) -> None:
    """Never fires: the embedded host knows no timers."""
    say(function="on_time", past_due=timer.past_due)
