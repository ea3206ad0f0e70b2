"""The order of a run: create the pictures, measure each job in interleaved rounds, then memory, and store the figures.

A run may be split into parts, each while the machine is quiet: `--write` writes what was measured now, and what an
earlier part measured of the rest.
"""

from __future__ import annotations

import argparse
import json
import os
import pickle
import platform
import re
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.image import report, rounds
from benchmarks.image.jobs import ENGINES, JOBS, LIBVIPS, MAGICK, OURS, PLAIN, SHARP, Job
from benchmarks.image.report import Corruption, Measured, Others
from benchmarks.image.rounds import Worker

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_CACHE = Path(".local/bench")
_PIECES = _CACHE / "pieces"
_README = Path("benchmarks/README.md")


def main() -> None:
    """Run what was asked for, or everything."""
    asked = _arguments()
    rounds.pin()
    load = "" if not hasattr(os, "getloadavg") else f", load {os.getloadavg()[0]:.1f} before"
    (_CACHE / "outputs").mkdir(parents=True, exist_ok=True)
    made = _run("inputs", _CACHE / "inputs", asked.photos)
    _PIECES.mkdir(parents=True, exist_ok=True)
    versions: dict[str, str] = _recall("versions") or {}
    for job in JOBS:
        if job.name in asked.job:
            _keep(job.name, _measure(job, asked.engine, asked.rounds, versions, memory=asked.memory))
    _keep("versions", versions)
    if asked.others:
        _keep("others", _others(asked.photos))
    shown = [job.name for job in JOBS] if asked.write else asked.job
    measured = [piece for piece in map(_recall, shown) if piece]
    others = _recall("others") if asked.others or asked.write else None
    machine = f"{time.strftime('%Y-%m-%d')}, Python {platform.python_version()}, {_processor()}{load}"
    text = "\n\n".join(_sections(measured, others or Others(), versions, machine=machine, photos=made["photos"]))
    sys.stdout.write(text + "\n")
    if asked.write:
        report.write_between_markers(_README, text)


def _keep(name: str, piece: object) -> None:
    (_PIECES / name).write_bytes(pickle.dumps(piece))


def _recall(name: str) -> Any:
    """Return the figures stored by this program on this machine, or None."""
    path = _PIECES / name
    return pickle.loads(path.read_bytes()) if path.exists() else None  # noqa: S301 - our own file, as above


def _measure(job: Job, engines: list[str], count: int, versions: dict[str, str], *, memory: bool) -> Measured:
    measured = Measured(job)
    source = _CACHE / "inputs" / job.source
    if not source.exists():
        measured.missing = dict.fromkeys(engines, "no picture")
        return measured
    request = {"job": job.as_json(), "source": source}
    told = _tell(measured, request)
    with ExitStack() as stack:
        workers = {engine: stack.enter_context(Worker(engine, _CACHE / "outputs")) for engine in engines}
        for engine, worker in workers.items():
            versions[engine] = worker.said.get("version", "not installed")
            answer = worker.said if worker.is_missing else _warm_up(worker, request | {"told": told})
            reason = answer.get("missing") or answer.get("error")
            if reason:
                measured.missing[engine] = "not installed" if worker.is_missing else "cannot"
                sys.stderr.write(f"{job.name}: {engine}: {reason}\n")
        able = {engine: worker for engine, worker in workers.items() if engine not in measured.missing}
        measured.runs = rounds.interleave(able, count)
        if told and not job.passes:
            measured.outputs = _judge(job, [engine for engine in able if _save(able[engine], job)])
    if memory:
        for engine in able:
            with Worker(engine, _CACHE / "outputs") as worker:
                measured.peak_bytes[engine] = _warm_up(worker, request | {"told": told}).get("peak_bytes", 0)
    sys.stderr.write(f"{report.times_table([measured]).splitlines()[-1]}\n")
    return measured


def _tell(measured: Measured, request: dict[str, Any]) -> dict[str, Any] | None:
    """Let our engine do it first; return what the peers are told."""
    job = measured.job
    with Worker(OURS, _CACHE / "outputs") as worker:
        answer = _warm_up(worker, request | {"told": None})
        if "error" in answer:
            sys.stderr.write(f"{job.name}: ours: {answer['error']}\n")
            return None
        _save(worker, job)
    (facts,) = _judge(job, [OURS]).values()
    return {key: facts[key] for key in ("width", "height", "quality", "media_type", "sampling")}


def _warm_up(worker: Worker, request: dict[str, Any]) -> dict[str, Any]:
    return worker.ask("prepare", **request) or worker.ask("run")


