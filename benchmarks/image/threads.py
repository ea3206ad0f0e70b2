"""Measures the gain of a second thread on a second core: `python -m benchmarks.image.threads PICTURE ...`.

It takes the best wall-clock time of several runs: other load can only make a run longer.
"""

from __future__ import annotations

import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks.image.jobs import UNCAPPED_PIXELS
from shared.image import ImageLimits, normalize_image

_CALLS = 2
_TRIES = 25


def gain(data: bytes) -> float:
    """Return how many times the work of one thread two threads do."""
    limits = ImageLimits(max_output_pixels=UNCAPPED_PIXELS)

    def seconds(threads: int) -> float:
        with ThreadPoolExecutor(threads) as pool:
            started = time.perf_counter()
            list(pool.map(normalize_image, [data] * _CALLS, [limits] * _CALLS))
            return time.perf_counter() - started

    seconds(2)
    tries = [(seconds(1), seconds(2)) for _ in range(_TRIES)]
    return min(one for one, _ in tries) / min(two for _, two in tries)


if __name__ == "__main__":
    sys.stdout.write(json.dumps({path: gain(Path(path).read_bytes()) for path in sys.argv[1:]}))
