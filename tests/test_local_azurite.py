"""Azurite is started, found, kept and ended as promised."""

from __future__ import annotations

import os
import re
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest
import requests
from azure.core.exceptions import HttpResponseError
from azure.storage.blob import BlobServiceClient
from azure.storage.queue import QueueSasPermissions, QueueServiceClient, generate_queue_sas

from local.azurite import ACCOUNT, ACCOUNT_KEY, QUICK_RETRIES, Azurite
from local.commands.running import cloud_errors_explained
from local.processes import PROJECT, Child, wait_until
from local.serving import LocalCloudError, listen
from tests.deadlines import HANG_S


def test_the_connection_string_opens_blobs_and_queues(azurite: Azurite) -> None:
    """Any storage SDK accepts it."""
    with BlobServiceClient.from_connection_string(azurite.connection_string) as blobs:
        container = blobs.create_container("connection-string")
        container.upload_blob("a", b"1")
        assert container.download_blob("a").readall() == b"1"
    with QueueServiceClient.from_connection_string(azurite.connection_string) as queues:
        queue = queues.create_queue("connection-string")
        queue.send_message("1")
        assert [message.content for message in queue.receive_messages()] == ["1"]


def test_the_connection_string_never_leads_off_the_machine(azurite: Azurite) -> None:
    """A request for tables is refused on this machine, instead of going to the public address of a real account."""
    parts = dict(part.split("=", 1) for part in azurite.connection_string.rstrip(";").split(";"))
    endpoints = {name: urlsplit(value).hostname for name, value in parts.items() if name.endswith("Endpoint")}
    assert endpoints == dict.fromkeys(("BlobEndpoint", "QueueEndpoint", "TableEndpoint"), "127.0.0.1")
    assert 400 <= requests.get(f"{parts['TableEndpoint']}/Tables", timeout=HANG_S).status_code < 500


def test_azurite_serves_only_blobs_and_queues(azurite: Azurite) -> None:
    """Nobody needs tables."""
    listening = [each for each in psutil.Process(azurite.pid).net_connections("tcp") if each.status == "LISTEN"]
    assert {f":{each.laddr.port}/" for each in listening} == {
        re.sub(r".*(:\d+/).*", r"\1", url) for url in (azurite.blob_url, azurite.queue_url)
    }


def test_a_later_write_has_a_greater_etag(azurite: Azurite) -> None:
    """As in Azure, where an ETag is the time of the write: so two writes within a second have an order."""
    with BlobServiceClient.from_connection_string(azurite.connection_string) as blobs:
        container = blobs.create_container("etags")
        written = [container.upload_blob(f"{number % 3}", b"1", overwrite=True) for number in range(12)]
        etags = [str(blob.get_blob_properties().etag) for blob in written[-3:]]
    assert all(re.fullmatch(r'"?0x8D[0-9A-F]{13}"?', etag) for etag in etags)
    assert etags == sorted(etags)


def test_a_copy_is_made_from_an_existing_blob(azurite: Azurite) -> None:
    """For one in another account, Azurite sends an http request, with modules that it loads only then."""
    with BlobServiceClient.from_connection_string(azurite.connection_string) as blobs:
        container = blobs.create_container("copies")
        source = container.upload_blob("a", b"1")
        copy = container.get_blob_client("b")
        copy.start_copy_from_url(source.url)
        assert copy.download_blob().readall() == b"1"
        with pytest.raises(HttpResponseError, match="CannotVerifyCopySource"):
            copy.start_copy_from_url(source.url.replace(f"/{ACCOUNT}/", "/another/"))


def test_watchers_see_every_request_until_they_are_removed(azurite: Azurite) -> None:
    """The access log is passed on line by line."""
    lines: list[str] = []
    with BlobServiceClient.from_connection_string(azurite.connection_string) as blobs:
        azurite.watch(lines.append)
        container = blobs.create_container("watched")
        wanted = '"PUT /devstoreaccount1/watched?restype=container HTTP/1.1" 201'
        assert wait_until(lambda: any(wanted in line for line in lines), timeout_s=HANG_S)
        azurite.unwatch(lines.append)
        lines.clear()
        container.delete_container()
    assert lines == []


