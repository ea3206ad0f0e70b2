"""The stand-in for the iTwin Platform answers as the API's page says, and survives what clients do to it."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import io
import json
import os
import random
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import tracemalloc
import uuid
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import jwt
import pytest
import requests
from PIL import Image

from local.itwin_platform import ITwinPlatform, ScriptedAnswer
from local.itwin_platform.image import read_header
from local.processes import wait_until
from local.serving import serve
from local.tokens import TokenIssuer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

SAMPLES = Path(__file__).parent / "samples" / "itwin_platform"
AUDIENCE = "api://itwin-platform"
IDENTITY = TokenIssuer("https://sts.example/tenant/")
STRANGER = TokenIssuer("https://sts.example/another-tenant/")
ADMINISTRATOR = "john.doe@example.com"
CLIENTS = {"service-1": "s3cr:t &%ä"}
TIMEOUT_S = 30


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 1_750_000_000.0

    def __call__(self) -> float:
        """Tell the time."""
        return self.now


@dataclass
class Client:
    """Calls one platform; `subject` is who its tokens say it is."""

    platform: ITwinPlatform
    address: str

    def call(
        self,
        method: str,
        path: str,
        data: Any = None,
        *,
        subject: str = "app",
        headers: Mapping[str, str] | None = None,
    ) -> requests.Response:
        """Send one request with a token of the identity provider; follow no redirect."""
        token = IDENTITY.issue(subject=subject, audience=AUDIENCE)
        sent = {"authorization": f"Bearer {token}", **(headers or {})}
        url = self.address + path
        return requests.request(method, url, data=data, headers=sent, timeout=TIMEOUT_S, allow_redirects=False)

    def put(
        self, itwin_id: str, data: Any, media_type: str | None = "image/png", *, subject: str = "app"
    ) -> requests.Response:
        """Upload an image."""
        headers = {} if media_type is None else {"content-type": media_type}
        return self.call("PUT", f"/itwins/{itwin_id}/image", data, subject=subject, headers=headers)

    def get(self, itwin_id: str, *, subject: str = "app") -> requests.Response:
        """Ask for the image's metadata."""
        return self.call("GET", f"/itwins/{itwin_id}/image", subject=subject)

    def control(self, method: str, path: str, body: Any = None) -> requests.Response:
        """Use /_control."""
        return requests.request(method, f"{self.address}/_control{path}", json=body, timeout=TIMEOUT_S)


@pytest.fixture(scope="module")
def served() -> Iterator[Client]:
    """One platform for the tests that need nothing special."""
    platform = ITwinPlatform(
        identity=IDENTITY,
        identity_audience=AUDIENCE,
        clients=CLIENTS,
        organization_administrators=[ADMINISTRATOR],
    )
    with serve(platform.app) as address:
        yield Client(platform, address)


@pytest.fixture
def client(served: Client) -> Client:
    """Return the same, as new."""
    served.platform.reset()
    return served


@pytest.fixture
def itwin(client: Client) -> str:
    """Make an iTwin that everybody may modify."""
    return client.platform.add_itwin()


def picture(image_format: str = "PNG", size: tuple[int, int] = (64, 48), colour: str = "teal") -> bytes:
    """Make a real image."""
    made = io.BytesIO()
    Image.new("RGB", size, colour).save(made, image_format)
    return made.getvalue()


def png_without_pixels(width: int, height: int) -> bytes:
    """Make a PNG of which only the header is there."""
    chunk = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))


def noise() -> bytes:
    """Make a PNG whose pixels fill more than one chunk."""
    made = io.BytesIO()
    Image.frombytes("RGB", (200, 200), random.Random(7).randbytes(120_000)).save(made, "PNG")  # noqa: S311 - no secret
    return made.getvalue()


def sample(name: str) -> Any:
    """Return an answer as the API's page shows it."""
    return json.loads((SAMPLES / f"{name}.json").read_bytes())


def error_of(answer: requests.Response, status: int) -> dict[str, Any]:
    """Return the error of an answer that has the API's shape."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    assert uuid.UUID(answer.headers["x-correlation-id"])
    error: dict[str, Any] = answer.json()["error"]
    assert isinstance(error["code"], str)
    assert isinstance(error["message"], str)
    return error


def details_of(answer: requests.Response) -> list[tuple[str, str | None]]:
    """Return code and target of each detail of a 422."""
    error = error_of(answer, 422)
    assert error["code"] == "InvalidiTwinsRequest"
    return [(detail["code"], detail.get("target")) for detail in error["details"]]


def wait_for(condition: Callable[[], bool]) -> None:
    """Wait until it holds."""
    deadline = time.monotonic() + TIMEOUT_S
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        threading.Event().wait(0.01)


# The image


@pytest.mark.parametrize(("image_format", "media_type"), [("PNG", "image/png"), ("JPEG", "image/jpeg")])
def test_an_upload_answers_as_the_page_shows(client: Client, itwin: str, image_format: str, media_type: str) -> None:
    """201 with the page's JSON, and the platform has the very bytes."""
    data = picture(image_format)
    answer = client.put(itwin, data, media_type)
    assert answer.status_code == 201
    assert uuid.UUID(answer.headers["x-correlation-id"])
    image = answer.json()["image"]
    shown = sample("201_uploaded")["image"]
    assert answer.json().keys() == {"image"}
    assert image.keys() == shown.keys()
    for size in ("small", "large"):
        assert image[f"{size}ImageName"] == f"{size}_{image['id']}.jpeg"
        link, example = urlsplit(image[f"{size}ImageUrl"]), urlsplit(shown[f"{size}ImageUrl"])
        assert link.path == example.path.replace(shown["id"], image["id"])
        assert list(parse_qs(link.query)) == list(parse_qs(example.query))
    assert client.platform.image(itwin) == (data, media_type)


def test_get_answers_what_put_answered(client: Client, itwin: str) -> None:
    """The metadata of the image can be read again."""
    put = client.put(itwin, picture()).json()["image"]
    got = client.get(itwin)
    assert got.status_code == 200
    assert {name: value for name, value in got.json()["image"].items() if not name.endswith("Url")} == {
        name: value for name, value in put.items() if not name.endswith("Url")
    }


def test_an_upper_case_id_names_the_same_itwin(client: Client, itwin: str) -> None:
    """GUIDs are compared without case."""
    assert client.put(itwin.upper(), picture()).status_code == 201
    assert client.get(itwin).status_code == 200
    assert client.platform.image(itwin.upper()) == client.platform.image(itwin)


def test_the_same_bytes_keep_their_id(client: Client, itwin: str) -> None:
    """Names change only when the image changes."""
    first, again = (client.put(itwin, picture()).json()["image"]["id"] for _ in range(2))
    other = client.put(itwin, picture(colour="red")).json()["image"]["id"]
    assert first == again != other


def test_two_itwins_with_the_same_bytes_have_two_images(client: Client) -> None:
    """Names are unique."""
    ids = {client.put(client.platform.add_itwin(), picture()).json()["image"]["id"] for _ in range(2)}
    assert len(ids) == 2


