"""The program: which files to examine, in which processes, and what to print."""

# ruff: noqa: T201 - a program prints
from __future__ import annotations

import argparse
import contextlib
import io
import itertools
import json
import multiprocessing
import os
import signal
import sys
from collections import Counter
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from shared.admission import Admission
from shared.drop import Drop
from shared.errors import InvalidSettings
from shared.preview.looking import SUFFIXES, Question, Rules, bytes_needed, look_at, printable, with_suffix
from shared.settings import ImageSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from shared.preview.looking import Preview

IMAGE_SETTINGS = ("MAX_SOURCE_BYTES", "MAX_SOURCE_PIXELS", "MAX_OUTPUT_PIXELS", "ASPECT_POLICY")
# A photo of 24 megapixels needs less, so only larger ones wait for one another.
IMAGE_BYTES_PER_PROCESS = 500_000_000

NONE_REJECTED, SOME_REJECTED, ABORTED, BROKEN_PIPE = 0, 1, 2, 141


def main(arguments: Sequence[str], *, process_bytes: int = IMAGE_BYTES_PER_PROCESS) -> int:
    """Examine every file, using `process_bytes` of memory for each core.

    0: none would be rejected; 1: at least one would; 2: a sentence on stderr says what is wrong; 141: the reader of the
    output has ended, as with `| head`.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):  # a file's name may have characters that its encoding lacks
        sys.stdout.reconfigure(errors="backslashreplace")
    options = _parser().parse_args(arguments)
    counts = {"accepted": 0, "rejected": 0, "ignored": 0, "failed": 0}
    try:
        rules = _rules()
        questions = list(_plan(options.files, options.out))
        if options.out:
            _make_folder(options.out)
        with _progress(len(questions)) as tell:
            for preview in _look_at_all(questions, rules, process_bytes):
                counts[preview.status] += 1
                tell(json.dumps(preview.document()) if options.json else preview.line())
        if not options.json and len(questions) > 1:
            told = ", ".join(f"{count} {status}" for status, count in counts.items() if count)
            print(f"{len(questions)} files: {told}", flush=True)
    except (InvalidSettings, _Unanswerable) as error:
        print(error, file=sys.stderr)
        return ABORTED
    except BrokenPipeError:
        # Otherwise Python would try to write the rest of its buffer at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    return SOME_REJECTED if counts["rejected"] or counts["failed"] else NONE_REJECTED


class _Unanswerable(Exception):
    """The request cannot be fulfilled; the message is a sentence."""


def _rules() -> Rules:
    """Read what the app's settings say about images. Raises InvalidSettings."""
    settings = ImageSettings.from_environ(os.environ)
    return Rules(settings.limits, settings.max_source_bytes)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m shared.preview",
        description="Show what would happen to images if they were dropped.",
        epilog="The settings " + ", ".join(IMAGE_SETTINGS) + " are read from the environment, as in the app.",
    )
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="a file, or a folder with everything in it")
    parser.add_argument("--out", type=Path, metavar="DIR", help="write what would be sent into this folder")
    parser.add_argument("--json", action="store_true", help="print one JSON document per line")
    return parser


def _plan(paths: Iterable[Path], out: Path | None) -> Iterator[Question]:
    """Yield the files to examine, in order. Raises _Unanswerable."""
    found: dict[Path, tuple[Path, str]] = {}
    for path in paths:
        for file, name in _files(path, out):
            found.setdefault(_real(file.parent) / file.name, (file, name))  # its folder may be given as well
    if not found:
        raise _Unanswerable("There are no files to examine.")
    files = list(found.values())
    targets = [_real(out / name) if out else None for _, name in files]
    written = [_possible_files(target) if target else set() for target in targets]
    taken = Counter([*(_real(file) for file, _ in files), *itertools.chain(*written)])
    for (file, _), target, possible in zip(files, targets, written, strict=True):
        if any(taken[name] > 1 for name in possible):
            other = "itself" if _real(file) in possible else "another file"
            raise _Unanswerable(f"{printable(str(file))} would overwrite {other}: choose another --out.")
        yield Question(file, target)


