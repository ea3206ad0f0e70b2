"""Writes docs/limits-and-errors.md out of the code: `make docs`. A test holds the page against it."""

from __future__ import annotations

import inspect
import re
from typing import TYPE_CHECKING

from local.drops import MAX_BLOB_NAME
from local.processes import PROJECT
from shared import drop, errors, retries
from shared.errors import DropError, InvalidSettings, NeedsOperator, NeedsTime, Rejected
from shared.image import ImageLimits, model
from shared.image.formats import FORMATS
from shared.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

PAGE = PROJECT / "docs" / "limits-and-errors.md"
ENOUGH = {"DropStorage": "AccountName=a;AccountKey=b", "ITWIN_TOKEN_SCOPE": "api://x/.default"}


def write_page() -> None:
    """Write the page."""
    PAGE.write_text(page(), encoding="utf-8")


def page() -> str:
    """Return the page as it must be."""
    limits, settings = ImageLimits(), Settings.from_environ(ENOUGH)
    ignored = ", ".join(f"`{name}`" for name in (*drop.HOUSEKEEPING_NAMES, "*.part..."))
    reserved = ", ".join(f"`{name}`" for name in drop.RESERVED_CONTAINERS)
    return f"""\
# Limits and errors

Made of the code by `make docs`; whatever is changed here by hand is found by a test.

## What may come

{_table(("format", "what becomes of it", "pixels at most", "bytes at most"), _formats())}
Each is known by its content; names and media types do not matter. Some images weigh more than others of their format,
and fewer of their pixels are read; `TooManyPixels` says how many. A smaller `MAX_SOURCE_PIXELS` holds for all of them.
Of several pictures in a file the first is taken. Anything else is refused with what it is and what to send instead.

A blob may be called anything of up to {MAX_BLOB_NAME:,} characters. These names are ignored, whatever their case:
{ignored}.
So are empty blobs that stand for folders, and the containers {reserved} and that of the results.

## What leaves

A JPEG or PNG of at most {limits.max_output_bytes:,} bytes and at most {limits.max_aspect_ratio}:1,
upright, without metadata; of at most `MAX_OUTPUT_PIXELS` where it had to be encoded anew.
`sent.changes` says what was done, in this order:

{_table(("change", "what was done"), _changes())}
## What can be set

{_table(("setting", "default", "what it may be"), _settings())}
## What can go wrong

`error.code` in a result is one of these, or the iTwin Platform's own code where it sent an error of its own.
`reason` says in words what to do; what an operator can do stands in the [runbook](runbook.md) too.

### The uploader can fix it: `rejected` at once

{_table(("code", "what happened"), _errors(Rejected))}
### Time can fix it: `retrying`

Tried again after what the platform says (Retry-After), else after `RETRY_MIN_DELAY_S`
({settings.retries.min_delay_s}) and more seconds, up to `RETRY_MAX_DELAY_S`.
After `RETRY_HORIZON_S` the drop is `failed`.

{_table(("code", "what happened"), _errors(NeedsTime))}
### The operator can fix it: `retrying`

Tried again in the same way, {retries.OPERATOR_FACTOR} times as slowly at first.

{_table(("code", "what happened"), _errors(NeedsOperator))}
### The app is at fault: `failed`

{_table(("code", "what happened"), _errors(errors.Bug))}"""


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def _formats() -> Iterator[tuple[str, ...]]:
    most_read = Settings.from_environ(ENOUGH).max_source_bytes
    for kind in FORMATS:
        leaves = "passed on as it is where it is legal" if kind.passer else "converted"
        yield kind.name, leaves, f"{kind.max_pixels:,}", f"{min(kind.max_bytes, most_read):,}"


def _changes() -> Iterator[tuple[str, ...]]:
    """Read what stands beside each change in the model."""
    source = inspect.getsource(model).partition("Change = Literal[")[2].partition("\n]")[0]
    for change, meaning in re.findall(r'"([\w-]+)",\s+# (.*)', source):
        yield f"`{change}`", meaning


def _settings() -> Iterator[tuple[str, ...]]:
    settings = Settings.from_environ(ENOUGH)
    defaults = {
        "MAX_SOURCE_BYTES": settings.max_source_bytes,
        "MAX_SOURCE_PIXELS": settings.limits.max_source_pixels,
        "MAX_OUTPUT_PIXELS": settings.limits.max_output_pixels,
        "ASPECT_POLICY": settings.limits.aspect_policy,
        "ITWIN_TIMEOUT_S": settings.timeout_s,
        "RETRY_MIN_DELAY_S": settings.retries.min_delay_s,
        "RETRY_MAX_DELAY_S": settings.retries.max_delay_s,
        "RETRY_HORIZON_S": settings.retries.horizon_s,
    }
    for name, default in defaults.items():
        yield f"`{name}`", f"{default:,}" if isinstance(default, int) else f"`{default}`", _legal_values(name)


def _legal_values(name: str) -> str:
    """Return what the app itself says when the setting is wrong."""
    try:
        Settings.from_environ({**ENOUGH, name: "-"})
    except InvalidSettings as error:
        (problem,) = error.problems
        legal = problem.partition("expected ")[2].rstrip(".")
        return re.sub(r"\d+", lambda number: f"{int(number[0]):,}", legal)
    raise AssertionError(name)


def _errors(base: type[DropError]) -> Iterator[tuple[str, ...]]:
    children = base.__subclasses__()
    if not children:
        yield f"`{base.__name__}`", (inspect.getdoc(base) or "").partition("\n")[0]
    for child in children:
        if child.__module__ == errors.__name__:
            yield from _errors(child)


if __name__ == "__main__":
    write_page()
