"""What a check found, and how a report reads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Verdict = Literal["works", "fails", "not checked"]


@dataclass(frozen=True)
class Finding:
    """What one check found, in a sentence or two; if it fails, with what to do."""

    subject: str
    verdict: Verdict
    text: str

    def __str__(self) -> str:
        return f"[{self.verdict}] {self.subject}: {self.text}"


@dataclass(frozen=True)
class Report:
    """All findings, in the order in which they matter to a drop."""

    findings: tuple[Finding, ...]

    @property
    def is_good(self) -> bool:
        """Whether nothing fails."""
        return all(finding.verdict != "fails" for finding in self.findings)

    def __str__(self) -> str:
        good, bad = "Everything that was checked works.", "Fix the failures before dropping images."
        return "\n".join([*map(str, self.findings), "", good if self.is_good else bad, ""])


class CheckFailed(Exception):
    """The check failed; the message says why and what to do."""


class NotChecked(Exception):
    """The check could not be made; the message says why."""
