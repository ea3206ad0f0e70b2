"""Decides how each switch makes the platform respond to an upload."""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from typing import TYPE_CHECKING

from local.itwin_platform import ScriptedResponse

if TYPE_CHECKING:
    from local.itwin_platform import ITwinPlatform

FOREVER = 1_000_000_000
SLOW_S = 5


def _refusal(status: int, code: str, message: str, **headers: str) -> ScriptedResponse:
    body = json.dumps({"error": {"code": code, "message": message}}).encode()
    return ScriptedResponse(status, {"content-type": "application/json", **headers}, body)


# Of those that are on, the first one responds: a platform that is down does not count calls.
REFUSALS = {
    "outage": ScriptedResponse(503, {"content-type": "text/html"}, b"<h1>503 Service Unavailable</h1>"),
    "login": _refusal(401, "InvalidToken", "The token has expired. Access denied."),
    "throttle": _refusal(
        429,
        "TooManyRequests",
        "More requests were received than the subscription rate-limit allows.",
        **{"retry-after": "5"},
    ),
}
NAMES = (*REFUSALS, "slow")


class Faults:
    """The switches of one platform. A script that somebody else gives it switches them off."""

    def __init__(self, platform: ITwinPlatform) -> None:
        self._platform = platform
        self._lock = threading.Lock()
        self._on: frozenset[str] = frozenset()

    def switch(self, name: str, *, on: bool) -> None:
        """Switch a fault on or off. Raises KeyError if there is none with that name."""
        if name not in NAMES:
            raise KeyError(name)
        with self._lock:
            current = self._current()
            self._on = current | {name} if on else current - {name}
            self._platform.script(_script(self._on))

    def state(self) -> dict[str, bool]:
        """Return which are on."""
        with self._lock:
            current = self._current()
        return {name: name in current for name in NAMES}

    def _current(self) -> frozenset[str]:
        rest = [replace(response, times=FOREVER) for response in self._platform.remaining_script()]
        return self._on if rest == _script(self._on) else frozenset()


def _script(on: frozenset[str]) -> list[ScriptedResponse]:
    if not on:
        return []
    refusals = [response for name, response in REFUSALS.items() if name in on]
    response = refusals[0] if refusals else ScriptedResponse()
    return [replace(response, times=FOREVER, delay_s=SLOW_S if "slow" in on else 0)]