def test_the_links_lead_to_the_thumbnail_and_to_the_image(client: Client, itwin: str) -> None:
    """The small one is a real, smaller JPEG; the large one is what was uploaded."""
    data = picture(size=(1200, 600))
    image = client.put(itwin, data).json()["image"]
    large = requests.get(image["largeImageUrl"], timeout=TIMEOUT_S)
    assert (large.content, large.headers["content-type"]) == (data, "image/png")
    small = requests.get(image["smallImageUrl"], timeout=TIMEOUT_S)
    assert small.headers["content-type"] == "image/jpeg"
    with Image.open(io.BytesIO(small.content)) as thumbnail:
        assert (thumbnail.format, thumbnail.size) == ("JPEG", (400, 200))
        (shown,) = thumbnail.convert("RGB").resize((1, 1)).get_flattened_data()
        assert shown == pytest.approx((0, 128, 128), abs=3)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_every_kind_of_png_gets_a_thumbnail(client: Client, itwin: str, mode: str) -> None:
    """Greyscale, palette, transparency and 16 bits all become a JPEG."""
    made = io.BytesIO()
    Image.new(mode, (30, 20)).save(made, "PNG")
    image = client.put(itwin, made.getvalue()).json()["image"]
    small = requests.get(image["smallImageUrl"], timeout=TIMEOUT_S)
    with Image.open(io.BytesIO(small.content)) as thumbnail:
        assert (thumbnail.format, thumbnail.size) == ("JPEG", (30, 20))


def test_a_thumbnail_of_16_bits_is_as_bright_as_the_image(client: Client, itwin: str) -> None:
    """Also where it is neither black nor white."""
    made = io.BytesIO()
    ramp = b"".join((257 * grey).to_bytes(2, "little") for grey in range(256)) * 60
    Image.frombytes("I;16", (256, 60), ramp).save(made, "PNG")
    image = client.put(itwin, made.getvalue()).json()["image"]
    with Image.open(io.BytesIO(requests.get(image["smallImageUrl"], timeout=TIMEOUT_S).content)) as thumbnail:
        shown = [thumbnail.convert("L").getpixel((grey, 30)) for grey in (0, 64, 128, 192, 255)]
    assert shown == pytest.approx([0, 64, 128, 192, 255], abs=6)


def test_the_links_of_a_replaced_image_lead_nowhere(client: Client, itwin: str) -> None:
    """An image that is gone is not served, however good the signature."""
    old = client.put(itwin, picture()).json()["image"]
    client.put(itwin, picture(colour="red"))
    gone = requests.get(old["smallImageUrl"], timeout=TIMEOUT_S)
    assert (gone.status_code, gone.headers["x-ms-error-code"]) == (404, "BlobNotFound")


def test_an_image_can_be_deleted_once(client: Client, itwin: str) -> None:
    """204, then 404 for everything that needs the image."""
    client.put(itwin, picture())
    deleted = client.call("DELETE", f"/itwins/{itwin}/image")
    assert (deleted.status_code, deleted.content) == (204, b"")
    assert error_of(client.get(itwin), 404)["code"] == "ImageNotFound"
    assert error_of(client.call("DELETE", f"/itwins/{itwin}/image"), 404)["code"] == "ImageNotFound"
    assert client.platform.image(itwin) is None


@pytest.mark.parametrize(
    "itwin_id",
    [
        "6ba7b811-9dad-11d1-80b4-00c04fd430c8",
        "not-a-guid",
        "6ba7b8119dad11d180b400c04fd430c8",
        "{6ba7b811-9dad-11d1-80b4-00c04fd430c8}",
    ],
)
@pytest.mark.parametrize("method", ["PUT", "GET", "DELETE"])
def test_an_unknown_itwin_is_not_found(client: Client, method: str, itwin_id: str) -> None:
    """404 as on the page, also for what is no GUID."""
    answer = client.call(method, f"/itwins/{itwin_id}/image", picture())
    assert error_of(answer, 404) == sample("404_itwin_not_found")["error"]


# What is refused


@pytest.mark.parametrize("media_type", ["image/jpeg", "text/plain"])
def test_size_is_judged_before_content(client: Client, itwin: str, media_type: str) -> None:
    """6 MB of nothing is 413 as on the page, whatever else is wrong with it."""
    assert error_of(client.put(itwin, bytes(6_000_000), media_type), 413) == sample("413_request_too_large")["error"]


def test_five_decimal_megabytes_are_the_limit(client: Client, itwin: str) -> None:
    """5,000,000 bytes are accepted, one more is not."""
    image = picture("JPEG")
    largest = image + bytes(5_000_000 - len(image))
    assert client.put(itwin, largest, "image/jpeg").status_code == 201
    assert client.put(itwin, largest + b"\0", "image/jpeg").status_code == 413
    assert client.platform.image(itwin) == (largest, "image/jpeg")


def test_a_chunked_body_is_measured_but_not_kept(client: Client, itwin: str) -> None:
    """Without Content-Length, 413 comes as well, and memory holds no more than the limit and what is in flight."""
    chunk = bytes(1_000_000)
    tracemalloc.start()
    try:
        answer = client.put(itwin, (chunk for _ in range(60)), "image/jpeg")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert error_of(answer, 413)["code"] == "RequestTooLarge"
    assert client.platform.requests()[-1].body_bytes == 60_000_000
    assert peak < 20_000_000


def test_a_small_chunked_body_is_accepted(client: Client, itwin: str) -> None:
    """A body needs no Content-Length."""
    data = picture()
    assert client.put(itwin, iter([data[:50], data[50:]])).status_code == 201
    assert client.platform.image(itwin) == (data, "image/png")


def test_the_ratio_is_judged_by_the_header_alone(client: Client, itwin: str) -> None:
    """A 600 x 100 PNG without pixels is 422 for its ratio, in the page's words, and for nothing else."""
    error = error_of(client.put(itwin, png_without_pixels(600, 100)), 422)
    shown = sample("422_invalid")["error"]
    assert error == {**shown, "details": [shown["details"][2]]}


@pytest.mark.parametrize(
    ("size", "status"),
    [((500, 100), 201), ((100, 500), 201), ((501, 100), 422), ((100, 501), 422), ((5, 1), 201), ((6, 1), 422)],
)
@pytest.mark.parametrize("image_format", ["PNG", "JPEG"])
def test_exactly_five_to_one_is_legal(
    client: Client, itwin: str, image_format: str, size: tuple[int, int], status: int
) -> None:
    """Five times is not "greater than 5 times"."""
    answer = client.put(itwin, picture(image_format, size), f"image/{image_format.lower()}")
    assert answer.status_code == status


def test_a_422_tells_everything_that_is_wrong(client: Client, itwin: str) -> None:
    """One answer has all details."""
    wide = png_without_pixels(600, 100)
    assert details_of(client.put(itwin, wide, "text/plain")) == [
        ("InvalidValue", "Content-Type"),
        ("InvalidValue", "image"),
    ]
    assert details_of(client.put(itwin, wide, "image/jpeg")) == [
        ("InvalidRequestBody", "image"),
        ("InvalidValue", "image"),
    ]
    assert client.put(itwin, b"").json()["error"]["details"][0]["message"] == "The iTwin Image is missing."
    assert details_of(client.put(itwin, b"", None)) == [
        ("InvalidValue", "Content-Type"),
        ("InvalidRequestBody", "image"),
    ]