def test_a_data_folder_outlives_azurite(tmp_path: Path) -> None:
    """Everything written is there at the next start, on the requested port."""
    data = tmp_path / "new" / "folder"
    with listen() as free:
        port = free.getsockname()[1]
    with (
        Azurite(data=data, blob_port=port) as first,
        BlobServiceClient.from_connection_string(first.connection_string) as blobs,
    ):
        assert f"BlobEndpoint=http://127.0.0.1:{port}/" in first.connection_string
        blobs.create_container("kept").upload_blob("a", b"1")
    with Azurite(data=data) as second, BlobServiceClient.from_connection_string(second.connection_string) as blobs:
        assert blobs.get_blob_client("kept", "a").download_blob().readall() == b"1"


def test_two_emulators_never_share_a_data_folder(tmp_path: Path) -> None:
    """They would lose each other's data; the folder is free again when the first has ended."""
    with Azurite(data=tmp_path) as first:
        second = Azurite(data=tmp_path)
        with pytest.raises(LocalCloudError, match=rf"^Another local cloud \(process {os.getpid()}\) is using"):
            second.start()
        assert first.exit_code is None
    with second:
        assert second.exit_code is None


def test_a_killed_owner_loses_no_data(tmp_path: Path) -> None:
    """Azurite saves its data before it ends, and keeps the folder locked until then."""
    program = """
import sys, threading
from pathlib import Path
from local.azurite import Azurite
azurite = Azurite(data=Path(sys.argv[1]))
azurite.start()
print(azurite.blob_url, flush=True)
threading.Event().wait()
"""
    parent = Child([sys.executable, "-c", program, str(tmp_path)], environment=os.environ, directory=PROJECT)
    try:
        assert wait_until(lambda: bool(parent.lines), timeout_s=HANG_S)
        with BlobServiceClient(parent.lines[0], credential=ACCOUNT_KEY) as blobs:
            blobs.create_container("kept").upload_blob("a", b"1")
    finally:
        parent.kill()
    with (
        Azurite(data=tmp_path) as azurite,
        BlobServiceClient.from_connection_string(azurite.connection_string) as blobs,
    ):
        assert blobs.get_blob_client("kept", "a").download_blob().readall() == b"1"


OF_ANOTHER_SITE = [
    {"Origin": "https://attacker.example"},
    {"Origin": "http://localhost.attacker.example"},
    {"Origin": "http://127.0.0.1.attacker.example"},
    {"Origin": "https://127.0.0.1@attacker.example"},
    {"Origin": "null"},
    {"Origin": ""},
    {"Origin": "file://"},
    {"Host": "attacker.example"},
    {"Host": "attacker.example:10000", "Origin": "http://attacker.example:10000"},
]
OF_THIS_MACHINE = [
    {},
    {"Origin": "http://127.0.0.1:10000"},
    {"Origin": "http://localhost:5173"},
    {"Origin": "http://[::1]:5173"},
    {"Host": "devstoreaccount1.blob.localhost"},
]


@pytest.mark.parametrize("headers", [*OF_ANOTHER_SITE, *OF_THIS_MACHINE], ids=str)
@pytest.mark.parametrize("service", ["blob", "queue"])
def test_no_web_page_of_another_site_can_use_storage(azurite: Azurite, service: str, headers: dict[str, str]) -> None:
    """The key is public and browsers send simple POST requests without asking, so a page could fill the queues."""
    address = azurite.queue_url if service == "queue" else azurite.blob_url
    answer = requests.post(address, data="1", headers={"Content-Type": "text/plain", **headers}, timeout=HANG_S)
    is_refused = answer.headers.get("x-ms-error-code") == "CrossSiteRequestRefused"
    assert is_refused is (headers in OF_ANOTHER_SITE)
    assert answer.status_code == 403 or not is_refused


def test_a_refused_request_leaves_nothing_behind(azurite: Azurite) -> None:
    """Tested with one that a page could send: a signed message for a queue, as plain text."""
    with QueueServiceClient.from_connection_string(azurite.connection_string) as queues:
        queue = queues.create_queue("cross-site")
        key = queues.credential.account_key
        signature = generate_queue_sas(
            ACCOUNT, "cross-site", key, QueueSasPermissions(add=True), expiry=datetime.now(UTC) + timedelta(hours=1)
        )
        address = f"{queue.url}/messages?{signature}"
        message = "<QueueMessage><MessageText>1</MessageText></QueueMessage>"
        plain = {"Content-Type": "text/plain"}
        cross_site = requests.post(
            address, data=message, headers={**plain, "Origin": "https://attacker.example"}, timeout=HANG_S
        )
        assert (cross_site.status_code, queue.peek_messages()) == (403, [])
        assert requests.post(address, data=message, headers=plain, timeout=HANG_S).status_code == 201
        assert len(queue.peek_messages()) == 1


