"""The gateway with everything around it: Entra, the vault, the platform, and a caller."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import requests

from local.api_management import Gateway
from local.cloud import GATEWAY_APPLICATION_ID, GATEWAY_PRINCIPAL_ID
from local.itwin_platform import ITwinPlatform
from local.key_vault import AUDIENCE as VAULT_AUDIENCE
from local.key_vault import KeyVault
from local.managed_identity import SYSTEM_ASSIGNED_CLIENT_ID, TENANT_ID, ManagedIdentity
from local.serving import serve
from tests.deadlines import HANG_S

if TYPE_CHECKING:
    from types import TracebackType

AUDIENCE = f"api://{GATEWAY_APPLICATION_ID}"
SERVICE_APP = "service+app"  # with a character that a form must encode
SECRET = "hush+&%=ä"
NAMED_VALUES = {
    "entra-tenant-id": TENANT_ID,
    "app-client-id": SYSTEM_ASSIGNED_CLIENT_ID,
    "gateway-application-id": GATEWAY_APPLICATION_ID,
    "itwin-client-id": SERVICE_APP,
    "vault-resource": VAULT_AUDIENCE,
}


@dataclass
class Clock:
    """A clock that the test moves."""

    now: float = 1000.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now


@dataclass
class Surroundings:
    """Everything around one gateway, which is served while in the `with` block."""

    policy: str | None = None
    timeout_scale: float = 1.0
    backend_url: str = ""
    named_values: dict[str, str] = field(default_factory=dict)
    clock: Clock = field(default_factory=Clock)
    address: str = ""

    def __post_init__(self) -> None:
        """Make the services; only the service app's own token is good at the platform."""
        self.identity = ManagedIdentity()
        self.vault = KeyVault(self.identity.tokens)
        self.platform = ITwinPlatform()
        self._stack = contextlib.ExitStack()
        self.renew()

    def renew(self) -> None:
        """Reset the gateway: one iTwin, one secret, no requests so far, and a cache whose entries have long expired."""
        self.platform.reset()
        self.platform.set_secrets(SERVICE_APP, SECRET)
        self.itwin_id = self.platform.add_itwin(permissions={SERVICE_APP: ["itwins_modify"]})
        self.vault.readers = {GATEWAY_PRINCIPAL_ID}
        self.vault.failing_with = None
        self.vault.set_secret("s", SECRET)
        self.vault.requests = 0
        self.clock.now += 1_000_000

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            vault, platform = stack.enter_context(serve(self.vault.app)), stack.enter_context(serve(self.platform.app))
            urls = {"itwin-secret-url": f"{vault}/secrets/s", "itwin-token-url": f"{platform}/connect/token"}
            gateway = Gateway(
                policy=self.policy,
                named_values={**NAMED_VALUES, **urls, **self.named_values},
                backend_url=self.backend_url or platform,
                entra=self.identity.tokens,
                principal_id=GATEWAY_PRINCIPAL_ID,
                timeout_scale=self.timeout_scale,
                clock=self.clock,
            )
            self.address = stack.enter_context(serve(gateway.app))
            self.platform_address = platform
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stack.close()

    def app_token(self) -> str:
        """Return the token of the app's managed identity for the gateway."""
        return self.identity.issue(SYSTEM_ASSIGNED_CLIENT_ID, AUDIENCE)

    def put(self, content: bytes, *, token: str | None = None, media_type: str = "image/png") -> requests.Response:
        """Upload an image through the gateway, as the app does."""
        return self.call("PUT", f"/itwins/{self.itwin_id}/image", content, token=token, media_type=media_type)

    def call(
        self, method: str, path: str, content: bytes = b"", *, token: str | None = None, media_type: str = "image/png"
    ) -> requests.Response:
        """Call the gateway, with the app's token unless another one is given."""
        headers = {"Authorization": f"Bearer {token or self.app_token()}", "Content-Type": media_type}
        return requests.request(method, self.address + path, data=content, headers=headers, timeout=HANG_S)

    def uploads(self) -> list[int]:
        """Return the statuses of the platform's responses to uploads."""
        return [request.status for request in self.platform.requests() if request.path.startswith("/itwins/")]

    def grants(self) -> list[int]:
        """Return the statuses of the token authority's responses."""
        return [request.status for request in self.platform.requests() if request.path == "/connect/token"]


def error_of(response: requests.Response) -> Any:
    """Return the code and the message of an error object."""
    error = response.json()["error"]
    assert set(error) == {"code", "message"}
    assert response.headers["content-type"] == "application/json"
    return error["code"], error["message"]