@pytest.mark.parametrize(
    "media_type", [None, "application/octet-stream", "image/gif", "image/jpg", "image/png, image/png"]
)
def test_another_content_type_is_refused(client: Client, itwin: str, media_type: str | None) -> None:
    """Only image/png and image/jpeg are."""
    assert details_of(client.put(itwin, picture(), media_type)) == [("InvalidValue", "Content-Type")]


def test_a_content_type_may_have_parameters_and_capitals(client: Client, itwin: str) -> None:
    """Media types are compared as HTTP does."""
    assert client.put(itwin, picture(), "Image/PNG; charset=binary").status_code == 201
    assert client.platform.image(itwin) == (picture(), "image/png")


def test_what_is_called_another_type_than_it_is_is_refused(client: Client, itwin: str) -> None:
    """The header of the image is what counts."""
    assert details_of(client.put(itwin, picture("JPEG"), "image/png")) == [("InvalidRequestBody", "image")]


def test_an_image_of_too_many_pixels_is_not_decoded(client: Client, itwin: str) -> None:
    """A small file that unpacks to gigabytes is refused by its header."""
    assert details_of(client.put(itwin, png_without_pixels(40_000, 40_000))) == [("InvalidValue", "image")]


JPEG_WITH_FRAME = picture("JPEG")
NOT_READABLE = {
    "text": b"not an image at all",
    "gif": picture("GIF"),
    "png signature": b"\x89PNG\r\n\x1a\n",
    "png half header": png_without_pixels(10, 10)[:22],
    "png other chunk first": b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 4) + b"gAMA" + bytes(30),
    "png no pixels": png_without_pixels(10, 10),
    "png no width": png_without_pixels(0, 10),
    "png half": picture(size=(300, 300))[:200],
    "png wrong checksum": picture()[:30] + b"\0\0\0" + picture()[33:],
    "png chunk without a name": b"\0\0\0\0".join(noise().rsplit(b"IDAT", 1)),
    "jpeg start": b"\xff\xd8\xff",
    "jpeg half header": JPEG_WITH_FRAME[:100],
    "jpeg no frame": b"\xff\xd8\xff\xda" + bytes(100),
    "jpeg fill bytes": b"\xff\xd8" + b"\xff" * 100,
    "jpeg endless segment": b"\xff\xd8\xff\xe0\xff\xff" + bytes(100),
    "jpeg segment of no length": b"\xff\xd8" + b"\xff\xe0\0\0" * 30,
    "jpeg no height": b"\xff\xd8\xff\xc0\0\x11\x08\0\0\0\x10" + bytes(50),
    "jpeg header only": b"\xff\xd8\xff\xc0\0\x11\x08\0\x10\0\x10" + bytes(50),
}


@pytest.mark.parametrize("name", NOT_READABLE)
def test_what_cannot_be_read_is_refused(client: Client, itwin: str, name: str) -> None:
    """422, and nothing of it is kept."""
    data = NOT_READABLE[name]
    media_type = "image/jpeg" if data.startswith(b"\xff") else "image/png"
    assert details_of(client.put(itwin, data, media_type)) == [("InvalidRequestBody", "image")]
    assert client.platform.image(itwin) is None


def test_no_corruption_crashes_it(client: Client, itwin: str) -> None:
    """Whatever the bytes after the header are, the answer is 201 or 422."""
    chance = random.Random(20_250_101)  # noqa: S311 - the same corruption in every run
    for image_format in ("PNG", "JPEG"):
        for _ in range(40):
            data = bytearray(picture(image_format))
            for _ in range(chance.randrange(1, 8)):
                data[chance.randrange(len(data))] = chance.randrange(256)
            assert client.put(itwin, bytes(data), f"image/{image_format.lower()}").status_code in {201, 422}


@pytest.mark.parametrize("image_format", ["PNG", "JPEG"])
def test_the_header_tells_width_before_height(image_format: str) -> None:
    """As stored in either format."""
    assert read_header(picture(image_format, (64, 48))) == (f"image/{image_format.lower()}", (64, 48))


def test_a_jpeg_may_have_fill_bytes(client: Client, itwin: str) -> None:
    """Any marker may be preceded by them."""
    data = picture("JPEG")
    assert client.put(itwin, data[:2] + b"\xff\xff" + data[2:], "image/jpeg").status_code == 201


def test_a_client_that_leaves_midway_changes_nothing(client: Client, itwin: str) -> None:
    """Half an upload is none."""
    client.put(itwin, picture())
    host, port = client.address.removeprefix("http://").split(":")
    token = IDENTITY.issue(subject="app", audience=AUDIENCE)
    head = (
        f"PUT /itwins/{itwin}/image HTTP/1.1\r\nhost: {host}\r\nauthorization: Bearer {token}\r\n"
        "content-type: image/png\r\ncontent-length: 100000\r\n\r\n"
    )
    with socket.create_connection((host, int(port)), timeout=TIMEOUT_S) as connection:
        connection.sendall(head.encode() + picture(colour="red")[:50])
    wait_for(lambda: len(client.platform.requests()) == 2)
    assert client.platform.requests()[-1].status == 400
    assert client.platform.image(itwin) == (picture(), "image/png")


# Who may


def forged(subject: str = "app") -> str:
    """Make a token that says it is of the identity provider, signed with another key."""
    return TokenIssuer(IDENTITY.issuer).issue(subject=subject, audience=AUDIENCE)


BAD_AUTHORIZATION: dict[str, Callable[[ITwinPlatform], str]] = {
    "another scheme": lambda _: "Basic YXBwOnNlY3JldA==",
    "no token": lambda _: "Bearer",
    "a token alone": lambda _: IDENTITY.issue(subject="app", audience=AUDIENCE),
    "not a token": lambda _: "Bearer abc",
    "three parts of nothing": lambda _: "Bearer a.b.c",
    "wrong issuer": lambda _: "Bearer " + STRANGER.issue(subject="app", audience=AUDIENCE, scope="itwin-platform"),
    "wrong key": lambda _: "Bearer " + forged(),
    "unsigned": lambda _: "Bearer " + jwt.encode({"iss": IDENTITY.issuer, "sub": "app"}, "", algorithm="none"),
    "expired": lambda _: "Bearer " + IDENTITY.issue(subject="app", audience=AUDIENCE, lifetime_s=-60),
    "wrong audience": lambda _: "Bearer " + IDENTITY.issue(subject="app", audience="https://storage.azure.com"),
    "own expired": lambda platform: "Bearer " + platform.token("app", lifetime_s=-60),
    "own without scope": lambda platform: "Bearer " + platform.token("app", scope=None),
    "own with another scope": lambda platform: "Bearer " + platform.token("app", scope="openid itwin-platform-x"),
}


def test_a_request_without_a_token_is_refused_as_the_page_shows(client: Client, itwin: str) -> None:
    """401 HeaderNotFound."""
    answer = requests.put(f"{client.address}/itwins/{itwin}/image", data=picture(), timeout=TIMEOUT_S)
    assert error_of(answer, 401) == sample("401_header_not_found")["error"]


@pytest.mark.parametrize("name", BAD_AUTHORIZATION)
def test_a_bad_token_is_refused(client: Client, itwin: str, name: str) -> None:
    """401 for whatever is not a good token, also where the iTwin is unknown."""
    headers = {"authorization": BAD_AUTHORIZATION[name](client.platform)}
    for path in (f"/itwins/{itwin}/image", f"/itwins/{uuid.uuid4()}/image"):
        error = error_of(client.call("PUT", path, picture(), headers=headers), 401)
        assert error["code"] in {"InvalidHeader", "InvalidToken"}
        assert error["message"].endswith("Access denied.")
    assert client.platform.image(itwin) is None


