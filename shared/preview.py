"""`python -m shared.preview FILE...`: what would become of files if they were dropped, without any cloud.

All is decided by what decides in the app: names that nobody means, the largest file that is read, the settings (from
the environment, like the app's) and `normalize_image`. Nothing of the app imports this, nor needs what it needs.
"""

# ruff: noqa: T201 - a program prints
from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import multiprocessing
import os
import signal
import sys
from collections import Counter
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from shared.admission import Admission
from shared.drop import Drop, Source, Version
from shared.errors import DropError, InvalidSettings
from shared.image import examine_image, normalize_image
from shared.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from shared.image import ImageLimits, NormalizedImage

IMAGE_SETTINGS = ("MAX_SOURCE_BYTES", "MAX_SOURCE_PIXELS", "MAX_OUTPUT_PIXELS", "ASPECT_POLICY")
# What the app cannot start without, and no image needs.
ELSEWHERE = {"DropStorage": "UseDevelopmentStorage=true", "ITWIN_TOKEN_SCOPE": "none"}
IGNORED = "By its name it is a system file, an unfinished copy or a folder's marker: the app leaves it alone."
# Any photo of 24 megapixels takes less, so only larger ones wait for one another.
IMAGE_BYTES_PER_PROCESS = 500_000_000
SUFFIXES = {"image/jpeg": (".jpg", ".jpeg"), "image/png": (".png",)}

NONE_REJECTED, SOME_REJECTED, NOT_ASKED_WELL, INTERRUPTED, NOBODY_READS = 0, 1, 2, 130, 141


@dataclass(frozen=True)
class Rules:
    """What the app's settings say of images."""

    limits: ImageLimits
    max_source_bytes: int

    @classmethod
    def from_environ(cls) -> Rules:
        """Read them as the app does. Raises InvalidSettings."""
        given = {name: os.environ[name] for name in IMAGE_SETTINGS if name in os.environ}
        settings = Settings.from_environ({**ELSEWHERE, **given})
        return cls(settings.limits, settings.max_source_bytes)


@dataclass(frozen=True)
class Question:
    """A file to look at; `target` is where to write what would be sent, if it is to be written."""

    file: Path
    target: Path | None = None


@dataclass(frozen=True)
class Preview:
    """What would become of a file. `image` is without its bytes, which stay where they were made."""

    file: str
    status: Literal["accepted", "rejected", "ignored", "failed"]
    source_bytes: int
    code: str | None = None
    reason: str | None = None
    image: NormalizedImage | None = None
    sent_bytes: int = 0
    written_to: str | None = None

    def document(self) -> dict[str, Any]:
        """Return it as JSON; what the result document has too is called and shaped as there."""
        image = self.image
        header = image.source if image else None
        return {
            "file": self.file,
            "status": self.status,
            "reason": self.reason,
            "error": {"code": self.code, "message": self.reason} if self.code else None,
            "source": {
                "bytes": self.source_bytes,
                "mediaType": header.media_type if header else None,
                "width": header.width if header else None,
                "height": header.height if header else None,
            },
            "sent": image
            and {
                "mediaType": image.media_type,
                "bytes": self.sent_bytes,
                "width": image.width,
                "height": image.height,
                "changes": list(image.changes),
            },
            "writtenTo": self.written_to,
        }

    def line(self) -> str:
        """Return it in words."""
        image = self.image
        if image is None:
            code = f" ({self.code})" if self.code else ""
            return _printable(f"{self.file}: {self.status}{code}. {self.reason}")
        after = _extent(image.media_type, image.width, image.height, self.sent_bytes)
        if not image.changes:
            return _printable(f"{self.file}: accepted as it is, {after}")
        header = image.source
        before = _extent(header.media_type, header.width, header.height, self.source_bytes)
        return _printable(f"{self.file}: accepted, {before} -> {after}: {', '.join(image.changes)}")


