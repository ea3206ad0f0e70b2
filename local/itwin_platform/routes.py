"""The operations of the API, and the signed URLs that it issues.

https://developer.bentley.com/apis/itwins/operations and https://developer.bentley.com/apis/access-control-v2/operations
"""

from __future__ import annotations

import re
import uuid
from typing import TYPE_CHECKING, Any

from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from local.body import read_body, read_json
from local.itwin_platform import errors
from local.itwin_platform.authorization import MODIFY, may_delete, permissions_on
from local.itwin_platform.errors import Problem
from local.itwin_platform.image import MAX_IMAGE_BYTES, find_problems, make_thumbnail, media_type
from local.itwin_platform.itwins import ORGANIZATION, ITwin, NumberTaken

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping

    from starlette.requests import Request

    from local.itwin_platform.authorization import Authentication
    from local.itwin_platform.itwins import ITwinImage, ITwins
    from local.itwin_platform.rate_limit import RateLimit
    from local.itwin_platform.signed_urls import SignedUrls

OWNER_PERMISSIONS = ("itwins_create", MODIFY)
CHOICES = {
    "class": ("Account", "Endeavor", "Thing"),
    "subClass": ("Account", "Asset", "Portfolio", "Program", "Project", "WorkPackage"),
    "status": ("Active", "Inactive", "Trial"),
}
MAX_DEGREES = {"latitude": 90, "longitude": 180}
REQUIRED_PROPERTIES = ("class", "subClass", "displayName")
WRITABLE_PROPERTIES = (
    "class",
    "subClass",
    "type",
    "number",
    "displayName",
    "geographicLocation",
    "latitude",
    "longitude",
    "ianaTimeZone",
    "dataCenterLocation",
    "status",
    "parentId",
)
MAX_JSON_BYTES = 1_000_000
VERSION_ASKED_FOR = re.compile(r"application/vnd\.bentley\.itwin-platform\.(\w+)\+json", re.IGNORECASE)
VERSIONS, VERSIONS_OF_ACCESS_CONTROL = ("v1",), ("v1", "v2")  # the documentation's own client requests v2
THUMBNAILS, IMAGES = "/context-thumbnails", "/context-images"


