"""What a random test was about can be looked at when it has failed."""

from __future__ import annotations

import os
import subprocess
import sys
from io import BytesIO
from typing import TYPE_CHECKING

from PIL import Image

from local.processes import PROJECT

if TYPE_CHECKING:
    from pathlib import Path

INNER = """
from tests.image.pictures import encoded, photo
from tests.image.corpus import intact
from tests.kept import made_once

@made_once
def shared():
    return encoded(photo(8, 8), "GIF")

def test_it_passes():
    encoded(photo(8, 8), "BMP")
    shared()
    intact()

def test_it_makes_a_file_and_fails():
    assert not encoded(photo(8, 8), "PNG")

def test_it_takes_files_that_are_there_and_fails():
    assert not (intact()["tiff"], shared())

def test_it_makes_nothing_and_fails():
    assert False
"""


def test_the_files_of_a_failing_test_are_kept_and_named(tmp_path: Path) -> None:
    """The report says where they are, also if other tests have them too; files of passing tests are not kept."""
    (tmp_path / "test_inner.py").write_text(INNER)
    command = [sys.executable, "-m", "pytest", "-ptests.kept", "-pno:cacheprovider", "--failures=kept", str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": str(PROJECT), "PYTEST_ADDOPTS": "", "COLUMNS": "200"}
    run = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert "3 failed, 1 passed" in run.stdout, run.stdout
    kept = {file.name: Image.open(BytesIO(file.read_bytes())).format for file in (tmp_path / "kept").iterdir()}
    assert kept == {
        "test_inner.py-test_it_makes_a_file_and_fails-0": "PNG",
        "test_inner.py-test_it_takes_files_that_are_there_and_fails-0": "TIFF",
        "test_inner.py-test_it_takes_files_that_are_there_and_fails-1": "GIF",
    }
    for name in kept:
        assert f"kept{os.sep}{name}" in run.stdout.splitlines()
