"""A short run of the coverage-guided fuzzer; `python -m tests.fuzz_normalize_image 600` is a long one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_fuzzer_finds_nothing_in_a_few_seconds(tmp_path: Path) -> None:
    """Thousands of mutated files, each refused or made legal, and nothing left behind that broke it."""
    run = subprocess.run(
        [sys.executable, "-m", "tests.fuzz_normalize_image", "5", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert run.returncode == 0, run.stderr[-3000:]
    assert "stat::number_of_executed_units" in run.stderr
