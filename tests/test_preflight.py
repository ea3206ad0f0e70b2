"""The preflight: what works and what does not, asked as an operator asks it, of the whole cloud."""

from __future__ import annotations

import dataclasses
import os
import re
import time
import uuid
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import jwt
import pytest
import requests
from azure.storage.blob import AccountSasPermissions, ResourceTypes, Services, generate_account_sas
from azure.storage.queue import QueueClient
from starlette.responses import JSONResponse

from local.azurite import Azurite
from local.cloud import PLATFORM_AUDIENCE, LocalCloud
from local.commands import main as run_local
from local.itwin_platform import ScriptedResponse
from local.managed_identity import SYSTEM_ASSIGNED_ID
from local.serving import serve
from shared.preflight import Report, examine
from shared.preflight.platform import NIL_ITWIN
from shared.preflight.storage import POISON_QUEUES
from shared.retries import RETRY_QUEUE
from tests.deadlines import HANG_S
from tests.wire import conversing

if TYPE_CHECKING:
    import socket
    from collections.abc import Mapping, Sequence
    from pathlib import Path


def ask(cloud: LocalCloud, *, key: str | None = None, **params: str) -> requests.Response:
    """Call the app's own function."""
    headers = {"x-functions-key": cloud.host.function_key if key is None else key}
    return requests.get(f"{cloud.host.address}/api/preflight", params=params, headers=headers, timeout=HANG_S)


def finding(report: Report, subject: str) -> tuple[str, str]:
    """Return verdict and text of one check."""
    return next((found.verdict, found.text) for found in report.findings if found.subject == subject)


def environment(cloud: LocalCloud, **changes: str) -> Mapping[str, str]:
    """Return the app's settings, changed."""
    return {**cloud.settings(), **changes}


