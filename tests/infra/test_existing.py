"""What is there already is used, and neither made again nor changed."""

from __future__ import annotations

from typing import Any

import pytest

from tests.infra.deployed import (
    EVERYWHERE,
    app_name,
    app_settings,
    log_alerts,
    metric_alerts,
    of_type,
    outputs,
    resources,
    role_assignments,
    the,
)
from tools.infra import FULL, settings_of

HUB = "/resourceGroups/rg-hub/"
# What can be there already, with the variable that says so.
MADE = {
    "ACTION_GROUP_ID": "Microsoft.Insights/actionGroups",
    "KEY_VAULT_ID": "Microsoft.KeyVault/vaults",
    "LOG_ANALYTICS_WORKSPACE_ID": "Microsoft.OperationalInsights/workspaces",
    "USE_EXISTING_RESOURCE_GROUP": "Microsoft.Resources/resourceGroups",
}


@pytest.mark.parametrize(("variable", "kind"), MADE.items())
def test_existing_resources_are_not_created(variable: str, kind: str) -> None:
    """Otherwise they would be created again, or changed."""
    assert settings_of("existing")[variable]
    assert [bool(of_type(kind, environment)) for environment in (FULL, "existing")] == [True, False]


def test_existing_resources_are_used() -> None:
    """By ID, in whichever resource group they are."""
    given = settings_of("existing")
    for alert in log_alerts("existing").values():
        assert alert["actions"]["actionGroups"] == [given["ACTION_GROUP_ID"]]
    for alert in metric_alerts("existing").values():
        assert alert["actions"] == [{"actionGroupId": given["ACTION_GROUP_ID"]}]
    assert log_alerts("existing")["overdue"]["scopes"] == [given["LOG_ANALYTICS_WORKSPACE_ID"]]
    insights = the("Microsoft.Insights/components", "existing")["properties"]
    assert insights["WorkspaceResourceId"] == given["LOG_ANALYTICS_WORKSPACE_ID"]
    for log in of_type("Microsoft.Insights/diagnosticSettings", "existing"):
        assert log["properties"]["workspaceId"] == given["LOG_ANALYTICS_WORKSPACE_ID"]
    assert "'kv-hub'" in app_settings("existing")["ITWIN_SECRET_URL"]


def test_an_existing_system_topic_is_shared() -> None:
    """Its subscriptions and alerts are created, and nothing of it is changed."""
    assert of_type("Microsoft.EventGrid/systemTopics", "existing") == []
    subscriptions = of_type("Microsoft.EventGrid/systemTopics/eventSubscriptions", "existing")
    assert {each["name"] for each in subscriptions} == {"made-by-defender/drops", "made-by-defender/dead-letters"}
    for alert in metric_alerts("existing").values():
        (scope,) = alert["scopes"]
        assert scope.endswith("/made-by-defender")


def test_the_tables_of_an_existing_workspace_are_not_changed() -> None:
    """Others keep their logs in them too."""
    kind = "Microsoft.OperationalInsights/workspaces/tables"
    assert [len(of_type(kind, environment)) for environment in (FULL, "existing")] == [7, 0]


@pytest.mark.parametrize("environment", EVERYWHERE)
def test_only_roles_are_created_in_another_group(environment: str) -> None:
    """Its owner finds no resources there that they did not create."""
    elsewhere = [each["type"] for key, each in resources(environment).items() if HUB in key.partition("', '")[0]]
    assert set(elsewhere) <= {"Microsoft.Authorization/roleAssignments"}


@pytest.mark.parametrize("environment", EVERYWHERE)
def test_every_taggable_resource_has_azds_tags_and_the_users(environment: str) -> None:
    """Policies require some; azd finds the environment by its own."""
    own = {"cost-center": "4711"} if environment == "existing" else {}
    for resource in resources(environment).values():
        if "location" in resource:
            assert resource["tags"].items() >= {"azd-env-name": "prod", **own}.items(), resource["id"]


def test_resources_can_be_given_other_names() -> None:
    """Companies have naming conventions."""
    plan = the("Microsoft.Web/serverfarms", "existing")
    assert plan["name"] == "plan-drops"
    assert the("Microsoft.Web/sites", "existing")["properties"]["serverFarmId"] == plan["id"]


