"""Replay: an operator puts drops that have ended back on the queue."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import uuid
from typing import TYPE_CHECKING, Any

import pytest
from azure.identity import DefaultAzureCredential
from azure.storage.blob import BlobServiceClient
from azure.storage.queue import QueueClient

from local.azurite import Azurite
from local.cloud import RESULTS_CONTAINER, LocalCloud
from local.itwin_platform import ScriptedResponse
from local.processes import PROJECT, wait_until
from local.samples import building_site, encode
from local.tokens import TokenIssuer
from shared.clock import utc_now
from shared.replay import program as replay
from shared.replay.missing import Account, Found
from shared.results import ResultStore
from tests.certificates import trusted_certificate
from tests.deadlines import HANG_S
from tests.schema import check_result

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from azure.storage.blob import BlobClient

    from shared.attempt import Attempt

ONE, OTHER = "aaaaaaaa-0000-0000-0000-000000000000", "bbbbbbbb-0000-0000-0000-000000000000"
PHOTO = encode(building_site(320, 240), "JPEG")
NOT_FOUND = b'{"error": {"code": "iTwinNotFound", "message": "Requested iTwin is not available."}}'


@pytest.fixture
def account(azurite: Azurite) -> Iterator[dict[str, str]]:
    """Make a results container of its own, with a failed and an uploaded result in it."""
    name = f"results-{uuid.uuid4()}"
    written = ((ONE, "1.jpg", "failed", 1), (ONE, "2.jpg", "uploaded", 1), (OTHER, "3", "failed", 9))
    with BlobServiceClient.from_connection_string(azurite.connection_string) as storage:
        container = storage.create_container(name)
        for itwin, blob, status, day in written:
            container.upload_blob(f"{itwin}/{blob}.json", json.dumps(result(itwin, blob, status, day)))
        container.upload_blob("damaged.json", b"{")
    queue = QueueClient.from_connection_string(azurite.connection_string, "drop-retries")
    queue.create_queue()
    yield {"DropStorage": azurite.connection_string, "RESULTS_CONTAINER": name}
    queue.delete_queue()


def result(itwin: str, blob: str, status: str, day: int) -> dict[str, Any]:
    """Return what replay reads of a result."""
    finished_at = f"2026-11-0{day}T12:00:00.000Z"
    return {"status": status, "finishedAt": finished_at, "source": {"container": itwin, "blob": blob}}


@pytest.mark.parametrize(
    ("options", "drops"),
    [
        (["--status", "failed"], [f"{ONE}/1.jpg", f"{OTHER}/3"]),
        (["--status", "uploaded"], [f"{ONE}/2.jpg"]),
        (["--status", "failed", "--since", "2026-11-05"], [f"{OTHER}/3"]),
        (
            ["--status", "failed", "--itwin", ONE],
            [f"{ONE}/1.jpg"],
        ),
        (["--status", "rejected"], []),
    ],
)
def test_a_dry_run_names_the_drops_and_does_nothing(
    account: dict[str, str], capsys: pytest.CaptureFixture[str], options: list[str], drops: list[str]
) -> None:
    """Drops selected by status, iTwin and time are printed; no message is sent."""
    assert replay.main([*options, "--dry-run"], account) == 0
    printed = capsys.readouterr().out.splitlines()
    assert sorted(printed[:-1]) == drops
    assert printed[-1] == ("1 drop would be replayed." if len(drops) == 1 else f"{len(drops)} drops would be replayed.")
    queue = QueueClient.from_connection_string(account["DropStorage"], "drop-retries")
    assert queue.get_queue_properties().approximate_message_count == 0


def test_missing_settings_are_reported_in_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    """It mentions --account."""
    assert replay.main(["--status", "failed"], {}) == 2
    assert "--account" in capsys.readouterr().err


def test_a_rejected_drop_is_uploaded_when_it_is_replayed(cloud: LocalCloud, capsys: pytest.CaptureFixture[str]) -> None:
    """The iTwin was created too late; after a replay the image is there, and the result says so."""
    itwin_id = str(uuid.uuid4())
    cloud.platform.script([ScriptedResponse(404, {}, NOT_FOUND, path=f"/itwins/{itwin_id}/image")])
    dropped = cloud.drop(itwin_id, "photo.jpg", PHOTO)
    assert cloud.result(dropped)["status"] == "rejected"
    cloud.itwin(itwin_id)
    settings = {"DropStorage": cloud.connection_string}
    assert replay.main(["--status", "rejected", "--itwin", itwin_id], settings) == 0
    assert capsys.readouterr().out.endswith("1 drop is on its way.\n")
    blob = cloud.drops.get_blob_client(RESULTS_CONTAINER, f"{itwin_id}/photo.jpg.json")
    assert wait_until(lambda: read(blob)["status"] == "uploaded", timeout_s=HANG_S)
    assert cloud.platform.image(itwin_id) == (PHOTO, "image/jpeg")


def test_blobs_without_a_result_of_their_content_are_sent(
    cloud: LocalCloud, capsys: pytest.CaptureFixture[str]
) -> None:
    """Blobs from before the deployment and lost events; not those that ended, are ignored, touched or archived."""
    itwin_id, done, archived = cloud.itwin(), "done.jpg", "archived.jpg"
    for name in (archived, done):
        assert cloud.result(cloud.drop(itwin_id, name, PHOTO))["status"] == "uploaded"
    cloud.event_grid.unsubscribe("drops")
    try:
        dropped = [cloud.drop(itwin_id, f"missed {n}.png", encode(building_site(64 + n, 48), "PNG")) for n in range(3)]
        cloud.drops.get_blob_client(itwin_id, archived).set_standard_blob_tier("Archive")
        for name in (archived, done):
            cloud.drops.get_blob_client(itwin_id, name).set_blob_metadata({"note": "touched"})
        cloud.drops.get_blob_client(itwin_id, "site/").upload_blob(b"")
        cloud.drops.get_blob_client(itwin_id, ".DS_Store").upload_blob(b"x")
    finally:
        cloud.subscribe()
    options, settings = ["--missing", "--itwin", itwin_id], {"DropStorage": cloud.connection_string}
    assert replay.main([*options, "--dry-run"], settings) == 0
    assert sorted(capsys.readouterr().out.splitlines()[:-1]) == [f"{itwin_id}/missed {n}.png" for n in range(3)]
    assert replay.main([*options, "--since", "2999-01-01"], settings) == 0
    assert capsys.readouterr().out == "0 drops are on their way.\n"
    assert replay.main(options, settings) == 0
    results = [cloud.result(drop) for drop in dropped]
    assert {result["status"] for result in results} <= {"uploaded", "superseded"}
    assert replay.main(options, settings) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "0 drops are on their way."


def test_catching_up_continues_where_it_was_stopped(azurite: Azurite) -> None:
    """Whatever stopped it, the next run begins with the iTwin that was in progress."""
    itwins = sorted(str(uuid.uuid4()) for _ in range(3))
    with BlobServiceClient.from_connection_string(azurite.connection_string) as storage:
        for itwin_id in itwins:
            storage.create_container(itwin_id).upload_blob("a.jpg", PHOTO)
        storage.create_container(name := f"results-{uuid.uuid4()}")
        stopped_at = itwins[1]

        def send(attempt: Attempt) -> None:
            if attempt.drop.container == stopped_at:
                raise KeyboardInterrupt

        account = Account(storage, ResultStore(storage, name), send, utc_now)
        known = [c for c in account.containers() if c in itwins]
        assert known == itwins
        told: list[Found] = []
        with pytest.raises(KeyboardInterrupt):
            told.extend(account.catch_up(itwins))
        assert account.containers(first=stopped_at)[:1] == [stopped_at]


AZ = """\
#!/bin/sh
echo "$*" >> "{calls}"
echo '{{"accessToken": "{token}", "expires_on": 4102444800, "expiresOn": "2100-01-01 00:00:00.000000"}}'
"""


def test_the_operators_own_login_is_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without a key or a setting of the app: anyone logged in with `az` reads results and sends messages."""
    certificate, key = trusted_certificate(tmp_path, monkeypatch)
    entra = TokenIssuer("https://sts.windows.net/tenant/")
    calls, token = tmp_path / "calls", entra.issue(subject="operator", audience="https://storage.azure.com")
    az = tmp_path / "az"
    az.write_text(AZ.format(calls=calls, token=token))
    az.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setenv("AZURE_TOKEN_CREDENTIALS", "dev")  # nobody waits for an identity that is not there
    with Azurite(certificate=(certificate, key)) as azurite:
        login = DefaultAzureCredential()
        settings = {
            "DropStorage__blobServiceUri": azurite.blob_url,
            "DropStorage__queueServiceUri": azurite.queue_url,
        }
        results = BlobServiceClient(azurite.blob_url, credential=login).create_container("results")
        results.upload_blob(f"{ONE}/1.jpg.json", json.dumps(result(ONE, "1.jpg", "failed", 1)))
        queue = QueueClient(azurite.queue_url, "drop-retries", credential=login)
        queue.create_queue()
        assert replay.main(["--status", "failed"], settings) == 0
        assert capsys.readouterr().out.endswith("1 drop is on its way.\n")
        assert queue.get_queue_properties().approximate_message_count == 1
    assert "account get-access-token" in calls.read_text()


