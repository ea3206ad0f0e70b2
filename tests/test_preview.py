"""What a preview says is what the app does; and it is safe to point at any folder."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest
from PIL import Image

from local.processes import PROJECT, wait_until
from local.samples import building_site, encode, make_samples
from shared.image import ImageLimits
from shared.preview.looking import Question, Rules, look_at
from shared.preview.program import main
from tests.deadlines import HANG_S

if TYPE_CHECKING:
    from local.cloud import LocalCloud

PHOTO = encode(building_site(320, 240), "JPEG")


def command(*arguments: str | Path) -> list[str]:
    """Return the command line of a preview."""
    return [sys.executable, "-m", "shared.preview", *map(str, arguments)]


def documents(text: str) -> dict[str, dict[str, Any]]:
    """Return what `--json` printed, by file name."""
    return {Path(document["file"]).name: document for document in map(json.loads, text.splitlines())}


def workers(pid: int) -> list[psutil.Process]:
    """Return the processes that look at files for this one."""
    found = []
    for child in psutil.Process(pid).children():
        with contextlib.suppress(psutil.Error):  # it has ended
            if "multiprocessing.spawn" in " ".join(child.cmdline()):
                found.append(child)
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with one picture, in a folder of its own."""
    (tmp_path / "drop" / "site").mkdir(parents=True)
    (tmp_path / "drop" / "site" / "photo.jpg").write_bytes(PHOTO)
    return tmp_path / "drop"


