"""What the page promises: its costs add up, and are those of what is deployed."""

from __future__ import annotations

import re

from tests.infra.deployed import EVERYWHERE, README, bindings, log_alerts, metric_alerts, resources
from tools.infra import INFRA


def test_the_costs_add_up() -> None:
    """Each product follows from its factors, and the sum from the rows."""
    table = README.partition("## What it costs")[2].partition("\n## ")[0]
    rows = [line.strip("| ").split(" | ") for line in table.splitlines() if line.startswith("| ")][1:]
    numbers = [[cell.rpartition("= ")[2].strip(" *|") for cell in cells[-2:]] for cells in rows]
    *parts, total = [[float(number) for number in row] for row in numbers]
    assert [round(sum(column), 2) for column in zip(*parts, strict=True)] == total
    for left, right in re.findall(r"\| ([\d(][\d,.() x-]+) = ([\d.]+)", table):
        product = 1.0
        for factor in left.split(" x "):
            terms = [float(term.replace(",", "")) for term in factor.strip("() ").split(" - ")]
            product *= terms[0] - sum(terms[1:])
        assert round(product, 2) == float(right), left


def test_the_costs_match_the_deployed_alerts() -> None:
    """An alert that runs every five minutes costs three times as much as one that runs every quarter of an hour."""
    often = [alert["evaluationFrequency"] for alert in log_alerts().values()]
    parts = (f"{often.count('PT5M')} x 1.50", f"{often.count('PT15M')} x 0.50", f"{len(metric_alerts())} x 0.10")
    assert f"| alerts | {' + '.join(parts)} |" in README


def test_the_costs_of_zones_include_every_group_of_functions() -> None:
    """HTTP functions are one group, blob triggers another, and every other function is a group by itself."""
    kinds = [binding["type"] for binding in bindings().values()]
    groups = len({"httpTrigger", "blobTrigger"} & set(kinds)) + kinds.count("queueTrigger")
    assert f"{groups} groups x 2 x 21.02\n= {groups * 2 * 21.02:.2f}" in README
    assert all(f"`{name}`" in README for name in bindings())


def test_every_command_that_sets_the_secret_sets_its_expiry_date() -> None:
    """Without one, the vault cannot warn before it expires."""
    pages = [INFRA.parent / "README.md", *INFRA.glob("*.md"), *(INFRA.parent / "docs").glob("*.md")]
    commands = [line for page in pages for line in re.findall(r"az keyvault secret set .*", page.read_text("utf-8"))]
    assert commands
    assert [command for command in commands if "--expires " not in command] == []


def test_every_resource_provider_is_named() -> None:
    """If one is not registered, a deployment fails for whoever may not register it."""
    used = {each["type"].partition("/")[0] for name in EVERYWHERE for each in resources(name).values()}
    (named,) = re.findall(r"for provider in (.*); do", README)
    # Those two are there in every subscription; the network of Flex Consumption needs one that it makes nothing of.
    assert set(named.split()) == used - {"Microsoft.Authorization", "Microsoft.Resources"} | {"Microsoft.App"}


def test_no_snapshot_contains_a_secret() -> None:
    """A key is read in one place, where the event subscription needs it, and remains an expression there."""
    for path in (INFRA / "snapshots").glob("*.json"):
        text = path.read_text("utf-8")
        assert not re.search(r"AccountKey=|SharedAccess|[?&]sig=|password\"", text, re.IGNORECASE)
        assert all("systemKeys.blobs_extension" in line for line in text.splitlines() if "listKeys" in line)