@pytest.mark.parametrize("method", ["PUT", "DELETE"])
def test_changing_an_image_needs_itwins_modify(client: Client, method: str) -> None:
    """A member without it is refused, whoever is no member sees no iTwin at all."""
    permissions = {"editor": ["itwins_modify"], "reader": ["imodels_webview"], "guest": []}
    itwin = client.platform.add_itwin(permissions=permissions)
    headers = {"content-type": "image/png"}
    assert client.put(itwin, picture(), subject="editor").status_code == 201
    for subject in ("reader", "guest"):
        refused = client.call(method, f"/itwins/{itwin}/image", picture(), subject=subject, headers=headers)
        assert error_of(refused, 403)["code"] == "InsufficientPermissions"
        assert client.get(itwin, subject=subject).status_code == 200
    stranger = client.call(method, f"/itwins/{itwin}/image", picture(), subject="stranger", headers=headers)
    assert error_of(stranger, 404) == sample("404_itwin_not_found")["error"]
    assert client.get(itwin, subject="stranger").status_code == 404
    assert client.call(method, f"/itwins/{itwin}/image", picture(), subject="editor", headers=headers).ok


def test_an_administrator_may_modify_every_itwin_of_the_organization(client: Client) -> None:
    """Those of their organization, and no other."""
    own = client.platform.add_itwin(permissions={})
    foreign = client.platform.add_itwin(permissions={}, organization="Another Company")
    assert client.put(own, picture(), subject=ADMINISTRATOR).status_code == 201
    assert client.put(foreign, picture(), subject=ADMINISTRATOR).status_code == 404


def test_anybody_may_ask_what_they_may(client: Client) -> None:
    """The list of permissions needs none, and is empty for a stranger."""
    itwin = client.platform.add_itwin(permissions={"editor": ["itwins_modify", "imodels_read"]})
    path = f"/accesscontrol/itwins/{itwin}/permissions"
    expected = {"editor": ["itwins_modify", "imodels_read"], "stranger": [], ADMINISTRATOR: ["itwins_modify"]}
    for subject, permissions in expected.items():
        answer = client.call("GET", path, subject=subject)
        assert (answer.status_code, answer.json()) == (200, {"permissions": permissions})
    unknown = client.call("GET", f"/accesscontrol/itwins/{uuid.uuid4()}/permissions")
    assert error_of(unknown, 404)["code"] == "iTwinNotFound"
    open_to_all = client.platform.add_itwin()
    answer = client.call("GET", f"/accesscontrol/itwins/{open_to_all}/permissions")
    assert answer.json() == {"permissions": ["itwins_modify"]}


# Signed URLs


@pytest.fixture
def timed() -> Iterator[tuple[Client, Clock]]:
    """Serve a platform whose clock the test moves, and that allows three calls a minute and five an hour."""
    clock = Clock()
    platform = ITwinPlatform(
        identity=IDENTITY, identity_audience=AUDIENCE, requests_per_minute=3, requests_per_hour=5, clock=clock
    )
    with serve(platform.app) as address:
        yield Client(platform, address), clock


def test_a_link_expires_after_an_hour_and_not_before(timed: tuple[Client, Clock]) -> None:
    """403 as Azure Storage says it; a new link is good again."""
    client, clock = timed
    clock.now += 0.5
    itwin = client.platform.add_itwin()
    image = client.put(itwin, picture()).json()["image"]
    for size in ("small", "large"):
        clock.now += 1800
        assert requests.get(image[f"{size}ImageUrl"], timeout=TIMEOUT_S).status_code == 200
    clock.now += 1
    for size in ("small", "large"):
        expired = requests.get(image[f"{size}ImageUrl"], timeout=TIMEOUT_S)
        assert (expired.status_code, expired.headers["x-ms-error-code"]) == (403, "AuthenticationFailed")
    renewed = client.get(itwin).json()["image"]["smallImageUrl"]
    assert requests.get(renewed, timeout=TIMEOUT_S).status_code == 200


def test_a_link_that_was_touched_is_refused(client: Client, itwin: str) -> None:
    """Nothing in it can be changed, left out or used for another image."""
    image = client.put(itwin, picture()).json()["image"]
    small, large = (urlsplit(image[f"{size}ImageUrl"]) for size in ("small", "large"))
    fields = {name: values[0] for name, values in parse_qs(small.query).items()}
    touched = [{**fields, name: f"{value}0"} for name, value in fields.items()]
    touched += [{name: value for name, value in fields.items() if name != missing} for missing in fields]
    for query in touched:
        answer = requests.get(small._replace(query="").geturl(), params=query, timeout=TIMEOUT_S)
        assert answer.status_code == 403
    assert requests.get(large._replace(query=small.query).geturl(), timeout=TIMEOUT_S).status_code == 403


# Rate limits


def test_a_client_that_calls_too_often_is_told_when_to_come_back(timed: tuple[Client, Clock]) -> None:
    """429 as on the page with retry-after in seconds; coming back then works, and other clients are not affected."""
    client, clock = timed
    itwin = client.platform.add_itwin()
    for _ in range(3):
        assert client.put(itwin, picture()).status_code == 201
        clock.now += 10
    refused = client.put(itwin, picture())
    assert error_of(refused, 429) == sample("429_too_many_requests")["error"]
    assert refused.headers["retry-after"] == "30"
    assert client.put(itwin, picture(), subject="another").status_code == 201
    clock.now += 29
    assert client.put(itwin, picture()).headers["retry-after"] == "1"
    clock.now += 1
    assert client.put(itwin, picture()).status_code == 201


def test_an_hour_has_a_limit_too(timed: tuple[Client, Clock]) -> None:
    """Slow callers meet it as well."""
    client, clock = timed
    itwin = client.platform.add_itwin()
    for _ in range(5):
        assert client.put(itwin, picture()).status_code == 201
        clock.now += 100
    assert client.put(itwin, picture()).headers["retry-after"] == "3100"
    clock.now += 3100
    assert client.put(itwin, picture()).status_code == 201


# iTwins


NEW_ITWIN = {
    "displayName": "Bridge 7",
    "number": "B-7",
    "type": "Bridge",
    "class": "Thing",
    "subClass": "Asset",
    "dataCenterLocation": "East US",
    "ianaTimeZone": "America/New_York",
    "status": "Trial",
}


def create(client: Client, **changes: Any) -> requests.Response:
    """POST an iTwin; None leaves a property out."""
    properties = {name: value for name, value in {**NEW_ITWIN, **changes}.items() if value is not None}
    return client.call("POST", "/itwins/", json.dumps(properties))


def test_a_new_itwin_belongs_to_its_creator(client: Client) -> None:
    """201 with what was asked for; the creator may do everything with it, a stranger does not see it."""
    made = create(client)
    assert made.status_code == 201
    itwin = made.json()["iTwin"]
    assert {name: itwin[name] for name in NEW_ITWIN} == NEW_ITWIN
    assert (itwin["image"], itwin["imageName"]) == (None, None)
    assert client.call("GET", f"/itwins/{itwin['id']}", subject="stranger").status_code == 404
    assert client.put(itwin["id"], picture()).status_code == 201


