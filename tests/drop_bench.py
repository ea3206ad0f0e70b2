"""A bench for the life of a drop without a host: real storage, a stand-in of the platform, a queue that tests drain.

`pytest` loads this as a plugin (tests/conftest.py), so that every test can ask for the bench.
"""

from __future__ import annotations

import contextlib
import json
import time
import uuid
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import pytest
from azure.core.exceptions import ResourceExistsError
from azure.storage.blob import BlobServiceClient
from azure.storage.queue import QueueClient, TextBase64DecodePolicy

from local.azurite import ACCOUNT, ACCOUNT_KEY
from local.fault_proxy import Exchange, Fault, proxy_storage
from local.itwin_platform import ITwinPlatform, ScriptedResponse
from local.processes import wait_until
from local.samples import building_site, encode
from local.serving import serve
from shared.attempt import Attempt
from shared.cage import CageLimits, open_images
from shared.clock import Clock, utc_now
from shared.drop import Drop, Version
from shared.image import ImageLimits
from shared.ledger import LEDGER_CONTAINER, Ledger
from shared.pipeline import process_drop
from shared.results import ResultStore, result_name
from shared.retries import RETRY_QUEUE
from shared.services import Services
from tests.deadlines import HANG_S
from tests.schema import check_result

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime

    from local.azurite import Azurite
    from shared.services import Normalize
    from tests.conftest import ReadableVault


def event(drop: Drop) -> Attempt:
    """Return the attempt that a drop's event starts."""
    return Attempt.event(drop)


PICTURES = [encode(building_site(64 + n, 48), "PNG") for n in range(4)]
CLIENTS = {"the-app": "hush-of-the-app"}
SLOW = ScriptedResponse(delay_s=1.5)


def refusal(status: int) -> ScriptedResponse:
    """Return an error response in the platform's own form."""
    error = {"code": "iTwinNotFound" if status == 404 else "Odd", "message": "As it pleases."}
    return ScriptedResponse(status, body=json.dumps({"error": error}).encode())


class SkippingClock:
    """A clock on which waiting takes no real time."""

    def __init__(self) -> None:
        self._skipped_s = 0.0

    def monotonic(self) -> float:
        """Return the time in seconds."""
        return time.monotonic() + self._skipped_s

    def sleep(self, seconds: float) -> None:
        """Advance the clock."""
        self._skipped_s += seconds


@dataclass
class Bench:
    """The app's services in a test setting: their calls to storage and to the platform can be watched and changed."""

    services: Services
    environ: dict[str, str]
    clock: SkippingClock
    storage: BlobServiceClient
    queue: QueueClient
    platform: ITwinPlatform
    platform_address: str
    exchanges: list[Exchange] = field(default_factory=list)
    hinder: Callable[[Exchange], Fault | None] = lambda _: None
    local_time: Callable[[], datetime] = utc_now

    def now(self) -> datetime:
        """Return the app's current time."""
        return self.local_time()

    def settle_briefly(self, call_s: float = 1) -> None:
        """Let calls end, and be settled, within seconds."""
        ledger = Ledger(self.services.storage, utc_now, call_s=call_s, unsettled_s=2)
        self.services = replace(self.services, app_or_problem=replace(self.services.app(), ledger=ledger))

    def ask_storage_once(self) -> None:
        """Disable the storage SDK's retries: their delays are not what the test is about."""
        storage = BlobServiceClient.from_connection_string(self.environ["DropStorage"], retry_total=0)
        results = ResultStore(storage, self.services.results_container)
        self.services = replace(self.services, storage=storage, results=results)

    def asked(self) -> list[tuple[str, str]]:
        """Return the requests to storage: method and target."""
        kinds = {self.services.results_container: "results", LEDGER_CONTAINER: "ledger", RETRY_QUEUE: "retries"}
        names = [exchange.target.split("/")[2].partition("?")[0] for exchange in self.exchanges]
        return [(e.method, kinds.get(name, "drop")) for e, name in zip(self.exchanges, names, strict=True)]

    def version(self, drop: Drop) -> Version:
        """Return the version in storage."""
        properties = self.storage.get_blob_client(drop.container, drop.blob).get_blob_properties()
        assert properties.last_modified
        assert properties.etag
        return Version(properties.last_modified, properties.etag.strip('"'), drop.blob, "content")

    def write(self, content: bytes, drop: Drop | None = None) -> Drop:
        """Drop an image, on a new iTwin unless one is given."""
        drop = drop or Drop(self.platform.add_itwin(), "photo.png")
        with contextlib.suppress(ResourceExistsError):
            self.storage.create_container(drop.container)
        self.storage.get_blob_client(drop.container, drop.blob).upload_blob(content, overwrite=True)
        return drop

    def seconds(self) -> Iterator[None]:
        """Wait for the start of each second, so that what follows has all of it."""
        ends_at = time.monotonic() + HANG_S
        while time.monotonic() < ends_at:
            assert wait_until(lambda: utc_now().microsecond < 100_000, timeout_s=HANG_S)
            yield

    def write_later(self, content: bytes, drop: Drop, than: Drop) -> Drop:
        """Drop an image in a later second than another one, so that their order is known without asking storage."""
        earlier = self.last_modified(than)
        assert wait_until(
            lambda: self.last_modified(self.write(content, drop)) > earlier, timeout_s=HANG_S, interval_s=0.1
        )
        return drop

    def last_modified(self, drop: Drop) -> datetime:
        """Return when the blob was written, according to storage."""
        properties = self.storage.get_blob_client(drop.container, drop.blob).get_blob_properties()
        assert properties.last_modified
        return properties.last_modified

    def process(self, drop: Drop) -> dict[str, Any]:
        """Deliver the drop's event, and return the result."""
        process_drop(event(drop), self.services)
        return self.result(drop)

    def result(self, drop: Drop) -> dict[str, Any]:
        """Return the current result, which always matches the schema."""
        blob = self.storage.get_blob_client(self.services.results_container, result_name(drop))
        return check_result(json.loads(blob.download_blob().readall()))

    def has_result(self, drop: Drop) -> bool:
        """Whether the blob has a result."""
        return self.services.results.read(drop).tag is not None

    def drain(self) -> int:
        """Make every waiting attempt, and those that follow from it; return how many."""
        made = 0

        def is_empty() -> bool:
            nonlocal made
            made += self.make_due_attempts()
            return not self.waiting()

        assert wait_until(is_empty, timeout_s=HANG_S, interval_s=0.2)
        return made

    def make_due_attempts(self) -> int:
        """Make the attempts that are due; return how many."""
        messages = list(self.queue.receive_messages(visibility_timeout=60))
        for message in messages:
            process_drop(Attempt.from_message(message.content), self.services)
            self.queue.delete_message(message)
        return len(messages)

    def waiting(self) -> int:
        """Return how many messages are waiting."""
        return self.queue.get_queue_properties().approximate_message_count or 0

    def calls(self, drop: Drop) -> list[int]:
        """Return the statuses of the platform's responses to uploads for the drop's iTwin."""
        return [r.status for r in self.platform.requests() if r.path == f"/itwins/{drop.container}/image"]

    def shows(self, drop: Drop) -> bytes:
        """Return the iTwin's image."""
        image = self.platform.image(drop.container)
        return image[0] if image else b""

    def ledger_entry(self, drop: Drop) -> Any:
        """Return the blob client of the iTwin's ledger entry."""
        return self.storage.get_blob_client(LEDGER_CONTAINER, f"{drop.container}.json")