def test_the_name_of_an_account_is_converted_to_one_that_storage_accepts() -> None:
    """It refuses capital letters, which a convention may require."""
    named = [account["name"] for account in of_type("Microsoft.Storage/storageAccounts", "existing")]
    assert "sthostdrops" in named


def test_a_deployer_without_permission_to_assign_roles_can_deploy() -> None:
    """After someone with that permission; the rest is created, and the outputs name the identities that need roles."""
    assert role_assignments("private-existing")
    assert role_assignments("private-governed") == []
    assert {"APP_PRINCIPAL_ID", "EVENT_TOPIC_PRINCIPAL_ID"} <= outputs().keys()


def test_settings_and_zones_created_by_a_policy_are_left_to_it() -> None:
    """A second setting for the same logs and workspace is refused, and a second DNS record would be misleading."""
    assert of_type("Microsoft.Insights/diagnosticSettings", "private-governed") == []
    made = network_of("private-governed")
    assert [kind for kind, each in made.items() if each] == ["privateEndpoints"]


@pytest.mark.parametrize(("environment", "is_scanned"), [("private-existing", False), ("private-governed", True)])
def test_the_malware_scanner_is_admitted_by_a_closed_firewall(environment: str, *, is_scanned: bool) -> None:
    """It adds its own rule, which each deployment would otherwise remove."""
    account = the("Microsoft.Storage/storageAccounts", environment, name=app_name("stdrops"))
    rules = account["properties"]["networkAcls"]["resourceAccessRules"]
    assert [rule["resourceId"].partition("/providers/")[2] for rule in rules] == (
        ["Microsoft.Security/datascanners/StorageDataScanner"] if is_scanned else []
    )


def network_of(environment: str) -> dict[str, list[dict[str, Any]]]:
    """Return what an environment makes of networks, by type."""
    kinds = ("virtualNetworks", "networkSecurityGroups", "privateEndpoints", "privateDnsZones")
    links = ("privateEndpoints/privateDnsZoneGroups", "privateDnsZones/virtualNetworkLinks")
    return {kind: of_type(f"Microsoft.Network/{kind}", environment) for kind in (*kinds, *links)}


def test_a_private_environment_has_its_own_network_with_rules_on_every_subnet() -> None:
    """Six endpoints in a subnet that admits only HTTPS, and a subnet for the app that admits nothing."""
    made = network_of("private")
    (network,) = made["virtualNetworks"]
    subnets = network["properties"]["subnets"]
    groups = {group["id"]: group["properties"]["securityRules"] for group in made["networkSecurityGroups"]}
    assert {subnet["properties"]["networkSecurityGroup"]["id"] for subnet in subnets.values()} == groups.keys()
    allowed = [rule for rules in groups.values() for rule in rules.values() if rule["properties"]["access"] == "Allow"]
    assert [rule["properties"]["destinationPortRange"] for rule in allowed] == ["443"]
    # Without this, a private endpoint passes its subnet's rules by.
    assert subnets["endpoints"]["properties"]["privateEndpointNetworkPolicies"] == "NetworkSecurityGroupEnabled"
    assert len(made["privateEndpoints"]) == len(made["privateEndpoints/privateDnsZoneGroups"]) == 6
    assert len(made["privateDnsZones"]) == len(made["privateDnsZones/virtualNetworkLinks"]) == 4
    assert all(not each for each in network_of(FULL).values())


def test_existing_subnets_and_zones_are_used() -> None:
    """A hub has them, and a policy may refuse others."""
    given = settings_of("private-existing")
    made = network_of("private-existing")
    assert {kind for kind, each in made.items() if each} == {
        "privateEndpoints",
        "privateEndpoints/privateDnsZoneGroups",
    }
    for endpoint in made["privateEndpoints"]:
        assert endpoint["properties"]["subnet"]["id"] == given["ENDPOINT_SUBNET_ID"]
    for group in made["privateEndpoints/privateDnsZoneGroups"]:
        for zone in group["properties"]["privateDnsZoneConfigs"].values():
            assert given["PRIVATE_DNS_ZONES"].rpartition("/")[2] in zone["properties"]["privateDnsZoneId"]
    app = the("Microsoft.Web/sites", "private-existing")["properties"]
    assert app["virtualNetworkSubnetId"] == given["APP_SUBNET_ID"]
