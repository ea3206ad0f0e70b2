"""A drop goes the whole way with the managed identity's own token: app, gateway, vault, token authority, platform."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import requests

from local.cloud import GATEWAY_APPLICATION_ID, RESULTS_CONTAINER, SECRET_NAME, SERVICE_APP, LocalCloud
from local.drops import wait_for_result
from local.itwin_platform import ScriptedResponse
from local.samples import building_site, encode
from tests.deadlines import HANG_S
from tests.schema import check_result

if TYPE_CHECKING:
    from collections.abc import Iterator

    from local.drops import DroppedFile

PHOTO = encode(building_site(320, 240), "JPEG")
FAST = {"RETRY_MIN_DELAY_S": "1", "RETRY_MAX_DELAY_S": "2"}


class Site:
    """A cloud with a gateway, one iTwin of it that the service app may change, and all that was said."""

    def __init__(self, cloud: LocalCloud, lines: list[str]) -> None:
        self.cloud = cloud
        self.lines = lines
        self.itwin_id = cloud.itwin(permissions={SERVICE_APP: ["itwins_modify"]})

    def drop(self, name: str) -> dict[str, Any]:
        """Drop the photo and return its result."""
        return check_result(self.cloud.result(self.cloud.drop(self.itwin_id, name, PHOTO)))

    def first_result(self, dropped: DroppedFile) -> dict[str, Any]:
        """Return the first result of a drop, final or not."""
        found = wait_for_result(self.cloud.drops, RESULTS_CONTAINER, dropped, final=False)
        assert found
        return check_result(found)

    def ask_preflight(self) -> requests.Response:
        """Ask the app what works and what does not."""
        host = self.cloud.host
        return requests.get(
            f"{host.address}/api/preflight",
            params={"itwin": self.itwin_id},
            headers={"x-functions-key": host.function_key},
            timeout=HANG_S,
        )

    def statuses(self) -> list[int]:
        """Return what the platform answered to uploads."""
        path = f"/itwins/{self.itwin_id}/image"
        return [request.status for request in self.cloud.platform.requests() if request.path == path]


@pytest.fixture(scope="module")
def cloud_and_lines() -> Iterator[tuple[LocalCloud, list[str]]]:
    """Run one cloud for these stories."""
    lines: list[str] = []
    with LocalCloud(login="gateway", app_settings=FAST, on_line=lines.append) as cloud:
        yield cloud, lines


@pytest.fixture
def site(cloud_and_lines: tuple[LocalCloud, list[str]]) -> Site:
    """Make an iTwin of its own for the test."""
    return Site(*cloud_and_lines)


def test_an_image_is_uploaded_with_a_token_that_the_app_never_sees(site: Site) -> None:
    """The app has no secret, no role on the vault and no platform token; logs and results contain none either."""
    settings = site.cloud.settings()
    assert not {"ITWIN_CLIENT_ID", "ITWIN_SECRET_URL"} & settings.keys()
    assert settings["ITWIN_API_URL"] == site.cloud.gateway_address
    result = site.drop("first.jpg")
    assert (result["status"], result["attempts"]) == ("uploaded", 1)
    assert site.cloud.platform.image(site.itwin_id) == (PHOTO, "image/jpeg")
    correlation_id = site.cloud.platform.requests()[-1].correlation_id
    assert result["response"] == {"httpStatus": 201, "correlationId": correlation_id}
    written = "\n".join([*site.lines, json.dumps({**result, "image": None})])
    assert "first.jpg" in written
    assert not [word for word in ("hush-", "eyJ", "Bearer") if word in written]


def test_the_preflight_works_through_the_gateway(site: Site) -> None:
    """It shows for whom the identity's token is issued, and what the service app may do."""
    answer = site.ask_preflight()
    assert answer.status_code == 200, answer.text
    assert f"audience 'api://{GATEWAY_APPLICATION_ID}'" in answer.text
    assert f"The app may change the image of {site.itwin_id}" in answer.text


def test_a_token_that_the_platform_rejects_is_replaced_within_the_same_attempt(site: Site) -> None:
    """The gateway discards it and passes the 401 on, the app tries again, and the drop is not affected."""
    Site(site.cloud, site.lines).drop("before.jpg")
    site.cloud.platform.script([ScriptedResponse(401)])
    result = site.drop("after.jpg")
    assert (result["status"], result["attempts"]) == ("uploaded", 1)
    assert site.statuses() == [401, 201]


def test_a_rotated_secret_is_used_without_a_restart(site: Site) -> None:
    """Even if the old one was deleted first, and its tokens were revoked."""
    Site(site.cloud, site.lines).drop("before.jpg")
    site.cloud.rotate_secret()
    site.cloud.platform.script([ScriptedResponse(401)])
    assert site.drop("after.jpg")["status"] == "uploaded"
    assert site.statuses() == [401, 201]


def test_a_throttle_of_the_platform_reaches_the_app_through_the_gateway(site: Site) -> None:
    """With the platform's Retry-After."""
    site.cloud.platform.script([ScriptedResponse(429, {"retry-after": "1"})])
    dropped = site.cloud.drop(site.itwin_id, "busy.jpg", PHOTO)
    first = site.first_result(dropped)
    assert (first["status"], first["error"]["code"]) == ("retrying", "PlatformThrottled")
    assert site.cloud.result(dropped)["status"] == "uploaded"


def test_a_vault_that_refuses_the_gateway_is_reported_and_recovered_from() -> None:
    """In the gateway's own words, in result and preflight; the drop is uploaded once there is a secret again."""
    with LocalCloud(login="gateway", app_settings=FAST) as cloud:
        site = Site(cloud, [])
        cloud.vault.disable_secret(SECRET_NAME)
        dropped = cloud.drop(site.itwin_id, "locked.jpg", PHOTO)
        first = site.first_result(dropped)
        assert (first["status"], first["error"]["code"]) == ("retrying", "GatewaySecretRefused")
        message = "The vault answered the gateway with 403 instead of the client secret."
        assert first["error"]["message"] == message
        assert f"(503). The response says 'GatewaySecretRefused: {message}'.\n" in site.ask_preflight().text
        cloud.rotate_secret()
        assert cloud.result(dropped)["status"] == "uploaded"
        assert site.statuses() == [201]
