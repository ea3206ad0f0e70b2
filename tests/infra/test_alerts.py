"""What an operator is told, and the runbook's entry for each."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from shared.errors import DropError
from tests.infra.deployed import RUNBOOK, log_alerts, metric_alerts, the

if TYPE_CHECKING:
    from collections.abc import Iterator

ENTRY = re.compile(r"^### `([\w-]+)`$", re.MULTILINE)


def leaves(error: type[DropError]) -> Iterator[type[DropError]]:
    """Yield the errors that are raised; the others group them."""
    children = error.__subclasses__()
    if not children:
        yield error
    for child in children:
        yield from leaves(child)


def test_the_runbook_has_an_entry_for_each_code_and_alert() -> None:
    """Whoever is woken up finds what to do; an entry for what is gone is a defect too."""
    codes = {error.code for error in leaves(DropError)}
    alerts = {*log_alerts(), *metric_alerts(), "secret-expires"}
    assert set(ENTRY.findall(RUNBOOK)) == codes | alerts
    entries = RUNBOOK.split("\n### ")
    for entry in entries:
        if entry.startswith("`"):
            assert all(f"- **{part}:** " in entry for part in ("Means", "See", "Do")), entry.splitlines()[0]


@pytest.mark.parametrize("alerts", [log_alerts(), metric_alerts()], ids=["logs", "metrics"])
def test_every_alert_tells_the_operator(alerts: dict[str, dict[str, object]]) -> None:
    """By the one group that mail goes to."""
    group = the("Microsoft.Insights/actionGroups")
    assert group["properties"]["emailReceivers"]["operator"]["emailAddress"] == "operator@example.com"
    for alert in alerts.values():
        assert alert["enabled"] is True
        assert group["name"] in str(alert["actions"])
