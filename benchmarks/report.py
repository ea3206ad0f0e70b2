"""Turns figures into tables, and checks demands against their bounds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

BEGIN, END = "<!-- bench: begin -->", "<!-- bench: end -->"


@dataclass(frozen=True)
class Demand:
    """One demand: the measured value may be at most, or must be at least, a bound."""

    what: str
    measured: float
    most: float | None = None
    least: float | None = None

    @property
    def holds(self) -> bool:
        """Whether it is met; the bound itself is allowed."""
        within = self.most is None or self.measured <= self.most
        return within and (self.least is None or self.measured >= self.least)

    @property
    def wanted(self) -> str:
        """Return the bound."""
        return f"<= {self.most:g}" if self.most is not None else f">= {self.least:g}"


@dataclass(frozen=True)
class Section:
    """The report of one benchmark."""

    title: str
    text: str
    demands: tuple[Demand, ...]


def demands_table(demands: Iterable[Demand]) -> str:
    """Return every demand with its verdict."""
    rows = ([d.what, d.wanted, f"{d.measured:.3g}", "pass" if d.holds else "**missed**"] for d in demands)
    return table(["demand", "wanted", "measured", ""], rows)


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def write_between_markers(path: Path, text: str) -> None:
    """Replace the text between the markers in a file."""
    before, _, rest = path.read_text("utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    path.write_text(f"{before}{BEGIN}\n\n{text.strip()}\n\n{END}{after}", "utf-8")


def between_markers(path: Path) -> str:
    """Return the text between the markers in a file."""
    return path.read_text("utf-8").partition(BEGIN)[2].partition(END)[0].strip()