def test_an_itwin_shows_its_thumbnail(client: Client, itwin: str) -> None:
    """`image` and `imageName` are those of the small image."""
    image = client.put(itwin, picture()).json()["image"]
    got = client.call("GET", f"/itwins/{itwin}")
    assert got.status_code == 200
    shown = got.json()["iTwin"]
    assert (shown["id"], shown["imageName"]) == (itwin, image["smallImageName"])
    assert requests.get(shown["image"], timeout=TIMEOUT_S).headers["content-type"] == "image/jpeg"


def test_a_number_cannot_be_used_twice(client: Client) -> None:
    """409 iTwinExists."""
    assert create(client).status_code == 201
    error = error_of(create(client, displayName="Another"), 409)
    assert error["code"] == "iTwinExists"
    assert (error["details"][0]["code"], error["details"][0]["target"]) == ("InvalidValue", "number")
    assert [create(client, number=None).status_code for _ in range(2)] == [201, 201]


def test_an_itwin_that_is_not_complete_is_refused_with_all_details(client: Client) -> None:
    """422 MissingRequiredProperty and whatever else is wrong."""
    assert details_of(create(client, **{"class": None})) == [("MissingRequiredProperty", "class")]
    assert details_of(create(client, **{"class": None, "displayName": None, "id": "x"})) == [
        ("MissingRequiredProperty", "class"),
        ("MissingRequiredProperty", "displayName"),
        ("ReadOnlyProperty", "id"),
    ]
    assert details_of(create(client, **{"class": "Nonsense"})) == [("InvalidValue", "class")]
    assert details_of(create(client, **{"class": ["Thing"]})) == [("InvalidValue", "class")]
    assert details_of(create(client, displayName="")) == [("MissingRequiredProperty", "displayName")]
    for body in (b"", b"{", b"[]", b"7", b"\xff", b"[" * 100_000, b" " * 2_000_000):
        assert details_of(client.call("POST", "/itwins/", body)) == [("InvalidRequestBody", None)]


WRONG_VALUES: dict[str, list[Any]] = {
    "displayName": [7, True, ["Bridge"], {"en": "Bridge"}, []],
    "number": [7],
    "type": [["Bridge"]],
    "geographicLocation": [{}],
    "ianaTimeZone": [1],
    "dataCenterLocation": [False],
    "parentId": [7],
    "class": [0, False, ["Thing"], "thing"],
    "subClass": ["Bridge", 7],
    "status": ["Asleep", {}],
    "latitude": ["51", 90.5, True, [51]],
    "longitude": ["0", -181],
}


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in WRONG_VALUES.items() for value in values]
)
def test_a_property_of_the_wrong_type_or_value_is_refused(client: Client, name: str, value: Any) -> None:
    """422 that names it, and nothing is made."""
    answer = create(client, **{name: value})
    assert details_of(answer) == [("InvalidValue", name)]
    assert answer.json()["error"]["details"][0]["message"] == f"Provided '{name}' value is not valid."
    assert client.platform.itwins() == []


def test_numbers_and_nothing_are_values_too(client: Client) -> None:
    """Coordinates are numbers, and what is not required may be null."""
    properties = {**NEW_ITWIN, "latitude": -90, "longitude": 12.5, "parentId": None, "type": None}
    made = client.call("POST", "/itwins/", json.dumps(properties))
    assert made.status_code == 201
    assert (made.json()["iTwin"]["latitude"], made.json()["iTwin"]["longitude"]) == (-90, 12.5)


@pytest.mark.parametrize("value", ['"\\ud800"', "NaN", "1e999"])
def test_what_no_answer_could_repeat_is_refused(client: Client, value: str) -> None:
    """Half a character and endless numbers are JSON to some, and never come out again."""
    body = f'{{"class": "Thing", "subClass": "Asset", "displayName": "x", "latitude": {value}}}'
    assert details_of(client.call("POST", "/itwins/", body)) == [("InvalidRequestBody", None)]
    address = f"{client.address}/_control/itwins/{uuid.uuid4()}"
    assert requests.put(address, data=f'{{"displayName": {value}}}', timeout=TIMEOUT_S).status_code == 422


def test_an_itwin_is_deleted_by_its_owner_or_an_administrator(client: Client) -> None:
    """Whoever may only modify it may not; once deleted it is gone with its image."""
    shared = client.platform.add_itwin()
    assert error_of(client.call("DELETE", f"/itwins/{shared}"), 403)["code"] == "InsufficientPermissions"
    assert client.call("DELETE", f"/itwins/{shared}", subject=ADMINISTRATOR).status_code == 204
    own = create(client).json()["iTwin"]["id"]
    assert client.call("DELETE", f"/itwins/{own}").status_code == 204
    assert client.call("GET", f"/itwins/{own}").status_code == 404
    assert client.put(own, picture()).status_code == 404


# Tokens


TOKEN_REQUEST = {
    "grant_type": "client_credentials",
    "scope": "itwin-platform",
    "client_id": "service-1",
    "client_secret": CLIENTS["service-1"],
}
BASIC = base64.b64encode(b"service-1:s3cr%3At+%26%25%C3%A4").decode()


def ask_token(client: Client, headers: Mapping[str, str] | None = None, **changes: Any) -> requests.Response:
    """Ask for a token; None leaves a parameter out."""
    form = {name: value for name, value in {**TOKEN_REQUEST, **changes}.items() if value is not None}
    return requests.post(f"{client.address}/connect/token", data=form, headers=headers, timeout=TIMEOUT_S)


@pytest.mark.parametrize("way", ["form", "basic"])
def test_a_client_gets_a_token_for_its_secret(client: Client, itwin: str, way: str) -> None:
    """The secret comes in the form or as HTTP Basic; the token is good for an upload by that client."""
    if way == "form":
        answer = ask_token(client)
    else:
        answer = ask_token(client, {"authorization": f"Basic {BASIC}"}, client_id=None, client_secret=None)
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    granted = answer.json()
    assert (granted["token_type"], granted["expires_in"], granted["scope"]) == ("Bearer", 3600, "itwin-platform")
    own = client.platform.add_itwin(permissions={"service-1": ["itwins_modify"]})
    headers = {"authorization": f"Bearer {granted['access_token']}", "content-type": "image/png"}
    for itwin_id in (itwin, own):
        assert client.call("PUT", f"/itwins/{itwin_id}/image", picture(), headers=headers).status_code == 201


@pytest.mark.parametrize(
    ("changes", "status", "code"),
    [
        ({"client_secret": "wrong"}, 401, "invalid_client"),
        ({"client_secret": None}, 401, "invalid_client"),
        ({"client_id": "nobody"}, 401, "invalid_client"),
        ({"client_id": None}, 401, "invalid_client"),
        ({"grant_type": "password"}, 400, "unsupported_grant_type"),
        ({"grant_type": None}, 400, "invalid_request"),
        ({"scope": "itwins:read"}, 400, "invalid_scope"),
        ({"scope": None}, 400, "invalid_scope"),
        ({"padding": "x" * 100_000}, 400, "invalid_request"),
    ],
)
def test_a_bad_token_request_is_refused(client: Client, changes: dict[str, Any], status: int, code: str) -> None:
    """With the error JSON of OAuth 2.0, which is not that of the API."""
    answer = ask_token(client, **changes)
    assert (answer.status_code, answer.json()["error"]) == (status, code)
    assert answer.json()["error_description"]
    assert "www-authenticate" not in answer.headers


