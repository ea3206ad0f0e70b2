"""What the real compiler says: nothing; and what it predicts is what stands in the snapshots."""

from __future__ import annotations

import json
import re
import shutil
from typing import TYPE_CHECKING, Any

import pytest

from tests.infra.deployed import EVERYWHERE, parameters
from tools.infra import COMMON, FULL, HUB, INFRA, ITWIN, Bicep, check, difference, kept, patch, settings_of

if TYPE_CHECKING:
    from pathlib import Path

RESOURCE_GROUP = "Microsoft.Resources/resourceGroups"


@pytest.fixture(scope="module")
def bicep() -> Bicep:
    """Return the compiler, or say that it is not here."""
    found = Bicep.find()
    if found is None:
        pytest.skip("The Bicep compiler was not found: put bicep on the PATH, or run az bicep install.")
    return found


def test_the_compiler_reports_nothing_and_predicts_the_snapshots(bicep: Bicep) -> None:
    """No error, warning or unformatted line; whoever changes a file also updates the snapshots."""
    assert check(bicep) == []


def test_a_deployment_to_a_group_creates_the_same_as_one_to_a_subscription(bicep: Bicep) -> None:
    """The same resources with the same names, except for the group itself."""
    whole = bicep.snapshot("main.bicepparam", COMMON)
    alone = bicep.snapshot("resources.bicepparam", COMMON, group="rg-prod")
    assert difference({key: each for key, each in whole.items() if each["type"] != RESOURCE_GROUP}, alone) == {}
    whole, alone = (
        bicep.snapshot(f"events/{name}.bicepparam", COMMON, group=group)
        for name, group in (("main", None), ("subscriptions", "rg-prod"))
    )
    assert difference(whole, alone) == {}


def test_names_do_not_depend_on_how_the_region_is_written(bicep: Bicep) -> None:
    """Otherwise a second deployment would create everything again under other names."""
    one, other = (
        bicep.snapshot("events/main.bicepparam", {**COMMON, "AZURE_LOCATION": location})
        for location in ("uksouth", "UK South")
    )
    assert one.keys() == other.keys()


