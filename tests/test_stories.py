"""End to end, as users see it: a blob is written, and its outcome can be read."""

from __future__ import annotations

import base64
import json
import threading
import time
import uuid
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest
from azure.core.exceptions import ResourceNotFoundError
from azure.storage.queue import QueueClient

from local.azurite import ACCOUNT, ACCOUNT_KEY
from local.cloud import RESULTS_CONTAINER, LocalCloud
from local.drops import wait_for_result
from local.fault_proxy import Exchange, Fault, proxy_storage
from local.itwin_platform import ScriptedResponse
from local.managed_identity import SYSTEM_ASSIGNED_ID
from local.ports import Ports
from local.processes import wait_until
from local.samples import building_site, encode, make_samples
from local.serving import serve
from tests.deadlines import HANG_S
from tests.machine import free_port
from tests.schema import check_result

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

    from local.drops import DroppedFile
    from local.host_process import HostKind

PHOTO = encode(building_site(320, 240), "JPEG")


def drop(cloud: LocalCloud, itwin_id: str, name: str = "photo.jpg", content: bytes = PHOTO) -> dict[str, Any]:
    """Drop a blob and return its result, which always matches the schema."""
    return check_result(cloud.result(cloud.drop(itwin_id, name, content)))


def first_result(cloud: LocalCloud, dropped: DroppedFile) -> dict[str, Any]:
    """Return the first result of a drop, final or not."""
    result = wait_for_result(cloud.drops, RESULTS_CONTAINER, dropped, final=False)
    assert result
    return check_result(result)


def uploads(cloud: LocalCloud, itwin_id: str) -> list[int]:
    """Return the statuses of the platform's responses to uploads for the iTwin."""
    return [r.status for r in cloud.platform.requests() if r.path == f"/itwins/{itwin_id}/image"]


def test_a_dropped_image_ends_on_its_itwin(cloud: LocalCloud) -> None:
    """A legal image is uploaded byte for byte, and the result contains the platform's own image object."""
    itwin_id = cloud.itwin()
    result = drop(cloud, itwin_id)
    assert result["status"] == "uploaded"
    assert result["sent"]["changes"] == []
    assert result["source"]["sha256"] == result["sent"]["sha256"]
    assert cloud.platform.image(itwin_id) == (PHOTO, "image/jpeg")
    assert result["image"]["smallImageName"] == f"small_{result['image']['id']}.jpeg"


def test_a_phone_photo_arrives_upright_and_without_its_location(cloud: LocalCloud) -> None:
    """The uploaded picture is rotated, and contains no location."""
    itwin_id = cloud.itwin()
    result = drop(cloud, itwin_id, "phone.jpg", make_samples()["phone.jpg"])
    assert (result["sent"]["width"], result["sent"]["height"]) == (1500, 2000)
    assert {"oriented", "metadata-removed"} <= set(result["sent"]["changes"])
    image = cloud.platform.image(itwin_id)
    assert image
    assert b"Exif" not in image[0]
    assert b"Telephone" not in image[0]


def test_the_newest_content_of_a_blob_is_uploaded(cloud: LocalCloud) -> None:
    """Writing the same name again is a new drop."""
    itwin_id = cloud.itwin()
    drop(cloud, itwin_id)
    newer = encode(building_site(400, 300), "PNG")
    assert drop(cloud, itwin_id, content=newer)["status"] == "uploaded"
    assert cloud.platform.image(itwin_id) == (newer, "image/png")


@pytest.mark.parametrize("name", ["site 1/größe 100%+#?.jpg", "a&b=c;d~e'f.jpg", "日本/写真.jpg", "%20%2F.jpg"])
def test_any_blob_name_works_end_to_end(cloud: LocalCloud, name: str) -> None:
    """The result has the blob's own name, whatever characters it contains."""
    assert drop(cloud, cloud.itwin(), name)["source"]["blob"] == name


def test_what_is_not_an_image_is_rejected_without_a_call(cloud: LocalCloud) -> None:
    """The uploader learns what the file is and what to send instead."""
    itwin_id = cloud.itwin()
    result = drop(cloud, itwin_id, "notes.jpg", b"Tuesday: pour the second floor.")
    assert (result["status"], result["error"]["code"]) == ("rejected", "UnsupportedFormat")
    assert uploads(cloud, itwin_id) == []


def test_an_unknown_itwin_is_rejected_in_the_platforms_words(cloud: LocalCloud) -> None:
    """For a GUID that is not an iTwin's, the uploader gets an error."""
    itwin_id = str(uuid.uuid4())
    result = drop(cloud, itwin_id)
    assert result["status"] == "rejected"
    assert result["error"] == {"code": "iTwinNotFound", "message": "Requested iTwin is not available."}
    assert result["response"]["httpStatus"] == 404