def main(arguments: Sequence[str]) -> int:
    """Look at every file. 0: none would be rejected; 1: one would; 2: a sentence on stderr says what is wrong.

    130: interrupted; 141: nobody reads any more, as with `| head`.
    """
    options = _parser().parse_args(arguments)
    counts = {"accepted": 0, "rejected": 0, "ignored": 0, "failed": 0}
    try:
        rules = Rules.from_environ()
        questions = list(_plan(options.files, options.out))
        if options.out:
            _make_folder(options.out)
        with _progress(len(questions)) as advance:
            for preview in _look_at_all(questions, rules):
                advance()
                counts[preview.status] += 1
                print(json.dumps(preview.document()) if options.json else preview.line(), flush=True)
        if not options.json and len(questions) > 1:
            told = ", ".join(f"{count} {status}" for status, count in counts.items() if count)
            print(f"{len(questions)} files: {told}", flush=True)
    except (InvalidSettings, _Unanswerable) as error:
        print(error, file=sys.stderr)
        return NOT_ASKED_WELL
    except BrokenPipeError:
        # What is left in the buffer would be tried again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return NOBODY_READS
    except KeyboardInterrupt:
        return INTERRUPTED
    return SOME_REJECTED if counts["rejected"] or counts["failed"] else NONE_REJECTED


class _Unanswerable(Exception):
    """What was asked for cannot be done; the message is a sentence."""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m shared.preview",
        description="Say what would become of images if they were dropped.",
        epilog="The settings " + ", ".join(IMAGE_SETTINGS) + " are read from the environment, as in the app.",
    )
    parser.add_argument(
        "files", nargs="+", type=Path, metavar="FILE", help="a file, or a folder with all that is in it"
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="write what would be sent into this folder")
    parser.add_argument("--json", action="store_true", help="print one JSON document a line")
    return parser


def _plan(paths: Iterable[Path], out: Path | None) -> Iterator[Question]:
    """List what is to be looked at, in order. Raises _Unanswerable."""
    found: dict[Path, tuple[Path, str]] = {}
    for path in paths:
        for file, name in _files(path, out):
            found.setdefault(_real(file.parent) / file.name, (file, name))  # it may be named once more by its folder
    if not found:
        raise _Unanswerable("There is no file to look at.")
    files = list(found.values())
    targets = [_real(out / name) for _, name in files] if out else [None] * len(files)
    taken = Counter([*(_real(file) for file, _ in files), *filter(None, targets)])
    for (file, _), target in zip(files, targets, strict=True):
        if target and taken[target] + sum(taken[longer] for longer in _with_one_more_suffix(target)) > 1:
            raise _Unanswerable(f"{_printable(str(file))} would be written over another file: choose another --out.")
        yield Question(file, target)


def _with_one_more_suffix(target: Path) -> list[Path]:
    return [target.with_name(target.name + suffixes[0]) for suffixes in SUFFIXES.values()]


def _files(path: Path, out: Path | None) -> Iterator[tuple[Path, str]]:
    """Return the path's files, each with the name that it would have in a container."""
    if not path.exists():
        raise _Unanswerable(f"{_printable(str(path))} is not there.")
    if not path.is_dir():
        if not path.is_file():
            raise _Unanswerable(f"{_printable(str(path))} is neither a file nor a folder.")
        yield path, path.name
        return
    for file in sorted(path.rglob("*")):
        name = file.relative_to(path).as_posix()
        is_output = out is not None and _real(file).is_relative_to(_real(out))
        leads_nowhere = file.is_symlink() and not file.exists()
        if (file.is_file() or leads_nowhere) and not Drop("", name).is_housekeeping() and not is_output:
            yield file, name


def _real(path: Path) -> Path:
    """Follow its links; unlike `Path.resolve`, never raise where they lead in a circle."""
    return Path(os.path.realpath(path))


