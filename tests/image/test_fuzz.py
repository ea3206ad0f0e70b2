"""A short run of the coverage-guided fuzzer; `python -m tools.fuzz_normalize_image 600` is a long one."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.deadlines import HANG_S
from tools.failures import keep

ROOT = Path(__file__).parents[2]
SENTENCE = "The fuzzer cannot run here: atheris supports only Linux on x86_64.\n"


@pytest.mark.skipif(find_spec("atheris") is None, reason="atheris supports only Linux on x86_64")
def test_the_fuzzer_finds_nothing_in_a_few_seconds(tmp_path: Path) -> None:
    """Thousands of mutated files, each refused or made legal, and no failure left behind."""
    run = subprocess.run(
        [sys.executable, "-m", "tools.fuzz_normalize_image", "5", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=HANG_S,
        check=False,
    )
    kept = [keep(f"fuzz-{file.name}", file.read_bytes()) for file in tmp_path.glob("crash-*")]
    assert run.returncode == 0, f"kept: {kept}\n{run.stderr[-3000:]}"
    assert "stat::number_of_executed_units" in run.stderr


def test_without_its_fuzzer_the_program_says_so_in_one_sentence() -> None:
    """One sentence without a traceback."""
    without = "import runpy, sys; sys.modules['atheris'] = None; runpy.run_module('tools.fuzz_normalize_image')"
    run = subprocess.run([sys.executable, "-c", without], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (run.returncode, run.stderr) == (1, SENTENCE)
