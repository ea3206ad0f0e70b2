"""`make demo`: different images go all the way through the local cloud, and a table shows what happened to each."""

from __future__ import annotations

import hashlib
import json
import sys
import tempfile
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from local.cloud import LocalCloud
from local.commands.running import cloud_errors_explained
from local.processes import PROJECT
from local.samples import make_samples
from local.terminal import say

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Mapping

OUTPUT = PROJECT / ".local" / "demo"
RESULT_TIMEOUT_S = 60.0


@dataclass(frozen=True)
class Step:
    """One drop of the demo: what is dropped where, how it must end, and the expected changes (None: not an image)."""

    file: str
    itwin: str
    changes: tuple[str, ...] | None
    status: str = "uploaded"
    error_code: str | None = None


PHONE_CHANGES = ("oriented", "recompressed", "metadata-removed")
STEPS = (
    Step("phone.jpg", "Town Hall", PHONE_CHANGES),
    Step("logo.png", "Harbour", ()),
    Step("scan.tif", "Archive", ("converted",)),
    Step("render.webp", "Library", ("converted",)),
    Step("panorama.jpg", "Ring Road", ("padded", "recompressed")),
    Step("drone.jpg", "Quarry", ("recompressed",)),
    Step("notes.jpg", "School", None, "rejected", "UnsupportedFormat"),
    Step("phone.jpg", "(unknown)", PHONE_CHANGES, "rejected", "iTwinNotFound"),
)


@dataclass(frozen=True)
class Outcome:
    """The outcome of a step: the result document, and the picture that the platform now has."""

    step: Step
    itwin_id: str
    document: Mapping[str, Any]
    picture: tuple[bytes, str] | None

    @property
    def as_expected(self) -> bool:
        """Whether it ended as it must, and the platform has exactly what the result says was sent."""
        step, sent = self.step, self.document["sent"]
        error = self.document.get("error") or {}
        shown = hashlib.sha256(self.picture[0]).hexdigest() if self.picture else None
        return (
            (self.document["status"], error.get("code")) == (step.status, step.error_code)
            and (tuple(sent["changes"]) if sent else None) == step.changes
            and shown == (sent["sha256"] if step.status == "uploaded" else None)
        )


def drop_samples(steps: Iterable[Step]) -> list[Outcome]:
    """Drop the samples of all steps at once and wait for their results. Raises LocalCloudError."""
    samples = make_samples()
    with LocalCloud() as cloud:
        dropped = {}
        for step in steps:
            itwin_id = str(uuid.uuid4()) if step.error_code == "iTwinNotFound" else cloud.itwin(display_name=step.itwin)
            dropped[step] = cloud.drop(itwin_id, step.file, samples[step.file])
        return [
            Outcome(
                step,
                drop.itwin_id,
                cloud.result(drop, timeout_s=RESULT_TIMEOUT_S),
                cloud.platform.image(drop.itwin_id),
            )
            for step, drop in dropped.items()
        ]


def keep(outcomes: list[Outcome], folder: Path) -> Path:
    """Write every result and uploaded picture into the folder, or a temporary one instead, and return which."""
    try:
        _write(outcomes, folder)
    except OSError as error:
        instead = Path(tempfile.mkdtemp(prefix="itwin-image-drop-"))
        say(f"{folder} cannot be used ({error.strerror}), so {instead} is used instead.", sys.stderr)
        _write(outcomes, instead)
        return instead
    return folder


def _write(outcomes: list[Outcome], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.iterdir():
        old.unlink()
    for outcome in outcomes:
        name = folder / f"{outcome.step.itwin.strip('()').replace(' ', '-').lower()}.{outcome.step.file}"
        text = json.dumps(outcome.document, ensure_ascii=False, indent=2)
        name.with_name(f"{name.name}.json").write_text(text, encoding="utf-8", errors="backslashreplace")
        if outcome.picture:
            content, media_type = outcome.picture
            name.with_name(f"{name.name}.uploaded.{media_type.removeprefix('image/')}").write_bytes(content)


def show(outcomes: list[Outcome], console: Console) -> None:
    """Print drop -> status -> what was changed -> reason."""
    table = Table("drop", "iTwin", "status", "before", "after", "changes", "reason")
    for outcome in outcomes:
        document = outcome.document
        colour = "green" if document["status"] == "uploaded" else "yellow"
        table.add_row(
            outcome.step.file,
            outcome.step.itwin,
            f"[{colour}]{document['status']}[/]" + ("" if outcome.as_expected else " [red](unexpected)[/]"),
            _extent(document["source"]),
            _extent(document["sent"]),
            ", ".join(document["sent"]["changes"]) or "none" if document["sent"] else "",
            document["reason"] or "",
        )
    console.print(table)


def _extent(part: Mapping[str, Any] | None) -> str:
    if not part:
        return ""
    size = f"{part['bytes'] / 1000:,.0f} kB"
    return f"{size}, {part['width']} x {part['height']}" if part["width"] else size


@cloud_errors_explained()
def run(_: argparse.Namespace) -> int:
    """Return 0 only when every drop ended as it should. Raises LocalCloudError."""
    return perform(STEPS, OUTPUT)


def perform(steps: Iterable[Step], folder: Path) -> int:
    """Drop the samples, keep their outcomes in the folder, and print them; 1 if any drop ended unexpectedly."""
    outcomes = drop_samples(steps)
    kept_in = keep(outcomes, folder)
    console = Console() if sys.stdout.isatty() else Console(width=160)
    show(outcomes, console)
    say(f"Results and uploaded pictures: {kept_in}")
    return 0 if all(outcome.as_expected for outcome in outcomes) else 1
