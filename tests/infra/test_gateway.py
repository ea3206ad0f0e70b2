"""The login `gateway`: what is deployed is what the local cloud executes, and the app has no way around it."""

from __future__ import annotations

import re
from typing import Any

import pytest

from local.api_management import deployed_policy
from tests.infra.deployed import CONTRACT, app_settings, of_type, resources, role_assignments, the
from tests.infra.role_table import row
from tools.infra import settings_of

SERVICE = "Microsoft.ApiManagement/service"
GATEWAYS = ("gateway", "private-gateway")


def named_values(environment: str) -> dict[str, Any]:
    """Return what the policy's names in double braces stand for."""
    return {
        each["properties"]["displayName"]: each["properties"]["value"]
        for each in of_type(f"{SERVICE}/namedValues", environment)
    }


@pytest.mark.parametrize("environment", GATEWAYS)
def test_the_policy_is_the_file_that_the_local_cloud_executes(environment: str) -> None:
    """Character for character, and deployed as XML."""
    policy = the(f"{SERVICE}/apis/policies", environment)["properties"]
    assert policy == {"format": "xml", "value": deployed_policy()}


@pytest.mark.parametrize("environment", GATEWAYS)
def test_every_named_value_of_the_policy_is_deployed_and_none_is_secret(environment: str) -> None:
    """Azure refuses a policy with an unknown one; the secret itself is read at run time."""
    assert named_values(environment).keys() == set(re.findall(r"\{\{([\w-]+)\}\}", deployed_policy()))
    assert [each for each in of_type(f"{SERVICE}/namedValues", environment) if "secret" in each["properties"]] == []


def test_the_gateway_accepts_only_the_apps_identity() -> None:
    """By that identity's client ID, for the app registration that its tokens are for."""
    values, settings = named_values("gateway"), app_settings("gateway")
    assert values["app-client-id"] == settings["AZURE_CLIENT_ID"].replace("[string(", "[").replace(")]", "]")
    assert settings["ITWIN_TOKEN_SCOPE"] == f"api://{values['gateway-application-id']}/.default"
    assert values["gateway-application-id"] == settings_of("gateway")["GATEWAY_APPLICATION_ID"]
    assert values["itwin-client-id"] == settings_of("gateway")["ITWIN_CLIENT_ID"]
    assert f"/secrets/{{2}}', '{the('Microsoft.KeyVault/vaults', 'gateway')['name']}'" in values["itwin-secret-url"]
    assert f"'{CONTRACT['secret']}'" in values["itwin-secret-url"]
    # https://vault.azure.net of .vault.azure.net, and so in every cloud.
    assert "'https:/{0}', replace(environment().suffixes.keyvaultDns, '.vault.', '/vault.')" in values["vault-resource"]


def test_the_app_calls_the_deployed_gateway_like_any_other() -> None:
    """With its managed identity; it gets nothing that belongs to the service app."""
    settings = app_settings("gateway")
    assert settings["ITWIN_LOGIN"] == "managed-identity"
    gateway = the(SERVICE, "gateway")["name"]
    assert re.fullmatch(rf"\[string\(reference\('.*/{gateway}', '.*'\)\.gatewayUrl\)\]", settings["ITWIN_API_URL"])
    assert not [name for name in settings if "SECRET" in name or name == "ITWIN_CLIENT_ID"]


def test_the_gateway_has_the_operations_that_the_app_calls_and_no_other() -> None:
    """Without a key, because the token identifies the caller."""
    operations = [each["properties"] for each in of_type(f"{SERVICE}/apis/operations", "gateway")]
    assert {(each["method"], each["urlTemplate"]) for each in operations} == {
        ("PUT", "/itwins/{iTwinId}/image"),
        ("GET", "/accesscontrol/itwins/{iTwinId}/permissions"),
    }
    for each in operations:
        assert list(each["templateParameters"]) == re.findall(r"\{(\w+)\}", each["urlTemplate"])
    api = the(f"{SERVICE}/apis", "gateway")["properties"]
    assert (api["path"], api["protocols"], api["subscriptionRequired"]) == ("", ["https"], False)
    assert api["serviceUrl"] == "https://api.bentley.com"


@pytest.mark.parametrize("environment", GATEWAYS)
def test_only_the_gateway_can_read_the_secret(environment: str) -> None:
    """The app has no role on the vault."""
    readers = {who for who, role, on, _ in map(row, role_assignments(environment)) if (role, on) == READS_SECRET}
    assert readers == {"gateway"}


READS_SECRET = ("Key Vault Secrets User", "vault")


def test_the_gateway_has_the_cheapest_suitable_tier() -> None:
    """Basic v2; Standard v2 if it has to call into a network, from a subnet of its own."""
    gateway = the(SERVICE, "gateway")
    assert gateway["sku"] == {"name": "BasicV2", "capacity": 1}
    assert gateway["properties"]["virtualNetworkType"] == "None"
    private = the(SERVICE, "private-gateway")
    assert private["sku"] == {"name": "StandardV2", "capacity": 1}
    assert private["properties"]["virtualNetworkType"] == "External"
    subnet_id = private["properties"]["virtualNetworkConfiguration"]["subnetResourceId"]
    subnets = the("Microsoft.Network/virtualNetworks", "private-gateway")["properties"]["subnets"]
    subnet = subnets[subnet_id.rpartition("/")[2]]["properties"]
    assert subnet["networkSecurityGroup"]["id"] in resources("private-gateway")
    (delegation,) = subnet["delegations"].values()
    assert delegation["properties"]["serviceName"] == "Microsoft.Web/serverFarms"
