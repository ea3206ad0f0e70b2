"""Every way through the policy that is deployed, between stand-ins of what it speaks to."""

from __future__ import annotations

import re
import socket
import threading
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest
import requests

from local.api_management import deployed_policy
from local.cloud import GATEWAY_APPLICATION_ID, GATEWAY_PRINCIPAL_ID
from local.itwin_platform import ScriptedResponse
from local.managed_identity import SYSTEM_ASSIGNED_CLIENT_ID, ManagedIdentity
from local.samples import building_site, encode
from local.serving import listen, serve
from shared.errors import InvalidSettings
from shared.settings import Settings
from tests.deadlines import HANG_S
from tests.local_api_management.client import AUDIENCE, SECRET, SERVICE_APP, Surroundings, error_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from starlette.types import Receive, Scope, Send

PICTURE = encode(building_site(320, 240), "PNG")
ANOTHER_APP = "33333333-cccc-4ccc-8ccc-cccccccccccc"
ANOTHER_TENANT = "44444444-dddd-4ddd-8ddd-dddddddddddd"


@pytest.fixture(scope="module")
def served() -> Iterator[Surroundings]:
    """Serve a gateway as it is deployed."""
    with Surroundings() as made:
        yield made


@pytest.fixture
def around(served: Surroundings) -> Surroundings:
    """Return the same, as new."""
    served.renew()
    return served


def token_of_another_app(around: Surroundings) -> str:
    """Return a token of another app of the tenant for the gateway."""
    return around.identity.tokens.issue(subject="s", audience=AUDIENCE, claims={"appid": ANOTHER_APP})


# Who may call


@pytest.mark.parametrize("audience", [AUDIENCE, GATEWAY_APPLICATION_ID])
def test_the_apps_own_token_is_exchanged_for_the_service_apps(around: Surroundings, audience: str) -> None:
    """The image arrives byte for byte, sent by the service app; both versions of Entra's tokens are accepted."""
    answer = around.put(PICTURE, token=around.identity.issue(SYSTEM_ASSIGNED_CLIENT_ID, audience))
    assert answer.status_code == 201
    assert around.platform.image(around.itwin_id) == (PICTURE, "image/png")
    assert answer.json()["image"]["id"] in answer.json()["image"]["largeImageName"]


def test_the_platform_itself_refuses_the_apps_token(around: Surroundings) -> None:
    """Otherwise these tests would prove nothing."""
    headers = {"Authorization": f"Bearer {around.app_token()}", "Content-Type": "image/png"}
    url = f"{around.platform_address}/itwins/{around.itwin_id}/image"
    assert requests.put(url, PICTURE, headers=headers, timeout=HANG_S).status_code == 401


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("no token", "JWT not present."),
        ("not a token", "The token is not valid. Access denied."),
        ("another audience", "The token is not valid. Access denied."),
        ("another tenant", "The token is not valid. Access denied."),
        ("another caller", "The client application is not allowed. Access denied."),
        ("the gateway itself", "The client application is not allowed. Access denied."),
        ("expired", "The token is not valid. Access denied."),
        ("the platform's own", "The token is not valid. Access denied."),
    ],
)
def test_only_the_app_may_call_the_gateway(around: Surroundings, case: str, message: str) -> None:
    """401 in API Management's own form; nothing is requested from anyone, least of all from the vault."""
    entra = around.identity.tokens
    expired = {"appid": SYSTEM_ASSIGNED_CLIENT_ID}
    token = {
        "no token": " ",
        "not a token": "rubbish",
        "another audience": around.identity.issue(SYSTEM_ASSIGNED_CLIENT_ID, "https://storage.azure.com"),
        "another tenant": ManagedIdentity(tenant_id=ANOTHER_TENANT).issue(SYSTEM_ASSIGNED_CLIENT_ID, AUDIENCE),
        "another caller": token_of_another_app(around),
        "the gateway itself": entra.issue(subject=GATEWAY_PRINCIPAL_ID, audience=AUDIENCE),
        "expired": entra.issue(subject="s", audience=AUDIENCE, lifetime_s=-60, claims=expired),
        "the platform's own": around.platform.token(SERVICE_APP),
    }[case]
    answer = around.put(PICTURE, token=token)
    assert (answer.status_code, answer.json()) == (401, {"statusCode": 401, "message": message})
    assert (around.platform.requests(), around.vault.requests) == ([], 0)


