"""Measures what the host waits for before it knows the functions, and the additional cost of the first drop.

Every figure is from a fresh interpreter, in turns, and counts only the CPU time of the imports: the interpreter's own
start would make the ratio look better. The first drop uses https with a managed identity, as deployed, and services
that respond at once: network latency is not included.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import uuid
from statistics import median
from typing import TYPE_CHECKING, Any

from benchmarks.drops import SMALL, TWO_MEGABYTES, picture
from benchmarks.processes import cpu_s
from benchmarks.report import Demand, Section, table
from benchmarks.stand_in import StandIn

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

MOST_RATIO = 1.15
ROUNDS, QUICK_ROUNDS = 15, 1
FIRST_DROPS, QUICK_FIRST_DROPS = 7, 1
IMPORTS = {
    "the two libraries that the worker needs": "import azure.functions, azurefunctions.extensions.bindings.blob",
    "function_app, until its functions are known": "import function_app; function_app.app.get_functions()",
}
BARE, OURS = IMPORTS
_TIMED = """
import json, sys, time
connections = []
sys.addaudithook(lambda event, _: connections.append(event) if event == "socket.connect" else None)
began = time.process_time()
{}
cpu_s = time.process_time() - began
print(json.dumps({{"cpu_s": cpu_s, "connections": len(connections), "modules": sorted(sys.modules)}}))
"""
BLOB = "site/camera 1.jpg"


def measure(*, quick: bool) -> dict[str, Any]:
    """Return the cost of the imports, and that of the first drop."""
    seen: dict[str, list[dict[str, Any]]] = {name: [] for name in IMPORTS}
    for _ in range(QUICK_ROUNDS if quick else ROUNDS):
        for name, code in IMPORTS.items():
            seen[name].append(_run(["-c", _TIMED.format(code)], dict(os.environ)))
    name = SMALL if quick else TWO_MEGABYTES
    with StandIn(tls=True) as stand_in:
        stand_in.put("seed/photo.jpg", picture(name))
        environment = {**os.environ, **stand_in.settings()}
        first = []
        for _ in range(QUICK_FIRST_DROPS if quick else FIRST_DROPS):
            containers = [str(uuid.uuid4()) for _ in range(3)]
            stand_in.copy("seed/photo.jpg", (f"{container}/{BLOB}" for container in containers))
            first.append(_run(["-m", "benchmarks.cold_start", name, *containers], environment))
    extra = set(seen[OURS][0]["modules"]) - set(seen[BARE][0]["modules"])
    return {
        "cpu_ms": {name: 1_000 * median(run["cpu_s"] for run in runs) for name, runs in seen.items()},
        "rounds_ms": {name: [round(1_000 * run["cpu_s"], 1) for run in runs] for name, runs in seen.items()},
        "extra_modules": sorted(extra),
        "connections": max(run["connections"] for run in seen[OURS]),
        "first_drop_ms": {step: 1_000 * median(run[step] for run in first) for step in first[0]},
    }


def report(figures: Mapping[str, Any]) -> Section:
    """Compare indexing with its libraries, and list the cost of the first drop."""
    ms = figures["cpu_ms"]
    extra = figures["extra_modules"]
    rows = [[name, f"{ms[name]:.0f}", f"{ms[name] / ms[BARE]:.2f}"] for name in IMPORTS]
    steps = [[step, f"{step_ms:.1f}"] for step, step_ms in figures["first_drop_ms"].items()]
    text = (
        f"{table(['imported', 'CPU in ms', 'ratio'], rows)}\n\n"
        f"Modules that indexing imports beyond those of the two libraries: {', '.join(extra) or 'none'}.\n\n"
        f"{table(['what the first drop pays, https and managed identity', 'CPU in ms'], steps)}"
    )
    return Section(
        "Cold start",
        text,
        (
            Demand("cold start: indexing, ratio to its two libraries", ms[OURS] / ms[BARE], MOST_RATIO),
            Demand(
                "cold start: modules imported beyond theirs and function_app", len(set(extra) - {"function_app"}), 0
            ),
            Demand("cold start: connections opened at indexing", figures["connections"], 0),
        ),
    )


def _run(arguments: list[str], environment: Mapping[str, str]) -> dict[str, Any]:
    command = [sys.executable, *arguments]
    said = subprocess.run(  # noqa: S603 - our own programs
        command, env=dict(environment), stdout=subprocess.PIPE, check=True
    ).stdout
    return dict(json.loads(said.splitlines()[-1]))


def pay_step_by_step(name: str, *containers: str) -> dict[str, float]:
    """Return the CPU seconds of each step of a first drop; one-time cost is the first time minus the second."""
    paid: dict[str, float] = {}

    def pay(step: str, act: Callable[[], Any]) -> Any:
        began = cpu_s(os.getpid())
        result = act()
        paid[step] = cpu_s(os.getpid()) - began
        return result

    def soon() -> float:
        return time.monotonic() + 60

    import function_app  # noqa: F401, PLC0415 - imported during indexing already

    def import_what_a_drop_needs() -> None:
        from shared import deliveries  # noqa: F401, PLC0415 - measured

    pay("importing the app's own modules", import_what_a_drop_needs)
    from shared.attempt import Attempt  # noqa: PLC0415
    from shared.drop import Drop  # noqa: PLC0415
    from shared.pipeline import process_drop  # noqa: PLC0415
    from shared.services import Services  # noqa: PLC0415

    services = pay("reading the settings, opening the clients", lambda: Services.from_environ(os.environ))
    app = services.app()
    first, second, third = (Drop(container, BLOB) for container in containers)
    data = picture(name)
    pay("storage: token, TLS, first request", lambda: services.results.read(first))
    pay("a second request", lambda: services.results.read(second))
    image = pay("starting what decodes, first image", lambda: app.normalize(data))
    pay("a second image", lambda: app.normalize(data))
    pay("platform: token, TLS, first upload", lambda: app.platform.upload_image(first.container, image, soon()))
    pay("a second upload", lambda: app.platform.upload_image(second.container, image, soon()))
    pay("the first of the rest", lambda: process_drop(Attempt.event(second), services))
    pay("a warm drop", lambda: process_drop(Attempt.event(third), services))
    once = {
        "importing the app's own modules": paid["importing the app's own modules"],
        "reading the settings, opening the clients": paid["reading the settings, opening the clients"],
        "storage: token and TLS": paid["storage: token, TLS, first request"] - paid["a second request"],
        "image: starting what decodes": paid["starting what decodes, first image"] - paid["a second image"],
        "platform: token and TLS": paid["platform: token, TLS, first upload"] - paid["a second upload"],
        "first use of the other calls": paid["the first of the rest"] - paid["a warm drop"],
    }
    return {**once, "all that is paid once": sum(once.values()), "a warm drop": paid["a warm drop"]}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(pay_step_by_step(*sys.argv[1:])) + "\n")