def test_a_client_authenticates_in_one_way(client: Client) -> None:
    """Two ways at once, a wrong secret in the header, and a header that is none."""
    both = ask_token(client, {"authorization": f"Basic {BASIC}"})
    assert (both.status_code, both.json()["error"]) == (400, "invalid_request")
    wrong = base64.b64encode(b"service-1:wrong").decode()
    refused = ask_token(client, {"authorization": f"Basic {wrong}"}, client_secret=None)
    assert (refused.status_code, refused.json()["error"]) == (401, "invalid_client")
    assert refused.headers["www-authenticate"].startswith("Basic")
    for header in ("Basic ###", "Bearer abc", "Basic /w==", "Basic ä"):
        answer = ask_token(client, {"authorization": header}, client_secret=None)
        assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")


def test_a_token_request_is_a_form_without_repetition(client: Client) -> None:
    """JSON is refused, and so is a parameter given twice."""
    url = f"{client.address}/connect/token"
    assert requests.post(url, json=TOKEN_REQUEST, timeout=TIMEOUT_S).json()["error"] == "invalid_request"
    twice = [*TOKEN_REQUEST.items(), ("scope", "itwin-platform")]
    assert requests.post(url, data=twice, timeout=TIMEOUT_S).json()["error"] == "invalid_request"
    assert requests.get(url, timeout=TIMEOUT_S).status_code == 405


# The edges of the API


@pytest.mark.parametrize("path", ["/", "/itwins", "/itwins/x/y/z", "/itwins/x/image/", "/connect", "/_control/nothing"])
def test_an_unknown_path_is_not_found_in_the_apis_shape(client: Client, path: str) -> None:
    """404, never a redirect."""
    error = error_of(client.call("POST", path), 404)
    assert (error["code"], error["details"][0]["code"]) == ("ResourceNotFound", "OperationNotFound")


def test_a_wrong_method_is_refused_in_the_apis_shape(client: Client, itwin: str) -> None:
    """405 with what is allowed."""
    answer = client.call("POST", f"/itwins/{itwin}/image", picture())
    assert error_of(answer, 405)["code"] == "MethodNotAllowed"
    assert set(answer.headers["allow"].split(", ")) >= {"GET", "PUT", "DELETE"}


def test_only_version_1_is_there(client: Client, itwin: str) -> None:
    """Another version in Accept matches no operation; no version, or any type, is version 1."""
    client.put(itwin, picture())
    expected = {"v1": 200, "v2": 404, "v10": 404}
    for version, status in expected.items():
        accept = {"accept": f"application/vnd.bentley.itwin-platform.{version}+json"}
        assert client.call("GET", f"/itwins/{itwin}/image", headers=accept).status_code == status
    assert client.call("GET", f"/itwins/{itwin}/image", headers={"accept": "application/json"}).status_code == 200


@pytest.mark.parametrize(("version", "status"), [("v1", 200), ("v2", 200), ("v3", 404)])
def test_access_control_is_at_version_2(client: Client, itwin: str, version: str, status: int) -> None:
    """Its own client asks for that."""
    accept = {"accept": f"application/vnd.bentley.itwin-platform.{version}+json"}
    answer = client.call("GET", f"/accesscontrol/itwins/{itwin}/permissions", headers=accept)
    assert answer.status_code == status


def test_every_answer_has_its_own_correlation_id(client: Client, itwin: str) -> None:
    """Successes, refusals, images, tokens, scripted answers and the control's."""
    link = client.put(itwin, picture()).json()["image"]["smallImageUrl"]
    client.platform.script([ScriptedAnswer(status=503)])
    answers = [
        client.put(itwin, picture()),
        client.put(itwin, picture()),
        client.get(str(uuid.uuid4())),
        client.call("GET", "/nothing"),
        requests.get(link, timeout=TIMEOUT_S),
        ask_token(client),
        client.control("GET", "/requests"),
    ]
    assert len({uuid.UUID(answer.headers["x-correlation-id"]) for answer in answers}) == len(answers)
    assert client.platform.requests()[1].correlation_id == answers[0].headers["x-correlation-id"]


def test_many_clients_at_once_are_all_served(client: Client) -> None:
    """Each iTwin ends with its own image."""
    colours = {client.platform.add_itwin(): f"#{shade:02x}0000" for shade in range(0, 256, 8)}
    with ThreadPoolExecutor(16) as pool:
        answers = pool.map(lambda itwin: client.put(itwin, picture(colour=colours[itwin])), colours)
        assert [answer.status_code for answer in answers] == [201] * len(colours)
    for itwin, colour in colours.items():
        assert client.platform.image(itwin) == (picture(colour=colour), "image/png")


# The log


def test_the_log_tells_what_came_without_secrets(client: Client, itwin: str) -> None:
    """Time, method, path, status, size, digest, type, and whether a token came; neither tokens nor signatures."""
    link = client.put(itwin, picture()).json()["image"]["largeImageUrl"]
    requests.get(link, timeout=TIMEOUT_S)
    put, get = client.platform.requests()
    assert (put.method, put.path, put.status) == ("PUT", f"/itwins/{itwin}/image", 201)
    assert (put.body_bytes, put.media_type, put.bearer) == (len(picture()), "image/png", True)
    assert put.body_sha256 == hashlib.sha256(picture()).hexdigest()
    assert abs(put.time.timestamp() - time.time()) < TIMEOUT_S
    assert (get.method, get.status, get.media_type, get.bearer) == ("GET", 200, None, False)
    shown = client.control("GET", "/requests").text
    assert parse_qs(urlsplit(link).query)["sig"][0] not in shown
    assert "eyJ" not in shown


# Scripts


def test_a_script_answers_in_order_and_then_the_platform_does(client: Client, itwin: str) -> None:
    """Each answer as often as it says, to requests that match, byte for byte."""
    answers = [
        ScriptedAnswer(status=429, headers={"retry-after": "2"}, times=2),
        ScriptedAnswer(status=502, headers={"content-type": "text/html"}, body=b"<html>Bad Gateway</html>"),
        ScriptedAnswer(status=201, body=b'{"image": {"id"'),
        ScriptedAnswer(status=201),
        ScriptedAnswer(status=302, headers={"location": "https://elsewhere.example/"}),
    ]
    client.platform.script(answers)
    got = [client.put(itwin, picture()) for _ in range(7)]
    assert [answer.status_code for answer in got] == [429, 429, 502, 201, 201, 302, 201]
    assert got[0].headers["retry-after"] == "2"
    assert (got[2].content, got[2].headers["content-type"]) == (b"<html>Bad Gateway</html>", "text/html")
    assert [got[3].content, got[4].content] == [b'{"image": {"id"', b""]
    assert got[5].headers["location"] == "https://elsewhere.example/"
    assert got[6].json()["image"]
    assert client.platform.remaining_script() == []
    assert [request.status for request in client.platform.requests()] == [answer.status_code for answer in got]


def test_a_script_meets_only_what_matches(client: Client, itwin: str) -> None:
    """Method and path are patterns; what does not match is answered by the platform."""
    client.platform.script([ScriptedAnswer(status=500, method="*", path="/connect/*")])
    assert client.put(itwin, picture()).status_code == 201
    assert ask_token(client).status_code == 500
    assert ask_token(client).status_code == 200


