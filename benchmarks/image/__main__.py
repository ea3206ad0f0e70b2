"""The order of a run: make the pictures, measure each job in interleaved rounds, then memory, and write it down."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks.image import report, rounds
from benchmarks.image.jobs import ENGINES, JOBS, OURS, Job
from benchmarks.image.report import Measured
from benchmarks.image.rounds import Worker

_CACHE = Path(".local/bench")
_README = Path("benchmarks/README.md")


def main() -> None:
    """Run what was asked for."""
    asked = _arguments()
    rounds.pin()
    made = _made(_CACHE / "inputs", asked.photos)
    measured = [_measure(job, asked.engine, asked.rounds, memory=asked.memory) for job in JOBS if job.name in asked.job]
    text = "\n\n".join(_sections(measured, {}, made))
    sys.stdout.write(text + "\n")
    if asked.write:
        report.write_between_markers(_README, text)


def _measure(job: Job, engines: list[str], count: int, *, memory: bool) -> Measured:
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
    """Let ours do it first; return what the peers are told."""
    job = measured.job
    with Worker(OURS, _CACHE / "outputs") as worker:
        answer = _warm_up(worker, request | {"told": None})
        if "error" in answer:
            sys.stderr.write(f"{job.name}: ours: {answer['error']}\n")
            return None
        _save(worker, job)
    (facts,) = _judge(job, [OURS]).values()
    return {key: facts[key] for key in ("width", "height", "quality", "media_type")}


def _warm_up(worker: Worker, request: dict[str, Any]) -> dict[str, Any]:
    return worker.ask("prepare", **request) or worker.ask("run")


def _save(worker: Worker, job: Job) -> bool:
    return not worker.ask("save", path=_output(job, worker.engine))


def _judge(job: Job, engines: list[str]) -> dict[str, dict[str, Any]]:
    paths = [str(_output(job, engine)) for engine in (OURS, *engines)]
    command = [sys.executable, "-m", "benchmarks.image.outputs", *paths]
    judged = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)  # noqa: S603 - our own
    return dict(zip(engines, judged[1:], strict=True))


def _output(job: Job, engine: str) -> Path:
    return (_CACHE / "outputs" / f"{job.name}.{engine}").absolute()


def _made(folder: Path, photos: Path) -> dict[str, Any]:
    (_CACHE / "outputs").mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "benchmarks.image.inputs", str(folder), str(photos)]
    return dict(json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout))  # noqa: S603 - our own


def _sections(measured: list[Measured], others: dict[str, Any], made: dict[str, Any]) -> list[str]:
    return [
        f"Measured {time.strftime('%Y-%m-%d')}",
        report.times_table(measured),
        report.memory_table(measured),
        report.outputs_table(measured),
        report.demands_table(report.demands(measured, others)),
    ]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.image", description=__doc__)
    parser.add_argument("--job", nargs="*", default=[job.name for job in JOBS], choices=[job.name for job in JOBS])
    parser.add_argument("--engine", nargs="*", default=list(ENGINES), choices=list(ENGINES))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--photos", type=Path, default=_CACHE / "photos")
    parser.add_argument("--memory", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--write", action="store_true", help="write the tables into benchmarks/README.md")
    return parser.parse_args()


if __name__ == "__main__":
    main()