@pytest.fixture(scope="module")
def normalize() -> Iterator[Normalize]:
    """Run one cage for all tests, as an app does for all drops."""
    images = open_images(ImageLimits(), CageLimits(wall_s=int(HANG_S)))
    yield images.normalize
    images.close()


@pytest.fixture
def bench(
    azurite: Azurite, readable_vault: ReadableVault, normalize: Normalize, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Bench]:
    """Set up the services; all of their requests to storage pass through a proxy."""
    for name, value in readable_vault.identity.items():
        monkeypatch.setenv(name, value)
    direct = dict(part.split("=", 1) for part in azurite.connection_string.rstrip(";").split(";"))
    ports = [int(direct[name].rpartition(":")[2].partition("/")[0]) for name in ("BlobEndpoint", "QueueEndpoint")]
    platform = ITwinPlatform(clients=CLIENTS)
    with contextlib.ExitStack() as stack:
        address = stack.enter_context(serve(platform.app))
        storage = stack.enter_context(BlobServiceClient.from_connection_string(azurite.connection_string))
        queue = stack.enter_context(
            QueueClient.from_connection_string(
                azurite.connection_string, RETRY_QUEUE, message_decode_policy=TextBase64DecodePolicy()
            )
        )
        results = storage.create_container(f"results-{uuid.uuid4()}").container_name
        with contextlib.suppress(ResourceExistsError):
            storage.create_container(LEDGER_CONTAINER)
        queue.create_queue()
        stack.callback(queue.delete_queue)
        benches: list[Bench] = []

        def hinder(exchange: Exchange) -> Fault | None:
            return benches[0].hinder(exchange)

        def note(exchange: Exchange) -> None:
            benches[0].exchanges.append(exchange)

        blobs, queues = (stack.enter_context(proxy_storage(port, hinder, note)) for port in ports)
        environ = {
            "DropStorage": f"DefaultEndpointsProtocol=http;AccountName={ACCOUNT};AccountKey={ACCOUNT_KEY};"
            f"BlobEndpoint={blobs}/{ACCOUNT};QueueEndpoint={queues}/{ACCOUNT};",
            "RESULTS_CONTAINER": results,
            "ITWIN_API_URL": address,
            "ITWIN_LOGIN": "client-credentials",
            "ITWIN_TOKEN_URL": f"{address}/connect/token",
            "ITWIN_CLIENT_ID": "the-app",
            "ITWIN_SECRET_URL": readable_vault.hold(CLIENTS["the-app"]),
            "RETRY_MIN_DELAY_S": "1",
            "RETRY_MAX_DELAY_S": "1",
            "RETRY_NOT_FOUND_S": "0",
        }
        clock = SkippingClock()
        services = Services.from_environ(environ, normalizer=lambda _: normalize)
        benches.append(Bench(services, environ, clock, storage, queue, platform, address))
        benches[0].services = replace(services, clock=Clock(benches[0].now, clock.monotonic, clock.sleep))
        yield benches[0]