def test_a_container_that_names_no_itwin_is_reported(cloud: LocalCloud) -> None:
    """A misspelt ID is reported in the result, and the platform is not called."""
    before = len(cloud.platform.requests())
    result = drop(cloud, "town-hall")
    assert (result["status"], result["error"]["code"]) == ("rejected", "ContainerNotAnITwin")
    assert len(cloud.platform.requests()) == before


def test_a_missing_role_is_named(cloud: LocalCloud) -> None:
    """403 is the operator's to fix: the result says which permission is missing, and for whom."""
    itwin_id = cloud.itwin(permissions={SYSTEM_ASSIGNED_ID: ["itwins_view"]})
    result = first_result(cloud, cloud.drop(itwin_id, "photo.jpg", PHOTO))
    assert (result["status"], result["response"]["httpStatus"]) == ("retrying", 403)
    assert "itwins_modify" in result["reason"]


def test_of_two_drops_in_one_second_the_later_stays(cloud: LocalCloud) -> None:
    """Whatever the blobs' names, and in whatever order their events arrive."""
    later = encode(building_site(320, 240), "PNG")
    for name in ("a", "z"):
        itwin_id = cloud.itwin()
        first = cloud.drop(itwin_id, "m.jpg", PHOTO)
        second = cloud.drop(itwin_id, f"{name}.png", later)
        results = [check_result(cloud.result(dropped))["status"] for dropped in (first, second)]
        assert results[0] in {"uploaded", "superseded"}
        assert results[1] == "uploaded"
        assert cloud.platform.image(itwin_id) == (later, "image/png")


def test_housekeeping_files_leave_no_trace(cloud: LocalCloud) -> None:
    """A folder that is copied as a whole contains system files."""
    itwin_id = cloud.itwin()
    cloud.drop(itwin_id, ".DS_Store", b"\0\0\0\1Bud1")
    cloud.drop(itwin_id, "site/", b"")
    drop(cloud, itwin_id, "later.jpg")
    results = cloud.drops.get_container_client(RESULTS_CONTAINER)
    assert [blob.name for blob in results.list_blobs(itwin_id)] == [f"{itwin_id}/later.jpg.json"]


def test_a_drop_survives_an_outage(cloud: LocalCloud) -> None:
    """The result says that the drop is retried, why and when; then the image is uploaded."""
    itwin_id = cloud.itwin()
    path = f"/itwins/{itwin_id}/image"
    cloud.platform.script(
        [ScriptedResponse(503, body=b"<html>", path=path), ScriptedResponse(500, reset=True, path=path)]
    )
    dropped = cloud.drop(itwin_id, "photo.jpg", PHOTO)
    waiting = first_result(cloud, dropped)
    assert (waiting["status"], waiting["error"]["code"]) == ("retrying", "PlatformUnavailable")
    assert waiting["nextAttemptAt"]
    result = check_result(cloud.result(dropped))
    assert (result["status"], result["attempts"]) == ("uploaded", 3)


def test_an_expired_token_is_replaced_once(cloud: LocalCloud) -> None:
    """After a 401, a new token is fetched, and the drop is not affected."""
    itwin_id = cloud.itwin()
    cloud.platform.script([ScriptedResponse(401, path=f"/itwins/{itwin_id}/image")])
    before = cloud.identity.requests
    assert drop(cloud, itwin_id)["status"] == "uploaded"
    assert uploads(cloud, itwin_id) == [401, 201]
    assert cloud.identity.requests - before <= 2


@pytest.mark.parametrize("status", [302, 303, 307, 308])
def test_no_redirect_is_followed(cloud: LocalCloud, status: int) -> None:
    """A redirect would send the token to another host, or turn the upload into a false success."""
    heard: list[str] = []

    async def elsewhere(scope: Scope, _receive: Receive, send: Send) -> None:
        heard.append(scope["path"])
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b'{"image": {"id": "old"}}'})

    itwin_id = cloud.itwin()
    with serve(elsewhere) as address:
        redirect = ScriptedResponse(status, {"Location": f"{address}/"}, path=f"/itwins/{itwin_id}/image")
        cloud.platform.script([redirect])
        result = first_result(cloud, cloud.drop(itwin_id, "photo.jpg", PHOTO))
    assert (result["status"], result["error"]["code"]) == ("retrying", "PlatformRedirected")
    assert heard == []


