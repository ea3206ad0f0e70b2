"""Generates docs/limits-and-errors.md from the code: `make docs`. A test compares the two."""

from __future__ import annotations

import argparse
import inspect
import re
from typing import TYPE_CHECKING

from client.itwin_image_drop import MAX_BLOB_NAME
from local.processes import PROJECT
from shared import decisions, drop, errors
from shared.errors import DropError, InvalidSettings, NeedsOperator, NeedsTime, Rejected
from shared.image import ImageLimits, model
from shared.image.formats.dng import LEAST_SIDE
from shared.image.formats.recognition import FORMATS
from shared.image.refusals import LONGEST_SIDE
from shared.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

PAGE = PROJECT / "docs" / "limits-and-errors.md"
ENOUGH = {
    "DropStorage": "AccountName=a;AccountKey=b",
    "ITWIN_LOGIN": "client-credentials",
    "ITWIN_CLIENT_ID": "a",
    "ITWIN_SECRET_URL": "https://kv.vault.azure.net/secrets/b",
}


def write_page() -> None:
    """Write the page."""
    PAGE.write_text(page(), encoding="utf-8")


def page() -> str:
    """Return the page's expected content."""
    limits, settings = ImageLimits(), Settings.from_environ(ENOUGH)
    ignored = ", ".join(f"`{name}`" for name in (*drop.HOUSEKEEPING_NAMES, "*.part", "*.partial", "*.part<n>"))
    folders = ", ".join(f"`{name}/`" for name in drop.HOUSEKEEPING_FOLDERS)
    reserved = ", ".join(f"`{name}`" for name in drop.RESERVED_CONTAINERS)
    return f"""\
# Limits and errors

Generated from the code by `make docs`; a test rejects manual edits.

## Accepted input

{_table(("format", "treatment", "pixel limit"), _formats())}
Formats are recognized by content; names and media types do not matter. Some images need more memory than others of the
same format, so their pixel limit is lower; `TooManyPixels` says how many are accepted. A smaller `MAX_SOURCE_PIXELS`
applies to all formats. No side may have more than {LONGEST_SIDE:,} pixels, no file more bytes than `MAX_SOURCE_BYTES`.
If a file contains several pictures, the first one is used; in a TIFF, a thumbnail that precedes the picture is skipped.
Anything else is rejected, and the result says what the file is and what to send instead.

A blob's name may have up to {MAX_BLOB_NAME:,} characters. These names are ignored, regardless of case:
{ignored};
and everything in {folders}.
Empty blobs that represent folders, the containers {reserved}, and the results container are ignored too.

## Output

A JPEG or PNG of at most {limits.max_output_bytes:,} bytes and at most {limits.max_aspect_ratio}:1,
upright, without metadata, and of at most `MAX_OUTPUT_PIXELS` if it had to be re-encoded.
`sent.changes` lists what was done, in this order:

{_table(("change", "what was done"), _changes())}
Colours are preserved as the file describes them. An ICC profile is sent with the picture, or applied if it has more
than 1 MB. Without one, the colour description of a HEIC, AVIF (`nclx`, or their stream's), PNG (`cICP`, `gAMA`,
`cHRM`), TIFF (primaries, transfer function) or BMP becomes a profile; so does Adobe RGB that only EXIF states, even if
the pixels of a JPEG or PNG stay untouched.
HDR (PQ and HLG) is tone-mapped: 203 cd/m² becomes white, and brighter parts are rolled off by the curve of ITU-R
BT.2390. The narrow range of a PNG's `cICP` is ignored.

Damaged pixels are rejected as `CorruptImage` if they can be told from intact ones. That is not possible where nothing
is compressed (most BMP and some TIFF files), and for about 6 % of the visible errors in the pixels of a JPEG, also
within a TIFF. If a transfer in text mode has damaged a JPEG in few places, only the damage is reported, not its cause.

## Settings

{_table(("setting", "default", "allowed"), _settings())}
## Errors

`error.code` in a result is one of these, or the iTwin Platform's own code if the platform sent an error.
`reason` says in words what to do; the [runbook](runbook.md) has more for operators.

### The uploader can fix it: `rejected` at once

{_table(("code", "what happened"), _errors(Rejected))}
### Nobody needs to act: `retrying`

These are retried when the platform says (Retry-After), otherwise after `RETRY_MIN_DELAY_S`
({settings.retries.min_delay_s} seconds), then after longer and longer delays. After a Retry-After, retries are
spread over an additional half of that time. No delay is longer than `RETRY_MAX_DELAY_S`.
After `RETRY_HORIZON_S` the drop is `failed`; with `ITwinNotFound` it is `rejected`, `RETRY_NOT_FOUND_S` after
the first 404, regardless of what it had to wait for before.

{_table(("code", "what happened"), _errors(NeedsTime))}
### The operator can fix it: `retrying`

These are retried in the same way, but the first delays are {decisions.OPERATOR_FACTOR} times as long.

{_table(("code", "what happened"), _errors(NeedsOperator))}
### The app is at fault: `failed`

A drop on which the app fails five times in a row is retried twice, as `AttemptsInterrupted`, before it fails.

{_table(("code", "what happened"), _errors(errors.Bug))}"""


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def _formats() -> Iterator[tuple[str, ...]]:
    for kind in FORMATS:
        treatment = "its pixels stay untouched if the API accepts them" if kind.passer else "converted"
        if kind.name == "TIFF":
            treatment = f"converted; a DNG's largest JPEG preview is used, if it has at least {LEAST_SIDE:,} pixels"
        yield kind.name, treatment, f"{kind.max_pixels:,}"