class Api:
    """The operations, on the platform's state."""

    def __init__(
        self,
        itwins: ITwins,
        authentication: Authentication,
        rate_limit: RateLimit,
        urls: SignedUrls,
        administrators: Collection[str],
    ) -> None:
        self._itwins = itwins
        self._authentication = authentication
        self._rate_limit = rate_limit
        self._urls = urls
        self._administrators = administrators
        self.routes = [
            _operations("/itwins/", POST=self._create_itwin),
            _operations("/itwins/{id}", GET=self._get_itwin, DELETE=self._delete_itwin),
            _operations("/itwins/{id}/image", PUT=self._put_image, GET=self._get_image, DELETE=self._delete_image),
            _operations("/accesscontrol/itwins/{id}/permissions", GET=self._get_permissions),
            _operations(THUMBNAILS + "/{name}", GET=self._download),
            _operations(IMAGES + "/{name}", GET=self._download),
        ]

    async def _put_image(self, request: Request) -> Response:
        itwin = self._modifiable_itwin(request)
        data = await read_body(request, MAX_IMAGE_BYTES)
        if data is None:
            raise errors.request_too_large()
        content_type = request.headers.get("content-type")
        if problems := find_problems(data, content_type):
            raise errors.invalid_image(problems)
        try:
            thumbnail = await run_in_threadpool(make_thumbnail, data)
        except ValueError as error:
            unreadable = Problem("InvalidRequestBody", "The iTwin Image is corrupt.", "image")
            raise errors.invalid_image([unreadable]) from error
        image = self._itwins.set_image(itwin.id, data, media_type(content_type), thumbnail)
        if image is None:
            raise errors.itwin_not_found()
        return JSONResponse(self._image_json(request, image), 201)

    async def _get_image(self, request: Request) -> Response:
        itwin, _ = self._visible_itwin(request)
        if itwin.image is None:
            raise errors.image_not_found()
        return JSONResponse(self._image_json(request, itwin.image))

    async def _delete_image(self, request: Request) -> Response:
        itwin = self._modifiable_itwin(request)
        if not self._itwins.delete_image(itwin.id):
            raise errors.image_not_found()
        return Response(status_code=204)

    async def _create_itwin(self, request: Request) -> Response:
        subject = self._admit(request)
        try:
            properties = await read_json(request, MAX_JSON_BYTES)
        except ValueError as error:
            raise errors.invalid_itwin([Problem("InvalidRequestBody", str(error))]) from error
        if problems := list(_itwin_problems(properties)):
            raise errors.invalid_itwin(problems)
        itwin = ITwin(
            id=str(uuid.uuid4()),
            properties={name: properties[name] for name in WRITABLE_PROPERTIES if name in properties},
            organization=ORGANIZATION,
            permissions={subject: OWNER_PERMISSIONS},
            owner=subject,
        )
        try:
            self._itwins.create(itwin)
        except NumberTaken as error:
            raise errors.itwin_exists() from error
        return JSONResponse(self._itwin_json(request, itwin), 201)

    async def _get_itwin(self, request: Request) -> Response:
        itwin, _ = self._visible_itwin(request)
        return JSONResponse(self._itwin_json(request, itwin))

    async def _delete_itwin(self, request: Request) -> Response:
        itwin, subject = self._visible_itwin(request)
        if not may_delete(itwin, subject, self._administrators_of(itwin)):
            raise errors.insufficient_permissions()
        self._itwins.delete(itwin.id)
        return Response(status_code=204)

    async def _get_permissions(self, request: Request) -> Response:
        """Return any caller's own permissions, even if there are none: here, anyone can learn that the iTwin exists."""
        subject = self._admit(request, VERSIONS_OF_ACCESS_CONTROL)
        itwin = self._itwins.find(request.path_params["id"])
        if itwin is None:
            raise errors.itwin_not_found()
        return JSONResponse({"permissions": permissions_on(itwin, subject, self._administrators_of(itwin)) or []})

    async def _download(self, request: Request) -> Response:
        """Respond like Azure Storage, to which the real platform's links lead."""
        if not self._urls.allow(request.url.path, request.query_params):
            message = (
                "Server failed to authenticate the request. Make sure the signature is correct and has not expired."
            )
            return _storage_error(403, "AuthenticationFailed", message)
        for image in filter(None, (itwin.image for itwin in self._itwins.all())):
            if request.url.path == f"{THUMBNAILS}/{image.small_name}":
                return Response(image.thumbnail, media_type="image/jpeg")
            if request.url.path == f"{IMAGES}/{image.large_name}":
                return Response(image.data, media_type=image.media_type)
        return _storage_error(404, "BlobNotFound", "The specified blob does not exist.")

    def _modifiable_itwin(self, request: Request) -> ITwin:
        itwin, subject = self._visible_itwin(request)
        if MODIFY not in (permissions_on(itwin, subject, self._administrators_of(itwin)) or ()):
            raise errors.insufficient_permissions()
        return itwin

    def _visible_itwin(self, request: Request) -> tuple[ITwin, str]:
        """Return the iTwin of the path and its caller; an iTwin that is not visible to the caller counts as missing."""
        subject = self._admit(request)
        itwin = self._itwins.find(request.path_params["id"])
        if itwin is None or permissions_on(itwin, subject, self._administrators_of(itwin)) is None:
            raise errors.itwin_not_found()
        return itwin, subject

    def _admit(self, request: Request, known_versions: Collection[str] = VERSIONS) -> str:
        """Return the caller; raises Refusal for a bad token (401), too many calls (429), an unknown version (404)."""
        subject = self._authentication.subject_of(request.headers.get("authorization"))
        retry_after_s = self._rate_limit.count(subject)
        if retry_after_s is not None:
            raise errors.too_many_requests(retry_after_s)
        versions = {version.lower() for version in VERSION_ASKED_FOR.findall(request.headers.get("accept", ""))}
        if versions and versions.isdisjoint(known_versions):
            raise errors.operation_not_found()
        return subject

    def _administrators_of(self, itwin: ITwin) -> Collection[str]:
        return self._administrators if itwin.organization == ORGANIZATION else ()

    def _image_json(self, request: Request, image: ITwinImage) -> dict[str, Any]:
        return {
            "image": {
                "id": image.id,
                "smallImageName": image.small_name,
                "smallImageUrl": self._urls.sign(_origin(request), f"{THUMBNAILS}/{image.small_name}"),
                "largeImageName": image.large_name,
                "largeImageUrl": self._urls.sign(_origin(request), f"{IMAGES}/{image.large_name}"),
            }
        }

    def _itwin_json(self, request: Request, itwin: ITwin) -> dict[str, Any]:
        small_name = itwin.image and itwin.image.small_name
        return {
            "iTwin": {
                "id": itwin.id,
                **dict.fromkeys(WRITABLE_PROPERTIES),
                **itwin.properties,
                "number": itwin.number,
                "status": itwin.properties.get("status", "Active"),
                "imageName": small_name,
                "image": small_name and self._urls.sign(_origin(request), f"{THUMBNAILS}/{small_name}"),
                "createdDateTime": itwin.created_at.isoformat().replace("+00:00", "Z"),
                "createdBy": itwin.owner,
            }
        }


def _operations(path: str, **by_method: Callable[[Request], Awaitable[Response]]) -> Route:
    async def respond(request: Request) -> Response:
        return await by_method["GET" if request.method == "HEAD" else request.method](request)

    return Route(path, respond, methods=list(by_method))


def _itwin_problems(properties: Any) -> Iterator[Problem]:
    if not isinstance(properties, dict):
        yield Problem("InvalidRequestBody", "The request must be a JSON object.")
        return
    yield from _property_problems(properties)


def _property_problems(properties: Mapping[str, Any]) -> Iterator[Problem]:
    for name in REQUIRED_PROPERTIES:
        if properties.get(name) in (None, ""):
            yield Problem("MissingRequiredProperty", f"Required property is missing: {name}.", name)
    if "id" in properties:
        yield Problem("ReadOnlyProperty", "Id is read only and cannot be modified.", "id")
    for name in WRITABLE_PROPERTIES:
        if properties.get(name) not in (None, "") and not _is_valid(name, properties[name]):
            yield Problem("InvalidValue", f"Provided '{name}' value is not valid.", name)


def _is_valid(name: str, value: Any) -> bool:
    if name in MAX_DEGREES:
        return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= MAX_DEGREES[name]
    return isinstance(value, str) and value in CHOICES.get(name, (value,))


def _origin(request: Request) -> str:
    return str(request.base_url).rstrip("/")


def _storage_error(status: int, code: str, message: str) -> Response:
    body = f'<?xml version="1.0" encoding="utf-8"?><Error><Code>{code}</Code><Message>{message}</Message></Error>'
    return Response(body, status, headers={"x-ms-error-code": code}, media_type="application/xml")