def test_a_drop_that_the_host_dead_lettered_is_retried(cloud: LocalCloud) -> None:
    """A message in the blob trigger's poison queue, as the host writes it, ends in a result with a timestamp."""
    itwin_id = str(uuid.uuid4())
    message = {
        "Type": "BlobTrigger",
        "FunctionId": "Host.Functions.process_drop",
        "BlobType": "BlockBlob",
        "ContainerName": itwin_id,
        "BlobName": "crash.jpg",
        "ETag": '"0x8D"',
    }
    queue = QueueClient.from_connection_string(cloud.connection_string, "webjobs-blobtrigger-poison")
    queue.send_message(base64.b64encode(json.dumps(message).encode()).decode())
    result = wait_for_document(cloud, f"{itwin_id}/crash.jpg.json")
    assert (result["status"], result["error"]["code"]) == ("retrying", "AttemptsInterrupted")
    assert result["nextAttemptAt"]


def wait_for_document(cloud: LocalCloud, name: str) -> dict[str, Any]:
    """Return a result document by its name."""
    blob = cloud.drops.get_blob_client(RESULTS_CONTAINER, name)
    found: list[dict[str, Any]] = []

    def arrived() -> bool:
        try:
            found.append(json.loads(blob.download_blob().readall()))
        except ResourceNotFoundError:
            return False
        return True

    assert wait_until(arrived, timeout_s=HANG_S)
    return check_result(found[0])


def test_a_missing_setting_is_reported_in_every_result(functions_host: HostKind) -> None:
    """Every result reports an invalid login setting, and nothing is sent."""
    settings = {
        "ITWIN_LOGIN": "client-credentials",
        "ITWIN_CLIENT_ID": "service-app",
    }
    with LocalCloud(host=functions_host, app_settings=settings) as cloud:
        result = first_result(cloud, cloud.drop(cloud.itwin(), "photo.jpg", PHOTO))
        assert (result["status"], result["error"]["code"]) == ("retrying", "InvalidSettings")
        assert "ITWIN_SECRET_URL" in result["reason"]
        assert cloud.platform.requests() == []


def test_client_credentials_reach_the_platform_and_no_log(functions_host: HostKind) -> None:
    """The other login works end to end as well; neither its secret nor a token is in a log or a result.

    When the secret is rotated and old tokens are revoked, the app continues without a restart.
    """
    lines: list[str] = []
    with LocalCloud(host=functions_host, login="client-credentials", on_line=lines.append) as cloud:
        results = [drop(cloud, cloud.itwin())]
        cloud.rotate_secret()
        cloud.platform.script([ScriptedResponse(401)])
        results.append(drop(cloud, cloud.itwin()))
    assert [result["status"] for result in results] == ["uploaded"] * 2
    written = "\n".join([*lines, json.dumps(results)])
    assert "uploaded" in written
    assert "secretVersion" in written
    assert "hush-" not in written
    assert "eyJ" not in written


# Longer than the host's five attempts take if no attempt waits.
OUTAGE_S = 12.0


def is_of_the_app(exchange: Exchange) -> bool:
    """Whether a request to storage is the app's own, rather than the host's."""
    return exchange.headers.get("User-Agent", "").startswith("azsdk-python")


def test_no_drop_is_lost_while_storage_refuses_the_app(functions_host: HostKind) -> None:
    """After a firewall or a role is misconfigured and fixed, all drops are uploaded: they were not at fault."""
    ports = Ports(blob=free_port(), queue=free_port())
    outage = threading.Event()

    def refuse(exchange: Exchange) -> Fault | None:
        return "refused" if outage.is_set() and is_of_the_app(exchange) else None

    with ExitStack() as stack:
        blobs, queues = (
            stack.enter_context(proxy_storage(port, refuse, lambda _: None)) for port in (ports.blob, ports.queue)
        )
        connection = (
            f"DefaultEndpointsProtocol=http;AccountName={ACCOUNT};AccountKey={ACCOUNT_KEY};"
            f"BlobEndpoint={blobs}/{ACCOUNT};QueueEndpoint={queues}/{ACCOUNT};"
        )
        cloud = stack.enter_context(
            LocalCloud(
                host=functions_host,
                ports=ports,
                app_settings={"DropStorage": connection, "RETRY_MIN_DELAY_S": "1"},
            )
        )
        outage.set()
        dropped = [cloud.drop(cloud.itwin(), "photo.jpg", PHOTO) for _ in range(3)]
        ends_at = time.monotonic() + OUTAGE_S
        assert wait_until(lambda: time.monotonic() > ends_at, timeout_s=HANG_S)
        outage.clear()
        assert [cloud.result(drop)["status"] for drop in dropped] == ["uploaded"] * 3
