"""Chaos: images are dropped for many iTwins while everything around the app fails; then the outcome is judged.

`python -m tools.chaos --seed 7` repeats a run: the same drops, events, kills and faults in the same order, and as
close to the same times as the machine allows. Time is scaled by the app's own settings; nothing in the app knows that
it is being tested.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import gzip
import hashlib
import heapq
import itertools
import json
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args
from urllib.parse import quote, unquote

import requests
from azure.core.exceptions import ResourceNotFoundError
from azure.storage.blob import ContentSettings
from azure.storage.queue import QueueClient, QueueServiceClient
from PIL import Image

from benchmarks.processes import decoding
from local.azurite import ACCOUNT, ACCOUNT_KEY
from local.cloud import FUNCTION, RESULTS_CONTAINER, LocalCloud
from local.fault_proxy import Exchange, Fault, proxy_storage
from local.functions_host.listeners import BLOB_POISON_QUEUE
from local.host_process import HostKind, HostProcess
from local.itwin_platform import ScriptedResponse
from local.ports import Ports
from local.processes import PROJECT, wait_until
from local.samples import encode
from local.serving import listen, serve
from shared.drop import Drop, Version
from shared.image import normalize_image
from shared.image.model import ImageLimits
from shared.results import result_name
from tools.chaos_judge import FINAL_ANSWERS, Evidence, Kind, Written, judge
from tools.failures import keep

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from starlette.types import Receive, Scope, Send

DEFAULT_SEED = 4
SETTLE_S = 3600  # which only stops a hang
VISIBILITY_TIMEOUT_S = 3
SETTINGS = {
    "RETRY_MIN_DELAY_S": "1",
    "RETRY_MAX_DELAY_S": "3",
    "RETRY_HORIZON_S": "3600",
    "ITWIN_TIMEOUT_S": "2",
    "MAX_IMAGE_CPU_S": "2",  # and so no more than twelve seconds for a process that was stopped
}
Blow = Literal["kill", "stop", "crash", "starve"]
BLOWS: tuple[Blow, ...] = get_args(Blow)
STRIKES_S, STARVING_BYTES = (0.2, 1.2), 1_000_000

# How often each happens: as a share of all drops, events or calls.
ILLEGAL, NOBODYS, UNKNOWN_ITWIN, OVERWRITTEN, AT_ONCE = 0.1, 0.03, 0.05, 0.2, 0.2
DUPLICATED, LATE = 0.3, 0.2
CALL_FAULTS = 0.35
NOT_FOUND = 404
CALLS_PER_THROTTLE, CALLS_AFTERWARDS = 40, 20
STORAGE_FAULTS = 0.05
LASTING_STORAGE_FAULTS = 0.25  # of those: they outlast what the SDK repeats by itself
DELETED, GIVEN_UP, TOUCHED = 0.04, 0.03, 0.1
GZIPPED, MISLABELLED = 0.04, 0.04
CALM_S, OUTAGE_S = (3, 40), (0.5, 10)  # how long storage serves the app, and then refuses it
TROUBLES_PER_HANG, HANGING_S = 8, 3  # longer than the app waits for a token
DOTNET = "azsdk-net"  # Core Tools; the embedded host is told by what it asks for
CLOCK_AHEAD_S = 5 * 3600
POISONED = re.compile(rf"/{ACCOUNT}/[a-z-]+-poison/messages")
CONDITIONS = {"if-match", "if-none-match"}


@dataclass(frozen=True)
class Storm:
    """How much is dropped, and how long everything fails."""

    seed: int = DEFAULT_SEED
    seconds: float = 8
    drops: int = 104
    instances: int = 2
    functions_host: HostKind = "embedded"

    @property
    def itwins(self) -> int:
        """How many iTwins the drops are for."""
        return max(8, self.drops // 4)

    @property
    def kills(self) -> int:
        """How often an instance is killed: too seldom for one message to be in its hands five times."""
        return max(3, round(self.seconds / 20))


@dataclass
class Report:
    """The outcome of a storm, in figures."""

    seed: int
    drops: int = 0
    seconds: float = 0
    results: Counter[str] = field(default_factory=Counter)
    answers: Counter[int] = field(default_factory=Counter)
    storage_faults: Counter[str] = field(default_factory=Counter)
    blows: Counter[str] = field(default_factory=Counter)
    attempts: int = 0
    most_attempts: int = 0
    kills: int = 0
    events: int = 0
    given_up: int = 0
    deleted: int = 0
    touched: int = 0
    gzip_labels: int = 0
    outages: int = 0
    hangs: int = 0
    clocks_apart_s: int = 0
    violations: list[str] = field(default_factory=list)
    kept: Path | None = None

    def __str__(self) -> str:
        head = f"seed {self.seed}: {self.drops} drops in {self.seconds:.0f} s, {self.events} events, {self.kills} kills"
        lines = [
            f"blobs ended as {dict(self.results.most_common())}",
            f"{self.attempts} attempts, at most {self.most_attempts} at one",
            f"{self.deleted} blobs deleted, {self.touched} touched, {self.gzip_labels} labelled gzip",
            f"{self.given_up} messages dead-lettered",
            f"storage refused the app {self.outages} times, the identity endpoint hung {self.hangs} times",
            f"the instances' clocks were {self.clocks_apart_s} s apart",
            f"the platform responded with {dict(sorted(self.answers.items()))}",
            f"processes that decode were struck: {dict(self.blows.most_common())}",
            f"storage failed with {dict(self.storage_faults.most_common())}",
            f"{len(self.violations)} violations",
            *self.violations[:40],
            *([f"all that was logged and stored is kept in {self.kept}"] if self.kept else []),
        ]
        return "\n  ".join([head, *lines])


class Chaos:
    """One run: the cloud with its faults, and the drops."""

    def __init__(self, storm: Storm) -> None:
        self.storm = storm
        self.report = Report(storm.seed)
        self.evidence = Evidence()
        self._calm = threading.Event()
        self._storage_faults = StorageFaults(storm.seed, self._calm)

    def run(self) -> Report:
        """Run the storm, wait until everything is idle, and judge."""
        try:
            self._run()
        except Exception as error:
            error.add_note(f"What was logged and stored until then is kept in {self._keep()}")
            raise
        if self.report.violations:
            self.report.kept = self._keep()
        return self.report

    def _run(self) -> None:
        began = time.monotonic()
        with ExitStack() as stack:
            self._start(stack)
            with ThreadPoolExecutor() as pool:
                troubles = (self._kill_hosts, self._strike_decoders, self._trouble_identity, self._refuse_app)
                weather = [pool.submit(trouble) for trouble in troubles]
                self._write_drops()
                for part in weather:
                    part.result()
            self._clear_up()
            still = wait_until(self._is_still, timeout_s=SETTLE_S, interval_s=0.2)
            self._gather_evidence()
        self.report.violations = [] if still else ["It did not become still."]
        self.report.violations += judge(self.evidence)
        self.report.seconds = time.monotonic() - began

    def _keep(self) -> Path:
        evidence = {"report": str(self.report), **asdict(replace(self.evidence, images={}, secrets=[]))}
        text = json.dumps(evidence, default=str, indent=1, ensure_ascii=False)
        return keep(f"chaos-seed-{self.storm.seed}.json", text.encode(errors="backslashreplace"))

    def _start(self, stack: ExitStack) -> None:
        """Start the cloud with a proxy before its storage, and a second instance of the app."""
        ports = Ports(blob=_free_port(), queue=_free_port())
        blobs, queues = (
            stack.enter_context(proxy_storage(port, self._storage_faults.choose, self._observe))
            for port in (ports.blob, ports.queue)
        )
        connection = (
            f"DefaultEndpointsProtocol=http;AccountName={ACCOUNT};AccountKey={ACCOUNT_KEY};"
            f"BlobEndpoint={blobs}/{ACCOUNT};QueueEndpoint={queues}/{ACCOUNT};"
        )
        self._elsewhere = stack.enter_context(serve(self._answer_elsewhere))
        self.cloud = stack.enter_context(
            LocalCloud(
                host=self.storm.functions_host,
                app_settings={**SETTINGS, "DropStorage": connection},
                ports=ports,
                platform_options={"requests_per_minute": 1_000_000, "requests_per_hour": 1_000_000},
                visibility_timeout_s=VISIBILITY_TIMEOUT_S,
                on_line=self.evidence.lines.append,
            )
        )
        # The courier delivers instead.
        self.cloud.event_grid.unsubscribe("drops")
        self._hosts = [self.cloud.host]
        for _ in range(self.storm.instances - 1):
            host = HostProcess(
                PROJECT,
                self.cloud.settings() | self._other_clock(),
                kind=self.storm.functions_host,
                visibility_timeout_s=VISIBILITY_TIMEOUT_S,
                on_line=self.evidence.lines.append,
            )
            stack.callback(host.stop)
            host.start()
            self._hosts.append(host)
        self._courier = Courier([host.webhook(FUNCTION) for host in self._hosts], self.storm.seed)
        stack.callback(self._courier.stop)

    def _other_clock(self) -> dict[str, str]:
        """Return what sets the second instance's clock ahead, where this machine has a compiler."""
        compiler = shutil.which("cc")
        if compiler is None or self.storm.functions_host != "embedded":
            return {}
        library = PROJECT / ".local" / "clock_ahead.so"
        library.parent.mkdir(exist_ok=True)
        source = Path(__file__).with_name("clock_ahead.c")
        subprocess.run([compiler, "-shared", "-fPIC", "-o", library, source], check=True)  # noqa: S603 - our own source
        self.report.clocks_apart_s = CLOCK_AHEAD_S
        return {"LD_PRELOAD": str(library), "CLOCK_AHEAD_S": str(CLOCK_AHEAD_S)}

    def _observe(self, exchange: Exchange) -> None:
        if "bearer" in exchange.headers.get("Authorization", "").lower():
            self.evidence.calls_astray.append(exchange.target)
        if exchange.fault:
            self.report.storage_faults[exchange.fault] += 1
        prefix = f"/{ACCOUNT}/{RESULTS_CONTAINER}/"
        if exchange.method == "PUT" and exchange.done and exchange.target.startswith(prefix):
            name = unquote(exchange.target.partition("?")[0].removeprefix(prefix))
            self.evidence.histories.setdefault(name, []).append(json.loads(exchange.body))
        if exchange.method == "POST" and exchange.done and POISONED.match(exchange.target):
            self.evidence.dead_letters.append(_given_up(exchange.body))

    async def _answer_elsewhere(self, scope: Scope, _receive: Receive, send: Send) -> None:
        self.evidence.calls_astray.append(scope["path"])
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b'{"image": {"id": "old"}}'})

    def _kill_hosts(self) -> None:
        chance = _chance(self.storm.seed, "kills")
        began = time.monotonic()
        for moment in sorted(chance.uniform(0.1, 0.7) * self.storm.seconds for _ in range(self.storm.kills)):
            self._calm.wait(max(0.0, began + moment - time.monotonic()))
            host = chance.choice(self._hosts)
            host.kill()
            self.report.kills += 1
            self._calm.wait(chance.uniform(0, 1.5))
            host.start()

    def _strike_decoders(self) -> None:
        """Kill, stop, crash or starve one of the processes that decode images, be it a template or a child."""
        chance = _chance(self.storm.seed, "decoders")
        began = time.monotonic()
        while time.monotonic() < began + self.storm.seconds:
            self._calm.wait(chance.uniform(*STRIKES_S))
            found = [pid for host in self._hosts if host.pid for pid in decoding(host.pid)]
            blow = chance.choice(BLOWS)
            if found:
                self.report.blows[blow] += strike(chance.choice(found), blow)

    def _trouble_identity(self) -> None:
        chance = _chance(self.storm.seed, "identity")
        began = time.monotonic()
        for number in itertools.count():
            if time.monotonic() > began + self.storm.seconds:
                return
            self.cloud.identity.failing_with = chance.choice([None, None, None, 500, 400, 429])
            self.cloud.identity.lifetime_s = chance.choice([3600, 302, 240, 5, 1])
            self.cloud.identity.hangs = number % TROUBLES_PER_HANG == 1
            self.report.hangs += self.cloud.identity.hangs
            self._calm.wait(HANGING_S if self.cloud.identity.hangs else chance.uniform(0.5, 2))

    def _refuse_app(self) -> None:
        """Let storage refuse the app, but not the host, again and again: as a firewall or a missing role does."""
        chance = _chance(self.storm.seed, "outages")
        began = time.monotonic()
        longest = self.storm.seconds / 5
        while time.monotonic() < began + 0.8 * self.storm.seconds:
            self._calm.wait(min(chance.uniform(*CALM_S), longest))
            self._storage_faults.refuses.set()
            self.report.outages += 1
            self._calm.wait(min(chance.uniform(*OUTAGE_S), longest))
            self._storage_faults.refuses.clear()

    def _script(self) -> Iterator[ScriptedResponse]:
        """Yield the platform's responses; one without a status is its own."""
        chance = _chance(self.storm.seed, "platform")
        elsewhere = {"Location": f"{self._elsewhere}/itwins/x/image"}
        error, not_found = (
            json.dumps({"error": {"code": code, "message": "As the script says."}}).encode()
            for code in ("Scripted", "iTwinNotFound")
        )
        faults = [
            ScriptedResponse(401),
            ScriptedResponse(401, times=2),
            ScriptedResponse(403, body=error),
            *(ScriptedResponse(status, body=not_found if status == NOT_FOUND else error) for status in FINAL_ANSWERS),
            ScriptedResponse(500),
            ScriptedResponse(502, {"Content-Type": "text/html"}, b"<html>Bad Gateway</html>"),
            ScriptedResponse(503, {"Retry-After": "1"}),
            ScriptedResponse(delay_s=1),
            ScriptedResponse(delay_s=4),
            *(ScriptedResponse(late_s=late_s) for late_s in (3, 6, 10)),
            ScriptedResponse(reset=True),
            ScriptedResponse(500, reset=True),
            ScriptedResponse(201, body=b'{"image": {"id": "123", "smallIm'),
            ScriptedResponse(201),
            *(ScriptedResponse(status, elsewhere) for status in (302, 303, 307, 308)),
        ]
        for number in itertools.count(1):
            yield chance.choice(faults) if chance.random() < CALL_FAULTS else ScriptedResponse()
            throttles, rest = divmod(number, CALLS_PER_THROTTLE)
            if rest == CALLS_PER_THROTTLE // 2:
                date = format_datetime(datetime.now(UTC) + timedelta(seconds=6), usegmt=True)
                yield ScriptedResponse(429, {"Retry-After": date if throttles % 2 else "2"})

    def _write_drops(self) -> None:
        chance = _chance(self.storm.seed, "drops")
        script = self._script()
        known = [self.cloud.itwin(_guid(chance)) for _ in range(self.storm.itwins)]
        strangers = [_guid(chance), _guid(chance)]
        for stranger in strangers:
            self.cloud.drops.create_container(stranger)
        began = time.monotonic()
        for number in range(self.storm.drops):
            waits = chance.random() > AT_ONCE
            pause_s = began + number / self.storm.drops * self.storm.seconds - time.monotonic()
            if len(left := self.cloud.platform.remaining_script()) < CALLS_PER_THROTTLE:
                self.cloud.platform.script([*left, *itertools.islice(script, CALLS_PER_THROTTLE)])
            if pause_s > 0 and waits:
                self._calm.wait(pause_s)
            itwin_id = chance.choice(strangers if chance.random() < UNKNOWN_ITWIN else known)
            kind, name, content = _picture(chance)
            stored, label = _labelled(content, chance)
            self.report.gzip_labels += label is not None
            if self.evidence.written and kind != "ignored" and chance.random() < OVERWRITTEN:
                last = self.evidence.written[-1]
                itwin_id, name = last.itwin_id, last.version.blob
                kind = "ignored" if last.kind == "ignored" else kind
            blob = self.cloud.drops.get_blob_client(itwin_id, name)
            made = blob.upload_blob(stored, overwrite=True, content_settings=ContentSettings(content_encoding=label))
            stored_as = hashlib.sha256(stored).hexdigest()
            version = Version(made["last_modified"], made["etag"].strip('"'), name, stored_as)
            sha256 = _sent_sha256(content) if kind == "legal" else None
            self._announce(Written(itwin_id, version, number, kind, itwin_id in known, sha256), chance)
            if chance.random() < DELETED:
                self._delete(chance.choice(list(self.evidence.last().values())[-10:]))
            if chance.random() < TOUCHED:
                self._touch(chance.choice(list(self.evidence.last().values())[-10:]))

    def _announce(self, written: Written, chance: random.Random) -> None:
        self.evidence.written.append(written)
        self.report.drops += 1
        if chance.random() < GIVEN_UP and written.kind != "ignored":
            self._give_up(written)
            return
        for _ in range(1 + (chance.random() < DUPLICATED) + (chance.random() < DUPLICATED / 2)):
            self._courier.send(_event(written), chance.uniform(0, 5 if chance.random() < LATE else 0.3))
            self.report.events += 1

    def _give_up(self, written: Written) -> None:
        """Do what the host does when all its attempts at an event have failed."""
        event = json.dumps(
            {
                "ContainerName": written.itwin_id,
                "BlobName": written.version.blob,
                "ETag": f'"{written.version.etag}"',
            }
        )
        with QueueClient.from_connection_string(self.cloud.connection_string, BLOB_POISON_QUEUE) as queue:
            queue.send_message(base64.b64encode(event.encode()).decode())
        self.evidence.dead_letters.append((written.path, written.version.etag))

    def _delete(self, written: Written) -> None:
        with contextlib.suppress(ResourceNotFoundError):
            self.cloud.drops.get_blob_client(written.itwin_id, written.version.blob).delete_blob()
            self.evidence.deleted.add(written.version.etag)

    def _touch(self, written: Written) -> None:
        """Set the blob's metadata, which changes its ETag and its date and raises no event."""
        blob = self.cloud.drops.get_blob_client(written.itwin_id, written.version.blob)
        with contextlib.suppress(ResourceNotFoundError):
            blob.set_blob_metadata({"touched": str(self.report.touched)})
            found = blob.get_blob_properties()
            version = replace(written.version, etag=found.etag.strip('"'), last_modified=found.last_modified)
            self.evidence.touched.setdefault(written.version.etag, []).append(version)
            self.report.touched += 1

    def _clear_up(self) -> None:
        """End the faults, except for a few more calls: a slow machine has made only few so far."""
        self._calm.set()
        self.cloud.platform.script(self.cloud.platform.remaining_script()[:CALLS_AFTERWARDS])
        self.cloud.identity.failing_with, self.cloud.identity.lifetime_s = None, 3600
        self.cloud.identity.hangs = False

    def _is_still(self) -> bool:
        return (
            self._courier.idle
            and not self.evidence.unfinished()
            and not any(messages(self.cloud.connection_string).values())
        )

    def _gather_evidence(self) -> None:
        evidence, report, results = self.evidence, self.report, self.cloud.drops.get_container_client(RESULTS_CONTAINER)
        evidence.queued = messages(self.cloud.connection_string)
        evidence.stored = {
            name: json.loads(results.download_blob(name).readall()) for name in results.list_blob_names()
        }
        evidence.answers = self.cloud.platform.requests()
        images = {w.itwin_id: self.cloud.platform.image(w.itwin_id) for w in evidence.written}
        evidence.images = {itwin_id: image[0] for itwin_id, image in images.items() if image}
        keys = [host.webhook(FUNCTION).rpartition("code=")[2] for host in self._hosts]
        evidence.secrets = [ACCOUNT_KEY, self.cloud.identity.header, *keys]

        report.answers.update(answer.status for answer in evidence.answers)
        ends = [evidence.document(w) for w in evidence.live() if w.kind != "ignored"]
        report.results.update(document.get("status", "nothing") for document in ends)
        report.attempts = sum(document.get("attempts", 0) for document in ends)
        report.most_attempts = max((document.get("attempts", 0) for document in ends), default=0)
        report.given_up, report.deleted = len(evidence.dead_letters), len(evidence.deleted)


