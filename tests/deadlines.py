"""How long tests wait for what must happen: long enough for any machine, and only so that a hang ends."""

from __future__ import annotations

HANG_S = 300.0
