"""The drop account: what its errors mean for a drop."""

from __future__ import annotations

import re
import select
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import TYPE_CHECKING, Any

import pytest
from azure.core.exceptions import AzureError, ClientAuthenticationError, HttpResponseError, ServiceRequestError
from azure.storage.blob import BlobServiceClient
from starlette.responses import Response

from local.azurite import Azurite
from local.managed_identity import ManagedIdentity
from local.processes import PROJECT
from local.serving import serve
from shared.clock import StorageTime, utc_now
from shared.deadline import bounded
from shared.documents import MAX_DOCUMENT_BYTES, is_failed_condition
from shared.drop import Drop, read_source
from shared.errors import (
    DropError,
    DropGone,
    OutOfTime,
    ResourcesExhausted,
    SourceArchived,
    SourceEncrypted,
    SourceNotReady,
    StorageForbidden,
    StorageLocked,
    StorageUnavailable,
    TokenServiceUnavailable,
    TokenUnavailable,
)
from shared.http_client import HttpClient, NoResponse
from shared.identity import IdentityFailed
from shared.ledger import Ledger
from shared.records import Entry, Recorded
from shared.results import ResultStore
from shared.sdk_transport import StorageTransport
from shared.settings import StorageSettings
from shared.storage import open_blobs, open_queue, storage_error, storage_identity
from tests.certificates import trusted_certificate
from tests.deadlines import HANG_S
from tests.wire import conversing, read_request, respond, responding

if TYPE_CHECKING:
    import socket
    from pathlib import Path

    from azure.core.credentials import AccessToken, TokenCredential

    from shared.http_client.environment import Address
    from tests.wire import Conversation

CLIENT_ID = "0f8fad5b-d9cb-469f-a165-70867728950e"
ITWIN = "b3bd3a79-c5b4-41f5-ba5f-6d8c338d788a"


def account_at(url: str, identity: TokenCredential | None = None) -> BlobServiceClient:
    """Return a client that asks once."""
    return BlobServiceClient(url, identity, retry_total=0, transport=StorageTransport(HttpClient()))


def met_by(storage: BlobServiceClient) -> AzureError:
    """Return the error that reading a drop ends in."""
    with pytest.raises(AzureError) as caught:
        read_source(storage, Drop(ITWIN, "a.jpg"), max_bytes=1000)
    return caught.value


def test_an_unreachable_account_is_retried() -> None:
    """No server listens there."""
    error = storage_error(met_by(account_at("http://127.0.0.1:1/account")))
    assert type(error) is StorageUnavailable


def test_storages_error_code_is_named(azurite: Azurite) -> None:
    """It says more than the status."""
    settings = StorageSettings.from_environ({"DropStorage": azurite.connection_string})
    with pytest.raises(AzureError) as caught:
        open_queue(settings, "no-such-queue").send_message("x")
    assert storage_error(caught.value).message == "The drop account responded with 404 (QueueNotFound)."


@pytest.mark.parametrize(
    ("code", "says", "not_says"),
    [
        ("AuthorizationPermissionMismatch", "Storage Blob Data Contributor", "network rules"),
        ("AuthorizationFailure", "network rules", "role"),
        ("AuthenticationFailed", "renewed or revoked", "role"),
        ("KeyBasedAuthenticationNotPermitted", "accepts no keys", "network rules"),
    ],
)
def test_each_refusal_by_storage_has_its_own_message(code: str, says: str, not_says: str) -> None:
    """A missing role, a firewall and a revoked key are described differently."""
    body = f"<Error><Code>{code}</Code><Message>No.</Message></Error>"
    refusal = Response(body, 403, headers={"x-ms-error-code": code}, media_type="application/xml")
    with serve(refusal) as address:
        error = storage_error(met_by(account_at(address)))
    assert type(error) is StorageForbidden
    assert f"({code})" in error.message
    assert says in error.message
    assert not_says not in error.message


