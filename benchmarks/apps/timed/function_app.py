"""The app with stopwatches: after each drop, one line with the CPU time of every stage, in seconds of its thread."""

import importlib.util
import json
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable
from functools import wraps
from typing import Any

from shared import deliveries, pipeline
from shared.image import ExaminedImage
from shared.itwin_platform import ITwinPlatform
from shared.ledger import Ledger, Turn
from shared.results import ResultStore

STAGES: tuple[tuple[Any, str, str], ...] = (
    (pipeline, "read_source", "read the drop"),
    (pipeline, "examine_image", "image work"),
    (ExaminedImage, "normalize", "image work"),
    (ITwinPlatform, "upload_image", "upload"),
    (Ledger, "read", "ledger"),
    (Turn, "record", "ledger"),
    (ResultStore, "read", "result"),
    (ResultStore, "write", "result"),
)
spent = threading.local()
log = logging.getLogger("benchmark")


def _timed(owner: Any, name: str, stage: str) -> None:
    call: Callable[..., Any] = getattr(owner, name)

    @wraps(call)
    def timed(*args: Any, **kwargs: Any) -> Any:
        began = time.thread_time()
        try:
            return call(*args, **kwargs)
        finally:
            spent.stages[stage] += time.thread_time() - began

    setattr(owner, name, timed)


def _timed_as_a_whole(call: Callable[..., None]) -> Callable[..., None]:
    @wraps(call)
    def timed(*args: Any, **kwargs: Any) -> None:
        spent.stages = Counter()
        began = time.thread_time()
        try:
            call(*args, **kwargs)
        finally:
            whole = time.thread_time() - began
            spent.stages["turn, log and the rest"] = whole - sum(spent.stages.values())
            log.info("stages %s", json.dumps(spent.stages))

    return timed


for stage in STAGES:
    _timed(*stage)
deliveries.process_drop = _timed_as_a_whole(deliveries.process_drop)  # type: ignore[attr-defined]  # imported there

specification = importlib.util.spec_from_file_location("the_app", "function_app.py")
if specification is None or specification.loader is None:
    raise ImportError("function_app.py is not in the working folder")
module = importlib.util.module_from_spec(specification)
specification.loader.exec_module(module)
app = module.app