def deployments(template: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the modules of a compiled template by their symbolic names."""
    return {
        name: resource
        for name, resource in template["resources"].items()
        if resource["type"] == "Microsoft.Resources/deployments"
    }


def made_by(module: dict[str, Any]) -> list[dict[str, Any]]:
    """Return what a module makes, without what it only looks up."""
    found = module["properties"]["template"]["resources"]
    made = found.values() if isinstance(found, dict) else found
    return [resource for resource in made if not resource.get("existing")]


def resolve(expression: Any, variables: dict[str, Any]) -> str:
    """Put the variables of a template in the place of their names, but for those that names.bicep computes."""
    text = json.dumps(expression)
    while any(f"variables('{name}')" in text for name in variables if name != "names"):
        for name, value in variables.items():
            if name != "names":
                text = text.replace(f"variables('{name}')", json.dumps(value))
    return text


def test_a_module_that_names_a_resource_depends_on_the_one_that_creates_it(bicep: Bicep) -> None:
    """Names are parameters, so the compiler sees no dependency; without one, Azure creates both at once."""
    template = bicep.compiled(INFRA / "resources.bicep")
    modules = deployments(template)
    named: dict[str, dict[str, set[str]]] = {
        module: {
            parameter: set(re.findall(r"variables\('names'\)\.(\w+)", resolve(value, template["variables"])))
            for parameter, value in each["properties"]["parameters"].items()
        }
        for module, each in modules.items()
    }
    makers = {}
    for module, each in modules.items():
        for resource in made_by(each):
            for parameter in re.findall(r"^\[parameters\('(\w+)'\)\]$", resource["name"]):
                makers.update(dict.fromkeys(named[module][parameter], module))
    assert {"identity", "dropAccount", "hostAccount", "vault", "network", "functionApp", "workspace"} <= makers.keys()
    for module in modules:
        reached, todo = set(), [module]
        while todo:
            for other in modules[todo.pop()].get("dependsOn", []):
                if other not in reached:
                    reached.add(other)
                    # What is skipped for its condition hands on nothing that it depends on.
                    todo += [] if "condition" in modules[other] else [other]
        used = {name for names in named[module].values() for name in names}
        missing = {name for name in used & makers.keys() if makers[name] not in reached | {module}}
        assert missing == set(), module


def test_retention_is_set_after_the_app(bicep: Bicep) -> None:
    """A workspace that was just created refuses it, and deploying the app takes minutes."""
    modules = deployments(bicep.compiled(INFRA / "resources.bicep"))
    assert "functionApp" in modules["logRetention"]["dependsOn"]
    assert modules["logRetention"]["condition"] == "[variables('makesWorkspace')]"


def test_the_malware_scanner_is_enabled_after_the_topic_that_it_shares(bicep: Bicep) -> None:
    """An account has one system topic: the scanner would create it under its own name."""
    assert "eventTopic" in deployments(bicep.compiled(INFRA / "resources.bicep"))["malwareScan"]["dependsOn"]


def listed_as(resource: dict[str, Any]) -> str:
    """Return what the hook makes of a resource's ID; the rest of a DNS zone's name is known only to Azure."""
    name = resource["name"]
    if name.startswith("["):
        service, link = re.findall(r"privatelink\.(\w+)|vaultcore", name)[0], re.findall(r"vnet-[\w-]+", name)
        name = "/".join([f"privatelink.{service or 'vaultcore'}.some.net", *link])
    kinds, names = resource["type"].split("/"), name.split("/")
    return "/".join([kinds[0], *(part for pair in zip(kinds[1:], names, strict=True) for part in pair)]).lower()


@pytest.mark.parametrize("environment", ["switches", "gateway", "private-gateway"])
def test_no_tag_is_removed_and_none_of_ours_is_lost(bicep: Bicep, environment: str) -> None:
    """Whatever tags a resource has already, it keeps; of the same name, that of the deployment counts."""
    having = {identifier: each for identifier, each in kept(environment).items() if "tags" in each}
    existing = {
        listed_as(each): {"owner": "Zoë", "Azd-Env-Name": "other", "cost-center": "0", "name": each["name"]}
        for each in having.values()
    }
    assert len(existing) == len(having)
    given = {"RESOURCE_TAGS": '{"Cost-Center": "4711"}', "EXISTING_TAGS": json.dumps(existing)}
    found = bicep.snapshot("main.bicepparam", {**settings_of(environment), **given})
    for identifier, each in having.items():
        tags = {name.lower(): value for name, value in found[identifier]["tags"].items()}
        assert len(tags) == len(found[identifier]["tags"])
        assert tags == {**each["tags"], "owner": "Zoë", "cost-center": "4711", "name": each["name"]}, identifier


SUBNET = f"{HUB}/Microsoft.Network/virtualNetworks/hub/subnets/one"
SWITCHES = ("DELETE_LOCKS", "MALWARE_SCANNING", "USE_EXISTING_RESOURCE_GROUP", "ZONE_REDUNDANT")
EXISTING = (
    "ACTION_GROUP_ID",
    "APP_SUBNET_ID",
    "ENDPOINT_SUBNET_ID",
    "GATEWAY_SUBNET_ID",
    "KEY_VAULT_ID",
    "LOG_ANALYTICS_WORKSPACE_ID",
)
OF_NETWORK = (
    "APP_SUBNET_ID",
    "ENDPOINT_SUBNET_ID",
    "GATEWAY_SUBNET_ID",
    "OPERATOR_ADDRESS_RANGES",
    "PRIVATE_DNS_ZONES",
)


def camel(name: str) -> str:
    """Return the parameter that an environment variable is of."""
    first, *rest = name.lower().split("_")
    return first + "".join(part.title() for part in rest)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"ITWIN_LOGIN": ""}, r"ITWIN_LOGIN is '', .*: azd env set ITWIN_LOGIN client-credentials"),
        ({"ITWIN_LOGIN": "client-credential"}, r"ITWIN_LOGIN is 'client-credential', .*: azd env set ITWIN_LOGIN "),
        ({"ITWIN_CLIENT_ID": ""}, r"ITWIN_CLIENT_ID is not set: azd env set ITWIN_CLIENT_ID "),
        (
            {"ITWIN_LOGIN": "managed-identity", "ITWIN_TOKEN_SCOPE": "api://x/.default"},
            (
                r"does not accept a managed identity's token, .*: azd env set ITWIN_LOGIN [\w-]+, or azd env set "
                r"ITWIN_API_URL "
            ),
        ),
        (
            {"ITWIN_LOGIN": "managed-identity", "ITWIN_API_URL": "https://gateway.example.com"},
            r"ITWIN_TOKEN_SCOPE, .* is not set: azd env set ITWIN_TOKEN_SCOPE ",
        ),
        ({"ITWIN_LOGIN": "gateway"}, r"GATEWAY_APPLICATION_ID, .* is not set .*: azd env set GATEWAY_APPLICATION_ID "),
        (
            {"ITWIN_LOGIN": "gateway", "GATEWAY_APPLICATION_ID": "x", "ITWIN_CLIENT_ID": ""},
            r"ITWIN_LOGIN is 'gateway', and ITWIN_CLIENT_ID is not set: azd env set ITWIN_CLIENT_ID ",
        ),
        (
            {
                "ITWIN_LOGIN": "gateway",
                "GATEWAY_APPLICATION_ID": "x",
                "PRIVATE_NETWORKING": "true",
                "APP_SUBNET_ID": SUBNET,
                "ENDPOINT_SUBNET_ID": SUBNET,
            },
            r"GATEWAY_SUBNET_ID, .* is not set: azd env set GATEWAY_SUBNET_ID ",
        ),
        (
            {name: "policy" if name == "PRIVATE_DNS_ZONES" else SUBNET for name in OF_NETWORK},
            (
                rf"{', '.join(OF_NETWORK)}: used with private networking alone: azd env set PRIVATE_NETWORKING true"
                r', .*APP_SUBNET_ID "", azd .*, azd env set PRIVATE_DNS_ZONES here'
            ),
        ),
        ({"RESOURCE_NAMES": '{"vault": "kv-a-name-that-is-much-too-long"}'}, r"maximum allowable length is 24"),
        (
            {"PRIVATE_NETWORKING": "true", "GATEWAY_SUBNET_ID": SUBNET},
            r"GATEWAY_SUBNET_ID is used with APP_SUBNET_ID and ENDPOINT_SUBNET_ID alone",
        ),
        (
            dict.fromkeys(EXISTING, "the-name") | {"PRIVATE_NETWORKING": "true"},
            "".join(rf"{name} is 'the-name', and .*: azd env set {name} [\s\S]*" for name in EXISTING),
        ),
        (
            {
                **dict.fromkeys(SWITCHES, "1"),
                "ALWAYS_READY_INSTANCES": "many",
                "DIAGNOSTIC_SETTINGS": "none",
                "EVENT_TOPIC_NAME": f"{HUB}/Microsoft.EventGrid/systemTopics/theirs",
                "GATEWAY_APPLICATION_ID": f"api://{ITWIN}",
                "ITWIN_API_URL": "http://x",
                "ITWIN_IDS": f"{ITWIN},{ITWIN[:-1]}z",
                "ITWIN_TOKEN_URL": "x",
                "MAXIMUM_INSTANCE_COUNT": "2000",
                "OPERATOR_ADDRESS_RANGES": "203.0.113.7",
                "OPERATOR_PRINCIPAL_ID": "me@example.com",
                "OPERATOR_PRINCIPAL_TYPE": "Application",
                "PRIVATE_DNS_ZONES": "Policy",
                "PRIVATE_NETWORKING": "yes",
                "RESOURCE_NAMES": "kv-drops",
                "RESOURCE_TAGS": "cost-center=4711",
            },
            (
                r"USE_EXISTING_RESOURCE_GROUP has to be true or false: azd env set USE_EXISTING_RESOURCE_GROUP [\s\S]*"
                rf"ITWIN_IDS has '{ITWIN[:-1]}z', which is not .*: azd env set ITWIN_IDS [\s\S]*"
                rf"GATEWAY_APPLICATION_ID is 'api://{ITWIN}', .* without api://: azd env set GATEWAY_APP[\s\S]*"
                r"ITWIN_API_URL is 'http://x', and .*: azd env set ITWIN_API_URL https://[\s\S]*"
                r"ITWIN_TOKEN_URL is 'x', and .*: azd env set ITWIN_TOKEN_URL https://[\s\S]*"
                r"ALWAYS_READY_INSTANCES is 'many', .* from 0 to 100: azd env set ALWAYS_READY_INSTANCES 0\. "
                r"MAXIMUM_INSTANCE_COUNT is '2000', .* from 1 to 1000: azd env set MAXIMUM_INSTANCE_COUNT 40\.[\s\S]*"
                r"DELETE_LOCKS is '1', and .* true or false: azd env set DELETE_LOCKS true\. MALWARE_SCANNING is '1', "
                r".*PRIVATE_NETWORKING is 'yes', and .*: azd env set PRIVATE_NETWORKING true\. ZONE_REDUNDANT is '1', "
                r"[\s\S]*PRIVATE_DNS_ZONES is 'Policy', and .*: azd env set PRIVATE_DNS_ZONES [\s\S]*"
                r"OPERATOR_ADDRESS_RANGES has '203\.0\.113\.7', .*: azd env set OPERATOR_ADDRESS_RANGES [\s\S]*"
                r"OPERATOR_PRINCIPAL_ID is 'me@example\.com', .*: azd env set OPERATOR_PRINCIPAL_ID [\s\S]*"
                r"OPERATOR_PRINCIPAL_TYPE is 'Application', .*: azd env set OPERATOR_PRINCIPAL_TYPE User[\s\S]*"
                r"DIAGNOSTIC_SETTINGS is 'none', .*: azd env set DIAGNOSTIC_SETTINGS here[\s\S]*"
                r"RESOURCE_NAMES is 'kv-drops', .* JSON object: azd env set RESOURCE_NAMES [\s\S]*"
                r"RESOURCE_TAGS is 'cost-center=4711', .* JSON object: azd env set RESOURCE_TAGS [\s\S]*"
                r"EVENT_TOPIC_NAME is '/sub.*', .* not its ID: azd env set EVENT_TOPIC_NAME theirs"
            ),
        ),
        (
            {
                "ALWAYS_READY_INSTANCES": "50",
                "APP_SUBNET_ID": SUBNET,
                "ENDPOINT_SUBNET_ID": SUBNET.upper().replace("/SUBSCRIPTIONS", "/subscriptions"),
                "PRIVATE_NETWORKING": "true",
            },
            (
                r"ALWAYS_READY_INSTANCES is 50, and MAXIMUM_INSTANCE_COUNT is less: azd env set MAXIMUM_.* 50[\s\S]*"
                r"APP_SUBNET_ID and ENDPOINT_SUBNET_ID are the same subnet, .*: azd env set ENDPOINT_SUBNET_ID "
            ),
        ),
    ],
)
def test_an_impossible_configuration_is_refused_with_the_command_that_fixes_it(
    bicep: Bicep, settings: dict[str, str], said: str
) -> None:
    """Before anything is deployed, not after a quarter of an hour; for a group alone too, whose file says the same."""
    done = bicep.parameters(INFRA / "main.bicepparam", {**COMMON, **settings})
    assert done.returncode != 0
    assert re.search(said, done.stderr)


def values(bicep: Bicep, environ: dict[str, str]) -> dict[str, Any]:
    """Return the parameters that these environment variables lead to."""
    done = bicep.parameters(INFRA / "main.bicepparam", environ)
    assert done.returncode == 0, done.stderr
    found = json.loads(json.loads(done.stdout)["parametersJson"])["parameters"]
    return {name: each["value"] for name, each in found.items()}


def test_unset_variables_mean_the_templates_defaults(bicep: Bicep) -> None:
    """Through every check and conversion."""
    required = ("AZURE_ENV_NAME", "AZURE_LOCATION", "ITWIN_LOGIN", "ITWIN_CLIENT_ID")
    given = values(bicep, {name: COMMON[name] for name in required})
    assert {camel(name.removeprefix("AZURE_").replace("ENV_", "ENVIRONMENT_")) for name in required} < given.keys()
    defaults = {name: each.value for name, each in parameters().items() if each.default is not None}
    assert {name: given[name] for name in given if name in defaults and name != "itwinClientId"} == {
        name: defaults[name] for name in given if name in defaults and name != "itwinClientId"
    }


def test_a_switch_is_on_however_true_is_written(bicep: Bicep) -> None:
    """In another shell's spelling it would be silently off, and storage open to the public."""
    names = (*SWITCHES, "PRIVATE_NETWORKING")
    given = values(bicep, {**COMMON, **dict.fromkeys(names, "True")})
    assert [name for name in names if given[camel(name)] is not True] == []


@pytest.mark.parametrize("environment", EVERYWHERE)
def test_a_snapshot_can_be_restored_from_its_difference(environment: str) -> None:
    """The tests read exactly what the compiler predicted."""
    full = kept(FULL)
    assert patch(full, difference(full, kept(environment))) == kept(environment)


def test_the_compiler_finds_a_mistake(bicep: Bicep, tmp_path: Path) -> None:
    """The checks rely on it: a misspelt parameter, an unknown name, an unused parameter."""
    (tmp_path / "wrong.bicep").write_text("param unused string\noutput x string = missing\n")
    said = "\n".join(bicep.diagnostics(tmp_path))
    assert "BCP057" in said
    assert "no-unused-params" in said


def test_no_environment_variable_of_this_machine_is_read(bicep: Bicep, monkeypatch: pytest.MonkeyPatch) -> None:
    """The prediction does not depend on who makes it."""
    monkeypatch.setenv("ALERT_EMAIL", "somebody@example.com")
    assert "somebody" not in bicep.parameters(INFRA / "main.bicepparam", settings_of(FULL)).stdout


def test_a_name_that_hides_resources_from_what_if_is_found(bicep: Bicep, tmp_path: Path) -> None:
    """If an output of one module is a name in another, what-if cannot show the resources below it."""
    shutil.copy(INFRA / "bicepconfig.json", tmp_path)
    (tmp_path / "made.bicep").write_text("output name string = resourceGroup().name\n")
    (tmp_path / "named.bicep").write_text(
        "param name string\nresource identity 'Microsoft.ManagedIdentity/userAssignedIdentities@2024-11-30' = {\n"
        "  name: name\n  location: resourceGroup().location\n}\n"
    )
    (tmp_path / "main.bicep").write_text(
        "module made 'made.bicep' = {}\nmodule named 'named.bicep' = {\n  params: { name: made.outputs.name }\n}\n"
    )
    assert any("what-if-short-circuiting" in line for line in bicep.diagnostics(tmp_path))


@pytest.mark.parametrize("environment", EVERYWHERE)
def test_every_resource_has_a_stable_version(environment: str) -> None:
    """Except diagnostic settings, whose stable one cannot send to a workspace; older ones of the vault end in 2027."""
    versions = {each["type"]: each["apiVersion"] for each in kept(environment).values()}
    previews = [kind for kind, version in versions.items() if "preview" in version]
    assert set(previews) <= {"Microsoft.Insights/diagnosticSettings"}
    assert versions.get("Microsoft.KeyVault/vaults", "2026-02-01") >= "2026-02-01"


@pytest.mark.parametrize("environment", EVERYWHERE)
def test_no_resource_is_deployed_twice(environment: str) -> None:
    """Nor do two have the same name where names ignore case."""
    ids = [key.lower() for key in kept(environment)]
    assert len(set(ids)) == len(ids) > 40
