"""Storage, platform and managed identity that respond at once, in a process of their own, and count requests.

Only the part of the wire protocol that a drop needs, in memory: its cost is not the app's, and does not grow with the
amount of data. Listing is not supported: the response is 501.

https://learn.microsoft.com/rest/api/storageservices/blob-service-rest-api
"""

from __future__ import annotations

import argparse
import asyncio
import json
import ssl
import subprocess
import sys
import time
import uuid
from collections import Counter
from dataclasses import dataclass, field
from email.utils import formatdate
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import unquote

import requests
import trustme

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

LOOPBACK = "127.0.0.1"
ACCOUNT = "devstoreaccount1"
# Requests are signed as usual, but signatures are not checked. The key is the storage emulator's public one.
ACCOUNT_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
CONTROL = "/_control/"
TOKEN_LIFETIME_S = 24 * 3600
IMAGE = json.dumps(
    {
        "image": {
            "id": "b3bd3a79-c5b4-41f5-ba5f-6d8c338d788a",
            "smallImageName": "small.jpg",
            "smallImageUrl": f"https://images.example/small.jpg?sig={'a' * 64}",
            "largeImageName": "large.jpg",
            "largeImageUrl": f"https://images.example/large.jpg?sig={'a' * 64}",
        }
    }
).encode()
QUEUED = (
    "<QueueMessagesList><QueueMessage><MessageId>{id}</MessageId><InsertionTime>{now}</InsertionTime>"
    "<ExpirationTime>{now}</ExpirationTime><PopReceipt>a</PopReceipt><TimeNextVisible>{now}</TimeNextVisible>"
    "</QueueMessage></QueueMessagesList>"
)


