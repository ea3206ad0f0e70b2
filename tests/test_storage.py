"""The drop account: what its errors mean for a drop."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING

import pytest
import trustme
from azure.core.exceptions import AzureError, HttpResponseError
from azure.storage.blob import BlobServiceClient
from starlette.responses import Response

from local.azurite import Azurite
from local.managed_identity import ManagedIdentity
from local.serving import serve
from shared.deadline import bounded
from shared.drop import Drop, read_source
from shared.errors import (
    DropError,
    DropGone,
    OutOfTime,
    SourceArchived,
    SourceEncrypted,
    SourceNotReady,
    StorageForbidden,
    StorageLocked,
    StorageUnavailable,
    TokenServiceUnavailable,
    TokenUnavailable,
)
from shared.http_client import HttpClient
from shared.identity import IdentityFailed
from shared.settings import StorageSettings
from shared.storage import is_overtaken, open_blobs, open_queue, storage_error, storage_identity
from tests.wire import conversing

if TYPE_CHECKING:
    import socket
    from pathlib import Path

CLIENT_ID = "0f8fad5b-d9cb-469f-a165-70867728950e"
ITWIN = "b3bd3a79-c5b4-41f5-ba5f-6d8c338d788a"


def met_by(storage: BlobServiceClient) -> AzureError:
    """Return the error that reading a drop ends in."""
    with pytest.raises(AzureError) as caught:
        read_source(storage, Drop(ITWIN, "a.jpg"), max_bytes=1000)
    return caught.value


def test_an_unreachable_account_is_worth_another_try() -> None:
    """Nothing listens there."""
    error = storage_error(met_by(BlobServiceClient("http://127.0.0.1:1/account", retry_total=0)))
    assert type(error) is StorageUnavailable


def test_what_storage_responds_is_named(azurite: Azurite) -> None:
    """Its own code says more than the number."""
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
        ("KeyBasedAuthenticationNotPermitted", "takes no account keys", "network rules"),
    ],
)
def test_a_refusal_names_what_storage_says_it_is(code: str, says: str, not_says: str) -> None:
    """A role that is missing, a firewall and a key that was revoked are different sentences."""
    body = f"<Error><Code>{code}</Code><Message>No.</Message></Error>"
    refusal = Response(body, 403, headers={"x-ms-error-code": code}, media_type="application/xml")
    with serve(refusal) as address:
        error = storage_error(met_by(BlobServiceClient(address, retry_total=0)))
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
def test_an_identity_endpoint_that_fails_is_not_called_a_missing_role(
    response: Response, problem: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Storage was not even asked; whatever the SDK raises is an error of Azure's, as every client of it expects."""
    with serve(response) as address:
        monkeypatch.setenv("IDENTITY_ENDPOINT", f"{address}/")
        monkeypatch.setenv("IDENTITY_HEADER", "x")
        uris = {f"DropStorage__{kind}ServiceUri": "https://account.example" for kind in ("blob", "queue")}
        settings = StorageSettings.from_environ({**uris, "DropStorage__credential": "managedidentity"})
        identity = storage_identity(settings, HttpClient())
        error = storage_error(met_by(BlobServiceClient("https://account.example", identity, retry_total=0)))
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


def trusted_certificate(folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """Make a certificate of this machine that clients trust during the test, and its key."""
    authority = trustme.CA()
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    server = authority.issue_cert("127.0.0.1")
    certificate.write_bytes(b"".join(part.bytes() for part in server.cert_chain_pems))
    server.private_key_pem.write_to_path(key)
    authority.cert_pem.write_to_path(folder / "authority.pem")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(folder / "authority.pem"))
    return certificate, key


def test_the_identity_alone_opens_blobs_and_queues(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_no_netrc_replaces_the_apps_own_login(
    azurite: Azurite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a developer's `.netrc` has for the host would be sent instead of the signature."""
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login somebody password something\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    blobs = open_blobs(StorageSettings.from_environ({"DropStorage": azurite.connection_string}))
    assert blobs.create_container("no-netrc").upload_blob("a.jpg", b"content").blob_name == "a.jpg"


def test_a_proxy_of_the_environment_is_used_unless_the_host_is_excepted(
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
def test_what_a_blob_is_in_has_a_code_of_its_own(status: int, code: str, kind: type[DropError]) -> None:
    """Whoever can change it reads what to do; a state that no retry changes is not retried for a day."""
    error = HttpResponseError("x")
    error.status_code, error.error_code = status, code  # type: ignore[attr-defined]  # as the SDK sets it
    found = storage_error(error)
    assert type(found) is kind
    assert is_overtaken(error) == (kind is StorageUnavailable)


def test_what_begins_after_the_deadline_is_not_sent(azurite: Azurite) -> None:
    """The SDK's own tries count, and a request gets what is left alone."""
    settings = StorageSettings.from_environ({"DropStorage": azurite.connection_string})
    with open_blobs(settings) as storage, pytest.raises(OutOfTime), bounded(10.0, lambda: 10.0):
        read_source(storage, Drop(ITWIN, "a.jpg"), max_bytes=1000)
    with open_blobs(settings) as storage, pytest.raises(DropGone), bounded(10.0, lambda: 9.0):
        read_source(storage, Drop(ITWIN, "a.jpg"), max_bytes=1000)
