"""The same as the library, over HTTP: `/_control/...`, for other processes and without authentication.

Therefore it serves only this machine, and no web page that is open on it::

    GET    /_control/itwins             every iTwin, with its image's name, type, size and digest
    PUT    /_control/itwins/{id}        create or change it: {"displayName"?, "permissions"?, "organization"?}
    GET    /_control/itwins/{id}/image  the bytes exactly as they were uploaded
    GET    /_control/requests           the requests received; DELETE clears them
    GET    /_control/script             the remaining script; PUT replaces it, DELETE removes it
    POST   /_control/reset              return to the initial state
"""

from __future__ import annotations

import base64
import hashlib
import ipaddress
import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from local.body import read_json
from local.itwin_platform.errors import Refusal, image_not_found
from local.itwin_platform.exchanges import CONTROL_PATH, ScriptedResponse
from local.itwin_platform.itwins import ORGANIZATION
from local.serving import names_this_machine

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from starlette.requests import Request

    from local.itwin_platform.exchanges import Exchanges, ReceivedRequest
    from local.itwin_platform.itwins import ITwin, ITwins

MAX_CONTROL_BYTES = 50_000_000
NEW_ITWIN: dict[str, Any] = {"displayName": "An iTwin", "permissions": None, "organization": ORGANIZATION}
RESPONSE_FIELDS: dict[str, Any] = {
    "status": int | None,
    "headers": dict,
    "body": bytes,
    "delay_s": int | float,
    "late_s": int | float,
    "reset": bool,
    "times": int,
    "method": str,
    "path": str,
}


class Control:
    """The routes under /_control."""

    def __init__(self, itwins: ITwins, exchanges: Exchanges, *, reset: Callable[[], None]) -> None:
        self._itwins = itwins
        self._exchanges = exchanges
        self._reset_all = reset
        self.routes = [
            _control("/itwins", GET=self._list_itwins),
            _control("/itwins/{id}", PUT=self._put_itwin),
            _control("/itwins/{id}/image", GET=self._get_image),
            _control("/requests", GET=self._list_requests, DELETE=self._forget_requests),
            _control("/script", GET=self._get_script, PUT=self._put_script, DELETE=self._drop_script),
            _control("/reset", POST=self._reset),
        ]

    async def _list_itwins(self, _: Request) -> Response:
        return JSONResponse({"iTwins": [_itwin_json(itwin) for itwin in self._itwins.all()]})

    async def _put_itwin(self, request: Request) -> Response:
        given = await _read_object(request)
        if unknown := given.keys() - NEW_ITWIN.keys():
            raise _invalid(f"An iTwin cannot be given {', '.join(sorted(unknown))} here.")
        known = self._itwins.find(request.path_params["id"])
        wanted = {**NEW_ITWIN, **(_itwin_json(known) if known else {}), **given}
        try:
            itwin_id, is_new = self._itwins.put(
                request.path_params["id"],
                display_name=_parse_text(wanted, "displayName"),
                permissions=_parse_permissions(wanted["permissions"]),
                organization=_parse_text(wanted, "organization"),
            )
        except ValueError as error:
            raise _invalid(str(error)) from error
        return JSONResponse({"iTwin": {"id": itwin_id}}, 201 if is_new else 200)

    async def _get_image(self, request: Request) -> Response:
        itwin = self._itwins.find(request.path_params["id"])
        if itwin is None or itwin.image is None:
            raise image_not_found()
        return Response(itwin.image.data, media_type=itwin.image.media_type)

    async def _list_requests(self, _: Request) -> Response:
        return JSONResponse({"requests": [_request_json(request) for request in self._exchanges.received()]})

    async def _forget_requests(self, _: Request) -> Response:
        self._exchanges.forget()
        return Response(status_code=204)

    async def _get_script(self, _: Request) -> Response:
        return JSONResponse(
            {"responses": [_response_json(response) for response in self._exchanges.remaining_script()]}
        )

    async def _put_script(self, request: Request) -> Response:
        self._exchanges.script(_parse_script(await _read_object(request)))
        return Response(status_code=204)

    async def _drop_script(self, _: Request) -> Response:
        self._exchanges.script([])
        return Response(status_code=204)

    async def _reset(self, _: Request) -> Response:
        self._reset_all()
        return Response(status_code=204)


