"""Both storage accounts: closed to keys and the public, with the containers and queues that the code knows."""

from __future__ import annotations

import pytest

from shared.drop import Drop
from shared.ledger import LEDGER_CONTAINER
from shared.preflight.storage import POISON_QUEUES, PROBE_CONTAINER
from shared.retries import RETRY_QUEUE
from shared.undeliverable import LETTERS_QUEUE
from tests.infra.deployed import CONTRACT, EVERYWHERE, app_settings, bindings, of_type, the
from tools.infra import ITWIN

ACCOUNT = "Microsoft.Storage/storageAccounts"


def last(name: str) -> str:
    """Return the last part of a resource's name."""
    return name.rpartition("/")[2]


@pytest.mark.parametrize("environment", EVERYWHERE)
def test_storage_accepts_no_keys_and_is_not_public(environment: str) -> None:
    """Every account can be reached only with an Entra token over TLS 1.2."""
    accounts = of_type(ACCOUNT, environment)
    assert len(accounts) == 2
    for account in accounts:
        properties = account["properties"]
        assert properties["allowSharedKeyAccess"] is False
        assert properties["allowBlobPublicAccess"] is False
        assert properties["minimumTlsVersion"] == "TLS1_2"
        assert properties["supportsHttpsTrafficOnly"] is True
        assert (properties["networkAcls"]["defaultAction"] == "Deny") == environment.startswith("private")


def test_queues_and_containers_are_those_of_the_code() -> None:
    """What the app reads and writes is created before it starts."""
    triggers = {binding["queueName"] for binding in bindings().values() if binding["type"] == "queueTrigger"}
    queues = {last(queue["name"]) for queue in of_type(f"{ACCOUNT}/queueServices/queues")}
    assert queues == set(CONTRACT["queues"]) == triggers == {RETRY_QUEUE, LETTERS_QUEUE, *POISON_QUEUES}
    containers = {last(container["name"]) for container in of_type(f"{ACCOUNT}/blobServices/containers")}
    assert containers == {*CONTRACT["containers"].values(), ITWIN, "deployment"}
    assert CONTRACT["containers"]["results"] == app_settings()["RESULTS_CONTAINER"]
    assert CONTRACT["containers"]["ledger"] == LEDGER_CONTAINER
    for container in CONTRACT["containers"].values():
        assert Drop(container, "x").is_reserved(CONTRACT["containers"]["results"])


def test_lifecycle_rules_apply_to_itwins_and_not_to_the_apps_own_containers() -> None:
    """An iTwin ID begins with a hexadecimal digit; no own container may, or its blobs would be deleted as old drops."""
    assert [name for name in CONTRACT["containers"].values() if name[0] in "0123456789abcdef"] == []
    rules = the(f"{ACCOUNT}/managementPolicies")["properties"]["policy"]["rules"]
    (results,) = rules["delete-old-results"]["definition"]["filters"]["prefixMatch"]
    assert results == f"{CONTRACT['containers']['results']}/"
    assert rules.keys() == {"delete-old-results", "delete-old-versions"}  # drops are kept


def test_storage_logs_the_writes_that_the_overdue_alert_evaluates() -> None:
    """Those of blobs, into the workspace that the alert queries."""
    log = the("Microsoft.Insights/diagnosticSettings", name="writes")
    assert "/blobServices/default/" in log["id"]
    assert log["properties"]["workspaceId"].endswith(the("Microsoft.OperationalInsights/workspaces")["name"])
    assert log["properties"]["logs"] == [{"category": "StorageWrite", "enabled": True}]


def test_the_apps_own_containers_raise_no_events() -> None:
    """A result must not trigger the function that writes results; the preflight's drop must trigger it."""
    prefixes = tuple(CONTRACT["events"]["notInContainers"])
    assert all(f"{container}/x".startswith(prefixes) for container in CONTRACT["containers"].values())
    assert not f"{PROBE_CONTAINER}/x".startswith(prefixes)


def test_a_lock_and_a_scanner_are_deployed_if_configured() -> None:
    """The lock is on what cannot be created again, the scanner on the account that others write to."""
    assert of_type("Microsoft.Authorization/locks") == of_type("Microsoft.Security/defenderForStorageSettings") == []
    locks = of_type("Microsoft.Authorization/locks", "switches")
    assert {lock["properties"]["level"] for lock in locks} == {"CanNotDelete"}
    locked = {lock["id"].split("/providers/")[1].rpartition("/")[0] for lock in locks}
    assert locked == {ACCOUNT, "Microsoft.KeyVault/vaults"}
    scan = the("Microsoft.Security/defenderForStorageSettings", "switches")["properties"]
    assert scan["malwareScanning"]["onUpload"]["isEnabled"] is True