def test_a_missing_login_is_reported_in_one_sentence(tmp_path: Path) -> None:
    """Without screens of the SDK's log, and without claiming that the app's identity lacks a role."""
    environ = {"PATH": str(tmp_path), "HOME": str(tmp_path), "AZURE_TOKEN_CREDENTIALS": "dev"}
    command = [sys.executable, "-m", "shared.replay", "--account", "drops", "--missing"]
    ended = subprocess.run(
        command, cwd=PROJECT, env=environ, capture_output=True, text=True, timeout=HANG_S, check=False
    )
    assert ended.returncode == 1
    assert ended.stderr == ("No access token for Azure Storage could be obtained: run `az login`, then try again.\n")


def test_a_refused_operator_is_not_told_about_the_apps_roles(capsys: pytest.CaptureFixture[str]) -> None:
    """A wrong key stands for a missing role: both are refused with 403."""
    with Azurite() as azurite:
        account = dict(part.split("=", 1) for part in azurite.connection_string.rstrip(";").split(";"))
        wrong = azurite.connection_string.replace(account["AccountKey"], base64.b64encode(b"another key").decode())
        assert replay.main(["--status", "failed"], {"DropStorage": wrong}) == 1
    said = capsys.readouterr().err
    assert said.startswith("The drop account refused the request (AuthorizationFailure): check that your login has ")
    assert "the app" not in said
    assert said.count("\n") == 1


def read(blob: BlobClient) -> dict[str, Any]:
    """Return a result document."""
    document: dict[str, Any] = json.loads(blob.download_blob().readall())
    return check_result(document)
