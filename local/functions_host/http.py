"""What the host serves over HTTP: the blob extension's webhook, HTTP triggers, and a ping.

The webhook is HttpRequestProcessor and BlobsExtensionConfigProvider of the extensions; keys are as in
https://learn.microsoft.com/azure/azure-functions/function-keys-how-to.
"""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import json
import logging
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import azure.functions as func
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from local.functions_host.contract import WEBHOOK_PATH

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from starlette.requests import Request

    from local.functions_host.indexing import IndexedFunction
    from local.functions_host.worker import Worker

EVENT_GRID_ORIGIN = "eventgrid.azure.net"
BLOB_TYPES = ("BlockBlob", "PageBlob", "AppendBlob")

log = logging.getLogger("local.functions_host")


@dataclass(frozen=True)
class HostKeys:
    """The secrets that callers must know; never logged."""

    blobs_extension: str = field(repr=False)
    function: str = field(repr=False)

    def refuse_webhook(self, key: str) -> int | None:
        """Return the status with which the blob extension's webhook refuses `key`, or None if it accepts it."""
        if hmac.compare_digest(key.encode(), self.blobs_extension.encode()):
            return None
        return 403 if self._is_function_key(key) else 401

    def open_function(self, key: str, auth_level: str) -> bool:
        """Whether an HTTP trigger of that level accepts `key`."""
        return auth_level == "anonymous" or self._is_function_key(key)

    def _is_function_key(self, key: str) -> bool:
        return hmac.compare_digest(key.encode(), self.function.encode())


def host_app(
    functions: Iterable[IndexedFunction],
    *,
    worker: Worker,
    keys: HostKeys,
    route_prefix: str,
    enqueue: Callable[[bytes], None],
) -> Starlette:
    """Create the host's web app; `enqueue` puts a trigger message into the host's queue."""

    async def webhook(request: Request) -> Response:
        return await _receive_events(request, keys, enqueue)

    async def ping(_: Request) -> Response:
        return Response()

    routes = [
        Route(WEBHOOK_PATH, webhook, methods=["POST", "OPTIONS"]),
        Route("/admin/host/ping", ping, methods=["GET", "POST"]),
    ]
    routes += [_http_route(function, worker=worker, keys=keys, prefix=route_prefix) for function in functions]
    return Starlette(routes=routes)


async def _receive_events(request: Request, keys: HostKeys, enqueue: Callable[[bytes], None]) -> Response:
    refused = keys.refuse_webhook(_key(request))
    if refused:
        return Response(status_code=refused)
    if request.method == "OPTIONS":  # the CloudEvents handshake
        origin = request.headers.get("webhook-request-origin", "")
        allowed = origin if origin.startswith("eventgrid.azure.") else EVENT_GRID_ORIGIN
        return Response(headers={"Webhook-Allowed-Origin": allowed})
    function_id = request.query_params.get("functionName")
    body = await request.body()
    try:
        match request.headers.get("aeg-event-type", "").lower():
            case "subscriptionvalidation":
                log.info("perform handshake with eventGrid for function: %s", function_id)
                return JSONResponse({"validationResponse": _validation_code(_read_events(body)[0])})
            case "notification":
                for message in [trigger_message(event, function_id) for event in _read_events(body)]:
                    await run_in_threadpool(enqueue, message)
                return Response(status_code=202)
            case kind:
                return Response(status_code=202 if kind == "unsubscribe" else 400)
    except (ValueError, KeyError, TypeError, IndexError):
        log.exception("The webhook was sent something that is not an event.")
        return Response(status_code=500)  # as in the real extension, which does not catch it


def _read_events(body: bytes) -> list[dict[str, Any]]:
    parsed = json.loads(body)
    return parsed if isinstance(parsed, list) else [parsed]


def trigger_message(event: dict[str, Any], function_id: str | None) -> bytes:
    """Create the trigger message for an event, as BlobTriggerMessage.cs serializes it.

    Raises ValueError, KeyError or TypeError if the webhook responds with 500: without a URL, or with an unknown blob
    type.
    """
    data = event["data"]
    container, blob = parse_blob_url(data["url"])
    if data["blobType"] not in BLOB_TYPES:
        raise ValueError(f"blobType is {data['blobType']!r}, but must be one of {', '.join(BLOB_TYPES)}.")
    message = {
        "Type": "BlobTrigger",
        "FunctionId": function_id,
        "BlobType": data["blobType"],
        "ContainerName": container,
        "BlobName": blob,
        "ETag": f'"{data.get("eTag") or ""}"',
    }
    return json.dumps(message, indent=2).encode()


def parse_blob_url(url: str) -> tuple[str, str]:
    """Return the container and the blob of a URL; if its host is an IP address, the account comes first in the path."""
    parts = urlsplit(url)
    path = parts.path.removeprefix("/")
    if _is_ip_address(parts.hostname or ""):
        path = path.partition("/")[2]
    container, _, blob = path.partition("/")
    if not (container and blob):
        raise ValueError("The address does not name a blob.")
    return unquote(container), unquote(blob)


def _http_route(function: IndexedFunction, *, worker: Worker, keys: HostKeys, prefix: str) -> Route:
    auth_level = str(function.trigger.get("authLevel") or "function").lower()
    route = str(function.trigger.get("route") or function.name)
    path = re.sub(r"\{\*(\w+)\}", r"{\1:path}", route)
    methods = [str(method) for method in function.trigger.get("methods") or ("GET", "POST")]

    async def endpoint(request: Request) -> Response:
        if not keys.open_function(_key(request), auth_level):
            return Response(status_code=401)
        argument = func.HttpRequest(
            request.method,
            str(request.url),
            headers=dict(request.headers),
            params=dict(request.query_params),
            route_params={name: str(value) for name, value in request.path_params.items()},
            body=await request.body(),
        )
        reason = "This function was programmatically called via the host APIs."
        try:
            result = await asyncio.wrap_future(worker.submit(function, argument, reason))
        except Exception:  # noqa: BLE001 - any exception of a function is a 500, and the worker has logged it
            return Response(status_code=500)
        return _http_response(result)

    return Route("/" + "/".join(filter(None, (prefix, path))), endpoint, methods=methods)


def _http_response(result: Any) -> Response:
    if isinstance(result, func.HttpResponse):
        headers = dict(result.headers)
        media_type = f"{result.mimetype}; charset={result.charset}"
        return Response(result.get_body(), result.status_code, {"content-type": media_type, **headers})
    return Response(status_code=204) if result is None else PlainTextResponse(str(result))


def _key(request: Request) -> str:
    return request.headers.get("x-functions-key") or request.query_params.get("code", "")


def _validation_code(event: dict[str, Any]) -> str:
    data = event["data"]
    return str((json.loads(data) if isinstance(data, str) else data)["validationCode"])


def _is_ip_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