class StandIn:
    """A running stand-in; with `tls`, it serves https, and the app uses its managed identity, as deployed."""

    def __init__(self, *, tls: bool = False) -> None:
        self._tls = tls

    def __enter__(self) -> Self:
        """Start it and wait until it listens."""
        command = [sys.executable, "-m", "benchmarks.stand_in"]
        if self._tls:
            self._folder = TemporaryDirectory(prefix="benchmark-")
            self._write_certificate(Path(self._folder.name))
            command += ["--certificates", self._folder.name]
        self._process = subprocess.Popen(  # noqa: S603 - our own program
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        listening = json.loads(self._process.stdout.readline() if self._process.stdout else "")
        self.plain = f"http://{LOOPBACK}:{listening['plain']}"
        self.address = f"https://{LOOPBACK}:{listening['tls']}" if self._tls else self.plain
        return self

    def __exit__(self, *_: object) -> None:
        """Stop it by closing its input."""
        self._process.communicate()
        if self._tls:
            self._folder.cleanup()

    def settings(self) -> dict[str, str]:
        """Return the app's settings."""
        account = f"{self.address}/{ACCOUNT}"
        login = {
            "ITWIN_API_URL": self.address,
            "ITWIN_LOGIN": "managed-identity",
            "ITWIN_TOKEN_SCOPE": "api://itwin-platform/.default",
            "IDENTITY_ENDPOINT": f"{self.plain}/msi/token",
            "IDENTITY_HEADER": "a",
        }
        if self._tls:
            return login | {
                "DropStorage__blobServiceUri": account,
                "DropStorage__queueServiceUri": account,
                "DropStorage__credential": "managedidentity",
                "REQUESTS_CA_BUNDLE": f"{self._folder.name}/authority.pem",
            }
        string = f"DefaultEndpointsProtocol=http;AccountName={ACCOUNT};AccountKey={ACCOUNT_KEY};"
        return login | {"DropStorage": f"{string}BlobEndpoint={account};QueueEndpoint={account};"}

    def put(self, name: str, content: bytes) -> None:
        """Write a blob; the name begins with its container."""
        requests.put(
            f"{self.plain}/{ACCOUNT}/{name}", data=content, headers={"x-ms-blob-type": "BlockBlob"}, timeout=60
        ).raise_for_status()

    def get(self, name: str) -> bytes:
        """Return a blob's content."""
        answer = requests.get(f"{self.plain}/{ACCOUNT}/{name}", timeout=60)
        answer.raise_for_status()
        return answer.content

    def copy(self, name: str, to: Iterable[str]) -> None:
        """Create blobs that share the same content."""
        self._control("copy", {"from": name, "to": list(to)})

    def count(self) -> Counter[str]:
        """Return how many requests of each kind, and how many connections, there were since it started."""
        return Counter(self._control("count", {}))

    def _control(self, verb: str, order: Mapping[str, Any]) -> Any:
        answer = requests.post(self.plain + CONTROL + verb, json=order, timeout=60)
        answer.raise_for_status()
        return answer.json()

    def _write_certificate(self, folder: Path) -> None:
        authority = trustme.CA()
        server = authority.issue_cert(LOOPBACK)
        server.private_key_and_cert_chain_pem.write_to_path(folder / "server.pem")
        authority.cert_pem.write_to_path(folder / "authority.pem")


@dataclass
class Blob:
    """One blob."""

    content: bytes = field(repr=False)
    etag: str = ""
    modified: str = field(default_factory=lambda: formatdate(usegmt=True))
    lease: str = ""


@dataclass(frozen=True)
class Request:
    """One request; header names are in lower case."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes = field(repr=False)


Answer = tuple[int, dict[str, str], bytes]


class Cloud:
    """The stand-in's data, and its responses."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self._blobs: dict[str, Blob] = {}
        self._written = 0

    def answer(self, request: Request) -> Answer:
        """Respond to one request."""
        if request.path.startswith(CONTROL):
            return self._obey(request.path.removeprefix(CONTROL), json.loads(request.body))
        account = f"/{ACCOUNT}/"
        if request.path.startswith(account):
            return self._answer_storage(request, unquote(request.path.removeprefix(account)))
        if request.path.startswith("/msi/"):
            self.counts["token"] += 1
            token = {"access_token": uuid.uuid4().hex, "expires_on": str(int(time.time()) + TOKEN_LIFETIME_S)}
            return 200, {"content-type": "application/json"}, json.dumps(token).encode()
        self.counts["put image"] += 1
        return 201, {"content-type": "application/json"}, IMAGE

    def _obey(self, verb: str, order: dict[str, Any]) -> Answer:
        if verb == "copy":
            content = self._blobs[order["from"]].content
            for name in order["to"]:
                self._write(name, content)
        return 200, {"content-type": "application/json"}, json.dumps(self.counts).encode()

    def _answer_storage(self, request: Request, name: str) -> Answer:
        match request.method, request.query:
            case "POST", _ if name.endswith("/messages"):
                self.counts["put message"] += 1
                body = QUEUED.format(id=uuid.uuid4(), now=formatdate(usegmt=True)).encode()
                return 201, {"content-type": "application/xml"}, body
            case "PUT", "comp=lease":
                self.counts["lease"] += 1
                return self._lease(request, name)
            case "PUT", "":
                self.counts["put blob"] += 1
                return self._put(request, name)
            case "GET" | "HEAD", "":
                self.counts["get blob"] += 1
                return self._get(request, name)
        self.counts["anything else"] += 1
        return _refuse(501, "NotImplemented")

    def _get(self, request: Request, name: str) -> Answer:
        blob = self._blobs.get(name)
        if blob is None:
            return _refuse(404, "BlobNotFound")
        headers = {
            "etag": f'"{blob.etag}"',
            "last-modified": blob.modified,
            "content-type": "application/octet-stream",
            "x-ms-blob-type": "BlockBlob",
            "x-ms-lease-state": "leased" if blob.lease else "available",
        }
        if request.headers.get("if-none-match") == headers["etag"]:
            return 304, {"x-ms-error-code": "ConditionNotMet"}, b""
        if "x-ms-range" not in request.headers:
            return 200, headers, blob.content
        headers["content-range"] = f"bytes 0-{len(blob.content) - 1}/{len(blob.content)}"
        return 206, headers, blob.content

    def _put(self, request: Request, name: str) -> Answer:
        blob = self._blobs.get(name)
        if blob and request.headers.get("if-none-match") == "*":
            return _refuse(409, "BlobAlreadyExists")
        if blob and (blob.lease != request.headers.get("x-ms-lease-id", "") or _is_outdated(request, blob)):
            return _refuse(412, "ConditionNotMet")
        written = self._write(name, request.body, blob.lease if blob else "")
        return 201, {"etag": f'"{written.etag}"', "last-modified": written.modified}, b""

    def _lease(self, request: Request, name: str) -> Answer:
        blob = self._blobs.get(name)
        if blob is None:
            return _refuse(404, "BlobNotFound")
        headers = {"etag": f'"{blob.etag}"', "last-modified": blob.modified}
        if request.headers["x-ms-lease-action"] == "release":
            blob.lease = ""
            return 200, headers, b""
        if blob.lease:
            return _refuse(409, "LeaseAlreadyPresent")
        if _is_outdated(request, blob):
            return _refuse(412, "ConditionNotMet")
        blob.lease = str(uuid.uuid4())
        return 201, headers | {"x-ms-lease-id": blob.lease}, b""

    def _write(self, name: str, content: bytes, lease: str = "") -> Blob:
        self._written += 1
        blob = self._blobs[name] = Blob(content, etag=f"0x{self._written:016X}", lease=lease)
        return blob


def _is_outdated(request: Request, blob: Blob) -> bool:
    return request.headers.get("if-match", f'"{blob.etag}"') != f'"{blob.etag}"'


def _refuse(status: int, code: str) -> Answer:
    return status, {"x-ms-error-code": code}, b""


class Connection(asyncio.Protocol):
    """One connection: HTTP/1.1 with lengths, one request after the other."""

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud
        self._received = bytearray()
        self._end_of_request = 0
        self._head = ""
        self._is_counted = False

    def connection_made(self, transport: Any) -> None:
        """Keep the transport for responses."""
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Respond to all complete requests."""
        self._received += data
        if not self._end_of_request:
            end = self._received.find(b"\r\n\r\n")
            if end < 0:
                return
            self._head = self._received[:end].decode("latin-1")
            self._headers = {
                name.lower(): value
                for name, _, value in (line.partition(": ") for line in self._head.split("\r\n")[1:])
            }
            self._start_of_body = end + 4
            self._end_of_request = end + 4 + int(self._headers.get("content-length", 0))
        if len(self._received) >= self._end_of_request:
            self._answer()

    def _answer(self) -> None:
        method, target, _ = self._head.split(" ", 2)
        path, _, query = target.partition("?")
        if not self._is_counted and not path.startswith(CONTROL):
            self._cloud.counts["connection"] += 1
            self._is_counted = True
        body = bytes(self._received[self._start_of_body : self._end_of_request])
        self._received.clear()
        self._end_of_request = 0
        status, headers, content = self._cloud.answer(Request(method, path, query, self._headers, body))
        headers = {"content-length": str(len(content)), "x-ms-request-id": "1", **headers}
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        self._transport.write(f"HTTP/1.1 {status} -\r\n{lines}\r\n".encode("latin-1"))
        if content and method != "HEAD":
            self._transport.write(content)


async def _serve(certificates: Path | None) -> None:
    loop, cloud = asyncio.get_running_loop(), Cloud()
    server = await loop.create_server(lambda: Connection(cloud), LOOPBACK, 0)
    listening = {"plain": server.sockets[0].getsockname()[1]}
    if certificates:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(certificates / "server.pem")
        secure = await loop.create_server(lambda: Connection(cloud), LOOPBACK, 0, ssl=context)
        listening["tls"] = secure.sockets[0].getsockname()[1]
    sys.stdout.write(json.dumps(listening) + "\n")
    sys.stdout.flush()
    # Not a thread that waits for the input: it would have to be stopped as well.
    ended = asyncio.Event()
    await loop.connect_read_pipe(lambda: _EndOfInput(ended), sys.stdin)
    await ended.wait()


class _EndOfInput(asyncio.Protocol):
    def __init__(self, ended: asyncio.Event) -> None:
        self._ended = ended

    def connection_lost(self, _: Exception | None) -> None:
        self._ended.set()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks.stand_in", description=__doc__)
    parser.add_argument("--certificates", type=Path)
    asyncio.run(_serve(parser.parse_args().certificates))