@pytest.mark.parametrize(
    ("response", "problem"),
    [
        (Response("<html>Sorry</html>"), TokenServiceUnavailable),
        (Response(""), TokenServiceUnavailable),
        (Response('{"access_token": "a", "expires_on": "11/27/2026"}'), TokenServiceUnavailable),
        (Response('{"access_token": "a\\nb", "expires_on": "9999999999"}'), TokenServiceUnavailable),
        (Response("{}", 400), TokenUnavailable),
    ],
)
def test_a_failing_identity_endpoint_is_not_called_a_missing_role(
    response: Response, problem: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Storage was not even asked; whatever the SDK raises is an error of Azure's, as every client of it expects."""
    with serve(response) as address:
        monkeypatch.setenv("IDENTITY_ENDPOINT", f"{address}/")
        monkeypatch.setenv("IDENTITY_HEADER", "x")
        uris = {f"DropStorage__{kind}ServiceUri": "https://account.example" for kind in ("blob", "queue")}
        settings = StorageSettings.from_environ({**uris, "DropStorage__credential": "managedidentity"})
        identity = storage_identity(settings, HttpClient())
        error = storage_error(met_by(account_at("https://account.example", identity)))
    assert type(error) is problem
    assert "identity endpoint" in error.message
    assert "DropStorage__clientId" in error.message


def test_a_token_for_storage_is_waited_for_no_longer_than_the_attempt_may_take(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An identity endpoint that hangs holds no thread beyond that, whatever the SDK tries again."""

    def hang(connection: socket.socket) -> None:
        while connection.recv(10_000):
            pass

    with conversing(hang, again=True) as address:
        monkeypatch.setenv("IDENTITY_ENDPOINT", f"{address}/")
        monkeypatch.setenv("IDENTITY_HEADER", "x")
        uris = {f"DropStorage__{kind}ServiceUri": "https://account.example" for kind in ("blob", "queue")}
        settings = StorageSettings.from_environ({**uris, "DropStorage__credential": "managedidentity"})
        identity = storage_identity(settings, HttpClient())
        with bounded(time.monotonic() + 2, time.monotonic), pytest.raises(IdentityFailed) as caught:
            identity.get_token("https://storage.azure.com/.default")
    assert re.search(r"did not respond within [12] s", caught.value.message)


def test_the_identity_suffices_to_open_blobs_and_queues(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As deployed: no key and no connection string, https, and tokens of the managed identity."""
    certificate, key = trusted_certificate(tmp_path, monkeypatch)
    identity = ManagedIdentity(user_assigned={CLIENT_ID: "the-app"})
    with serve(identity.app) as address, Azurite(certificate=(certificate, key)) as azurite:
        for name, value in identity.settings(address).items():
            monkeypatch.setenv(name, value)
        settings = StorageSettings.from_environ(
            {
                "DropStorage__blobServiceUri": azurite.blob_url,
                "DropStorage__queueServiceUri": azurite.queue_url,
                "DropStorage__credential": "managedidentity",
                "DropStorage__clientId": CLIENT_ID,
            }
        )
        app = storage_identity(settings)
        blobs, queue = open_blobs(settings, app), open_queue(settings, "drop-retries", app)
        blobs.create_container(ITWIN).upload_blob("a.jpg", b"content")
        source = read_source(blobs, Drop(ITWIN, "a.jpg"), max_bytes=1000)
        assert source
        assert source.content() == b"content"
        queue.create_queue()
        queue.send_message("x")
        assert [message.content for message in queue.receive_messages()] == ["x"]
    assert identity.requests == 1


def test_no_netrc_login_replaces_the_apps_own(
    azurite: Azurite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a developer's `.netrc` has for the host would be sent instead of the signature."""
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login somebody password something\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    blobs = open_blobs(StorageSettings.from_environ({"DropStorage": azurite.connection_string}))
    assert blobs.create_container("no-netrc").upload_blob("a.jpg", b"content").blob_name == "a.jpg"


def test_a_proxy_named_in_the_environment_is_used_unless_the_host_is_exempt(
    azurite: Azurite, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As every other client on the machine does it."""
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    elsewhere = azurite.connection_string.replace("127.0.0.1", "account.invalid")
    with serve(Response(status_code=404, headers={"x-ms-error-code": "BlobNotFound"})) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy)
        with pytest.raises(DropGone):
            read_source(open_blobs(_by(elsewhere)), Drop(ITWIN, "a.jpg"), max_bytes=1000)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with pytest.raises(DropGone):
        read_source(open_blobs(_by(azurite.connection_string)), Drop(ITWIN, "a.jpg"), max_bytes=1000)


def _by(connection_string: str) -> StorageSettings:
    return StorageSettings.from_environ({"DropStorage": connection_string})


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (409, "BlobArchived", SourceArchived),
        (409, "BlobBeingRehydrated", SourceNotReady),
        (409, "BlobUsesCustomerSpecifiedEncryption", SourceEncrypted),
        (409, "BlobImmutableDueToPolicy", StorageLocked),
        (412, "LeaseIdMissing", StorageLocked),
        (409, "SomethingElse", StorageUnavailable),
    ],
)
def test_each_state_of_a_blob_has_its_own_code(status: int, code: str, kind: type[DropError]) -> None:
    """Whoever can change it reads what to do; a state that no retry changes is not retried for a day."""
    error = HttpResponseError("x")
    error.status_code, error.error_code = status, code  # type: ignore[attr-defined]  # as the SDK sets it
    found = storage_error(error)
    assert type(found) is kind
    assert is_failed_condition(error) == (kind is StorageUnavailable)


def test_no_request_of_the_sdk_is_sent_after_the_deadline(azurite: Azurite) -> None:
    """The SDK's own tries count, and a request gets what is left alone."""
    settings = StorageSettings.from_environ({"DropStorage": azurite.connection_string})
    with open_blobs(settings) as storage, pytest.raises(OutOfTime), bounded(10.0, lambda: 10.0):
        read_source(storage, Drop(ITWIN, "a.jpg"), max_bytes=1000)
    with open_blobs(settings) as storage, pytest.raises(DropGone), bounded(10.0, lambda: 9.0):
        read_source(storage, Drop(ITWIN, "a.jpg"), max_bytes=1000)


def hang_up(*, says: bytes, then_drips: bool = False) -> Conversation:
    """Return what a peer does that says so much, and then nothing or a byte from time to time."""

    def conversation(connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall(says)
        while then_drips and not select.select([connection], [], [], 0.01)[0]:
            connection.sendall(b"x")
        connection.recv(1)

    return conversation


def by_key(url: str, http: HttpClient | None = None) -> BlobServiceClient:
    """Open an account as the app does."""
    url = f"{url}/account"
    return open_blobs(_by(f"AccountName=account;AccountKey=a2V5;BlobEndpoint={url};QueueEndpoint={url};"), http=http)


@pytest.mark.parametrize(
    "peer",
    [
        hang_up(says=b""),
        hang_up(says=b"HTTP/1.1 206 Par", then_drips=True),
        hang_up(says=b"HTTP/1.1 206 Partial Content\r\nx-ms-version: ", then_drips=True),
        hang_up(says=respond("206 Partial Content", bytes(9), "x-ms-version: 1")[:-1]),
    ],
    ids=["silent", "status", "headers", "body"],
)
def test_storage_that_does_not_respond_to_the_end_is_waited_for_until_the_deadline(peer: Conversation) -> None:
    """Whichever part of its response does not come, or comes byte by byte."""
    with (
        conversing(peer, again=True) as address,
        by_key(address) as storage,
        bounded(time.monotonic() + 1, time.monotonic),
        pytest.raises(OutOfTime),
    ):
        read_source(storage, Drop(ITWIN, "a.jpg"), max_bytes=1000)


BUSY = respond("503 Server Busy", b"", "x-ms-error-code: ServerBusy")
TIMED_OUT = respond("500 Internal Server Error", b"", "x-ms-error-code: OperationTimedOut")


@pytest.mark.parametrize(
    ("response", "says"), [(BUSY, "503 (ServerBusy)"), (TIMED_OUT, "500 (OperationTimedOut)"), (b"", "broke")], ids=str
)
def test_no_pause_between_tries_outlasts_the_attempt(response: bytes, says: str) -> None:
    """The SDK would sleep over the deadline; there is no try after it, so what storage said counts at once."""
    heard: list[bytes] = []

    def conversation(connection: socket.socket) -> None:
        heard.append(read_request(connection))
        connection.sendall(response)

    with (
        conversing(conversation, again=True) as address,
        by_key(address) as storage,
        bounded(1.5, lambda: 0.0),  # the first pause is longer
    ):
        error = storage_error(met_by(storage))
    assert type(error) is StorageUnavailable
    assert says in error.message
    assert len(heard) == 1


class NoLogin:
    """A login that has no token, and counts how often it is asked."""

    def __init__(self) -> None:
        self.asked = 0

    def get_token(self, *_scopes: str, **_options: Any) -> AccessToken:
        """Refuse."""
        self.asked += 1
        raise ClientAuthenticationError("Run az login.")


def test_a_login_without_a_token_is_asked_once() -> None:
    """It has tried for itself; whoever is not logged in learns that at once."""
    login = NoLogin()
    settings = StorageSettings.from_environ(
        {
            "DropStorage__blobServiceUri": "https://account.blob.example",
            "DropStorage__queueServiceUri": "https://account.queue.example",
        }
    )
    with open_blobs(settings, login) as storage, pytest.raises(ClientAuthenticationError):
        read_source(storage, Drop(ITWIN, "a.jpg"), max_bytes=1000)
    assert login.asked == 1


def test_a_name_of_storage_that_is_looked_up_for_ever_is_waited_for_until_the_deadline() -> None:
    """The system's own look-up knows no deadline."""
    ends = threading.Event()

    def look_up(_host: str, _port: int) -> list[Address]:
        ends.wait(HANG_S)
        return []

    try:
        with (
            by_key("http://account.example", HttpClient(resolve=look_up)) as storage,
            bounded(time.monotonic() + 1, time.monotonic),
            pytest.raises(OutOfTime),
        ):
            storage.get_blob_client(ITWIN, "a.jpg").upload_blob(b"x")
    finally:
        ends.set()


@pytest.mark.parametrize(
    "response",
    [
        respond("404 Not Found", b"<html>"),
        respond("200 OK", b"<html>Sign in</html>"),
        respond("206 Partial Content", b"x", "Content-Range: bytes 0-0/1"),
        respond("206 Partial Content", b"x", "x-ms-version: 1", "Content-Range: bytes 0-0/1"),
        respond("206 Partial Content", b"x", "x-ms-version: 1", "ETag: 1", "Last-Modified: x", "Content-Range: all"),
        respond("200 OK", b"x", "x-ms-version: 1", "ETag: 1", "Last-Modified: Mon, 23 Nov 2026 12:00:00 GMT"),
        respond("302 Found", b"", "Location: http://127.0.0.1:1/"),
        respond("304 Not Modified", b""),
        respond("412 Precondition Failed", b"<html>"),
        respond("409 Conflict", b""),
        b"HTTP/1.1 206 Partial Content\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx",
        b"SSH-2.0-OpenSSH\r\n\r\n",
    ],
)
def test_a_response_that_is_not_storages_ends_no_drop(response: bytes) -> None:
    """A proxy's 404 does not say that the blob has gone, nor its 304 that the blob is as it was."""
    with conversing(responding(response), again=True) as address:
        error = storage_error(met_by(account_at(f"{address}/account")))
    assert type(error) is StorageUnavailable
    assert "did not respond" in error.message


def test_an_impossibly_large_document_is_not_read() -> None:
    """Whoever may write there fills no instance's memory: it counts as damaged, and its tag lets it be replaced."""
    size = MAX_DOCUMENT_BYTES + 1
    headers = f'Content-Length: {size}\r\nContent-Range: bytes 0-{size - 1}/{size}\r\nETag: "0x1"\r\n'
    dated = "Last-Modified: Mon, 23 Nov 2026 12:00:00 GMT\r\nx-ms-version: 1\r\n\r\n"
    huge = hang_up(says=f"HTTP/1.1 206 Partial Content\r\n{headers}{dated}".encode())
    with (
        conversing(huge, again=True) as address,
        by_key(address) as storage,
        bounded(time.monotonic() + HANG_S, time.monotonic),
    ):
        assert ResultStore(storage, "results").read(Drop(ITWIN, "a.jpg")) == Recorded(tag='"0x1"')
        assert Ledger(storage, utc_now, call_s=1, unsettled_s=1).read(ITWIN) == Entry(tag='"0x1"')


@pytest.mark.parametrize(("status", "unless_etag"), [("412 Precondition Failed", "0x1"), ("304 Not Modified", None)])
def test_only_a_requested_304_means_that_a_blob_is_unchanged(status: str, unless_etag: str | None) -> None:
    """Otherwise a drop would end in silence, as a duplicate."""
    refusal = respond(status, b"", "x-ms-error-code: ConditionNotMet")
    with conversing(responding(refusal), again=True) as address, pytest.raises(HttpResponseError):
        read_source(account_at(f"{address}/account"), Drop(ITWIN, "a"), max_bytes=9, unless_etag=unless_etag)


def test_no_redirect_of_storage_is_followed() -> None:
    """The app's signature is for the account alone."""
    with serve(Response("x", 200, headers={"x-ms-version": "1"})) as elsewhere:
        moved = respond("307 Temporary Redirect", b"", f"Location: {elsewhere}/a", "x-ms-request-id: 1")
        with conversing(responding(moved), again=True) as address, by_key(address) as storage:
            assert type(storage_error(met_by(storage))) is StorageUnavailable


def test_the_reason_why_storage_could_not_be_reached_is_reported() -> None:
    """A name, a port and a certificate need different checks."""
    unreached = storage_error(met_by(account_at("http://127.0.0.1:1/account")))
    assert "No connection to 127.0.0.1:1 could be made" in unreached.message
    with conversing(lambda connection: connection.sendall(b"No TLS here"), again=True) as address:
        untrusted = storage_error(met_by(account_at(address.replace("http:", "https:"))))
    assert "TLS" in untrusted.message


def test_a_malformed_key_is_not_called_a_refusal_by_storage() -> None:
    """Nothing was sent."""
    url = "http://127.0.0.1:1/account"
    settings = _by(f"AccountName=account;AccountKey=a;BlobEndpoint={url};QueueEndpoint={url};")
    with open_blobs(settings) as storage:
        error = storage_error(met_by(storage))
    assert type(error) is StorageForbidden
    assert error.message == "No request to the drop account could be signed: correct the AccountKey in DropStorage."


EXHAUSTED = """
import os, resource, time
from shared.http_client import HttpClient, NoResponse
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
client = HttpClient()
held = []
try:
    while True:
        held.append(os.open("/dev/null", os.O_RDONLY))
except OSError:
    pass
try:
    client.send("GET", "http://127.0.0.1:1/", deadline=time.monotonic() + 60)
except NoResponse as error:
    print(error.cause, error.may_have_arrived, error.is_temporary, error.message)
"""


def test_exhausted_descriptors_are_reported_as_the_instances_own_problem() -> None:
    """Neither the network nor a setting is named for it."""
    ended = subprocess.run([sys.executable, "-c", EXHAUSTED], cwd=PROJECT, capture_output=True, text=True, check=True)
    cause, arrived, is_temporary, message = ended.stdout.split(" ", 3)
    assert (cause, arrived, is_temporary) == ("exhausted", "False", "True")
    assert "Too many open files" in message
    error = ServiceRequestError("x")
    error.__cause__ = NoResponse(message, "exhausted")
    assert type(storage_error(error)) is ResourcesExhausted


def test_requests_are_dated_by_storages_clock() -> None:
    """A signature by key is good for 15 minutes: an instance whose clock is hours off would be refused for ever."""
    heard: list[bytes] = []
    noon = datetime(2026, 11, 23, 12, tzinfo=UTC)

    def refuse(connection: socket.socket) -> None:
        heard.append(read_request(connection))
        date = f"Date: {format_datetime(noon, usegmt=True)}"
        connection.sendall(respond("403 Forbidden", b"", "x-ms-error-code: AuthenticationFailed", date))

    with conversing(refuse, again=True) as address:
        url = f"{address}/account"
        settings = _by(f"AccountName=account;AccountKey=a2V5;BlobEndpoint={url};QueueEndpoint={url};")
        with open_blobs(settings, time=StorageTime(lambda: noon - timedelta(hours=5))) as storage:
            for _ in range(2):
                met_by(storage)
    dates = [line for request in heard for line in request.decode().splitlines() if line.startswith("x-ms-date")]
    assert dates == ["x-ms-date: Mon, 23 Nov 2026 07:00:00 GMT", "x-ms-date: Mon, 23 Nov 2026 12:00:00 GMT"]


USE_QUEUES = {
    "the app": """
from shared.settings import StorageSettings
from shared.storage import open_queue
open_queue(StorageSettings.from_environ({"DropStorage": "UseDevelopmentStorage=true"}), "drop-retries")
""",
    "the embedded host": "import local.functions_host.listeners",
}


@pytest.mark.parametrize("use", USE_QUEUES.values(), ids=USE_QUEUES)
def test_no_model_of_the_queue_sdk_is_left_for_two_threads_to_complete_at_once(use: str) -> None:
    """One of them failed, although its message had been sent or received."""
    program = f"""{use}
from azure.storage.queue._generated import models
from azure.storage.queue._generated._utils.model_base import Model
kinds = [each for each in vars(models).values() if isinstance(each, type) and issubclass(each, Model)]
names = {{f"{{each.__module__}}.{{each.__qualname__}}" for each in kinds}}
print(len(names), len(names - Model._calculated))
"""
    run = subprocess.run([sys.executable, "-c", program], cwd=PROJECT, capture_output=True, text=True, check=True)
    count, left = map(int, run.stdout.split())
    assert (count > 0, left) == (True, 0)
