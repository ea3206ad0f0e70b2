"""How long tests wait: for what must happen, long enough for any machine, and only so that a hang ends."""

from __future__ import annotations

HANG_S = 300.0

# What must run out does so soon; with twice as much time where a busy machine took that for what comes before.
SHORT_S = tuple(0.3 * 2**doubled for doubled in range(7))