def test_a_preview_matches_what_the_app_does(
    cloud: LocalCloud, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every sample ends in the cloud as its preview said, down to the bytes that `--out` wrote."""
    samples = make_samples()
    for name, content in samples.items():
        (tmp_path / name).write_bytes(content)
    assert main([str(tmp_path), "--json", "--out", str(tmp_path / "out")]) == 1
    previews = documents(capsys.readouterr().out)
    dropped = {name: cloud.drop(cloud.itwin(), name, content) for name, content in samples.items()}
    for name, drop in dropped.items():
        result, preview = cloud.result(drop), previews[name]
        assert preview["status"] == {"uploaded": "accepted"}.get(result["status"], result["status"])
        assert preview["error"] == result.get("error")
        assert preview["reason"] == result["reason"]
        assert preview["source"].items() <= result["source"].items()
        assert (preview["sent"] or {}).items() <= (result["sent"] or {}).items()
        if result["sent"]:
            written = Path(preview["writtenTo"]).read_bytes()
            assert hashlib.sha256(written).hexdigest() == result["sent"]["sha256"]
    assert len(list((tmp_path / "out").iterdir())) == sum(p["sent"] is not None for p in previews.values())


def test_the_output_says_what_would_change_or_why_a_file_is_rejected(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A person reads one line per file, and a total."""
    (folder / "empty.jpg").touch()
    (folder / "scan.tif").write_bytes(encode(building_site(120, 90), "TIFF"))
    assert main([str(folder)]) == 1
    empty, scan, photo, total = capsys.readouterr().out.splitlines()
    assert empty.endswith("empty.jpg: rejected (EmptySource). The file is empty. Upload it again.")
    assert "accepted, tiff 120 x 90" in scan
    assert scan.endswith(": converted")
    assert "photo.jpg: accepted as it is, jpeg 320 x 240" in photo
    assert total == "3 files: 2 accepted, 1 rejected"


def test_the_size_of_a_small_file_is_not_rounded_to_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Below a thousand bytes, each one is counted."""
    small = tmp_path / "dot.png"
    small.write_bytes(encode(Image.new("RGB", (2, 2)), "PNG"))
    assert main([str(small)]) == 0
    size = small.stat().st_size
    assert size < 500
    assert capsys.readouterr().out.splitlines()[0].endswith(f"png 2 x 2, {size} bytes")


def test_the_exit_code_is_0_if_every_file_is_accepted(folder: Path) -> None:
    """A script can continue."""
    assert main([str(folder)]) == 0
    assert main([str(folder / "site" / "photo.jpg")]) == 0


def test_the_settings_are_those_of_the_app(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What an operator set is asked of the file here too."""
    monkeypatch.setenv("MAX_SOURCE_BYTES", "10")
    assert main([str(folder), "--json"]) == 1
    assert documents(capsys.readouterr().out)["photo.jpg"]["error"]["code"] == "SourceTooLarge"
    monkeypatch.setenv("ASPECT_POLICY", "stretch")
    assert main([str(folder)]) == 2
    assert "ASPECT_POLICY: found 'stretch', expected pad or crop or reject." in capsys.readouterr().err


def test_ignored_names_in_folders_are_left_out(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The app ignores system files and unfinished copies, so a preview does too."""
    (folder / "Thumbs.db").write_bytes(b"\0")
    (folder / "site" / "big.jpg.partial").write_bytes(b"\0")
    assert main([str(folder), "--json"]) == 0
    assert set(documents(capsys.readouterr().out)) == {"photo.jpg"}


def test_an_ignored_name_given_by_itself_is_reported_as_ignored(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Such a file is reported neither as accepted nor as rejected."""
    photo, copy, lock, marker = (folder / name for name in ("photo.jpg", "busy.jpg.part", "~$x.jpg", "old_$folder$"))
    for file in (photo, copy, lock):
        file.write_bytes(PHOTO)
    marker.touch()
    files = [str(file) for file in (photo, copy, lock, marker)]
    assert main(files) == 0
    _, line, *_, total = capsys.readouterr().out.splitlines()
    assert line.startswith(f"{copy}: ignored. Its name is that of a system file, an unfinished copy or")
    assert total == "4 files: 1 accepted, 3 ignored"
    assert main([*files, "--json", "--out", str(folder / "out")]) == 0
    ignored = documents(capsys.readouterr().out)[copy.name]
    assert (ignored["status"], ignored["error"], ignored["source"]["bytes"]) == ("ignored", None, len(PHOTO))
    assert ignored["reason"].startswith("Its name is that of")
    assert [file.name for file in (folder / "out").iterdir()] == ["photo.jpg"]


def test_a_file_that_is_named_twice_is_examined_once(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By itself and by its folder, or by two folders."""
    photo = folder / "site" / "photo.jpg"
    assert main([str(photo), str(folder), str(folder / "site"), str(folder / "site" / ".." / "site")]) == 0
    assert capsys.readouterr().out == f"{photo}: accepted as it is, jpeg 320 x 240, {len(PHOTO) / 1000:.0f} kB\n"


def test_sub_folders_are_kept(folder: Path, tmp_path: Path) -> None:
    """Output keeps the place of its source, and earlier output is not a source."""
    out = folder / "out"
    assert main([str(folder), "--out", str(out)]) == 0
    assert main([str(folder), "--out", str(out)]) == 0
    assert [path.relative_to(out).as_posix() for path in out.rglob("*.*")] == ["site/photo.jpg"]
    assert tmp_path in out.parents


def test_no_output_overwrites_another_file(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Neither a source, nor the output of another source."""
    site = folder / "site"
    (folder / "photo.jpg").write_bytes(PHOTO)
    (site / "plan.tif").write_bytes(encode(building_site(120, 90), "TIFF"))
    (site / "plan.tif.png").write_bytes(encode(building_site(120, 90), "PNG"))
    before = {path: path.read_bytes() for path in folder.rglob("*.*")}
    out = folder.parent / "out"
    for arguments in (
        [site / "photo.jpg", "--out", site],
        [site / "plan.tif", site / "plan.tif.png", "--out", out],
        [site / "photo.jpg", folder / "photo.jpg", "--out", out],
        [site, "--out", out],
    ):
        assert main([str(argument) for argument in arguments]) == 2
        assert "choose another --out" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in folder.rglob("*.*")} == before
    assert not out.exists()


@pytest.mark.parametrize("out", [".", "..", "site"])
def test_an_image_may_be_written_beside_its_source(folder: Path, monkeypatch: pytest.MonkeyPatch, out: str) -> None:
    """In the folder itself, above it or below it: nothing there is mistaken for earlier output."""
    monkeypatch.chdir(folder)
    (folder / "plan.tif").write_bytes(encode(building_site(120, 90), "TIFF"))
    (folder / "site" / "photo.jpg").unlink()
    assert main([".", "--out", out]) == 0
    assert (folder / out / "plan.tif.png").exists() or (folder / out / "plan.tif.jpg").exists()


def test_no_output_overwrites_its_own_source(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Not even where both are named by the same dot."""
    monkeypatch.chdir(folder / "site")
    for source in (".", "photo.jpg"):
        assert main([source, "--out", "."]) == 2
        assert capsys.readouterr().err == "photo.jpg would overwrite itself: choose another --out.\n"
    assert (folder / "site" / "photo.jpg").read_bytes() == PHOTO


def test_linked_folders_are_examined_too(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each once, even if links form a cycle."""
    elsewhere = folder.parent / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "other.jpg").write_bytes(PHOTO)
    (folder / "linked").symlink_to(elsewhere)
    (folder / "again").symlink_to(elsewhere)
    (folder / "site" / "back").symlink_to(folder)
    (folder.parent / "whole").symlink_to(folder)
    out = folder.parent / "out"
    assert main([str(folder.parent / "whole"), "--json", "--out", str(out)]) == 0
    written = [document["writtenTo"] for document in map(json.loads, capsys.readouterr().out.splitlines())]
    assert written == [str(out / "again" / "other.jpg"), str(out / "site" / "photo.jpg")]


def test_a_file_that_cannot_be_read_fails_alone(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A disk error does not stop the others."""
    (folder / "bad.jpg").symlink_to("/proc/self/mem")
    assert main([str(folder), "--json"]) == 1
    found = documents(capsys.readouterr().out)
    assert (found["bad.jpg"]["status"], found["bad.jpg"]["error"]["code"]) == ("failed", "OSError")
    assert found["photo.jpg"]["status"] == "accepted"


def test_a_broken_link_is_reported(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No file that was meant is left out silently."""
    (folder / "gone.jpg").symlink_to(folder / "none.jpg")
    (folder / "circle.jpg").symlink_to(folder / "circle.jpg")
    assert main([str(folder)]) == 1
    circle, gone, _, total = capsys.readouterr().out.splitlines()
    assert circle.startswith(f"{folder / 'circle.jpg'}: failed (OSError). It could not be read or written: ")
    assert gone.startswith(f"{folder / 'gone.jpg'}: failed (FileNotFoundError). It could not be read or written: ")
    assert total == "3 files: 1 accepted, 2 failed"


def test_a_missing_file_is_reported_in_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Neither a traceback nor a silent success."""
    assert main([str(tmp_path / "none.jpg")]) == 2
    assert capsys.readouterr().err == f"{tmp_path / 'none.jpg'} does not exist.\n"
    assert main([str(tmp_path)]) == 2
    assert capsys.readouterr().err == "There are no files to examine.\n"


@pytest.mark.parametrize("name", ["taken", "taken/out"])
def test_nothing_is_examined_if_the_output_folder_cannot_be_used(
    folder: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    """One sentence, and not one for each file."""
    (folder.parent / "taken").touch()
    out = folder.parent / name
    assert main([str(folder), "--out", str(out)]) == 2
    said = capsys.readouterr()
    assert re.fullmatch(rf"The folder {re.escape(str(out))} cannot be used \(.*\)\.\n", said.err)
    assert said.out == ""


def test_a_file_name_cannot_control_the_terminal(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It may be anything, even a sequence that clears the screen or bytes that are not text."""
    (folder / "\x1b[2J\udcff.jpg").write_bytes(PHOTO)
    assert main([str(folder)]) == 0
    assert "\\x1b[2J\\udcff.jpg" in capsys.readouterr().out


def test_a_folder_of_a_thousand_photos_is_examined_on_all_cores(folder: Path) -> None:
    """Each core has its own process, and every photo its own line, in order."""
    for number in range(1000):
        shutil.copyfile(folder / "site" / "photo.jpg", folder / f"{number:04}.jpg")
    process = subprocess.Popen(command(folder, "--json"), cwd=PROJECT, stdout=subprocess.PIPE, text=True)

    assert wait_until(
        lambda: process.poll() is not None or len(workers(process.pid)) == os.cpu_count(), timeout_s=HANG_S
    )
    assert process.poll() is None
    output, _ = process.communicate(timeout=HANG_S)
    assert process.returncode == 0
    assert list(documents(output)) == [f"{number:04}.jpg" for number in range(1000)] + ["photo.jpg"]


def test_large_images_wait_for_one_another(folder: Path) -> None:
    """However many cores there are, no more is decoded at once than there is memory for."""
    image = encode(building_site(3000, 2000), "WEBP")
    for number in range(4):
        (folder / f"{number}.webp").write_bytes(image)
    taken: list[list[int]] = []
    with ThreadPoolExecutor() as threads:
        previews = threads.submit(main, [str(folder)], process_bytes=1)

        def weighed_to_the_end() -> bool:
            with contextlib.suppress(psutil.NoSuchProcess):
                taken.append([worker.memory_info().rss for worker in workers(os.getpid())])
            return previews.done()

        assert wait_until(weighed_to_the_end, timeout_s=HANG_S, interval_s=0.005)
    assert previews.result() == 0
    second = max((sorted(sizes)[-2] for sizes in taken if len(sizes) > 1), default=0)
    assert second < 0.8 * max(size for sizes in taken for size in sizes)


def test_a_killed_process_is_reported_with_its_file(folder: Path) -> None:
    """The system may kill one if memory is short: a person must know which file it was."""
    for number in range(3000):  # far more than are examined before the kill, however busy the machine is
        os.link(folder / "site" / "photo.jpg", folder / f"{number:04}.jpg")
    process = subprocess.Popen(
        command(folder, "--json"), cwd=PROJECT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout
    assert process.stderr
    answered = [process.stdout.readline()]
    workers(process.pid)[0].kill()
    answered += process.stdout
    said = process.stderr.read()
    process.stdout.close()
    process.stderr.close()
    assert process.wait(HANG_S) == 2
    assert re.fullmatch(r"A process was killed, .* while it was examining (\S+\.jpg)( or \S+\.jpg)*\.\n", said)
    assert not [name for name in documents("".join(answered)) if name in said]


def test_progress_is_shown_on_a_terminal(folder: Path) -> None:
    """The bar is on stderr; the results go to stdout all the same."""
    shutil.copyfile(folder / "site" / "photo.jpg", folder / "other.jpg")
    controller, terminal = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    process = subprocess.Popen(
        command(folder, "--json"), cwd=PROJECT, env=environment, stdout=subprocess.PIPE, stderr=terminal, text=True
    )
    output, _ = process.communicate(timeout=HANG_S)
    shown = os.read(controller, 100_000).decode(errors="ignore")  # it may end within a character
    os.close(controller)
    os.close(terminal)
    assert process.returncode == 0
    assert set(documents(output)) == {"other.jpg", "photo.jpg"}
    assert "/2" in shown


@pytest.mark.parametrize("how", [[], ["--json"]])
def test_no_line_is_wrapped_on_a_narrow_terminal(folder: Path, how: list[str]) -> None:
    """The terminal folds a long path, so that it can be copied whole; the bar stays below."""
    long = folder / ("a long name of a folder " * 5).strip()
    long.mkdir()
    for name in ("1 [red].jpg", "2.jpg"):
        (long / name).write_bytes(PHOTO)
    controller, terminal = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "40"}
    process = subprocess.Popen(command(long, *how), cwd=PROJECT, env=environment, stdout=terminal, stderr=terminal)
    os.close(terminal)
    shown = ""
    with contextlib.suppress(OSError):  # its other end is closed
        while part := os.read(controller, 100_000):
            shown += part.decode()
    os.close(controller)
    assert process.wait(HANG_S) == 0
    for name in ("1 [red].jpg", "2.jpg"):
        assert str(long / name) in shown


def test_a_reader_that_stops_early_causes_no_traceback(folder: Path) -> None:
    """`| head` takes what it wants."""
    for number in range(20):
        shutil.copyfile(folder / "site" / "photo.jpg", folder / f"{number}.jpg")
    process = subprocess.Popen(command(folder), cwd=PROJECT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout
    assert process.stderr
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait(HANG_S) == 141


def test_an_interrupt_ends_it_silently_and_leaves_nothing_running(folder: Path) -> None:
    """Ctrl-C reaches every process of the terminal, including those that are still starting."""
    for number in range(300):
        shutil.copyfile(folder / "site" / "photo.jpg", folder / f"{number:04}.jpg")
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever runs the tests may ignore it
    process = subprocess.Popen(
        command(folder), cwd=PROJECT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    )
    signal.signal(signal.SIGINT, before)
    parent = psutil.Process(process.pid)
    assert wait_until(lambda: len(parent.children()) > 1, timeout_s=HANG_S)
    children = parent.children()
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=HANG_S)
    assert (process.returncode, said) == (130, b"")
    assert psutil.wait_procs(children, timeout=HANG_S)[1] == []


def test_a_character_that_the_terminal_lacks_is_escaped(folder: Path) -> None:
    """No name keeps the other files from being examined."""
    (folder / "größe.jpg").write_bytes(PHOTO)
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(command(folder), cwd=PROJECT, env=environment, capture_output=True, text=True, check=True)
    assert "gr\\xf6\\xdfe.jpg: accepted" in done.stdout


@pytest.mark.parametrize("path", ["/dev/full", "/dev/null"])
def test_only_regular_files_are_read(path: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A device may have no end."""
    assert main([path]) == 2
    assert capsys.readouterr().err == f"{path} is neither a file nor a folder.\n"


def test_a_growing_file_is_read_no_further_than_the_limit() -> None:
    """A file that claims to be empty may have no end either."""
    preview = look_at(Question(Path("/proc/self/smaps")), Rules(ImageLimits(), max_source_bytes=100))
    assert (preview.code, preview.source_bytes) == ("SourceTooLarge", 101)