def _possible_files(target: Path) -> set[Path]:
    """Return the files to which an image for `target` may be written."""
    return {with_suffix(target, media_type) for media_type in SUFFIXES}


def _files(path: Path, out: Path | None) -> Iterator[tuple[Path, str]]:
    """Yield the path's files, each with the name that it would have in a container."""
    if not path.exists():
        raise _Unanswerable(f"{printable(str(path))} does not exist.")
    if not path.is_dir():
        if not path.is_file():
            raise _Unanswerable(f"{printable(str(path))} is neither a file nor a folder.")
        yield path, path.name
        return
    # What an earlier run has written is skipped.
    earlier = _real(out) if out and _real(path) in _real(out).parents else None
    for file in sorted(_walk(path)):
        name = file.relative_to(path).as_posix()
        is_output = earlier is not None and _real(file).is_relative_to(earlier)
        leads_nowhere = file.is_symlink() and not file.exists()
        if (file.is_file() or leads_nowhere) and not Drop("", name).is_housekeeping() and not is_output:
            yield file, name


def _walk(folder: Path) -> Iterator[Path]:
    """Yield the files of a folder, including linked folders, but none twice."""
    seen: set[str] = set()
    for parent, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(parent)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders.sort()
        yield from (Path(parent, name) for name in files)


def _real(path: Path) -> Path:
    """Follow links; unlike `Path.resolve`, never raise if they form a cycle."""
    return Path(os.path.realpath(path))


def _make_folder(out: Path) -> None:
    """Create the folder if it does not exist. Raises _Unanswerable."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _Unanswerable(f"The folder {printable(str(out))} cannot be used ({error.strerror}).") from error


def _look_at_all(questions: Sequence[Question], rules: Rules, process_bytes: int) -> Iterator[Preview]:
    """Examine all files, on all cores, and yield the previews in order. Raises _Unanswerable."""
    workers = min(os.cpu_count() or 1, len(questions))
    if workers == 1:
        yield from (look_at(question, rules) for question in questions)
        return
    memory = Admission(workers * process_bytes)
    # Not forked: the progress bar has a thread, and a fork would copy the state of its locks.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context) as pool, ThreadPoolExecutor(workers) as threads:

        def ask(question: Question) -> Preview:
            with memory.admit(bytes_needed(question.file, rules)):
                return pool.submit(look_at, question, rules).result()

        try:
            with _interrupts_later():  # children started here never see it: only the main thread handles Ctrl-C
                answers = [threads.submit(ask, question) for question in questions]
            for answer in answers:
                yield answer.result()
        except BrokenProcessPool as error:
            threads.shutdown(cancel_futures=True)
            unanswered = (q for q, a in zip(questions, answers, strict=True) if a.cancelled() or a.exception())
            names = " or ".join(printable(str(q.file)) for q in itertools.islice(unanswered, workers))
            message = f"A process was killed, perhaps because memory is short, while it was examining {names}."
            raise _Unanswerable(message) from error
        finally:
            with _interrupts_later():
                threads.shutdown(wait=False, cancel_futures=True)
                pool.shutdown(cancel_futures=True)
                threads.shutdown()


@contextlib.contextmanager
def _interrupts_later() -> Iterator[None]:
    """Hold Ctrl-C back until the block ends; a process that is started in it never receives it."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows has none
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def _progress(total: int) -> Iterator[Callable[[str], None]]:
    """Show a progress bar in a terminal; yields a function that prints a line and advances the bar."""
    # rich is installed with the development tools, but not with the app.
    if total == 1 or not sys.stderr.isatty() or find_spec("rich") is None:
        yield partial(print, flush=True)
        return
    from rich.console import Console  # noqa: PLC0415
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn  # noqa: PLC0415

    together = sys.stdout.isatty()
    console = Console(stderr=not together)
    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, redirect_stdout=False) as bar:
        task = bar.add_task("", total=total)

        def tell(line: str) -> None:
            if together:
                console.out(line, highlight=False)  # above the bar and not wrapped, so that a path can be copied
            else:
                print(line, flush=True)
            bar.advance(task)

        yield tell