def _make_folder(out: Path) -> None:
    """Make the folder, if it is not there. Raises _Unanswerable."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _Unanswerable(f"The folder {_printable(str(out))} cannot be used ({error.strerror}).") from error


def _look_at_all(questions: Sequence[Question], rules: Rules) -> Iterator[Preview]:
    """Look at all of them, on as many cores as there are, and yield in order. Raises _Unanswerable."""
    workers = min(os.cpu_count() or 1, len(questions))
    if workers == 1:
        yield from (look_at(question, rules) for question in questions)
        return
    memory = Admission(workers * IMAGE_BYTES_PER_PROCESS)
    # Not forked: the progress bar has a thread, and a fork would copy its locks as they are at that moment.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context) as pool, ThreadPoolExecutor(workers) as threads:

        def ask(question: Question) -> Preview:
            with memory.admit(_bytes_needed(question.file, rules)):
                return pool.submit(look_at, question, rules).result()

        try:
            with _interrupts_later():  # never, for what is started meanwhile: Ctrl-C is the main thread's alone
                answers = [threads.submit(ask, question) for question in questions]
            for answer in answers:
                yield answer.result()
        except BrokenProcessPool as error:
            threads.shutdown(cancel_futures=True)
            unanswered = (q for q, a in zip(questions, answers, strict=True) if a.cancelled() or a.exception())
            names = " or ".join(_printable(str(q.file)) for q in itertools.islice(unanswered, workers))
            message = f"A process was ended from outside, perhaps because memory is short, while it looked at {names}."
            raise _Unanswerable(message) from error
        finally:
            with _interrupts_later():
                threads.shutdown(wait=False, cancel_futures=True)
                pool.shutdown(cancel_futures=True)
                threads.shutdown()


@contextlib.contextmanager
def _interrupts_later() -> Iterator[None]:
    """Hold Ctrl-C back until the block ends; a process that is started in it never hears it."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows has none
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def look_at(question: Question, rules: Rules) -> Preview:
    """Say what would become of one file, and write what would be sent where that is wanted."""
    file, size = str(question.file), 0
    try:
        source = _read(question.file, rules.max_source_bytes)
        size = source.size
        if Drop("", question.file.name).is_housekeeping() or source.is_directory_marker():
            return Preview(file, "ignored", size, reason=IGNORED)
        image = normalize_image(source.content(), rules.limits)
        written_to = _write(image, question.target) if question.target else None
    except DropError as error:
        return Preview(file, error.status, size, code=error.code, reason=error.message)
    except OSError as error:
        reason = f"It could not be read or written: {error.strerror}."
        return Preview(file, "failed", size, code=type(error).__name__, reason=reason)
    described = replace(image, data=b"")
    return Preview(file, "accepted", size, image=described, sent_bytes=len(image.data), written_to=written_to)


def _bytes_needed(file: Path, rules: Rules) -> int:
    """Return how much memory it takes to look at the file."""
    try:
        content = _read(file, rules.max_source_bytes).content()
        return len(content) + examine_image(content, rules.limits).peak_bytes
    except (DropError, OSError):
        return 0


def _read(file: Path, max_bytes: int) -> Source:
    """Read the file as a drop is read: of a larger one all but the content. Raises OSError."""
    status = file.stat()
    written = datetime.fromtimestamp(status.st_mtime, UTC)
    if status.st_size > max_bytes:
        return Source(None, status.st_size, Version(written, "", file.name), {})
    with file.open("rb") as opened:
        data = opened.read(max_bytes + 1)  # it may have grown
    return Source(data if len(data) <= max_bytes else None, len(data), Version(written, "", file.name), {})


def _write(image: NormalizedImage, target: Path) -> str:
    """Write the image and return where: under its own name if that fits what it is, else with one more suffix."""
    suffixes = SUFFIXES[image.media_type]
    if target.suffix.lower() not in suffixes:
        target = target.with_name(target.name + suffixes[0])
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(image.data)
    return str(target)


@contextlib.contextmanager
def _progress(total: int) -> Iterator[Callable[[], None]]:
    """Show a bar to whoever watches a longer run; yields what moves it on."""
    # It is where the development tools are; the app has none.
    if total == 1 or not sys.stderr.isatty() or find_spec("rich") is None:
        yield lambda: None
        return
    from rich.console import Console  # noqa: PLC0415
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn  # noqa: PLC0415

    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    together = sys.stdout.isatty()
    with Progress(*columns, console=Console(stderr=True), transient=True, redirect_stdout=together) as bar:
        task = bar.add_task("", total=total)
        yield lambda: bar.advance(task)


def _extent(media_type: str, width: int, height: int, size: int) -> str:
    return f"{media_type.removeprefix('image/')} {width} x {height}, {size / 1000:,.0f} kB"


def _printable(text: str) -> str:
    """Return the text without what a terminal would act on: a file may be called anything."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


if __name__ == "__main__":
    # A name may have letters that the terminal does not.
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # it is no other than the real one
    sys.exit(main(sys.argv[1:]))
