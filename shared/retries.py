"""The queue of waiting drops: a delayed message triggers the next attempt.

A message in a storage queue survives restarts and deployments, and waits without occupying a worker; a raised exception
would use up the host's five attempts within seconds.
"""

from __future__ import annotations

import math
from datetime import timedelta
from functools import cache
from typing import TYPE_CHECKING

from shared.sdk_transport import asking

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from azure.storage.queue import QueueClient

    from shared.attempt import Attempt

RETRY_QUEUE = "drop-retries"
NEVER_EXPIRES = -1


class RetryQueue:
    """The queue of waiting drops, which is opened when it is first needed."""

    def __init__(self, open_queue: Callable[[], QueueClient], now: Callable[[], datetime]) -> None:
        self._queue = cache(open_queue)
        self._now = now

    def postpone(self, attempt: Attempt, delay_s: float) -> datetime:
        """Schedule another attempt after the delay, and return its time. Raises azure.core.exceptions.AzureError.

        A queue's delays are in whole seconds.
        """
        seconds = max(1, math.ceil(delay_s))
        message = attempt.message()
        with asking():
            self._queue().send_message(message, visibility_timeout=seconds, time_to_live=NEVER_EXPIRES)
        return self._now() + timedelta(seconds=seconds)
