"""The queue of drops that wait: a delayed message makes the next attempt.

A message on a storage queue survives restarts and deployments, and waits without holding a worker; a raised exception
would burn the host's five attempts in seconds.
"""

from __future__ import annotations

import math
from datetime import timedelta
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from azure.storage.queue import QueueClient

    from shared.attempt import Attempt

RETRY_QUEUE = "drop-retries"
NEVER_EXPIRES = -1


class RetryQueue:
    """The queue of drops that wait, which is opened when the first drop must."""

    def __init__(self, open_queue: Callable[[], QueueClient], now: Callable[[], datetime]) -> None:
        self._queue = cache(open_queue)
        self._now = now

    def postpone(self, attempt: Attempt, delay_s: float) -> datetime:
        """Have the drop tried again after the delay, and return when. Raises azure.core.exceptions.AzureError.

        A queue counts in whole seconds.
        """
        seconds = max(1, math.ceil(delay_s))
        self._queue().send_message(attempt.message(), visibility_timeout=seconds, time_to_live=NEVER_EXPIRES)
        return self._now() + timedelta(seconds=seconds)