def strike(pid: int, blow: Blow) -> bool:
    """Do something to a process; return whether it was still running."""
    try:
        if blow == "starve":
            _, hard = resource.prlimit(pid, resource.RLIMIT_AS)
            resource.prlimit(pid, resource.RLIMIT_AS, (STARVING_BYTES, hard))
        else:
            os.kill(pid, {"kill": signal.SIGKILL, "stop": signal.SIGSTOP, "crash": signal.SIGSEGV}[blow])
    except ProcessLookupError:
        return False
    return True


def messages(connection_string: str) -> dict[str, int]:
    """Return how many messages each queue holds, including those that are being processed."""
    with QueueServiceClient.from_connection_string(connection_string) as service:
        clients = [service.get_queue_client(queue.name) for queue in service.list_queues()]
        return {c.queue_name: c.get_queue_properties().approximate_message_count or 0 for c in clients}


class StorageFaults:
    """Decides which of the app's requests to storage fail; the host's own do not, so that a run stays short.

    The n-th request of a kind for a blob or queue fails in the same way in every run, whatever happens in between.
    """

    def __init__(self, seed: int, calm: threading.Event) -> None:
        self._seed = seed
        self._counts: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._calm = calm
        self._lasting: dict[str, Fault] = {}
        self.refuses = threading.Event()

    def choose(self, exchange: Exchange) -> Fault | None:
        """Return the fault; some meet a request and all its repetitions by the SDK."""
        sends = exchange.method == "POST" and exchange.target.startswith(f"/{ACCOUNT}/drop-retries/")
        takes = "/messages" in exchange.target
        of_host = exchange.headers.get("User-Agent", "").startswith(DOTNET)
        if self._calm.is_set() or of_host or not (sends or (exchange.method in ("GET", "PUT") and not takes)):
            return None
        if self.refuses.is_set():
            return "refused"
        request_id = exchange.headers.get("x-ms-client-request-id", "")
        with self._lock:
            if request_id in self._lasting:
                return self._lasting[request_id]
            kind = f"{exchange.method} {exchange.target.partition('?')[0]}"
            self._counts[kind] += 1
            chance = _chance(self._seed, f"storage {kind} {self._counts[kind]}")
            fault = self._draw(exchange, chance)
            if fault and chance.random() < LASTING_STORAGE_FAULTS:
                self._lasting[request_id] = fault
            return fault

    def _draw(self, exchange: Exchange, chance: random.Random) -> Fault | None:
        if chance.random() > STORAGE_FAULTS:
            return None
        kinds: list[Fault] = ["busy"]
        if exchange.method != "GET":
            kinds.append("busy-afterwards")
        if exchange.method == "PUT" and any(name.lower() in CONDITIONS for name in exchange.headers):
            kinds.append("condition-not-met")
        return chance.choice(kinds)