def test_a_gateway_of_another_tenant_refuses_our_tokens() -> None:
    """The tenant is the deployment's own."""
    with Surroundings(named_values={"entra-tenant-id": ANOTHER_TENANT}) as around:
        assert around.put(PICTURE).status_code == 401


def test_a_cached_token_is_not_used_for_another_app(around: Surroundings) -> None:
    """The caller is checked first."""
    assert around.put(PICTURE).status_code == 201
    assert around.put(PICTURE, token=token_of_another_app(around)).status_code == 401
    assert around.uploads() == [201]


def test_only_the_apps_two_operations_are_forwarded(around: Surroundings) -> None:
    """Uploading an image and reading permissions; nothing else is an operation of the API."""
    path = f"/itwins/{around.itwin_id}"
    for method, target in [
        ("DELETE", f"{path}/image"),
        ("GET", path),
        ("POST", "/itwins/"),
        ("POST", "/connect/token"),
    ]:
        answer = around.call(method, target)
        assert (answer.status_code, answer.json()["message"]) == (404, "Resource not found")
    assert around.platform.requests() == []
    answer = around.call("GET", f"/accesscontrol{path}/permissions")
    assert answer.json() == {"permissions": ["itwins_modify"]}


# The token of the platform


def test_one_token_serves_many_calls_until_five_minutes_before_it_expires(around: Surroundings) -> None:
    """The cache is used first: one read of the vault and one token request in almost an hour."""
    for _ in range(3):
        assert around.put(PICTURE).status_code == 201
    around.clock.now += 3299
    assert around.put(PICTURE).status_code == 201
    assert (around.vault.requests, around.grants()) == (1, [200])
    around.clock.now += 2
    assert around.put(PICTURE).status_code == 201
    assert (around.vault.requests, around.grants()) == (2, [200, 200])


def test_a_rotated_secret_needs_no_change_at_the_gateway(around: Surroundings) -> None:
    """Issued tokens stay valid; the next one is requested with the vault's current secret."""
    assert around.put(PICTURE).status_code == 201
    around.platform.set_secrets(SERVICE_APP, "hush-2")
    around.vault.set_secret("s", "hush-2")
    assert around.put(PICTURE).status_code == 201
    around.clock.now += 3600
    assert around.put(PICTURE).status_code == 201
    assert around.grants() == [200, 200]


@pytest.mark.parametrize("case", ["no role", "disabled", "deleted", "broken"])
def test_a_refusal_by_the_vault_is_reported_and_nothing_is_sent(around: Surroundings, case: str) -> None:
    """503, which the app takes for "not sent", with the vault's status; once it is fixed, the next call succeeds."""
    if case == "no role":
        around.vault.readers.clear()
    elif case == "disabled":
        around.vault.disable_secret("s")
    elif case == "deleted":
        around.vault.delete_secret("s")
    else:
        around.vault.failing_with = 500
    status = {"no role": 403, "disabled": 403, "deleted": 404, "broken": 500}[case]
    answer = around.put(PICTURE)
    message = f"The vault answered the gateway with {status} instead of the client secret."
    assert (answer.status_code, error_of(answer)) == (503, ("GatewaySecretRefused", message))
    assert around.platform.requests() == []
    around.vault.failing_with = None
    around.vault.readers.add(GATEWAY_PRINCIPAL_ID)
    around.vault.set_secret("s", SECRET)
    assert around.put(PICTURE).status_code == 201


def test_a_refusal_by_the_token_authority_is_reported_and_nothing_is_sent(around: Surroundings) -> None:
    """As with an expired secret in the vault; the secret itself appears nowhere."""
    around.vault.set_secret("s", "hush-wrong")
    answer = around.put(PICTURE)
    message = "The token authority answered the gateway with 401 instead of a token."
    assert (answer.status_code, error_of(answer)) == (503, ("GatewayTokenRefused", message))
    assert "hush" not in answer.text
    assert around.uploads() == []
    around.vault.set_secret("s", SECRET)
    assert around.put(PICTURE).status_code == 201


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"{}", b'{"access_token": "t"}', b'{"expires_in": 3600}'])
def test_an_invalid_token_response_is_not_used(around: Surroundings, body: bytes) -> None:
    """Nor cached: the next call requests a token again."""
    around.platform.script([ScriptedResponse(200, body=body, method="POST", path="/connect/token")])
    answer = around.put(PICTURE)
    assert answer.status_code == 503
    code, message = error_of(answer)
    assert code == "GatewayFailed"
    assert "(ExpressionValueEvaluationFailure); nothing was sent to the iTwin Platform." in message
    assert around.uploads() == []
    assert around.put(PICTURE).status_code == 201


