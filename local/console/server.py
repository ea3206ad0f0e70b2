"""The routes of the console, and the stream of changes that keeps its page up to date.

::

    GET  /api/events                  changes as server-sent events: {"key": item, or null if it is gone}
    POST /api/itwins                  create one: {"displayName"} -> {"id"}
    POST /api/drops?itwin=&name=      drop the request's body; without an iTwin, on a new one
    POST /api/drops/{key}/itwin       create the iTwin that it was meant for; with ?again, also drop the file again
    POST /api/samples                 drop a few pictures, each on a new iTwin
    PUT  /api/faults/{name}           {"on": true}
    GET  /api/itwins/{id}/image       the picture that the iTwin shows; with ?large as it was uploaded
    GET  /api/drops/{key}/before      what was dropped, drawn small
    GET  /api/drops/{key}/after       what was sent; with ?large every byte of it
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from azure.core.exceptions import AzureError
from azure.storage.blob import AccountSasPermissions, ResourceTypes, generate_account_sas
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from local.azurite import ACCOUNT, ACCOUNT_KEY
from local.body import read_body, read_json
from local.console.board import Board
from local.console.faults import Faults
from local.console.guard import Guard
from local.console.observer import MAX_DROPS, Observer
from local.console.pictures import Pictures
from local.drops import ITWIN_NOT_FOUND
from local.itwin_platform import as_itwin_id
from local.samples import make_samples
from local.serving import serve

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from starlette.requests import Request

    from local.cloud import LocalCloud
    from local.console.pictures import Picture

STATIC = Path(__file__).parent / "static"
MAX_DROP_BYTES = 300_000_000  # room for what the app itself refuses
MAX_OBJECT_BYTES = 10_000
MAX_NAME = 1024
BREATH_S = 0.1
SIGNATURE_LIFETIME = timedelta(days=30)
HEARTBEAT_S = 15.0


@contextlib.contextmanager
def open_console(cloud: LocalCloud, port: int = 0, *, max_drops: int = MAX_DROPS) -> Iterator[str]:
    """Serve the console of a running cloud until the block ends; yields its address."""
    board, faults, pictures = Board(), Faults(cloud.platform), Pictures()
    with Observer(cloud, board, faults, pictures, max_drops=max_drops) as observer:
        board.put("storage", _access(cloud))
        console = _Console(cloud, board, faults, pictures, observer)
        with serve(console.app, port) as address:
            try:
                yield address
            finally:
                board.close()


def _access(cloud: LocalCloud) -> dict[str, str]:
    """Return what a program on this machine needs to write to storage; the key is the well-known public one."""
    signature = generate_account_sas(
        ACCOUNT,
        ACCOUNT_KEY,
        ResourceTypes(object=True),
        AccountSasPermissions(create=True, write=True),
        expiry=datetime.now(UTC) + SIGNATURE_LIFETIME,
    )
    return {
        "connectionString": cloud.connection_string,
        "blobUrl": cloud.azurite.blob_url,
        "signature": signature,
    }


class _Refusal(Exception):
    """The request cannot be fulfilled; the message is shown on the page."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class _Console:
    """The application."""

    def __init__(self, cloud: LocalCloud, board: Board, faults: Faults, pictures: Pictures, observer: Observer) -> None:
        self._cloud = cloud
        self._board = board
        self._faults = faults
        self._pictures = pictures
        self._observer = observer
        self.app = Starlette(
            routes=[
                Route("/", self._page),
                Mount("/static", StaticFiles(directory=STATIC)),
                Route("/api/events", self._events),
                Route("/api/itwins", self._make_itwin, methods=["POST"]),
                Route("/api/drops", self._drop, methods=["POST"]),
                Route("/api/drops/{key}/itwin", self._make_missing_itwin, methods=["POST"]),
                Route("/api/samples", self._drop_samples, methods=["POST"]),
                Route("/api/faults/{name}", self._switch, methods=["PUT"]),
                Route("/api/itwins/{id}/image", self._itwin_image),
                Route("/api/drops/{key}/before", self._before),
                Route("/api/drops/{key}/after", self._after),
            ],
            middleware=[Middleware(Guard)],
            exception_handlers={_Refusal: _respond_to_refusal, AzureError: _respond_to_storage_error},
        )

    async def _page(self, _: Request) -> Response:
        return FileResponse(STATIC / "index.html")

    async def _events(self, _: Request) -> Response:
        return StreamingResponse(self._changes(), media_type="text/event-stream")

    async def _changes(self) -> AsyncIterator[str]:
        loop, changed, seen = asyncio.get_running_loop(), asyncio.Event(), 0

        def tell() -> None:
            with contextlib.suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(changed.set)

        with self._board.listening(tell):
            # A client that reconnects receives everything again.
            yield "retry: 1000\nevent: welcome\ndata: {}\n\n"
            while not self._board.closed:
                changed.clear()
                seen, items = self._board.changes_since(seen)
                if items:
                    yield f"data: {json.dumps(items)}\n\n"
                    await asyncio.sleep(BREATH_S)  # a burst of changes is sent together
                try:
                    await asyncio.wait_for(changed.wait(), HEARTBEAT_S)
                except TimeoutError:
                    yield ": still here\n\n"

    async def _make_itwin(self, request: Request) -> Response:
        wanted = await _read_object(request)
        name = str(wanted.get("displayName") or "").strip()
        if not name:
            raise _Refusal(422, "An iTwin needs a name.")
        return JSONResponse({"id": await run_in_threadpool(self._cloud.itwin, display_name=name)}, 201)

    async def _drop(self, request: Request) -> Response:
        name = request.query_params.get("name", "")
        if not 0 < len(name) <= MAX_NAME:
            raise _Refusal(422, f"A blob's name has 1 to {MAX_NAME} characters.")
        wanted = request.query_params.get("itwin")
        try:
            itwin_id = as_itwin_id(wanted) if wanted else None
        except ValueError as error:
            raise _Refusal(422, str(error)) from error
        content = await read_body(request, MAX_DROP_BYTES)
        if content is None:
            raise _Refusal(413, f"At most {MAX_DROP_BYTES:,} bytes can be dropped here.")
        await run_in_threadpool(self._take, itwin_id, name, content)
        return Response(status_code=201)

    async def _make_missing_itwin(self, request: Request) -> Response:
        item = self._board.get(request.path_params["key"]) or {}
        if ((item.get("result") or {}).get("error") or {}).get("code") != ITWIN_NOT_FOUND:
            raise _Refusal(404, "There is no drop here whose iTwin is missing.")

        def make() -> None:
            content = self._observer.read_drop(item) if "again" in request.query_params else None
            self._cloud.itwin(item["container"])
            if content is not None:
                self._cloud.drop(item["container"], item["name"], content)

        await run_in_threadpool(make)
        return Response(status_code=201)

    async def _drop_samples(self, _: Request) -> Response:
        def take() -> None:
            for name, content in make_samples().items():
                self._take(None, name, content)

        await run_in_threadpool(take)
        return Response(status_code=201)

    def _take(self, itwin_id: str | None, name: str, content: bytes) -> None:
        """Drop a file; as an iTwin has one image, a file without an iTwin's ID gets a new one, named after the file."""
        if itwin_id is None:
            itwin_id = self._cloud.itwin(display_name=name.rpartition("/")[2].rpartition(".")[0] or name)
        self._cloud.drop(itwin_id, name, content)

    async def _switch(self, request: Request) -> Response:
        wanted = await _read_object(request)
        try:
            self._faults.switch(request.path_params["name"], on=wanted.get("on") is True)
        except KeyError:
            raise _Refusal(404, "There is no such fault.") from None
        self._board.put("faults", dict(self._faults.state()))
        return Response(status_code=204)

    async def _itwin_image(self, request: Request) -> Response:
        itwin_id = request.path_params["id"]
        if "large" in request.query_params:
            return _picture(self._cloud.platform.image(itwin_id))
        images = [itwin.image for itwin in self._cloud.platform.itwins() if itwin.id == itwin_id]
        return _picture((images[0].thumbnail, "image/jpeg") if images and images[0] else None)

    async def _before(self, request: Request) -> Response:
        key = request.path_params["key"]
        item = self._board.get(key) or {}
        if not (item.get("result") or {}).get("sent"):  # the app has not accepted it
            return _picture(None)
        return _picture(await run_in_threadpool(self._pictures.draw, key, lambda: self._observer.read_drop(item)))

    async def _after(self, request: Request) -> Response:
        item = self._board.get(request.path_params["key"]) or {}
        key = self._observer.sent_key(item) if item else None
        found = self._pictures.find(key) if key else None
        if key is None or found is None or "large" in request.query_params:
            return _picture(found)
        return _picture(await run_in_threadpool(self._pictures.draw, f"small {key}", lambda: found[0]))


def _picture(found: Picture | None) -> Response:
    """Respond with a picture. Its URL identifies its content, so it never changes."""
    if found is None:
        return PlainTextResponse("There is no such picture.", 404)
    data, media_type = found
    return Response(data, media_type=media_type, headers={"cache-control": "private, max-age=3600"})


async def _read_object(request: Request) -> dict[str, Any]:
    try:
        found = await read_json(request, MAX_OBJECT_BYTES)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise _Refusal(422, "The request must be a JSON object.")
    return found


async def _respond_to_refusal(_: Request, error: Exception) -> Response:
    return PlainTextResponse(str(error), getattr(error, "status", 500))


async def _respond_to_storage_error(_: Request, error: Exception) -> Response:
    return PlainTextResponse(f"Storage refused the request: {str(error).partition(chr(10))[0]}", 502)