class Courier:
    """Delivers events with the given delays, repetitions and order, until they are accepted."""

    def __init__(self, webhooks: Sequence[str], seed: int) -> None:
        self._webhooks = webhooks
        self._chance = _chance(seed, "courier")
        self._due: list[tuple[float, int, str, dict[str, Any]]] = []
        self._order = itertools.count()
        self._changed = threading.Condition()
        self._busy = 0
        self._stopping = False
        self._workers = [threading.Thread(target=self._deliver, daemon=True) for _ in range(4)]
        for worker in self._workers:
            worker.start()

    def send(self, event: dict[str, Any], late_s: float) -> None:
        """Deliver the event after a while."""
        with self._changed:
            webhook = self._chance.choice(self._webhooks)
            heapq.heappush(self._due, (time.monotonic() + late_s, next(self._order), webhook, event))
            self._changed.notify()

    @property
    def idle(self) -> bool:
        """Whether everything was accepted."""
        with self._changed:
            return not self._due and not self._busy

    def stop(self) -> None:
        """Deliver nothing more."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        for worker in self._workers:
            worker.join()

    def _deliver(self) -> None:
        while (due := self._next()) is not None:
            webhook, event = due
            try:
                taken = requests.post(webhook, json=[event], headers={"aeg-event-type": "Notification"}, timeout=10).ok
            except requests.RequestException:
                taken = False
            if not taken:
                self.send(event, 0.3)
            with self._changed:
                self._busy -= 1

    def _next(self) -> tuple[str, dict[str, Any]] | None:
        with self._changed:
            while not self._stopping:
                wait_s = self._due[0][0] - time.monotonic() if self._due else 60
                if wait_s <= 0:
                    self._busy += 1
                    return heapq.heappop(self._due)[2:]
                self._changed.wait(wait_s)
        return None


def _picture(chance: random.Random) -> tuple[Kind, str, bytes]:
    """Choose what is dropped at random: its kind, name and content; no two pictures are alike."""
    drawn, number = chance.random(), chance.randrange(4)
    if drawn < NOBODYS:
        return "ignored", chance.choice([".DS_Store", "copy.png.part1", "~$site.png"]), b"\0\1"
    width, height = chance.randint(16, 60), chance.randint(16, 60)
    picture = Image.frombytes("RGB", (width, height), chance.randbytes(width * height * 3))
    if drawn < NOBODYS + ILLEGAL:
        png = encode(picture, "PNG")
        return "illegal", f"cam{number}.png", chance.choice([b"", b"not an image", png[: len(png) // 2]])
    kind = chance.choice(["PNG", "PNG", "JPEG", "TIFF"])
    return "legal", f"site {chance.randrange(2)}/cam{number}.{kind.lower()}", encode(picture, kind)


def _labelled(content: bytes, chance: random.Random) -> tuple[bytes, str | None]:
    """Choose at random how it is stored, and under which Content-Encoding: really gzipped, or only labelled so."""
    drawn = chance.random()
    if drawn < GZIPPED:
        return gzip.compress(content), "gzip"
    return content, "gzip" if drawn < GZIPPED + MISLABELLED else None


def _given_up(body: bytes) -> tuple[str, str | None]:
    """Return the result's name and the ETag of the drop that a message of a poison queue is about."""
    text = re.search(rb"<MessageText>(.*?)</MessageText>", body, re.DOTALL)
    if not text:
        raise ValueError("Expected a queue message, but found no <MessageText>.")
    message = json.loads(base64.b64decode(text[1]))
    named = message.get("drop") or {"container": message["ContainerName"], "blob": message["BlobName"]}
    etag = message.get("etag") or message.get("ETag")
    return result_name(Drop(named["container"], named["blob"])), etag and etag.strip('"')


