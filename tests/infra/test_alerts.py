"""What an operator is told, and the runbook's entry for each."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from shared.errors import DropError
from tests.infra.deployed import EVERYWHERE, README, RUNBOOK, log_alerts, metric_alerts, the
from tests.infra.role_table import TABLE

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
    """Whoever is on call finds out what to do; an obsolete entry is a defect too."""
    codes = {error.code for error in leaves(DropError)}
    alerts = {*log_alerts(), *metric_alerts(), "secret-expires"}
    assert set(ENTRY.findall(RUNBOOK)) == codes | alerts
    entries = RUNBOOK.split("\n### ")
    for entry in entries:
        if entry.startswith("`"):
            assert all(f"- **{part}:** " in entry for part in ("Means", "See", "Do")), entry.splitlines()[0]


@pytest.mark.parametrize("alerts", [log_alerts(), metric_alerts()], ids=["logs", "metrics"])
def test_every_alert_notifies_the_operator(alerts: dict[str, dict[str, object]]) -> None:
    """Through the one action group that sends e-mail."""
    group = the("Microsoft.Insights/actionGroups")
    assert group["properties"]["emailReceivers"]["operator"]["emailAddress"] == "operator@example.com"
    for alert in alerts.values():
        assert alert["enabled"] is True
        assert group["name"] in str(alert["actions"])


def minutes(duration: str) -> int:
    """Return how long a duration of ISO 8601 is that has one part."""
    found = re.fullmatch(r"PT?(\d+)([MHD])", duration)
    assert found, duration
    return int(found[1]) * {"M": 1, "H": 60, "D": 24 * 60}[found[2]]


def test_a_log_line_that_arrives_late_is_still_evaluated() -> None:
    """It is dated to its creation, minutes earlier: an alert that looks back only to its previous run would miss it."""
    for name, alert in log_alerts().items():
        assert minutes(alert["windowSize"]) >= minutes(alert["evaluationFrequency"]) + 10, name


@pytest.mark.parametrize("environment", EVERYWHERE)
def test_other_subscriptions_of_the_same_topic_raise_no_alert(environment: str) -> None:
    """An account has one topic, which the malware scanner shares; an alert names the subscription that it is about."""
    for alert in metric_alerts(environment).values():
        (criterion,) = alert["criteria"]["allOf"].values()
        assert criterion["dimensions"] == {
            "EventSubscriptionName": {"operator": "Exclude", "values": ["StorageAntimalwareSubscription"]}
        }


COMMAND = re.compile(r"(?:^|`)((?:az|azd|python -m shared\.\w+) [^\n`|]+)", re.MULTILINE)
ALLOWED = re.findall(r"^\| `([^`]+)` \| ([\w ]+) \| (not )?the operator \|$", RUNBOOK, re.MULTILINE)
COMMANDS = sorted(set(COMMAND.findall(re.sub(r"^\| `.*$", "", RUNBOOK, flags=re.MULTILINE))))


@pytest.mark.parametrize("command", COMMANDS)
def test_the_runbook_says_who_may_run_a_command(command: str) -> None:
    """Whoever is on call knows beforehand which commands they may run; the operator's are what the roles allow."""
    (allowed,) = (row for row in ALLOWED if f"{command} ".startswith(f"{row[0]} "))
    operators = {role for who, role, *_ in TABLE if who == "operator"}
    assert (allowed[1] in operators) != bool(allowed[2])


def test_every_command_in_the_runbooks_table_is_used_there() -> None:
    """Except for those in infra/README.md, to which it links."""
    texts = "\n".join([*COMMANDS, README])
    assert [command for command, *_ in ALLOWED if command not in texts] == []


def test_the_operator_can_change_only_drops_and_the_secret() -> None:
    """Roles on the resources themselves are read-only; the others are for data."""
    operators = {role for who, role, *_ in TABLE if who == "operator"}
    assert {role for role in operators if not role.startswith(("Storage ", "Key Vault "))} == {"Monitoring Reader"}


@pytest.mark.parametrize("page", [README, RUNBOOK], ids=["infra/README.md", "docs/runbook.md"])
def test_every_command_names_its_subscription(page: str) -> None:
    """`az` has a current subscription, which may be another one; commands on data name the account or the vault."""
    anywhere = ("az login", "az account set", "az ad ", "az bicep", "az keyvault secret", "az storage blob")
    for command in re.findall(r"(?:^ *|\|\| |&& |`)(az [a-z][^\n`]*--[^\n`]*)", page, re.MULTILINE):
        assert "--subscription " in command or command.startswith(anywhere), command
