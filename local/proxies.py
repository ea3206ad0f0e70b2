"""Exempts this machine from the proxies that the environment names."""

from __future__ import annotations

import os

EXEMPT = ("127.0.0.1", "localhost")


def spare_loopback() -> None:
    """Exempt this machine from any proxy, in addition to existing exemptions; child processes inherit that."""
    given = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    if given.strip() != "*":
        names = dict.fromkeys((*filter(None, map(str.strip, given.split(","))), *EXEMPT))
        os.environ["no_proxy"] = os.environ["NO_PROXY"] = ",".join(names)