@pytest.mark.parametrize(
    ("named_value", "policy_id"), [("itwin-secret-url", "read-secret"), ("itwin-token-url", "fetch-token")]
)
def test_an_unreachable_service_is_named(named_value: str, policy_id: str) -> None:
    """503 with the step that failed, and API Management's name for the reason."""
    with listen() as nobody:
        unreachable = f"http://127.0.0.1:{nobody.getsockname()[1]}"
    with Surroundings(named_values={named_value: unreachable}) as around:
        answer = around.put(PICTURE)
        message = (
            f"The gateway failed at send-request {policy_id} (BackendConnectionFailure); "
            "nothing was sent to the iTwin Platform."
        )
        assert (answer.status_code, error_of(answer)) == (503, ("GatewayFailed", message))
        assert around.uploads() == []


def test_the_wait_for_a_silent_token_authority_is_limited_by_the_policy() -> None:
    """The app is waiting meanwhile."""
    with Surroundings(timeout_scale=0.01) as around:
        silence = ScriptedResponse(200, delay_s=HANG_S, method="POST", path="/connect/token")
        around.platform.script([silence])
        code, message = error_of(around.put(PICTURE))
        assert (code, "send-request fetch-token (Timeout)" in message) == ("GatewayFailed", True)


# What the platform answers


def test_a_401_of_the_platform_is_passed_on_and_its_token_discarded(around: Surroundings) -> None:
    """The response is the platform's own; the app tries again, and then a new token is fetched."""
    assert around.put(PICTURE).status_code == 201
    refusal = b'{"error": {"code": "InvalidToken", "message": "The token is revoked. Access denied."}}'
    around.platform.script([ScriptedResponse(401, {"content-type": "application/json"}, refusal)])
    refused = around.put(PICTURE)
    assert (refused.status_code, refused.content) == (401, refusal)
    assert refused.headers["x-correlation-id"] == around.platform.requests()[-1].correlation_id
    assert around.grants() == [200]
    assert around.put(PICTURE).status_code == 201
    assert (around.vault.requests, around.grants()) == (2, [200, 200])


@pytest.mark.parametrize("status", [400, 403, 404, 413, 415, 422, 423, 429, 500, 502, 503])
def test_every_other_response_is_passed_on_unchanged_and_the_token_kept(around: Surroundings, status: int) -> None:
    """Status, body and headers, including `retry-after` and `x-correlation-id`."""
    own = {"retry-after": "17", "content-type": "application/problem+json", "x-anything": "a, b"}
    around.platform.script([ScriptedResponse(status, own, b'{"error": {"code": "C", "message": "m"}}')])
    answer = around.put(PICTURE)
    assert (answer.status_code, answer.content) == (status, b'{"error": {"code": "C", "message": "m"}}')
    assert own.items() <= answer.headers.items()
    assert answer.headers["x-correlation-id"] == around.platform.requests()[-1].correlation_id
    around.put(PICTURE)
    assert around.grants() == [200]


def test_a_redirect_is_passed_on_and_not_followed(around: Surroundings) -> None:
    """The token goes nowhere else."""
    around.platform.script([ScriptedResponse(307, {"location": "http://127.0.0.1:1/"})])
    answer = requests.put(
        f"{around.address}/itwins/{around.itwin_id}/image",
        PICTURE,
        headers={"Authorization": f"Bearer {around.app_token()}"},
        allow_redirects=False,
        timeout=HANG_S,
    )
    assert (answer.status_code, answer.headers["location"]) == (307, "http://127.0.0.1:1/")


def test_the_platforms_refusals_are_the_same_through_the_gateway(around: Surroundings) -> None:
    """Six megabytes are too large for the platform, not for the gateway; random bytes are not an image."""
    large = around.put(bytes(6_000_000))
    assert (large.status_code, large.json()["error"]["code"]) == (413, "RequestTooLarge")
    assert around.platform.requests()[-1].body_bytes == 6_000_000
    rubbish = around.put(b"rubbish")
    assert (rubbish.status_code, rubbish.json()["error"]["code"]) == (422, "InvalidiTwinsRequest")