@pytest.fixture
def identity(cloud: LocalCloud, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give this process the identity that the app has."""
    for name, value in cloud.identity.settings(cloud.identity_address).items():
        monkeypatch.setenv(name, value)


def test_every_check_succeeds_if_everything_is_set_up(cloud: LocalCloud) -> None:
    """Each one is made and reported, and the response is a success."""
    itwin_id = cloud.itwin(permissions={SYSTEM_ASSIGNED_ID: ["itwins_modify"]})
    answer = ask(cloud, itwin=itwin_id)
    assert answer.status_code == 200, answer.text
    lines = answer.text.splitlines()
    subjects = (
        "Settings",
        "Access token",
        "iTwin Platform",
        "iTwin",
        "Drops",
        "Results",
        "Ledger",
        "Queues",
        "Poison queues",
        "Events",
    )
    assert [line.partition(":")[0] for line in lines[:10]] == [f"[works] {subject}" for subject in subjects]
    assert f"Its claims: audience {PLATFORM_AUDIENCE!r}, issuer 'https://sts.windows.net/" in answer.text
    assert f"valid until 20{time.gmtime().tm_year % 100}" in answer.text


def test_the_preflight_requires_the_function_key(cloud: LocalCloud) -> None:
    """Nobody else learns how the app is configured."""
    assert ask(cloud, key="wrong").status_code == 401


def test_the_preflight_never_shows_the_token(cloud: LocalCloud, identity: None) -> None:  # noqa: ARG001 - sets the environment
    """Neither the whole token nor one of its parts is in the report."""
    token = cloud.identity.tokens.issue(subject=SYSTEM_ASSIGNED_ID, audience=PLATFORM_AUDIENCE)
    text = str(examine(environment(cloud), event_timeout_s=HANG_S))
    header = token.split(".")[0]
    assert jwt.get_unverified_header(token)
    assert header not in text
    assert "Bearer" not in text


def test_the_preflight_leaves_nothing_behind() -> None:
    """Probes are removed, and no iTwin is changed, in a cloud that nobody else uses."""
    with LocalCloud() as cloud:

        def everything() -> set[tuple[str, str]]:
            containers = map(cloud.drops.get_container_client, (each.name for each in cloud.drops.list_containers()))
            return {(each.container_name, blob) for each in containers for blob in each.list_blob_names()}

        before = everything()
        assert ask(cloud).status_code == 200
        assert everything() <= before
        assert {r.path for r in cloud.platform.requests() if r.method == "PUT"} == {f"/itwins/{NIL_ITWIN}/image"}


def test_without_an_itwin_its_permission_is_not_checked(cloud: LocalCloud) -> None:
    """A check that was not requested is not called a failure."""
    answer = ask(cloud)
    assert answer.status_code == 200
    assert "[not checked] iTwin: Name an iTwin" in answer.text


def test_a_missing_permission_is_named(cloud: LocalCloud) -> None:
    """The most likely failure of a first run: the app's user has no role on the iTwin."""
    itwin_id = cloud.itwin(permissions={SYSTEM_ASSIGNED_ID: ["itwins_view"]})
    answer = ask(cloud, itwin=itwin_id)
    assert answer.status_code == 503
    assert "[fails] iTwin: The app lacks the permission itwins_modify" in answer.text


@pytest.mark.parametrize(
    ("status", "says"),
    [
        (401, "does not accept the access token"),
        (302, "responded with 302 without permissions"),
        (500, "responded with 500"),
    ],
)
@pytest.mark.usefixtures("identity")
def test_a_refusal_by_the_platform_is_reported_with_what_to_do(cloud: LocalCloud, status: int, says: str) -> None:
    """Neither a redirect nor an error counts as a permission, and the address to check is named."""
    itwin_id = cloud.itwin()
    headers = {"location": "https://elsewhere.example/"}
    cloud.platform.script([ScriptedResponse(status=status, headers=headers, method="GET", path="/accesscontrol/*")])
    verdict, text = finding(examine(environment(cloud), itwin_id=itwin_id, event_timeout_s=HANG_S), "iTwin")
    assert verdict == "fails"
    assert says in text
    assert cloud.platform_address in text


@pytest.mark.usefixtures("identity")
@pytest.mark.parametrize(
    ("itwin_id", "says"),
    [("6ba7b811-9dad-11d1-80b4-00c04fd430c8", "has no iTwin"), ("Town-Hall", "is not an iTwin ID")],
)
def test_an_invalid_itwin_id_is_reported(cloud: LocalCloud, itwin_id: str, says: str) -> None:
    """A misspelt ID is found here and not by the first drop."""
    report = examine(environment(cloud), itwin_id=itwin_id, event_timeout_s=HANG_S)
    assert not report.is_good
    assert says in finding(report, "iTwin")[1]


@pytest.mark.usefixtures("identity")
def test_an_itwin_without_a_container_is_reported(cloud: LocalCloud) -> None:
    """The permission alone does not suffice to drop images."""
    itwin_id = cloud.platform.add_itwin(display_name="No container")
    report = examine(environment(cloud), itwin_id=itwin_id, event_timeout_s=HANG_S)
    assert finding(report, "iTwin")[0] == "works"
    assert finding(report, "Drops") == ("fails", f"There is no container {itwin_id}: create it, and drop images there.")


@pytest.mark.usefixtures("identity")
def test_wrong_settings_are_listed_and_the_rest_is_still_checked(cloud: LocalCloud) -> None:
    """Every problem at once; checks that need none of those settings are still made."""
    report = examine(environment(cloud, ITWIN_LOGIN="password", ITWIN_TIMEOUT_S="soon"), event_timeout_s=HANG_S)
    verdict, text = finding(report, "Settings")
    assert verdict == "fails"
    assert "ITWIN_LOGIN" in text
    assert "ITWIN_TIMEOUT_S" in text
    assert finding(report, "Access token") == ("not checked", "The settings must be valid first.")
    assert finding(report, "Events")[0] == "works"


SECRET = "hush-my-dear"
CLIENT = {
    "ITWIN_LOGIN": "client-credentials",
    "ITWIN_TOKEN_URL": "{platform}/connect/token",
    "ITWIN_CLIENT_ID": "service-app",
    "ITWIN_SECRET_URL": "{vault}/secrets/itwin-client-secret",
}
NO_STORAGE = "AccountName=a;AccountKey=c2VjcmV0;BlobEndpoint={platform}/a;QueueEndpoint={platform}/a"
UNRESOLVED = "@Microsoft.KeyVault(VaultName=kv;SecretName=itwin-client-secret)"
URI = "DropStorage__blobServiceUri"
ROLES = ("Storage Blob Data", "Storage Queue Data Contributor", "DropStorage__clientId")


@pytest.mark.usefixtures("identity")
@pytest.mark.parametrize(
    ("changes", "subject", "names"),
    [
        ({"ITWIN_LOGIN": "password"}, "Settings", ["ITWIN_LOGIN"]),
        ({"ITWIN_API_URL": "http://api.example.com"}, "Settings", ["ITWIN_API_URL"]),
        ({"ITWIN_API_URL": f"https://me:{SECRET}@api.example.com"}, "Settings", ["ITWIN_API_URL"]),
        ({"ITWIN_API_URL": "http://127.0.0.1:9"}, "iTwin", ["ITWIN_API_URL"]),
        ({"ITWIN_API_URL": "http://127.0.0.1:9"}, "iTwin Platform", ["ITWIN_API_URL", "Connection refused"]),
        ({"ITWIN_API_URL": "{platform}/wrong"}, "iTwin Platform", ["ITWIN_API_URL", "404"]),
        ({"ITWIN_TOKEN_SCOPE": "api://nobody/.default"}, "iTwin Platform", ["ITWIN_TOKEN_SCOPE", "401"]),
        ({"ITWIN_TOKEN_SCOPE": ""}, "Settings", ["ITWIN_TOKEN_SCOPE"]),
        ({"ITWIN_TOKEN_SCOPE": "api://nobody/.default"}, "iTwin", ["ITWIN_TOKEN_SCOPE", "gateway"]),
        ({"AZURE_CLIENT_ID": "6ba7b811-9dad-11d1-80b4-00c04fd430c8"}, "Access token", ["AZURE_CLIENT_ID"]),
        ({"ITWIN_TIMEOUT_S": "46"}, "Settings", ["ITWIN_TIMEOUT_S"]),
        ({"ASPECT_POLICY": "squeeze"}, "Settings", ["ASPECT_POLICY"]),
        ({"MAX_SOURCE_BYTES": "many"}, "Settings", ["MAX_SOURCE_BYTES"]),
        ({"MAX_SOURCE_PIXELS": "0"}, "Settings", ["MAX_SOURCE_PIXELS"]),
        ({"MAX_OUTPUT_PIXELS": "1"}, "Settings", ["MAX_OUTPUT_PIXELS"]),
        ({"RETRY_MIN_DELAY_S": "-1"}, "Settings", ["RETRY_MIN_DELAY_S"]),
        ({"RETRY_MAX_DELAY_S": "604801"}, "Settings", ["RETRY_MAX_DELAY_S"]),
        ({"RETRY_HORIZON_S": "1.5"}, "Settings", ["RETRY_HORIZON_S"]),
        ({"RESULTS_CONTAINER": "ledger"}, "Settings", ["RESULTS_CONTAINER"]),
        ({"RESULTS_CONTAINER": "nowhere"}, "Results", ["RESULTS_CONTAINER"]),
        ({"DropStorage": SECRET}, "Settings", ["DropStorage"]),
        ({"DropStorage": ""}, "Settings", [URI]),
        ({"DropStorage": "", URI: "https://x.example"}, "Settings", ["DropStorage__queueServiceUri"]),
        ({"DropStorage": NO_STORAGE}, "Drops", ["DropStorage__blobServiceUri"]),
        # With Azure it is AuthenticationFailed.
        ({"DropStorage": "{without a key}"}, "Drops", ["AuthorizationFailure"]),
        ({"DropStorage": "{to read}"}, "Results", ROLES),
        ({"DropStorage": "{to read}"}, "Queues", ROLES),
        (CLIENT | {"ITWIN_TOKEN_URL": "http://127.0.0.1:9"}, "Access token", ["ITWIN_TOKEN_URL"]),
        (CLIENT | {"ITWIN_CLIENT_ID": ""}, "Settings", ["ITWIN_CLIENT_ID"]),
        (CLIENT | {"ITWIN_SECRET_URL": ""}, "Settings", ["ITWIN_SECRET_URL", "https://"]),
        (CLIENT | {"ITWIN_CLIENT_ID": UNRESOLVED}, "Settings", ["ITWIN_CLIENT_ID", "Key Vault Secrets User"]),
        (CLIENT | {"ITWIN_SECRET_URL": "{vault}/secrets/other"}, "Access token", ["404", "ITWIN_SECRET_URL"]),
        (CLIENT, "Access token", ["401", "ITWIN_CLIENT_ID", "ITWIN_SECRET_URL"]),
        ({"ITWIN_LOGIN": ""}, "Settings", ["ITWIN_LOGIN", "client-credentials"]),
        ({"ITWIN_API_URL": "https://api.bentley.com"}, "Settings", ["ITWIN_LOGIN", "gateway", "ITWIN_API_URL"]),
    ],
)
def test_each_problem_is_named_and_no_secret_is(
    cloud: LocalCloud, changes: dict[str, str], subject: str, names: Sequence[str]
) -> None:
    """With one problem at a time, the failing check names the setting or the role, and never a secret value."""
    key = dict(part.split("=", 1) for part in cloud.connection_string.rstrip(";").split(";"))["AccountKey"]
    cloud.vault.set_secret("itwin-client-secret", SECRET)
    places = {
        "{platform}": cloud.platform_address,
        "{vault}": cloud.vault_address,
        "{without a key}": cloud.connection_string.replace(key, "c2VjcmV0"),
        "{to read}": read_only(cloud.connection_string),
    }
    environ = environment(cloud)
    for name, value in changes.items():
        environ = {**environ, name: replace(value, places)}
    report = examine(environ, itwin_id=cloud.itwin(), event_timeout_s=0)
    verdict, text = finding(report, subject)
    assert verdict == "fails"
    assert [name for name in names if name not in text] == []
    assert not report.is_good
    assert [secret for secret in (SECRET, key, "c2VjcmV0", "sig=") if secret in str(report)] == []


def replace(text: str, places: Mapping[str, str]) -> str:
    """Put in what only the running cloud knows."""
    for place, value in places.items():
        text = text.replace(place, value)
    return text


def read_only(connection_string: str) -> str:
    """Return a connection string that may read blobs and nothing else, as an identity without further roles."""
    parts = dict(part.split("=", 1) for part in connection_string.rstrip(";").split(";"))
    signature = generate_account_sas(
        parts["AccountName"],
        parts["AccountKey"],
        ResourceTypes(service=True, container=True, object=True),
        AccountSasPermissions(read=True),
        datetime.now(UTC) + timedelta(hours=1),
        services=Services(blob=True, queue=True),
    )
    endpoints = [f"{name}={parts[name]}" for name in ("BlobEndpoint", "QueueEndpoint")]
    return ";".join([*endpoints, f"SharedAccessSignature={signature}"])


def claims_of(**claims: object) -> str:
    """Return a bearer token that says this of itself."""
    return jwt.encode(dict(claims), "a key of at least thirty-two bytes", algorithm="HS256")


@pytest.mark.usefixtures("identity")
@pytest.mark.parametrize(
    ("token", "says"),
    [
        ("opaque", "It is opaque: its audience and expiry cannot be read."),
        (claims_of(sub="x"), "It is opaque: its audience and expiry cannot be read."),
        (
            claims_of(aud=["a", "b"], exp=0),
            "Its claims: audience ['a', 'b'], valid until 1970-01-01T00:00:00+00:00.",
        ),
        (claims_of(aud="a", azp="app"), "Its claims: audience 'a', client 'app'."),
        (claims_of(iss="i", client_id="app"), "Its claims: issuer 'i', client 'app'."),
    ],
)
def test_a_token_is_described_by_the_claims_it_has(cloud: LocalCloud, token: str, says: str) -> None:
    """Authorities differ in what they put into a token; what is missing is left out."""
    with serve(JSONResponse({"access_token": token, "expires_in": 3600})) as authority:
        cloud.vault.set_secret("itwin-client-secret", SECRET)
        secret_url = f"{cloud.vault_address}/secrets/itwin-client-secret"
        changes = CLIENT | {"ITWIN_TOKEN_URL": authority, "ITWIN_SECRET_URL": secret_url}
        report = examine(environment(cloud, **changes), event_timeout_s=0)
    verdict, text = finding(report, "Access token")
    assert verdict == "works"
    assert text.startswith(
        f"{authority} issued one for the scope {environment(cloud)['ITWIN_TOKEN_SCOPE']!r}. {says} It"
    )


@pytest.mark.usefixtures("identity")
def test_the_current_version_of_the_secret_is_reported_with_its_expiry(cloud: LocalCloud) -> None:
    """Drops may still be uploaded with an earlier one: the preflight proves that the new one works."""
    versions = []
    with serve(JSONResponse({"access_token": "opaque", "expires_in": 3600})) as authority:
        secret_url = f"{cloud.vault_address}/secrets/itwin-client-secret"
        changes = CLIENT | {"ITWIN_TOKEN_URL": authority, "ITWIN_SECRET_URL": secret_url}
        for expires in (None, datetime(2027, 3, 1, tzinfo=UTC)):
            versions.append(cloud.vault.set_secret("itwin-client-secret", SECRET, expires=expires))
            report = examine(environment(cloud, **changes), event_timeout_s=0)
            text = finding(report, "Access token")[1]
            assert f"version {versions[-1]} of the client secret, the vault's current one" in text
            assert ("expires on 2027-03-01" if expires else "has no expiry date") in text


def test_without_storage_settings_storage_is_not_checked() -> None:
    """An empty environment yields the list of what is missing, and no exception."""
    report = examine({})
    assert [found.verdict for found in report.findings] == ["fails", *["not checked"] * 9]


@pytest.mark.usefixtures("identity")
def test_a_failing_login_is_reported(cloud: LocalCloud) -> None:
    """The message names the settings to check."""
    settings = environment(cloud, AZURE_CLIENT_ID=str(uuid.uuid4()))
    verdict, text = finding(examine(settings, event_timeout_s=HANG_S), "Access token")
    assert verdict == "fails"
    assert "AZURE_CLIENT_ID" in text


@pytest.mark.usefixtures("identity")
def test_a_missing_container_or_queue_is_named(cloud: LocalCloud) -> None:
    """One that a deployment creates and somebody deleted, or all of them on a new account."""
    with Azurite() as empty:
        report = examine(environment(cloud, DropStorage=empty.connection_string), event_timeout_s=0)
    deploy = "does not exist: deploy the infrastructure again"
    assert finding(report, "Results") == ("fails", f"The container 'results' {deploy}, or correct RESULTS_CONTAINER.")
    assert finding(report, "Ledger") == ("fails", f"The container 'ledger' {deploy}.")
    assert finding(report, "Queues") == ("fails", f"The queue '{RETRY_QUEUE}' {deploy}.")
    assert finding(report, "Drops")[0] == "works"


@pytest.mark.usefixtures("identity")
def test_events_that_do_not_reach_the_app_are_reported(cloud: LocalCloud) -> None:
    """An app that writes its results elsewhere stands for a subscription that points elsewhere."""
    cloud.drops.create_container("results-of-another-app")
    report = examine(environment(cloud, RESULTS_CONTAINER="results-of-another-app"), event_timeout_s=1)
    verdict, text = finding(report, "Events")
    assert verdict == "fails"
    assert "event subscription" in text
    assert "process_drop" in text


@pytest.mark.usefixtures("identity")
def test_waiting_drops_are_counted(cloud: LocalCloud) -> None:
    """An operator sees at once whether drops pile up; the check's own message is not counted."""
    with QueueClient.from_connection_string(cloud.connection_string, RETRY_QUEUE) as queue:
        before = queue.get_queue_properties().approximate_message_count or 0
        verdict, text = finding(examine(environment(cloud), event_timeout_s=HANG_S), "Queues")
        assert (queue.get_queue_properties().approximate_message_count or 0) <= before
    assert verdict == "works"
    assert RETRY_QUEUE in text


@pytest.mark.parametrize("name", POISON_QUEUES)
def test_messages_in_a_poison_queue_fail_the_check(name: str) -> None:
    """Only the app removes them, so if they stay there, the app could not; no app runs in this test."""
    with Azurite() as empty:
        for each in (RETRY_QUEUE, *POISON_QUEUES):
            with QueueClient.from_connection_string(empty.connection_string, each) as queue:
                queue.create_queue()
        with QueueClient.from_connection_string(empty.connection_string, name) as queue:
            settings = {"DropStorage": empty.connection_string}
            assert finding(examine(settings, event_timeout_s=0), "Poison queues")[0] == "works"
            queue.send_message("whatever")
            verdict, text = finding(examine(settings, event_timeout_s=0), "Poison queues")
    assert verdict == "fails"
    assert f"about 1 in {name}" in text
    assert "shared.replay" in text


def test_every_unresponsive_service_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Storage, identity, token authority and platform that accept connections and never respond cost no more time."""

    def hang(connection: socket.socket) -> None:
        while connection.recv(10_000):
            pass

    with conversing(hang, again=True) as address:
        monkeypatch.setenv("IDENTITY_ENDPOINT", address)
        monkeypatch.setenv("IDENTITY_HEADER", "x")
        account = f"AccountName=a;AccountKey=c2VjcmV0;BlobEndpoint={address}/a;QueueEndpoint={address}/a"
        changes = {name: value.format(platform=address, vault=address) for name, value in CLIENT.items()}
        settings = {"DropStorage": account, "ITWIN_API_URL": address, **changes}
        report = examine(settings, check_timeout_s=2, event_timeout_s=1)
    assert finding(report, "Access token")[0] == "fails"
    assert re.search(r"did not respond within [12] s", finding(report, "Access token")[1])
    for subject in ("Drops", "Results", "Ledger", "Queues", "Poison queues"):
        assert finding(report, subject)[0] == "fails"
        assert "No response within 2 s" in finding(report, subject)[1]
    assert "No response within 11 s" in finding(report, "Events")[1]


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (
            ScriptedResponse(201, body=b'{"image": {"id": "x"}}', method="PUT"),
            "accepted an image for an iTwin that cannot",
        ),
        (ScriptedResponse(404, body=b"<html>Not Found</html>"), "without the iTwin Platform's own error"),
        (ScriptedResponse(403, body=b'{"error": {"code": "Forbidden", "message": "No."}}'), "itwins_modify"),
        (ScriptedResponse(503, body=b'{"error": {"code": "Down", "message": "No."}}'), "currently unavailable (503)"),
    ],
)
@pytest.mark.usefixtures("identity")
def test_only_the_platforms_own_error_proves_that_it_was_reached(
    cloud: LocalCloud, answer: ScriptedResponse, says: str
) -> None:
    """Another server behind a wrong address is not the platform, whatever its status."""
    cloud.platform.script([replace_path(answer)])
    verdict, text = finding(examine(environment(cloud), event_timeout_s=0), "iTwin Platform")
    assert verdict == "fails"
    assert says in text


def replace_path(answer: ScriptedResponse) -> ScriptedResponse:
    """Return the answer for the iTwin that cannot be there alone."""
    return dataclasses.replace(answer, path=f"/itwins/{NIL_ITWIN}/image")


def test_the_local_command_prints_the_same_report(
    cloud: LocalCloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`python -m local preflight` finds the running cloud, and its exit code is the verdict."""
    monkeypatch.setenv("LOCAL_CLOUD_FOLDER", os.fspath(tmp_path))
    assert run_local(["preflight"]) == 1
    assert "No local cloud is running" in capsys.readouterr().err
    cloud.publish_state()
    assert run_local(["preflight"]) == 0
    assert "[works] Events" in capsys.readouterr().out
    assert run_local(["preflight", "--itwin", str(uuid.uuid4())]) == 1
    assert "has no iTwin" in capsys.readouterr().out