def test_a_scripted_answer_needs_no_token(client: Client, itwin: str) -> None:
    """A gateway fails before anybody looks at the request, but the whole of it comes in."""
    client.platform.script([ScriptedAnswer(status=503)])
    url = f"{client.address}/itwins/{itwin}/image"
    assert requests.put(url, data=bytes(3_000_000), timeout=TIMEOUT_S).status_code == 503
    assert client.platform.requests()[-1].body_bytes == 3_000_000


@pytest.mark.parametrize("body", [b"", b'{"image": {"id": "0123456789"}}'])
def test_a_scripted_reset_breaks_the_connection(client: Client, itwin: str, body: bytes) -> None:
    """Before the answer, or in the middle of it; the next request is served."""
    client.platform.script([ScriptedAnswer(status=201, body=body, reset=True)])
    with pytest.raises((requests.ConnectionError, requests.exceptions.ChunkedEncodingError)):
        client.put(itwin, picture())
    assert client.platform.image(itwin) is None
    assert client.put(itwin, picture()).status_code == 201


def test_an_answer_can_be_lost_after_the_work_was_done(client: Client, itwin: str) -> None:
    """The image is there, but its client does not learn it."""
    client.platform.script([ScriptedAnswer(reset=True)])
    with pytest.raises((requests.ConnectionError, requests.exceptions.ChunkedEncodingError)):
        client.put(itwin, picture())
    assert client.platform.image(itwin) == (picture(), "image/png")
    assert client.platform.requests()[-1].status == 201


def test_an_answer_can_be_late(client: Client, itwin: str) -> None:
    """A scripted one and the platform's own."""
    client.platform.script([ScriptedAnswer(status=500, delay_s=0.2), ScriptedAnswer(delay_s=0.2)])
    for status in (500, 201):
        answer = client.put(itwin, picture())
        assert answer.status_code == status
        assert answer.elapsed.total_seconds() >= 0.2


def test_the_work_can_be_late(client: Client, itwin: str) -> None:
    """It is done when its client has long given up, however large the image is, over what came meanwhile."""
    client.platform.script([ScriptedAnswer(late_s=1)])
    token = IDENTITY.issue(subject="app", audience=AUDIENCE)
    headers = {"authorization": f"Bearer {token}", "content-type": "image/png"}
    with pytest.raises(requests.Timeout):
        requests.put(f"{client.address}/itwins/{itwin}/image", data=noise(), headers=headers, timeout=0.3)
    assert client.platform.image(itwin) is None
    assert client.put(itwin, picture()).status_code == 201
    assert wait_until(lambda: client.platform.image(itwin) == (noise(), "image/png"), timeout_s=TIMEOUT_S)
    assert [request.status for request in client.platform.requests()] == [201, 201]


@pytest.mark.parametrize(
    "wrong",
    [
        *(
            {"status": 100},
            {"status": 600},
            {"times": 0},
            {"delay_s": -1},
            {"late_s": -1},
            {"status": 201, "late_s": 1},
        ),
        *({"headers": {name: "x"}} for name in ("", "a b", "a:b", "ä", "a\n")),
        *({"headers": {"a": value}} for value in (" y ", "y\t", "\n", "ä", 1)),
        *({"status": status, "body": b"x"} for status in (204, 304)),
    ],
)
def test_a_script_that_no_server_could_follow_is_refused(wrong: dict[str, Any]) -> None:
    """Where it is written, not where it would be used."""
    with pytest.raises(ValueError, match="scripted answer"):
        ScriptedAnswer(**wrong)


@pytest.mark.parametrize("status", [204, 304])
def test_what_any_server_may_send_arrives(client: Client, itwin: str, status: int) -> None:
    """Every sign that a header's name may have, a value with blanks in it and an empty one, no content."""
    headers = {"x!#$%&'*+-.^_`|~7": "a: b, c", "x-empty": ""}
    client.platform.script([ScriptedAnswer(status, headers)])
    answer = client.put(itwin, picture())
    assert (answer.status_code, answer.content) == (status, b"")
    assert headers.items() <= dict(answer.headers.lower_items()).items()


# The control


def test_itwins_are_made_and_images_read_over_http(client: Client) -> None:
    """PUT is idempotent and keeps the image; the image's bytes come back as they were."""
    itwin = str(uuid.uuid4())
    assert client.control("PUT", f"/itwins/{itwin.upper()}", {"displayName": "Site 1"}).status_code == 201
    assert client.control("GET", f"/itwins/{itwin}/image").status_code == 404
    assert client.put(itwin, picture("JPEG"), "image/jpeg").status_code == 201
    again = client.control("PUT", f"/itwins/{itwin}", {"permissions": {"editor": ["itwins_modify"]}})
    assert (again.status_code, again.json()) == (200, {"iTwin": {"id": itwin}})
    image = client.control("GET", f"/itwins/{itwin}/image")
    assert (image.content, image.headers["content-type"]) == (picture("JPEG"), "image/jpeg")
    (listed,) = client.control("GET", "/itwins").json()["iTwins"]
    assert (listed["id"], listed["image"]["bytes"]) == (itwin, len(picture("JPEG")))
    assert listed["permissions"] == {"editor": ["itwins_modify"]}
    assert client.put(itwin, picture()).status_code == 404
    assert [known.id for known in client.platform.itwins()] == [itwin]


def test_what_is_not_given_stays(client: Client) -> None:
    """Putting an iTwin again, to be sure that it is there, takes nothing away from it."""
    made = create(client, **{"class": "Endeavor", "subClass": "Project"}).json()["iTwin"]
    client.put(made["id"], picture())
    assert client.control("PUT", f"/itwins/{made['id'].upper()}", {}).status_code == 200
    known = client.call("GET", f"/itwins/{made['id']}").json()["iTwin"]
    assert {**known, "image": None, "imageName": None} == made
    assert client.put(made["id"], picture(), subject="stranger").status_code == 404
    assert client.control("PUT", f"/itwins/{made['id']}", {"permissions": None}).status_code == 200
    assert client.put(made["id"], picture(), subject="stranger").status_code == 201


def test_an_itwin_can_be_put_without_a_body(client: Client) -> None:
    """As `curl -X PUT` does."""
    itwin = uuid.uuid4()
    made = requests.put(f"{client.address}/_control/itwins/{itwin}", timeout=TIMEOUT_S)
    assert (made.status_code, made.json()) == (201, {"iTwin": {"id": str(itwin)}})


def test_requests_and_scripts_are_read_set_and_dropped_over_http(client: Client, itwin: str) -> None:
    """The log without the control's own requests; bodies of scripted answers as text, JSON or base64."""
    answers = [
        {"status": 502, "body": "<html>"},
        {"status": 422, "body": {"error": {"code": "X"}}},
        {"status": 201, "body_base64": "/w=="},
        {"status": 500, "times": 2},
    ]
    assert client.control("PUT", "/script", {"answers": answers}).status_code == 204
    got = [client.put(itwin, picture()).content for _ in range(3)]
    assert got == [b"<html>", b'{"error": {"code": "X"}}', b"\xff"]
    (left,) = client.control("GET", "/script").json()["answers"]
    assert (left["status"], left["times"]) == (500, 2)
    assert client.control("PUT", "/script", {"answers": [left]}).status_code == 204
    assert client.control("DELETE", "/script").status_code == 204
    assert client.put(itwin, picture()).status_code == 201
    logged = client.control("GET", "/requests").json()["requests"]
    assert [request["status"] for request in logged] == [502, 422, 201, 201]
    assert client.control("DELETE", "/requests").status_code == 204
    assert client.control("GET", "/requests").json() == {"requests": []}


