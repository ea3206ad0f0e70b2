"""The whole cloud on loopback: what is started, in which order, and which settings the app gets from it."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
from typing import TYPE_CHECKING, Any, Literal, Self

from azure.core.exceptions import ResourceExistsError
from azure.storage.blob import BlobServiceClient
from azure.storage.queue import QueueServiceClient

from local.api_management import Gateway
from local.azurite import QUICK_RETRIES, Azurite
from local.drops import DroppedFile, drop_file, read_result, wait_for_result
from local.event_grid import AdvancedFilter, BlobWrite, EventGrid, Subscription, not_in_containers
from local.host_process import HostKind, HostProcess, find_core_tools
from local.itwin_platform import ITwinPlatform
from local.key_vault import AUDIENCE, KeyVault
from local.managed_identity import SYSTEM_ASSIGNED_CLIENT_ID, SYSTEM_ASSIGNED_ID, TENANT_ID, ManagedIdentity
from local.ports import Ports
from local.processes import PROJECT
from local.serving import LocalCloudError, serve
from local.state import claim_state

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path
    from types import TracebackType

# What the deployment creates, and which containers its event subscription leaves out.
CONTRACT: dict[str, Any] = json.loads((PROJECT / "infra" / "contract.json").read_bytes())
FUNCTION: str = CONTRACT["function"]
RESULTS_CONTAINER: str = CONTRACT["containers"]["results"]
DEAD_LETTER_CONTAINER: str = CONTRACT["containers"]["deadLetters"]
LETTERS_QUEUE: str = CONTRACT["undeliverableQueue"]
LEDGER_CONTAINER: str = CONTRACT["containers"]["ledger"]
PLATFORM_AUDIENCE = "api://itwin-platform"
# The app registration that stands for the gateway, and the gateway's own identity.
GATEWAY_APPLICATION_ID = "7d3f0c52-93d1-4f0e-b7a6-2c8e5d4b1a90"
GATEWAY_PRINCIPAL_ID = "e8a1b7c4-5d26-4e3f-9a08-6f7c2b1d0e95"
SERVICE_APP = "service-app"
SECRET_NAME = "itwin-client-secret"  # noqa: S105 - its name
RETRY_SCALE = 0.1  # ten seconds of Event Grid's schedule take one

DEFAULT_FILTERS = (
    not_in_containers(*CONTRACT["events"]["notInContainers"]),
    AdvancedFilter("StringIn", "data.api", tuple(CONTRACT["events"]["apis"])),
)

# Whose token the platform gets: the app's own, which only the platform's stand-in trusts, or the service app's, for
# which a gateway exchanges it.
Login = Literal["managed-identity", "gateway", "client-credentials"]


class LocalCloud:
    """The whole cloud; it ends with the `with` block and leaves nothing behind.

    `app_settings` override the app's settings or add to them; None removes one.
    """

    def __init__(
        self,
        *,
        app_settings: Mapping[str, str | None] | None = None,
        app_folder: Path = PROJECT,
        function: str = FUNCTION,
        host: HostKind = "embedded",
        login: Login = "managed-identity",
        data: Path | None = None,
        ports: Ports | None = None,
        platform_options: Mapping[str, Any] | None = None,
        filters: tuple[AdvancedFilter, ...] = DEFAULT_FILTERS,
        retry_scale: float = RETRY_SCALE,
        visibility_timeout_s: float | None = None,
        on_line: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._app_settings = dict(app_settings or {})
        self._app_folder = app_folder
        self._function = function
        self._kind: HostKind = host
        self._data = data
        self._login: Login = login
        self._ports = ports or Ports()
        self._filters = filters
        self._retry_scale = retry_scale
        self._visibility_timeout_s = visibility_timeout_s
        self._on_line = on_line
        self._stack = contextlib.ExitStack()
        self.azurite = Azurite(data=data, blob_port=self._ports.blob, queue_port=self._ports.queue)
        self.identity = ManagedIdentity()
        reader = GATEWAY_PRINCIPAL_ID if login == "gateway" else SYSTEM_ASSIGNED_ID
        self.vault = KeyVault(self.identity.tokens, readers=[reader])
        self.platform = ITwinPlatform(
            identity=self.identity.tokens if login == "managed-identity" else None,
            identity_audience=PLATFORM_AUDIENCE,
            **(platform_options or {}),
        )
        self.gateway_address = ""
        self.platform_address = ""
        self.identity_address = ""
        self.vault_address = ""
        self.host: HostProcess
        self.drops: BlobServiceClient
        self.event_grid: EventGrid

    def __enter__(self) -> Self:
        if self._kind == "func":
            find_core_tools()  # before anything is started
        self._ports.check()
        with contextlib.ExitStack() as stack:
            self._start(stack)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stack.close()

    @property
    def connection_string(self) -> str:
        """The drop account's connection string, for any Azure Storage SDK or tool."""
        return self.azurite.connection_string

    def subscribe(self) -> None:
        """Subscribe the app to drops; `event_grid.unsubscribe("drops")` undoes it."""
        self.event_grid.subscribe(
            Subscription(
                endpoint=self.host.webhook(self._function),
                included_event_types=tuple(CONTRACT["events"]["types"]),
                advanced_filters=self._filters,
                dead_letter_container=DEAD_LETTER_CONTAINER,
            )
        )

    def itwin(self, itwin_id: str | None = None, display_name: str = "Site", **options: Any) -> str:
        """Create an iTwin on the platform and the container for its drops; return its ID."""
        made = self.platform.add_itwin(itwin_id, display_name=display_name, **options)
        with contextlib.suppress(ResourceExistsError):
            self.drops.create_container(made)
        return made

    def drop(self, itwin_id: str, name: str, content: bytes) -> DroppedFile:
        """Upload a blob as any uploader does."""
        return drop_file(self.drops, itwin_id, name, content)

    def result(self, drop: DroppedFile, *, timeout_s: float = 300.0) -> dict[str, Any]:
        """Wait for the drop's final result. Raises LocalCloudError if there is none in time."""
        document = wait_for_result(self.drops, RESULTS_CONTAINER, drop, timeout_s=timeout_s)
        if document is None:
            raise LocalCloudError(f"{drop.itwin_id}/{drop.name} has no result after {timeout_s:.0f} s.")
        return document

    def rotate_secret(self) -> None:
        """Give the platform's service app a new secret, and put it into the vault, as an operator does."""
        secret = f"hush-{secrets.token_urlsafe(24)}"
        self.platform.set_secrets(SERVICE_APP, secret)
        self.vault.set_secret(SECRET_NAME, secret)

    def settings(self) -> dict[str, str]:
        """Return the app's settings, which are the only difference between a laptop and Azure."""
        settings: dict[str, str | None] = {
            "AzureWebJobsStorage": self.connection_string,
            "DropStorage": self.connection_string,
            "RESULTS_CONTAINER": RESULTS_CONTAINER,
            "ITWIN_API_URL": self.gateway_address or self.platform_address,
            "ITWIN_LOGIN": self._login,
            "ITWIN_TOKEN_URL": f"{self.platform_address}/connect/token",
            "ITWIN_TOKEN_SCOPE": f"{self._audience}/.default",
            **self._secret_settings(),
            # On a laptop, an unknown iTwin is not one that was just created.
            "RETRY_NOT_FOUND_S": "0",
            "PYTHON_THREADPOOL_THREAD_COUNT": str(CONTRACT["threads"]),
            # On a laptop, nobody wants to wait for a poll.
            "AzureFunctionsJobHost__extensions__queues__maxPollingInterval": "00:00:01",
            **self.identity.settings(self.identity_address),
            **self._app_settings,
        }
        return {name: value for name, value in settings.items() if value is not None}

    def check(self) -> None:
        """Raise LocalCloudError if a part has ended unexpectedly."""
        for name, part in (("Azurite", self.azurite), ("The Functions host", self.host)):
            if part.exit_code is not None:
                raise LocalCloudError(f"{name} has stopped (exit code {part.exit_code}).")

    @property
    def state(self) -> dict[str, Any]:
        """What other commands of this project must know about it."""
        return {
            "pid": os.getpid(),
            "connectionString": self.connection_string,
            "platform": self.platform_address,
            "identity": self.identity_address,
            "vault": self.vault_address,
            "host": self.host.address,
            "functionKey": self.host.function_key,
            "resultsContainer": RESULTS_CONTAINER,
        }

    def publish_state(self) -> None:
        """Let other commands of this project find this cloud until it ends. Raises LocalCloudError.

        For a cloud in a `with` block; `python -m local` makes sure that no other is running before it starts one.
        """
        publish = self._stack.enter_context(claim_state())
        publish(self.state)

    @property
    def _audience(self) -> str:
        return f"api://{GATEWAY_APPLICATION_ID}" if self._login == "gateway" else PLATFORM_AUDIENCE

    def _secret_settings(self) -> dict[str, str | None]:
        if self._login != "client-credentials":
            return {}
        return {
            "ITWIN_CLIENT_ID": SERVICE_APP,
            "ITWIN_SECRET_URL": f"{self.vault_address}/secrets/{SECRET_NAME}",
            "ITWIN_TOKEN_SCOPE": None,
        }

    def _make_gateway(self) -> Gateway:
        self.rotate_secret()
        return Gateway(
            named_values={
                "entra-tenant-id": TENANT_ID,
                "app-client-id": SYSTEM_ASSIGNED_CLIENT_ID,
                "gateway-application-id": GATEWAY_APPLICATION_ID,
                "itwin-client-id": SERVICE_APP,
                "itwin-secret-url": f"{self.vault_address}/secrets/{SECRET_NAME}",
                "itwin-token-url": f"{self.platform_address}/connect/token",
                "vault-resource": AUDIENCE,
            },
            backend_url=self.platform_address,
            entra=self.identity.tokens,
            principal_id=GATEWAY_PRINCIPAL_ID,
        )

    def _start(self, stack: contextlib.ExitStack) -> None:
        stack.callback(self.azurite.stop)
        self.azurite.launch()
        if self._data:  # which Azurite has locked by now
            self.platform.keep_in(self._data / "itwin-platform")
        self.identity_address = stack.enter_context(serve(self.identity.app, self._ports.identity))
        self.vault_address = stack.enter_context(serve(self.vault.app, self._ports.vault))
        self.platform_address = stack.enter_context(serve(self.platform.app, self._ports.platform))
        if self._login == "client-credentials":
            self.rotate_secret()
        if self._login == "gateway":
            self.gateway_address = stack.enter_context(serve(self._make_gateway().app))
        self.azurite.wait()
        self.drops = stack.enter_context(
            BlobServiceClient.from_connection_string(self.connection_string, **QUICK_RETRIES)
        )
        # In Azure, the deployment creates these.
        for name in CONTRACT["containers"].values():
            with contextlib.suppress(ResourceExistsError):
                self.drops.create_container(name)
        with QueueServiceClient.from_connection_string(self.connection_string, **QUICK_RETRIES) as queues:
            for name in CONTRACT["queues"]:
                with contextlib.suppress(ResourceExistsError):
                    queues.create_queue(name)
        self.host = HostProcess(
            self._app_folder,
            self.settings(),
            kind=self._kind,
            port=self._ports.host,
            visibility_timeout_s=self._visibility_timeout_s,
            on_line=self._on_line,
        )
        stack.callback(self.host.stop)
        self.host.start()
        self.event_grid = stack.enter_context(EventGrid(self.azurite, retry_scale=self._retry_scale))
        self.subscribe()
        letters = f"/blobServices/default/containers/{DEAD_LETTER_CONTAINER}/"
        self.event_grid.subscribe(Subscription(queue=LETTERS_QUEUE, name="letters", subject_begins_with=letters))
        if self._data:
            self._republish()

    def _republish(self) -> None:
        """Publish events for blobs without a result: pending events are lost when a cloud ends.

        A blob's content is unknown here: going by the ETag alone, some events may be repeated, as in Azure.
        """
        for container in self.drops.list_containers():
            for blob in self.drops.get_container_client(container.name).list_blobs():
                write = BlobWrite("PutBlob", container.name, blob.name)
                drop = DroppedFile(container.name, blob.name, blob.etag.strip('"'), "", blob.last_modified)
                is_a_drop = all(condition.matches(write) for condition in self._filters)
                if is_a_drop and read_result(self.drops, RESULTS_CONTAINER, drop) is None:
                    self.event_grid.publish(write)
