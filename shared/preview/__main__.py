"""The program: which files are meant, who looks at them, and what is printed."""

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
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from shared.admission import Admission
from shared.drop import Drop
from shared.errors import InvalidSettings
from shared.preview.looking import SUFFIXES, Question, Rules, bytes_needed, look_at, printable
from shared.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from shared.preview.looking import Preview

IMAGE_SETTINGS = ("MAX_SOURCE_BYTES", "MAX_SOURCE_PIXELS", "MAX_OUTPUT_PIXELS", "ASPECT_POLICY")
# What the app cannot start without, and no image needs.
ELSEWHERE = {"DropStorage": "UseDevelopmentStorage=true", "ITWIN_TOKEN_SCOPE": "none"}
# Any photo of 24 megapixels takes less, so only larger ones wait for one another.
IMAGE_BYTES_PER_PROCESS = 500_000_000

NONE_REJECTED, SOME_REJECTED, NOT_ASKED_WELL, INTERRUPTED, NOBODY_READS = 0, 1, 2, 130, 141


def main(arguments: Sequence[str]) -> int:
    """Look at every file. 0: none would be rejected; 1: one would; 2: a sentence on stderr says what is wrong.

    130: interrupted; 141: nobody reads any more, as with `| head`.
    """
    options = _parser().parse_args(arguments)
    counts = {"accepted": 0, "rejected": 0, "ignored": 0, "failed": 0}
    try:
        rules = _rules()
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


def _rules() -> Rules:
    """Read what the app's settings say of images. Raises InvalidSettings."""
    given = {name: os.environ[name] for name in IMAGE_SETTINGS if name in os.environ}
    settings = Settings.from_environ({**ELSEWHERE, **given})
    return Rules(settings.limits, settings.max_source_bytes)


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
            raise _Unanswerable(f"{printable(str(file))} would be written over another file: choose another --out.")
        yield Question(file, target)


def _with_one_more_suffix(target: Path) -> list[Path]:
    return [target.with_name(target.name + suffixes[0]) for suffixes in SUFFIXES.values()]


def _files(path: Path, out: Path | None) -> Iterator[tuple[Path, str]]:
    """Return the path's files, each with the name that it would have in a container."""
    if not path.exists():
        raise _Unanswerable(f"{printable(str(path))} is not there.")
    if not path.is_dir():
        if not path.is_file():
            raise _Unanswerable(f"{printable(str(path))} is neither a file nor a folder.")
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
        raise _Unanswerable(f"The folder {printable(str(out))} cannot be used ({error.strerror}).") from error


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
            with memory.admit(bytes_needed(question.file, rules)):
                return pool.submit(look_at, question, rules).result()

        try:
            with _interrupts_later():  # never, for what is started meanwhile: Ctrl-C is the main thread's alone
                answers = [threads.submit(ask, question) for question in questions]
            for answer in answers:
                yield answer.result()
        except BrokenProcessPool as error:
            threads.shutdown(cancel_futures=True)
            unanswered = (q for q, a in zip(questions, answers, strict=True) if a.cancelled() or a.exception())
            names = " or ".join(printable(str(q.file)) for q in itertools.islice(unanswered, workers))
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


if __name__ == "__main__":
    # A name may have letters that the terminal does not.
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # it is no other than the real one
    sys.exit(main(sys.argv[1:]))
