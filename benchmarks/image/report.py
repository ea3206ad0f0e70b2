"""Creates the tables of a run, and decides which demands are met."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from benchmarks.image.jobs import ENGINES, LIMIT, MAGICK_ALONE, OURS, POOLED, SHARP
from benchmarks.image.rounds import middle

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from benchmarks.image.jobs import Job

BEGIN, END = "<!-- bench-image: begin -->", "<!-- bench-image: end -->"
_TIMES_IMAGEMAGICK = 5
_ONE_ENCODE_SHARE = 0.95
_ACCEPTED_SHARE = 0.10
_TWO_THREADS = 1.6


@dataclass
class Measured:
    """One job's figures, by engine."""

    job: Job
    runs: dict[str, list[float]] = field(default_factory=dict)
    peak_bytes: dict[str, int] = field(default_factory=dict)
    outputs: dict[str, dict[str, Any]] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)

    def cpu_s(self, engine: str) -> float | None:
        """Return an engine's median."""
        return middle(self.runs.get(engine, []))

    def ratio(self, engine: str, to: str = LIMIT) -> float | None:
        """Return how many times as long an engine took as another."""
        cpu_s, other_s = self.cpu_s(engine), self.cpu_s(to)
        return cpu_s / other_s if cpu_s and other_s else None


@dataclass(frozen=True)
class Demand:
    """One demand, the measured value, and whether it is met; None if it could not be measured."""

    what: str
    wanted: str
    measured: str
    holds: bool | None

    @property
    def verdict(self) -> str:
        """Return the verdict as a word."""
        return {True: "pass", False: "**missed**", None: "not measured"}[self.holds]


@dataclass(frozen=True)
class Corruption:
    """How many harmful files each engine accepts, and how many intact ones it refuses."""

    harmful: int
    sound: int
    accepted: dict[str, int]
    false_alarms: dict[str, int]


@dataclass(frozen=True)
class Others:
    """Other measurements: full encodes by picture, the gain of a second thread by job, and corruptions."""

    full_encodes: list[int] = field(default_factory=list)
    thread_gains: dict[str, float] = field(default_factory=dict)
    corruption: Corruption | None = None


def demands(jobs: Iterable[Measured], others: Others) -> Iterator[Demand]:
    """Yield every demand on the jobs that were run, and on the other measurements."""
    for measured in jobs:
        yield from _job_demands(measured)
    if others.full_encodes:
        share = others.full_encodes.count(1) / len(others.full_encodes)
        yield _at_least(f"share of {len(others.full_encodes)} pictures with one full encode", share, _ONE_ENCODE_SHARE)
    for job, gain in others.thread_gains.items():
        yield _at_least(f"two threads on two cores, block pool, {job}: times the work of one", gain, _TWO_THREADS)
    if others.corruption:
        harmful = others.corruption.harmful
        for engine, accepted in others.corruption.accepted.items():
            if engine.startswith(OURS):
                what = f"share of {harmful} harmful corruptions accepted, {engine}"
                yield _at_most(what, accepted / harmful, _ACCEPTED_SHARE)


def _job_demands(measured: Measured) -> Iterator[Demand]:
    job = measured.job
    if job.most is not None:
        yield _at_most(f"{job.title}: ratio to the limit", measured.ratio(OURS), job.most)
    if job.most_pooled is not None:
        yield _at_most(f"{job.title}: with the block pool", measured.ratio(POOLED), job.most_pooled)
    if job.beats_sharp:
        yield _at_most(f"{job.title}: ratio to sharp", measured.ratio(OURS, SHARP), 1.0)
    if job.is_jpeg:
        what = f"{job.title}: ImageMagick, by itself, takes so many times as long"
        yield _at_least(what, measured.ratio(MAGICK_ALONE, OURS), _TIMES_IMAGEMAGICK)


def _at_most(what: str, value: float | None, bound: float) -> Demand:
    return Demand(what, f"<= {bound:.2f}", _number(value), None if value is None else value <= bound)


def _at_least(what: str, value: float | None, bound: float) -> Demand:
    return Demand(what, f">= {bound:.2f}", _number(value), None if value is None else value >= bound)


def times_table(jobs: Sequence[Measured]) -> str:
    """Return CPU milliseconds and, in brackets, ratios to the limit."""
    return _table(["job", *ENGINES.values()], ([m.job.title, *(_time(m, engine) for engine in ENGINES)] for m in jobs))


def memory_table(jobs: Sequence[Measured]) -> str:
    """Return each engine's peak memory in MB, its interpreter and libraries included."""
    engines = [engine for engine in ENGINES if engine != LIMIT]
    rows = ([m.job.title, *(_megabytes(m.peak_bytes.get(engine)) for engine in engines)] for m in jobs)
    return _table(["job", *(ENGINES[engine] for engine in engines)], rows)


def outputs_table(jobs: Sequence[Measured]) -> str:
    """Return our output, and what is wrong with any engine's output."""
    rows = []
    for measured in jobs:
        ours = measured.outputs.get(OURS)
        if ours:
            quality = f", q{ours['quality']}" if ours["quality"] else ""
            made = f"{ours['width']} x {ours['height']}, {ours['bytes'] / 1e6:.2f} MB{quality}"
            wrong = [
                f"{ENGINES[engine]}: {', '.join(o['wrong'])}" for engine, o in measured.outputs.items() if o["wrong"]
            ]
            rows.append([measured.job.title, made, "; ".join(wrong) or "nothing"])
    return _table(["job", "ours made", "illegal"], rows)


def demands_table(listed: Iterable[Demand]) -> str:
    """Return every demand with its verdict."""
    return _table(["demand", "wanted", "measured", ""], ([d.what, d.wanted, d.measured, d.verdict] for d in listed))


def corruption_table(corruption: Corruption) -> str:
    """Return how many of the harmful corruptions each engine accepts."""
    rows = (
        [engine, f"{accepted} ({100 * accepted / corruption.harmful:.1f} %)", corruption.false_alarms[engine]]
        for engine, accepted in corruption.accepted.items()
    )
    head = ["", f"of {corruption.harmful} harmful ones accepted", f"of {corruption.sound} sound ones refused"]
    return _table(head, rows)


def write_between_markers(path: Path, text: str) -> None:
    """Replace the text between the markers in a file."""
    before, _, rest = path.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    path.write_text(f"{before}{BEGIN}\n\n{text.strip()}\n\n{END}{after}")


def _time(measured: Measured, engine: str) -> str:
    cpu_s, ratio = measured.cpu_s(engine), measured.ratio(engine)
    if cpu_s is None:
        return measured.missing.get(engine, "-")
    if engine == LIMIT or ratio is None:
        return f"{1_000 * cpu_s:.0f}"
    return f"{1_000 * cpu_s:.0f} ({ratio:.2f})"


def _megabytes(amount: int | None) -> str:
    return "-" if amount is None else f"{amount / 1e6:.0f}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)