def test_reset_makes_it_as_new(timed: tuple[Client, Clock]) -> None:
    """No iTwins, no requests, no script, no client that has called too often."""
    client, _ = timed
    client.platform.script([ScriptedAnswer(status=500)])
    itwin = client.platform.add_itwin()
    while client.get(itwin).status_code != 429:
        pass
    assert client.control("POST", "/reset").status_code == 204
    assert (client.platform.itwins(), client.platform.requests(), client.platform.remaining_script()) == ([], [], [])
    assert client.get(itwin).status_code == 404


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/itwins/not-a-guid", {}),
        ("/itwins/6ba7b811-9dad-11d1-80b4-00c04fd430c8", []),
        ("/itwins/6ba7b811-9dad-11d1-80b4-00c04fd430c8", {"permissions": ["itwins_modify"]}),
        ("/itwins/6ba7b811-9dad-11d1-80b4-00c04fd430c8", {"permissions": {"app": "itwins_modify"}}),
        ("/itwins/6ba7b811-9dad-11d1-80b4-00c04fd430c8", {"displayName": 7}),
        ("/itwins/6ba7b811-9dad-11d1-80b4-00c04fd430c8", {"organization": None}),
        ("/itwins/6ba7b811-9dad-11d1-80b4-00c04fd430c8", {"displayname": "Site"}),
        ("/script", {}),
        ("/script", {"answers": {}}),
        ("/script", {"answers": ["500"]}),
        ("/script", {"answers": [{"status": 99}]}),
        ("/script", {"answers": [{"status": "500"}]}),
        ("/script", {"answers": [{"code": 500}]}),
        ("/script", {"answers": [{"status": 200, "body_base64": "#"}]}),
        ("/script", {"answers": [{"status": 200, "body_base64": 7}]}),
        ("/script", {"answers": [{"status": 200, "headers": ["a"]}]}),
        ("/script", {"answers": [{"status": 200, "headers": {"a": 1}}]}),
        ("/script", {"answers": [{"status": 200, "headers": {"a": "b\r\nc: d"}}]}),
        ("/script", {"answers": [{"status": 200, "method": None}]}),
        ("/script", {"answers": [{"status": 200, "delay_s": "1"}]}),
    ],
)
def test_a_bad_control_request_is_refused_and_changes_nothing(client: Client, path: str, body: Any) -> None:
    """422 that says what is wrong."""
    assert error_of(client.control("PUT", path, body), 422)["message"]
    assert (client.platform.itwins(), client.platform.remaining_script()) == ([], [])


@pytest.mark.parametrize(("host", "status"), [("203.0.113.9", 403), ("127.0.0.1", 200), ("::1", 200)])
def test_the_control_answers_this_machine_alone(host: str, status: int) -> None:
    """Wherever the application is served."""
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    path = "/_control/itwins"
    headers = [(b"host", b"localhost:8080")]
    scope: dict[str, Any] = {"type": "http", "method": "GET", "path": path, "headers": headers, "client": (host, 1)}
    asyncio.run(ITwinPlatform().app({**scope, "query_string": b"", "http_version": "1.1"}, receive, send))  # type: ignore[arg-type]  # plain dictionaries are messages
    assert sent[0]["status"] == status


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 204),
        ({"host": "localhost"}, 204),
        ({"host": "localhost:8080", "origin": "http://localhost:8080"}, 204),
        ({"host": "[::1]:8080"}, 204),
        ({"host": "rebound.example"}, 403),
        ({"host": "127.0.0.1.rebound.example:8080"}, 403),
        ({"host": "[::1"}, 403),
        ({"host": ""}, 403),
        ({"origin": "https://any.example"}, 403),
        ({"origin": "null"}, 403),
        ({"host": "rebound.example", "origin": "http://rebound.example"}, 403),
    ],
)
def test_no_web_page_uses_the_control(client: Client, itwin: str, headers: dict[str, str], status: int) -> None:
    """Neither under a name of its own that was made to lead here, nor from another origin."""
    answer = requests.post(f"{client.address}/_control/reset", headers=headers, timeout=TIMEOUT_S)
    assert answer.status_code == status
    assert (itwin in [known.id for known in client.platform.itwins()]) is (status == 403)


# The library and the program


def test_a_wrong_itwin_id_is_refused_by_the_library() -> None:
    """A container name that is no GUID cannot become an iTwin."""
    with pytest.raises(ValueError, match="GUID"):
        ITwinPlatform().add_itwin("my-project")


def test_an_itwin_can_be_added_again(client: Client, itwin: str) -> None:
    """It keeps its image."""
    client.put(itwin, picture())
    assert client.platform.add_itwin(itwin.upper(), display_name="Renamed") == itwin
    (known,) = client.platform.itwins()
    assert known.properties["displayName"] == "Renamed"
    assert client.platform.image(itwin) == (picture(), "image/png")


def start_program(*arguments: str) -> subprocess.Popen[str]:
    """Start `python -m local.itwin_platform`."""
    return subprocess.Popen(
        [sys.executable, "-m", "local.itwin_platform", *arguments],
        cwd=Path(__file__).parent.parent,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )


def test_the_program_serves_until_interrupted() -> None:
    """It prints address, client id and secret, which work; Ctrl-C ends it without a word."""
    with start_program("--port", "0") as program:
        assert program.stdout
        address = program.stdout.readline().split()[3]
        _, _, client_id, _, _, secret = program.stdout.readline().split()
        try:
            form = {**TOKEN_REQUEST, "client_id": client_id.rstrip(","), "client_secret": secret}
            token = requests.post(f"{address}/connect/token", data=form, timeout=TIMEOUT_S).json()["access_token"]
            itwin = uuid.uuid4()
            assert requests.put(f"{address}/_control/itwins/{itwin}", timeout=TIMEOUT_S).status_code == 201
            headers = {"authorization": f"Bearer {token}", "content-type": "image/png"}
            url = f"{address}/itwins/{itwin}/image"
            assert requests.put(url, data=picture(), headers=headers, timeout=TIMEOUT_S).status_code == 201
        finally:
            program.send_signal(signal.SIGINT)
        _, complaints = program.communicate(timeout=TIMEOUT_S)
        assert (program.returncode, complaints) == (0, "")


def test_the_program_says_that_its_port_is_taken(client: Client) -> None:
    """One sentence, exit code 1."""
    port = client.address.rsplit(":", 1)[1]
    with start_program("--port", port) as program:
        _, complaints = program.communicate(timeout=TIMEOUT_S)
    assert program.returncode == 1
    assert complaints.startswith(f"Port {port} cannot be used")
    assert len(complaints.splitlines()) == 1


def test_it_shares_nothing_with_the_app() -> None:
    """A stand-in that used the app's code would confirm its mistakes."""
    code = "import sys, local.itwin_platform; sys.exit(any(name.split('.')[0] == 'shared' for name in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parent.parent, check=False).returncode == 0
