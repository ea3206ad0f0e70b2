"""How the tests of the stand-in speak to it: a client, pictures, and what its responses look like."""

from __future__ import annotations

import io
import json
import random
import struct
import uuid
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import requests
from PIL import Image

from local.tokens import TokenIssuer
from tests.deadlines import HANG_S

if TYPE_CHECKING:
    from collections.abc import Mapping

    from local.itwin_platform import ITwinPlatform

SAMPLES = Path(__file__).parents[1] / "samples" / "itwin_platform"
AUDIENCE = "api://itwin-platform"
IDENTITY = TokenIssuer("https://sts.example/tenant/")
OTHER_IDENTITY = TokenIssuer("https://sts.example/another-tenant/")
ADMINISTRATOR = "john.doe@example.com"
CLIENTS = {"service-1": "s3cr:t &%ä"}


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
        return requests.request(method, url, data=data, headers=sent, timeout=HANG_S, allow_redirects=False)

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
        return requests.request(method, f"{self.address}/_control{path}", json=body, timeout=HANG_S)


def picture(image_format: str = "PNG", size: tuple[int, int] = (64, 48), colour: str = "teal") -> bytes:
    """Make a real image."""
    made = io.BytesIO()
    Image.new("RGB", size, colour).save(made, image_format)
    return made.getvalue()


def png_without_pixels(width: int, height: int) -> bytes:
    """Make a PNG that has only a header."""
    chunk = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))


def noise() -> bytes:
    """Make a PNG whose pixels fill more than one chunk."""
    made = io.BytesIO()
    Image.frombytes("RGB", (200, 200), random.Random(7).randbytes(120_000)).save(made, "PNG")  # noqa: S311 - no secret
    return made.getvalue()


def sample(name: str) -> Any:
    """Return a response as the API's page shows it."""
    return json.loads((SAMPLES / f"{name}.json").read_bytes())


def error_of(response: requests.Response, status: int) -> dict[str, Any]:
    """Return the error of a response in the API's form."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    assert uuid.UUID(response.headers["x-correlation-id"])
    error: dict[str, Any] = response.json()["error"]
    assert isinstance(error["code"], str)
    assert isinstance(error["message"], str)
    return error


def details_of(response: requests.Response) -> list[tuple[str, str | None]]:
    """Return code and target of each detail of a 422."""
    error = error_of(response, 422)
    assert error["code"] == "InvalidiTwinsRequest"
    return [(detail["code"], detail.get("target")) for detail in error["details"]]


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


TOKEN_REQUEST = {
    "grant_type": "client_credentials",
    "scope": "itwin-platform",
    "client_id": "service-1",
    "client_secret": CLIENTS["service-1"],
}


def ask_token(client: Client, headers: Mapping[str, str] | None = None, **changes: Any) -> requests.Response:
    """Ask for a token; None leaves a parameter out."""
    form = {name: value for name, value in {**TOKEN_REQUEST, **changes}.items() if value is not None}
    return requests.post(f"{client.address}/connect/token", data=form, headers=headers, timeout=HANG_S)