def _sent_sha256(content: bytes) -> str:
    return hashlib.sha256(normalize_image(content, ImageLimits()).data).hexdigest()


def _event(written: Written) -> dict[str, Any]:
    return {
        "id": str(uuid.uuid4()),
        "eventType": "Microsoft.Storage.BlobCreated",
        "subject": f"/blobServices/default/containers/{written.itwin_id}/blobs/{written.version.blob}",
        "eventTime": datetime.now(UTC).isoformat(),
        "data": {
            "api": "PutBlob",
            "blobType": "BlockBlob",
            "eTag": written.version.etag,
            "url": f"http://127.0.0.1/{ACCOUNT}/{written.itwin_id}/{quote(written.version.blob)}",
        },
        "dataVersion": "",
        "metadataVersion": "1",
    }


def _chance(seed: int, part: str) -> random.Random:
    return random.Random(f"{seed} {part}")  # noqa: S311 - it repeats a run, and protects nothing


def _guid(chance: random.Random) -> str:
    return str(uuid.UUID(bytes=chance.randbytes(16), version=4))


def _free_port() -> int:
    with listen() as listener:
        return int(listener.getsockname()[1])


def main() -> int:
    """Run it from the command line; 1 if a promise was broken."""
    parser = argparse.ArgumentParser(prog="python -m tools.chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=DEFAULT_SEED, help="what happens (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=600, help="how long the storm lasts (default: %(default)s)")
    parser.add_argument("--drops", type=int, default=3000, help="how many versions are written (default: %(default)s)")
    parser.add_argument(
        "--functions-host",
        choices=get_args(HostKind),
        default="embedded",
        help="who runs the app: with `func`, what a killed host had in hand comes back after ten minutes, which no "
        "setting shortens (default: %(default)s)",
    )
    parser.add_argument("--log", type=Path, help="where the hosts' log lines go")
    options = parser.parse_args()
    sys.stdout.write(f"seed {options.seed}\n")
    sys.stdout.flush()
    chaos = Chaos(Storm(options.seed, options.seconds, options.drops, functions_host=options.functions_host))
    report = chaos.run()
    if options.log:
        options.log.write_text("\n".join(chaos.evidence.lines))
    sys.stdout.write(f"{report}\n")
    return 1 if report.violations else 0


if __name__ == "__main__":
    sys.exit(main())