def test_the_gateway_waits_for_a_slow_platform(around: Surroundings) -> None:
    """For as long as the policy says, which is longer than the app waits."""
    around.platform.script([ScriptedResponse(delay_s=0.5)])
    assert around.put(PICTURE).status_code == 201
    (timeout_s,) = re.findall('<forward-request timeout="([0-9]+)"', deployed_policy())
    with pytest.raises(InvalidSettings, match="ITWIN_TIMEOUT_S"):
        Settings.from_environ({"ITWIN_TIMEOUT_S": timeout_s})


def test_a_silent_platform_is_distinguished_from_a_call_that_was_not_sent() -> None:
    """504, which the app takes for "may have been applied"."""
    with Surroundings(timeout_scale=0.01) as around:
        around.platform.script([ScriptedResponse(delay_s=HANG_S)])
        answer = around.put(PICTURE)
        message = "The gateway got no response from the iTwin Platform (Timeout)."
        assert (answer.status_code, error_of(answer)) == (504, ("GatewayPlatformSilent", message))


def test_a_broken_connection_counts_as_silence_too(around: Surroundings) -> None:
    """It is unknown what had arrived."""
    around.platform.script([ScriptedResponse(200, reset=True)])
    answer = around.put(PICTURE)
    message = "The gateway got no response from the iTwin Platform (BackendConnectionFailure)."
    assert (answer.status_code, error_of(answer)) == (504, ("GatewayPlatformSilent", message))


def test_a_truncated_response_is_not_completed(around: Surroundings) -> None:
    """Its beginning was passed on already, so the connection to the app breaks as well."""
    around.platform.script([ScriptedResponse(reset=True)])
    with pytest.raises(requests.exceptions.RequestException):
        around.put(PICTURE)


# How the body goes


class Backend:
    """Takes uploads, and says how much of the one that is under way has come."""

    def __init__(self) -> None:
        self.received = threading.Semaphore(0)
        self.whole = b""

    async def __call__(self, _scope: Scope, receive: Receive, send: Send) -> None:
        """Take a body piece by piece."""
        more = True
        while more:
            message = await receive()
            self.whole += message.get("body", b"")
            self.received.release(len(message.get("body", b"")))
            more = message.get("more_body", False)
        await send({"type": "http.response.start", "status": 201, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"{}"})


def upload_by_halves(policy: str, *, patience_s: float) -> tuple[bool, bytes, bytes]:
    """Upload in two halves; tell whether the first came before the second was sent, what came, and the answer."""
    backend, half = Backend(), b"x" * 10
    with serve(backend) as backend_url, Surroundings(policy=policy, backend_url=backend_url) as around:
        parts = urlsplit(around.address)
        with socket.create_connection((parts.hostname, parts.port), timeout=HANG_S) as client:
            head = (
                f"PUT /itwins/{around.itwin_id}/image HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Length: 20\r\n"
                f"Connection: close\r\nAuthorization: Bearer {around.app_token()}\r\n\r\n"
            )
            client.sendall(head.encode() + half)
            came = all(backend.received.acquire(timeout=patience_s) for _ in half)
            client.sendall(half)
            answer = b"".join(iter(lambda: client.recv(65_536), b""))
    return came, backend.whole, answer


def test_the_body_is_forwarded_while_it_arrives() -> None:
    """Five megabytes are not buffered in the gateway; a policy that buffers would fail here."""
    came, whole, answer = upload_by_halves(deployed_policy(), patience_s=HANG_S)
    assert (came, whole, answer.split(b"\r\n")[0]) == (True, b"x" * 20, b"HTTP/1.1 201 Created")
    buffering = deployed_policy().replace('buffer-request-body="false"', 'buffer-request-body="true"')
    came, whole, _ = upload_by_halves(buffering, patience_s=0.2)
    assert (came, whole) == (False, b"x" * 20)


def test_many_concurrent_calls_each_get_their_own_response(around: Surroundings) -> None:
    """With four times as many callers as an instance has threads."""
    answers: list[int] = []
    threads = [threading.Thread(target=lambda: answers.append(around.put(PICTURE).status_code)) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [201] * 16