def test_temporary_data_and_processes_are_removed_at_the_end() -> None:
    """Nothing stays behind."""
    azurite = Azurite()
    azurite.start()
    process = psutil.Process(azurite.pid)
    folder = process.cwd()
    azurite.stop()
    assert not process.is_running()
    assert not os.path.exists(folder)  # noqa: PTH110 - it is a string here
    azurite.stop()


def test_azurite_can_be_started_again() -> None:
    """On other ports, if none were requested."""
    azurite = Azurite()
    try:
        for _ in range(2):
            azurite.start()
            with BlobServiceClient.from_connection_string(azurite.connection_string, retry_total=0) as blobs:
                assert list(blobs.list_containers()) == []
            azurite.stop()
    finally:
        azurite.stop()


def test_a_port_in_use_is_named() -> None:
    """The message contains the port and what to do."""
    with listen() as taken:
        port = taken.getsockname()[1]
        with pytest.raises(LocalCloudError, match=f"Port {port} cannot be used"):
            Azurite(queue_port=port).start()


def test_missing_node_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without Node.js there is no Azurite."""
    monkeypatch.setenv("PATH", "")
    with pytest.raises(LocalCloudError, match=r"^Node\.js was not found: install it"):
        Azurite().start()


def test_missing_azurite_is_reported(tmp_path: Path) -> None:
    """The message contains the command that installs it."""
    with pytest.raises(LocalCloudError, match=r"^Azurite is not installed: run `make demo`"):
        Azurite(program=tmp_path / "azurite.js").start()


def test_a_failing_start_of_azurite_is_reported(tmp_path: Path) -> None:
    """With its last output."""
    program = tmp_path / "azurite.js"
    program.write_text("console.log('all is lost'); process.exit(7)")
    with pytest.raises(LocalCloudError, match=r"^Azurite could not start: all is lost$"):
        Azurite(program=program).start()


def test_a_data_folder_that_is_a_file_is_reported(tmp_path: Path) -> None:
    """It cannot be used as a folder."""
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(LocalCloudError, match=r"data folder .* cannot be used"):
        Azurite(data=file).start()


def test_a_failing_write_of_storage_is_reported(tmp_path: Path) -> None:
    """As on a full disk: every write fails, and succeeds again once there is space."""
    with (
        Azurite(data=tmp_path) as azurite,
        BlobServiceClient.from_connection_string(azurite.connection_string, **QUICK_RETRIES) as blobs,
    ):
        container = blobs.create_container("full")
        (tmp_path / "__blobstorage__").rmdir()
        with pytest.raises(LocalCloudError, match="if the disk is full, free some space"), cloud_errors_explained():
            container.upload_blob("a", b"1")
        (tmp_path / "__blobstorage__").mkdir()
        container.upload_blob("a", b"1")
        assert container.download_blob("a").readall() == b"1"


def test_unreadable_data_is_reported(tmp_path: Path) -> None:
    """With the folder that contains it."""
    (tmp_path / "__azurite_db_blob__.json").write_text('{"broken')
    with pytest.raises(LocalCloudError, match=rf"^Azurite could not start with the data in {tmp_path}: .*JSON"):
        Azurite(data=tmp_path).start()


def test_azurite_ends_with_the_process_that_started_it() -> None:
    """Even if that was killed and could not react; its temporary data is deleted too."""
    program = """
import threading
from local.azurite import Azurite
azurite = Azurite()
azurite.start()
print("pid", azurite.pid, flush=True)
threading.Event().wait()
"""
    parent = Child([sys.executable, "-c", program], environment=os.environ, directory=PROJECT)
    try:
        assert wait_until(lambda: bool(parent.lines), timeout_s=HANG_S)
        azurite = psutil.Process(int(parent.lines[0].split()[1]))
        assert azurite.name() == "node"
        folder = Path(azurite.cwd())
    finally:
        parent.kill()
    assert wait_until(lambda: not azurite.is_running() or azurite.status() == "zombie", timeout_s=HANG_S)
    assert not folder.exists()
