"""Measures the app's own cost: CPU time per drop of a legal 2 MB JPEG, minus the image work and the bare calls.

All three run in this process, in one thread, in turns; the services are in another process. The bare calls are the
app's, in its order and with its bodies, made with the same SDK and `requests` and nothing around them.
"""

from __future__ import annotations

import contextlib
import os
import uuid
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Any

import requests
from azure.core import MatchConditions
from azure.core.exceptions import ResourceNotFoundError
from azure.identity import ManagedIdentityCredential
from azure.storage.blob import BlobServiceClient, ContentSettings

from benchmarks.drops import SMALL, TWO_MEGABYTES, picture
from benchmarks.processes import cpu_s
from benchmarks.report import Demand, Section, table
from benchmarks.stand_in import ACCOUNT, StandIn
from benchmarks.surroundings import environment, silent_log
from shared.attempt import Attempt
from shared.drop import Drop
from shared.image import normalize_image
from shared.pipeline import process_drop
from shared.services import Services

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable, Mapping

MOST_BEYOND = 0.15
DROPS, QUICK_DROPS = 1_000, 40
BLOCKS = {"image": 5, "bare": 10, "app": 40}
"""How many drops of each kind run in one turn."""
WARM_UP = 5
SETUPS = {"http, account key": False, "https, managed identity (as deployed)": True}


def measure(*, quick: bool) -> dict[str, Any]:
    """Return the CPU time per drop of all three, and the connections and requests of 1,000 drops."""
    content = picture(SMALL if quick else TWO_MEGABYTES)
    drops = QUICK_DROPS if quick else DROPS
    return {"bytes": len(content)} | {name: _measure(content, drops, tls=tls) for name, tls in SETUPS.items()}


def report(figures: Mapping[str, Any]) -> Section:
    """Return the app's cost beyond the minimum."""
    rows, demands = [], []
    for name in SETUPS:
        ms = figures[name]["cpu_ms"]
        beyond = _beyond(ms)
        rows.append([name, *(f"{ms[kind]:.2f}" for kind in ("image", "bare", "app")), f"{beyond:+.1%}"])
        demands.append(Demand(f"warm path, {name}: CPU beyond the image work and the bare calls", beyond, MOST_BEYOND))
        for what in ("connections", "tokens"):
            count = figures[name][what]
            demands.append(Demand(f"warm path, {name}: new {what} in {figures[name]['drops']:,} drops", count, 0))
    head = ["CPU in ms per drop", "image work", "bare calls", "the app, with both", "beyond them"]
    asked = ", ".join(f"{count:g} x {kind}" for kind, count in figures[name]["requests"].items())
    text = (
        f"A legal JPEG of {figures['bytes'] / 1e6:.1f} MB, each on an iTwin of its own. "
        f"Requests of one drop, the first of its iTwin: {asked}.\n\n{table(head, rows)}"
    )
    return Section("Warm path", text, tuple(demands))


def _beyond(ms: Mapping[str, float]) -> float:
    return ms["app"] / (ms["image"] + ms["bare"]) - 1


def _measure(content: bytes, drops: int, *, tls: bool) -> dict[str, Any]:
    with StandIn(tls=tls) as stand_in, environment(stand_in.settings()), silent_log():
        stand_in.put("seed/photo.jpg", content)
        ours = App(Services.from_environ(os.environ))
        peer = Bare(stand_in)
        work: dict[str, Callable[[Drop], object]] = {
            "image": lambda _: normalize_image(content),
            "bare": peer.send,
            "app": ours.send,
        }
        for send in work.values():
            _run(send, _fresh_drops(stand_in, WARM_UP))
        peer.learn(_fresh_drops(stand_in, 1)[0], ours)
        blocks: dict[str, list[float]] = {kind: [] for kind in work}
        asked: list[Counter[str]] = []
        for _ in range(max(1, drops // BLOCKS["app"])):
            for kind, send in work.items():
                block = _fresh_drops(stand_in, BLOCKS[kind])
                before = stand_in.count()
                blocks[kind].append(_run(send, block))
                if kind == "app":
                    asked.append(stand_in.count() - before)
        total = sum(asked[1:], asked[0])
    count = BLOCKS["app"] * len(asked)
    return {
        "drops": count,
        "cpu_ms": {kind: 1_000 * median(seconds) for kind, seconds in blocks.items()},
        "blocks_ms": {kind: [round(1_000 * s, 3) for s in seconds] for kind, seconds in blocks.items()},
        "connections": total.pop("connection", 0),
        "tokens": total.pop("token", 0),
        "requests": {kind: n / count for kind, n in sorted(total.items())},
    }


def _run(send: Callable[[Drop], object], drops: list[Drop]) -> float:
    """Return the CPU seconds per drop, in all processes of the app."""
    began = cpu_s(os.getpid())
    for drop in drops:
        send(drop)
    return (cpu_s(os.getpid()) - began) / len(drops)


def _fresh_drops(stand_in: StandIn, count: int) -> list[Drop]:
    drops = [Drop(str(uuid.uuid4()), "site/camera 1.jpg") for _ in range(count)]
    stand_in.copy("seed/photo.jpg", (f"{drop.container}/{drop.blob}" for drop in drops))
    return drops


@dataclass(frozen=True)
class App:
    """The app, from the blob's name to the result."""

    services: Services

    def send(self, drop: Drop) -> None:
        """Do all that the app does."""
        process_drop(Attempt.event(drop), self.services, invocation_id="0")


def _bare_storage(stand_in: StandIn) -> BlobServiceClient:
    """Open the SDK's client as in its documentation."""
    string = stand_in.settings().get("DropStorage")
    if string:
        return BlobServiceClient.from_connection_string(string)
    return BlobServiceClient(f"{stand_in.address}/{ACCOUNT}", credential=ManagedIdentityCredential())


class Bare:
    """The same requests, with nothing around them."""

    def __init__(self, stand_in: StandIn) -> None:
        self._stand_in = stand_in
        self._storage = _bare_storage(stand_in)
        self._results = self._storage.get_container_client("results")
        self._ledger = self._storage.get_container_client("ledger")
        self._session = requests.Session()
        self._entry = self._document = b"{}"
        self._headers = {"Authorization": "Bearer a", "Content-Type": "image/jpeg"}
        self._as_json = ContentSettings(content_type="application/json")

    def learn(self, drop: Drop, app: App) -> None:
        """Let the app process one drop, and from then on send what it sent."""
        app.send(drop)
        self._document = self._stand_in.get(f"results/{drop.container}/{drop.blob}.json")
        self._entry = self._stand_in.get(f"ledger/{drop.container}.json")

    def send(self, drop: Drop) -> None:
        """Make the calls of one drop."""
        result = self._results.get_blob_client(f"{drop.container}/{drop.blob}.json")
        entry = self._ledger.get_blob_client(f"{drop.container}.json")
        with contextlib.suppress(ResourceNotFoundError):
            result.download_blob().readall()
        content = self._storage.get_blob_client(drop.container, drop.blob).download_blob(max_concurrency=1).readall()
        with contextlib.suppress(ResourceNotFoundError):
            entry.download_blob().readall()
        noted = entry.upload_blob(self._entry, overwrite=False)
        url = f"{self._stand_in.address}/itwins/{drop.container}/image"
        self._session.put(url, data=content, headers=self._headers, timeout=60).raise_for_status()
        condition = {"etag": noted["etag"], "match_condition": MatchConditions.IfNotModified}
        entry.upload_blob(self._entry, overwrite=True, **condition)
        result.upload_blob(self._document, overwrite=False, content_settings=self._as_json)