def _control(path: str, **by_method: Callable[[Request], Awaitable[Response]]) -> Route:
    async def respond(request: Request) -> Response:
        if not _is_of_this_machine(request):
            raise Refusal(403, "LoopbackOnly", "Only programs on this machine may use /_control, and no web page may.")
        return await by_method["GET" if request.method == "HEAD" else request.method](request)

    return Route(CONTROL_PATH + path, respond, methods=list(by_method))


def _is_of_this_machine(request: Request) -> bool:
    """Whether a local program sent it; a browser's request for a page has the host name or the origin of that page."""
    host = request.headers.get("host", "")
    return (
        request.client is not None
        and ipaddress.ip_address(request.client.host).is_loopback
        and names_this_machine(host)
        and request.headers.get("origin") in {None, f"http://{host}"}
    )


async def _read_object(request: Request) -> dict[str, Any]:
    try:
        found = await read_json(request, MAX_CONTROL_BYTES)
    except ValueError as error:
        raise _invalid(str(error)) from error
    if not isinstance(found, dict | None):
        raise _invalid("The request must be a JSON object.")
    return found or {}


def _invalid(message: str) -> Refusal:
    return Refusal(422, "InvalidControlRequest", message)


def _parse_text(found: Mapping[str, Any], name: str) -> str:
    if not isinstance(found[name], str):
        raise _invalid(f"The {name} must be text.")
    return str(found[name])


def _parse_permissions(found: Any) -> dict[str, list[str]] | None:
    if found is None:
        return None
    if not isinstance(found, dict) or not all(isinstance(granted, list | tuple) for granted in found.values()):
        raise _invalid('"permissions" must be null or an object like {"my-client": ["itwins_modify"]}.')
    return {subject: [str(permission) for permission in granted] for subject, granted in found.items()}


def _parse_script(found: dict[str, Any]) -> list[ScriptedResponse]:
    responses = found.get("responses")
    if not isinstance(responses, list) or not all(isinstance(response, dict) for response in responses):
        raise _invalid('The script must be an object like {"responses": [{"status": 429, "times": 2}]}.')
    try:
        return [_parse_response(response) for response in responses]
    except ValueError as error:
        raise _invalid(str(error)) from error


def _parse_response(found: dict[str, Any]) -> ScriptedResponse:
    """Read the fields of ScriptedResponse; `body` is a string or any JSON, or `body_base64` replaces it."""
    given = dict(found)
    if "body_base64" in given:
        given["body"] = base64.b64decode(str(given.pop("body_base64")), validate=True)
    elif "body" in given:
        body = given["body"]
        given["body"] = (body if isinstance(body, str) else json.dumps(body)).encode()
    for name, value in given.items():
        if not isinstance(value, RESPONSE_FIELDS.get(name, ())):
            raise _invalid(f"A scripted response cannot have the {name} {value!r}.")
    return ScriptedResponse(**given)


def _response_json(response: ScriptedResponse) -> dict[str, Any]:
    shown = {**asdict(response), "body_base64": base64.b64encode(response.body).decode()}
    del shown["body"]
    return shown


def _itwin_json(itwin: ITwin) -> dict[str, Any]:
    image = itwin.image
    return {
        "id": itwin.id,
        "displayName": itwin.properties.get("displayName"),
        "organization": itwin.organization,
        "permissions": itwin.permissions,
        "image": image
        and {
            "id": image.id,
            "smallImageName": image.small_name,
            "largeImageName": image.large_name,
            "mediaType": image.media_type,
            "bytes": len(image.data),
            "sha256": hashlib.sha256(image.data).hexdigest(),
        },
    }


def _request_json(request: ReceivedRequest) -> dict[str, Any]:
    return {**asdict(request), "time": request.time.isoformat()}