def _save(worker: Worker, job: Job) -> bool:
    return not worker.ask("save", path=_output(job, worker.engine))


def _judge(job: Job, engines: list[str]) -> dict[str, dict[str, Any]]:
    judged = _run("outputs", *(_output(job, engine) for engine in (OURS, *engines)))
    return dict(zip(engines, judged[1:], strict=True))


def _output(job: Job, engine: str) -> Path:
    return (_CACHE / "outputs" / f"{job.name}.{engine}").absolute()


def _others(photos: Path) -> Others:
    corpus = [Path(path) for path in _run("corruption", _CACHE / "corpus", photos)]
    accepted, false_alarms = {}, {}
    harmful = [path for path in corpus if path.name.startswith("harmful")]
    sound = [path for path in corpus if path.name.startswith("sound")]
    for name, (engine, limits) in _VERIFIERS.items():
        with Worker(engine, _CACHE / "outputs") as worker:
            if not worker.is_missing:
                accepted[name] = sum(_accepts(worker, path, limits) for path in harmful)
                false_alarms[name] = sum(not _accepts(worker, path, limits) for path in sound)
    full_encodes = _run("encodes", photos)
    gains = {}
    if rounds.pin(2):
        jobs = {str(_CACHE / "inputs" / job.source): job.title for job in JOBS if job.name in _THREADED}
        gains = {jobs[path]: gain for path, gain in _run("threads", *jobs, environment=rounds.POOL_FOR_TWO).items()}
    return Others(full_encodes, gains, Corruption(len(harmful), len(sound), accepted, false_alarms))


_THREADED = {"pass-jpeg", "shrink-jpeg", "turn-jpeg"}
_VERIFIERS: dict[str, tuple[str, dict[str, Any]]] = {
    "ours, passing": (OURS, {}),
    "ours, re-encoding": (OURS, {"max_aspect_ratio": 1}),
    "Pillow, `load()`": (PLAIN, {}),
    "libvips, `fail_on=warning`": (LIBVIPS, {}),
    "sharp, `failOn: warning`": (SHARP, {}),
    "ImageMagick, `-regard-warnings`": (MAGICK, {}),
}


def _accepts(worker: Worker, path: Path, limits: dict[str, Any]) -> bool:
    job = Job("corruption", "", path.name, passes=True).as_json() | {"limits": limits}
    return "error" not in _warm_up(worker, {"job": job, "source": path, "told": None})


def _run(module: str, *arguments: object, environment: Mapping[str, str] | None = None) -> Any:
    """Run one of the modules in a process of its own, with additional environment variables; return its output."""
    command = [sys.executable, "-m", f"benchmarks.image.{module}", *map(str, arguments)]
    variables = {**os.environ, **(environment or {})}
    return json.loads(subprocess.run(command, stdout=subprocess.PIPE, env=variables, check=True).stdout)  # noqa: S603 - our own


def _sections(
    measured: list[Measured], others: Others, versions: dict[str, str], *, machine: str, photos: list[str]
) -> Iterator[str]:
    yield f"Measured {machine}."
    yield f"Pictures: {'from the photos ' + ', '.join(photos) if photos else 'drawn, as no photos were there'}."
    yield "; ".join(f"{ENGINES[engine]}: {version}" for engine, version in versions.items()) + "."
    yield "### CPU time in ms, and its ratio to the limit"
    yield report.times_table(measured)
    if any(m.peak_bytes for m in measured):
        yield "### Peak memory in MB, with interpreter and libraries"
        yield report.memory_table(measured)
    yield "### What came out"
    yield report.outputs_table(measured)
    if others.corruption:
        yield "### Harmful corruptions"
        yield report.corruption_table(others.corruption)
    yield "### What is demanded"
    yield report.demands_table(report.demands(measured, others))


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    names = re.findall(r"model name\s*: (.*)", cpuinfo.read_text()) if cpuinfo.exists() else []
    return str(names[0]) if names else platform.processor()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.image", description=__doc__)
    parser.add_argument("--job", nargs="*", default=[job.name for job in JOBS], choices=[job.name for job in JOBS])
    parser.add_argument("--engine", nargs="*", default=list(ENGINES), choices=list(ENGINES))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--photos", type=Path, default=_CACHE / "photos")
    parser.add_argument("--memory", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--others", action="store_true", help="corruptions, full encodes and threads too")
    parser.add_argument("--write", action="store_true", help="write the tables into benchmarks/README.md")
    return parser.parse_args()


if __name__ == "__main__":
    main()