def _changes() -> Iterator[tuple[str, ...]]:
    """Read the comment beside each change in the model."""
    source = inspect.getsource(model).partition("Change = Literal[")[2].partition("\n]")[0]
    for change, meaning in re.findall(r'"([\w-]+)",\s+# (.*)', source):
        yield f"`{change}`", meaning


def _settings() -> Iterator[tuple[str, ...]]:
    settings = Settings.from_environ(ENOUGH)
    defaults = {
        "MAX_SOURCE_BYTES": settings.max_source_bytes,
        "MAX_SOURCE_PIXELS": settings.limits.max_source_pixels,
        "MAX_OUTPUT_PIXELS": settings.limits.max_output_pixels,
        "MAX_IMAGE_CPU_S": settings.max_image_cpu_s,
        "MAX_IMAGE_MEMORY_MB": settings.max_image_memory_mb,
        "ASPECT_POLICY": settings.limits.aspect_policy,
        "ITWIN_TIMEOUT_S": settings.timeout_s,
        "RETRY_MIN_DELAY_S": settings.retries.min_delay_s,
        "RETRY_MAX_DELAY_S": settings.retries.max_delay_s,
        "RETRY_HORIZON_S": settings.retries.horizon_s,
        "RETRY_NOT_FOUND_S": settings.retries.brief_horizon_s,
    }
    for name, default in defaults.items():
        yield f"`{name}`", f"{default:,}" if isinstance(default, int) else f"`{default}`", _legal_values(name)


def _legal_values(name: str) -> str:
    """Return the app's own message for an invalid value of the setting."""
    try:
        Settings.from_environ({**ENOUGH, name: "-"})
    except InvalidSettings as error:
        (problem,) = error.problems
        legal = problem.partition("expected ")[2].rstrip(".")
        return re.sub(r"\d+", lambda number: f"{int(number[0]):,}", legal)
    raise AssertionError(name)


def _errors(base: type[DropError]) -> Iterator[tuple[str, ...]]:
    # Other modules have subclasses of their own, which results do not name.
    children = [child for child in base.__subclasses__() if child.__module__ == errors.__name__]
    if not children:
        yield f"`{base.code}`", (inspect.getdoc(base) or "").partition("\n")[0]
    for child in children:
        yield from _errors(child)


if __name__ == "__main__":
    argparse.ArgumentParser(prog="python -m tools.limits_and_errors", description=__doc__).parse_args()
    write_page()
