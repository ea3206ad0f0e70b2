"""What is deployed holds together, and holds with the code: names, settings, roles, queries and pages."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from functools import cache
from graphlib import TopologicalSorter
from typing import TYPE_CHECKING, Any, get_args

import pytest
import yaml
from pathspec import GitIgnoreSpec
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

import function_app
from local.cloud import DEFAULT_FILTERS, LocalCloud
from local.itwin_platform import ScriptedAnswer
from local.processes import wait_until
from local.samples import building_site, encode
from local.serving import serve
from shared.drop import HOUSEKEEPING_FOLDERS, HOUSEKEEPING_NAMES, Drop
from shared.errors import DropError, InvalidSettings, NeedsOperator
from shared.image.model import AspectPolicy
from shared.ledger import LEDGER_CONTAINER
from shared.preflight import GIVEN_UP_QUEUES, PROBE_CONTAINER
from shared.retries import RETRY_QUEUE
from shared.settings import CONNECTION, Settings
from tests.bicep import FILES, INFRA, PARAMETER_FILES, Document

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from starlette.requests import Request

PROJECT = INFRA.parent
MAIN = Document(INFRA / "main.bicep")
FUNCTION_APP = Document(INFRA / "modules" / "function-app.bicep")
ROLES = Document(INFRA / "modules" / "roles.bicep")
ALERTS = Document(INFRA / "modules" / "alerts.bicep")
MONITORING = Document(INFRA / "modules" / "monitoring.bicep")
CONTRACT = json.loads((INFRA / "contract.json").read_text())
HOST = json.loads((PROJECT / "host.json").read_text())
AZURE = yaml.safe_load((PROJECT / "azure.yaml").read_text())
WORKFLOWS = {path.stem: path for path in (PROJECT / ".github" / "workflows").glob("*.yml")}
README = (INFRA / "README.md").read_text("utf-8")
RUNBOOK = (PROJECT / "docs" / "runbook.md").read_text("utf-8")

# Versions that Azure publishes types of: https://github.com/Azure/bicep-types-az/tree/main/generated. They are stable
# but for diagnostic settings, whose stable versions cannot send to a workspace what is sent here.
PUBLISHED = {
    "Microsoft.Authorization/roleAssignments": "2022-04-01",
    "Microsoft.EventGrid/systemTopics": "2025-02-15",
    "Microsoft.EventGrid/systemTopics/eventSubscriptions": "2025-02-15",
    "Microsoft.Insights/actionGroups": "2023-01-01",
    "Microsoft.Insights/components": "2020-02-02",
    "Microsoft.Insights/diagnosticSettings": "2021-05-01-preview",
    "Microsoft.Insights/metricAlerts": "2018-03-01",
    "Microsoft.Insights/scheduledQueryRules": "2022-06-15",
    "Microsoft.Insights/workbooks": "2023-06-01",
    "Microsoft.KeyVault/vaults": "2023-07-01",
    "Microsoft.ManagedIdentity/userAssignedIdentities": "2023-01-31",
    "Microsoft.Network/privateDnsZones": "2020-06-01",
    "Microsoft.Network/privateDnsZones/virtualNetworkLinks": "2020-06-01",
    "Microsoft.Network/privateEndpoints": "2024-05-01",
    "Microsoft.Network/privateEndpoints/privateDnsZoneGroups": "2024-05-01",
    "Microsoft.Network/virtualNetworks": "2024-05-01",
    "Microsoft.OperationalInsights/workspaces": "2023-09-01",
    "Microsoft.OperationalInsights/workspaces/tables": "2022-10-01",
    "Microsoft.Resources/resourceGroups": "2024-03-01",
    "Microsoft.Storage/storageAccounts": "2024-01-01",
    "Microsoft.Storage/storageAccounts/blobServices": "2024-01-01",
    "Microsoft.Storage/storageAccounts/blobServices/containers": "2024-01-01",
    "Microsoft.Storage/storageAccounts/managementPolicies": "2024-01-01",
    "Microsoft.Storage/storageAccounts/queueServices": "2024-01-01",
    "Microsoft.Storage/storageAccounts/queueServices/queues": "2024-01-01",
    "Microsoft.Web/serverfarms": "2024-04-01",
    "Microsoft.Web/sites": "2024-04-01",
}
# https://learn.microsoft.com/azure/azure-resource-manager/bicep/bicep-functions, and its decorators
FUNCTIONS = set(
    re.findall(
        r"\w+",
        """
        allowed batchSize cidrSubnet concat contains description empty environment export filter guid indexOf items
        listKeys loadJsonContent loadTextContent map max maxLength maxValue metadata minLength minValue replace
        resourceGroup resourceId string subscription subscriptionResourceId toLower union uniqueString
        """,
    )
)
# https://learn.microsoft.com/azure/azure-functions/functions-app-settings#flex-consumption-plan-deprecations
FORBIDDEN_ON_FLEX = {
    "ENABLE_ORYX_BUILD",
    "FUNCTIONS_EXTENSION_VERSION",
    "FUNCTIONS_WORKER_PROCESS_COUNT",
    "FUNCTIONS_WORKER_RUNTIME",
    "FUNCTIONS_WORKER_RUNTIME_VERSION",
    "SCM_DO_BUILD_DURING_DEPLOYMENT",
    "WEBSITE_CONTENTAZUREFILECONNECTIONSTRING",
    "WEBSITE_CONTENTSHARE",
    "WEBSITE_RUN_FROM_PACKAGE",
}
# What the platform and Pillow read, and the app does not.
PLATFORM_SETTINGS = {
    "APPLICATIONINSIGHTS_AUTHENTICATION_STRING",
    "APPLICATIONINSIGHTS_CONNECTION_STRING",
    "AzureWebJobsStorage__blobServiceUri",
    "AzureWebJobsStorage__clientId",
    "AzureWebJobsStorage__credential",
    "AzureWebJobsStorage__queueServiceUri",
    "AzureWebJobsStorage__tableServiceUri",
    "PILLOW_BLOCKS_MAX",
    "PYTHON_THREADPOOL_THREAD_COUNT",
}
LOGINS = {"managed-identity": "managedIdentitySettings", "client-credentials": "clientCredentialsSettings"}

documents = pytest.mark.parametrize("document", [Document(path) for path in FILES], ids=lambda document: document.name)


@pytest.mark.parametrize("path", [*FILES, *PARAMETER_FILES], ids=lambda path: path.relative_to(INFRA).as_posix())
def test_every_file_is_bicep(path: Path) -> None:
    """The grammar knows all of it."""
    assert Document(path).errors == []


@documents
def test_every_parameter_is_described_and_used(document: Document) -> None:
    """Nobody has to guess what a parameter does, and none does nothing."""
    for name, parameter in document.all("parameter").items():
        assert str(parameter.decorators.get("description", "")).endswith("."), name
        assert document.uses(name) > 0, name


@documents
def test_every_variable_is_used(document: Document) -> None:
    """What nothing needs is not there."""
    assert [name for name in document.all("variable") if document.uses(name) == 0] == []


@documents
def test_every_name_is_declared(document: Document) -> None:
    """What the compiler would not find is found here: a misspelt parameter, resource or function."""
    assert document.used_by(document.root) - document.names == set()
    assert document.functions - document.names - FUNCTIONS == set()


@documents
def test_nothing_waits_for_itself(document: Document) -> None:
    """No two declarations need each other, however many stand between them."""
    declared = {**document.all("variable"), **document.all("resource"), **document.all("module")}
    waits = {name: document.used_by(each.node) & set(declared) for name, each in declared.items()}
    assert set(TopologicalSorter(waits).static_order()) == set(declared)


@documents
def test_every_resource_that_is_only_looked_up_is_used(document: Document) -> None:
    """One that nothing needs would have to be there all the same."""
    looked_up = [name for name, each in document.all("resource").items() if b" existing =" in (each.node.text or b"")]
    assert [name for name in looked_up if document.uses(name) == 0] == []


@documents
def test_every_module_gets_what_it_asks_for(document: Document) -> None:
    """No parameter is missing, and none is given that the module has not."""
    for name, module in document.all("module").items():
        target = Document((document.path.parent / module.reference).resolve())
        parameters = target.all("parameter")
        required = {key for key, parameter in parameters.items() if parameter.value is None}
        given = set(module.body["params"])
        assert required <= given <= set(parameters), name


def test_every_output_that_is_read_is_there_and_every_one_is_read() -> None:
    """`main.bicep` and its modules agree about outputs."""
    read = set(re.findall(r"(\w+)\.outputs\.(\w+)", MAIN.text))
    written = {
        (name, output)
        for name, module in MAIN.all("module").items()
        for output in Document(INFRA / module.reference).all("output")
    }
    assert read == written


@documents
def test_every_resource_has_a_published_version(document: Document) -> None:
    """No version is invented; a nested resource has its parent's."""
    for resource in document.all("resource").values():
        kind, _, version = resource.reference.partition("@")
        assert not version or PUBLISHED.get(kind) == version, resource.reference


@documents
def test_no_output_and_no_default_is_a_secret(document: Document) -> None:
    """Neither by name nor by where it comes from; keys are read in one place, where the subscription needs one."""
    secret = re.compile(r"key|secret|password|connectionstring|token", re.IGNORECASE)
    for output in document.all("output").values():
        assert not secret.search(f"{output.name} {output.value}"), output.name
    keys = [name for name in ("listKeys", "listSecrets", "listAccountSas") if name in document.text]
    assert keys == (["listKeys"] if document.name == "events/subscription.bicep" else [])


@documents
def test_storage_takes_no_keys_and_shows_nothing_to_the_public(document: Document) -> None:
    """Every account is reached with an Entra token over TLS 1.2 alone."""
    for resource in document.all("resource").values():
        if resource.reference.startswith("Microsoft.Storage/storageAccounts@") and "properties" in resource.body:
            properties = resource.body["properties"]
            assert properties["allowSharedKeyAccess"] is False
            assert properties["allowBlobPublicAccess"] is False
            assert properties["minimumTlsVersion"] == "TLS1_2"
            assert properties["supportsHttpsTrafficOnly"] is True


def test_logs_are_taken_with_an_entra_token_alone() -> None:
    """Application Insights has no key that works."""
    assert MONITORING.all("resource")["applicationInsights"].body["properties"]["DisableLocalAuth"] is True


def test_logs_are_kept_as_long_as_the_parameter_says() -> None:
    """Application Insights' tables follow no setting of the workspace's: each that the host writes is told."""
    tables = MONITORING.all("resource")["tables"].body
    assert tables["properties"]["retentionInDays"].text == "retentionDays"
    assert {"AppTraces", "AppRequests", "AppExceptions"} <= set(MONITORING.all("variable")["tableNames"].value)


def test_storage_logs_the_writes_that_the_overdue_alert_looks_at() -> None:
    """Of blobs, and into the workspace that the alert asks."""
    log = Document(INFRA / "modules" / "drop-account.bicep").all("resource")["writeLog"].body
    assert log["scope"].text == "blobs"
    assert log["properties"]["workspaceId"].text == "workspace.id"
    assert log["properties"]["logs"] == [{"category": "StorageWrite", "enabled": True}]


def test_every_region_takes_the_default_of_the_maximum_of_instances() -> None:
    """Some refuse fewer than 40, and `azd up` has to work in all of them."""
    assert MAIN.all("parameter")["maximumInstanceCount"].value >= 40


class Recorder(dict[str, str]):
    """An environment that remembers what is asked of it."""

    def __init__(self, values: Mapping[str, str]) -> None:
        super().__init__(values)
        self.asked: set[str] = set()

    def get(self, name: str, default: str = "") -> str:  # type: ignore[override]  # a default is always given
        """Remember the name."""
        self.asked.add(name)
        return super().get(name, default)


def app_settings(login: str) -> dict[str, Any]:
    """Return the settings that are deployed with this login."""
    variables = FUNCTION_APP.all("variable")
    limits = MAIN.all("module")["functionApp"].body["params"]["limits"]
    names = ("hostSettings", "dropSettings", LOGINS[login])
    return {**limits, **{key: value for name in names for key, value in variables[name].value.items()}}


@pytest.mark.parametrize("login", LOGINS)
def test_the_app_gets_every_setting_that_it_reads_and_no_other(login: str) -> None:
    """None is missing and none is dead; a connection string is what storage without keys has not."""
    recorder = Recorder({f"{CONNECTION}__blobServiceUri": "https://x", "ITWIN_LOGIN": login})
    with pytest.raises(InvalidSettings):
        Settings.from_environ(recorder)
    assert set(app_settings(login)) - PLATFORM_SETTINGS == recorder.asked - {CONNECTION}
    assert set(app_settings(login)) >= PLATFORM_SETTINGS


def test_pillow_keeps_as_many_blocks_as_are_deployed() -> None:
    """It reads the setting where it is imported, and 64 MB are what an instance has to spare."""
    blocks = FUNCTION_APP.all("variable")["hostSettings"].value["PILLOW_BLOCKS_MAX"].text.rpartition(" : ")[2]
    print_bytes = "from PIL import Image; print(Image.core.get_blocks_max() * Image.core.get_block_size())"
    process = [sys.executable, "-c", print_bytes]
    environ = {**os.environ, "PILLOW_BLOCKS_MAX": blocks}
    printed = subprocess.run(process, env=environ, capture_output=True, text=True, check=True).stdout
    assert int(printed) == 64 * 2**20


@pytest.mark.parametrize("login", LOGINS)
def test_no_setting_is_one_that_flex_consumption_forbids(login: str) -> None:
    """A single one of them fails the deployment."""
    assert not FORBIDDEN_ON_FLEX & set(app_settings(login))


def test_the_client_secret_is_a_reference() -> None:
    """Its value is nowhere in what is deployed."""
    secret = app_settings("client-credentials")["ITWIN_CLIENT_SECRET"]
    assert secret.text.startswith("'@Microsoft.KeyVault(VaultName=${vaultName};SecretName=")


def test_both_logins_can_be_chosen() -> None:
    """The parameter's values are those of the setting."""
    assert MAIN.all("parameter")["itwinLogin"].decorators["allowed"] == list(LOGINS)
    assert MAIN.all("parameter")["aspectPolicy"].decorators["allowed"] == list(get_args(AspectPolicy))


LIMITS = {name: value.text for name, value in MAIN.all("module")["functionApp"].body["params"]["limits"].items()}


def settings_with(**changes: object) -> Settings:
    """Read settings that are right but for these."""
    environ = {CONNECTION: "AccountName=a;AccountKey=b", "ITWIN_TOKEN_SCOPE": "api://x/.default"}
    return Settings.from_environ(environ | {name: str(value) for name, value in changes.items()})


def test_the_defaults_of_the_limits_are_those_of_the_code() -> None:
    """Whether a limit is deployed or left out, the app behaves alike."""
    parameters = MAIN.all("parameter")
    assert settings_with(**{name: parameters[key].value for name, key in LIMITS.items()}) == settings_with()


@pytest.mark.parametrize("setting", [name for name in LIMITS if name != "ASPECT_POLICY"])
def test_the_bounds_of_the_limits_are_those_of_the_code(setting: str) -> None:
    """What the deployment takes, the app takes; what the app refuses, the deployment refuses before."""
    decorators = MAIN.all("parameter")[LIMITS[setting]].decorators
    least, most = decorators["minValue"], decorators["maxValue"]
    shortest = {"RETRY_MIN_DELAY_S": 1}  # for it may not be more than the longest delay
    settings_with(**shortest | {setting: least})
    settings_with(**shortest | {setting: most})
    for value in (least - 1, most + 1):
        with pytest.raises(InvalidSettings):
            settings_with(**{setting: value})


@cache
def bindings() -> dict[str, dict[str, Any]]:
    """Return the trigger of each function of the app."""
    return {
        str(function.get_function_name()): json.loads(function.get_raw_bindings()[0])
        for function in function_app.app.get_functions()
    }


def test_events_go_to_the_function_that_takes_them() -> None:
    """Event Grid accepts a wrong name and loses every event: the name is that of the one blob trigger."""
    assert [name for name, binding in bindings().items() if binding["type"] == "blobTrigger"] == [CONTRACT["function"]]


def test_queues_and_containers_are_those_of_the_code() -> None:
    """What the app reads and writes is made before it starts."""
    triggers = {binding["queueName"] for binding in bindings().values() if binding["type"] == "queueTrigger"}
    assert set(CONTRACT["queues"]) == triggers == {RETRY_QUEUE, *GIVEN_UP_QUEUES}
    assert CONTRACT["containers"]["results"] == settings_with().storage.results_container
    assert CONTRACT["containers"]["ledger"] == LEDGER_CONTAINER
    for container in CONTRACT["containers"].values():
        assert Drop(container, "x").is_reserved(CONTRACT["containers"]["results"])


def test_the_subscription_filters_what_the_local_cloud_filters() -> None:
    """What was tried on a laptop is what is deployed."""
    prefix = "/blobServices/default/containers/"
    subjects = tuple(f"{prefix}{name}" for name in CONTRACT["events"]["notInContainers"])
    assert [(f.operator, f.key, f.values) for f in DEFAULT_FILTERS] == [
        ("StringNotBeginsWith", "subject", subjects),
        ("StringIn", "data.api", tuple(CONTRACT["events"]["apis"])),
    ]
    subscription = Document(INFRA / "events" / "subscription.bicep").all("resource")["eventSubscription"].body
    filters = subscription["properties"]["filter"]["advancedFilters"]
    assert [(f["operatorType"], f["key"]) for f in filters] == [(f.operator, f.key) for f in DEFAULT_FILTERS]
    assert sum(len(f.values) for f in DEFAULT_FILTERS) <= 25


def test_the_apps_own_containers_raise_no_events() -> None:
    """A result must not trigger the function that writes results; the preflight's drop must."""
    prefixes = tuple(CONTRACT["events"]["notInContainers"])
    assert all(f"{container}/x".startswith(prefixes) for container in CONTRACT["containers"].values())
    assert not f"{PROBE_CONTAINER}/x".startswith(prefixes)


def test_lifecycle_rules_reach_itwins_and_spare_the_apps_own_containers() -> None:
    """An iTwin ID begins with a hexadecimal digit; no own container may, or its blobs would be deleted as old drops."""
    prefixes = Document(INFRA / "modules" / "drop-account.bicep").all("variable")["itwinPrefixes"].value
    assert all(len(group) <= 10 for group in prefixes)
    flat = tuple(prefix for group in prefixes for prefix in group)
    assert set(flat) == set("0123456789abcdef")
    assert [name for name in CONTRACT["containers"].values() if name.startswith(flat)] == []


def test_as_many_drops_run_at_once_as_there_are_threads() -> None:
    """The host must not take what no thread is free for: its lease would run out while it waits."""
    extensions = HOST["extensions"]
    assert extensions["blobs"]["maxDegreeOfParallelism"] == CONTRACT["threads"]
    assert extensions["queues"]["batchSize"] + extensions["queues"]["newBatchThreshold"] == CONTRACT["threads"]


def test_the_app_has_a_role_for_each_thing_that_it_reaches_and_no_other() -> None:
    """Each setting that leads somewhere needs one role there."""
    needed_by = {
        "AzureWebJobsStorage__blobServiceUri": ("Storage Blob Data Owner", "host"),
        "AzureWebJobsStorage__queueServiceUri": ("Storage Queue Data Contributor", "host"),
        "AzureWebJobsStorage__tableServiceUri": ("Storage Table Data Contributor", "host"),
        "DropStorage__blobServiceUri": ("Storage Blob Data Contributor", "drops"),
        "DropStorage__queueServiceUri": ("Storage Queue Data Contributor", "drops"),
        "APPLICATIONINSIGHTS_AUTHENTICATION_STRING": ("Monitoring Metrics Publisher", "insights"),
        "ITWIN_CLIENT_SECRET": ("Key Vault Secrets User", "vault"),
    }
    settings = app_settings("managed-identity") | app_settings("client-credentials")
    reaching = {
        name
        for name, value in settings.items()
        if "Uri" in name or "AUTHENTICATION" in name or "KeyVault" in str(value)
    }
    table = ROLES.all("variable")["table"].value
    assert set(needed_by) == reaching
    assert sorted((row["role"], row["on"]) for row in table if row["who"] == "app") == sorted(needed_by.values())


def test_every_role_has_a_reason_and_an_id_and_is_used() -> None:
    """The page for operators has the same table."""
    table = ROLES.all("variable")["table"].value
    ids = ROLES.all("variable")["roleIds"].value
    assert {row["role"] for row in table} == set(ids)
    assert len(set(ids.values())) == len(ids)
    for row in table:
        assert row["reason"].endswith(".")
        assert re.search(rf"^\| {row['who']} \| {row['role']} \| {row['on']} \|", README, re.MULTILINE), row


def test_parameter_files_name_parameters_and_their_defaults() -> None:
    """An environment variable that is not set changes nothing."""
    for path in PARAMETER_FILES:
        parameters = Document(path.parent / "main.bicep").all("parameter")
        for name, expression in re.findall(r"^param (\w+) = (.+)$", path.read_text(), re.MULTILINE):
            default = re.search(r"readEnvironmentVariable\('\w+', '(.*?)'\)", expression)
            value = parameters[name].value
            if default:
                text = {True: "true", False: "false"}.get(value, value) if isinstance(value, bool) else value
                assert default[1] == ("" if value == [] else str(text)), name
            else:
                assert value is None, name


def test_a_pipeline_passes_every_parameter_on() -> None:
    """What `azd env set` holds on a desk is set in the pipeline too."""
    texts = [path.read_text() for path in PARAMETER_FILES]
    names = {name for text in texts for name in re.findall(r"readEnvironmentVariable\('(\w+)'", text)}
    assert names - {"AZURE_ENV_NAME", "AZURE_LOCATION"} == set(AZURE["pipeline"]["variables"])
    environment = yaml.safe_load(WORKFLOWS["azure-dev"].read_text())["jobs"]["deploy"]["env"]
    assert names <= set(environment)
    assert all(environment[name] == f"${{{{ vars.{name} }}}}" for name in names)


def test_azd_makes_the_subscription_after_the_code_is_there() -> None:
    """Event Grid tries the function's address before it accepts it."""
    layers = {layer["name"]: layer["path"] for layer in AZURE["infra"]["layers"]}
    assert [step["azd"] for step in AZURE["workflows"]["up"]["steps"]] == [
        "provision app",
        "deploy --all",
        "provision events --no-state",
    ]
    assert {layer["name"]: layer.get("dependsOn", []) for layer in AZURE["infra"]["layers"]} == {
        "app": [],
        "events": ["app"],
    }
    assert all(
        (PROJECT / path / f"main.{kind}").is_file() for path in layers.values() for kind in ("bicep", "bicepparam")
    )
    service = Document(INFRA / "modules" / "function-app.bicep").all("resource")["functionApp"].body["tags"]
    assert f"'azd-service-name': '{next(iter(AZURE['services']))}'" in service.text


EVENTS = next(layer for layer in AZURE["infra"]["layers"] if layer["name"] == "events")


def run_hook(hook: Mapping[str, Any], work: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run a hook as azd does, with an `az` that answers with the lines of `says`, one each time, and without waits."""
    for name, script in {
        "az": f'echo "$*" >> {work}/asked; sed -n "$(wc -l < {work}/asked)p" {work}/says',
        "sleep": f'echo "$*" >> {work}/slept',
    }.items():
        (work / name).write_text(f"#!/bin/sh\n{script}\n")
        (work / name).chmod(0o755)
    names = {"AZURE_RESOURCE_GROUP": "rg-drops", "AZURE_FUNCTION_APP_NAME": "func-drops"}
    environment = {"PATH": f"{work}:{os.environ['PATH']}", **names, **environ}
    command = ["sh", "-e", "-c", hook["posix"]["run"]]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("hook", [*EVENTS["hooks"].values(), *AZURE["hooks"].values()])
def test_hooks_read_outputs_that_there_are(hook: Mapping[str, Any]) -> None:
    """A misspelt one would be empty, on either system."""
    outputs = set(MAIN.all("output")) | set(Document(INFRA / "events" / "main.bicep").all("output"))
    read = [set(re.findall(r"\$(?:env:|\{)?([A-Z_]{2,})", hook[system]["run"])) for system in ("posix", "windows")]
    assert read[0] == read[1] <= outputs


def test_azd_waits_for_the_hosts_key_before_it_makes_the_subscription(tmp_path: Path) -> None:
    """The host makes it some time after the code is there; until then, the deployment would fail."""
    (tmp_path / "says").write_text("\n\nthe key\n")
    done = run_hook(EVENTS["hooks"]["preprovision"], tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert (tmp_path / "slept").read_text() == "10\n10\n"
    asked = "functionapp keys list --resource-group rg-drops --name func-drops --query systemKeys.blobs_extension"
    assert (tmp_path / "asked").read_text() == f"{asked} --output tsv\n" * 3


def test_azd_says_what_to_do_where_the_host_makes_no_key(tmp_path: Path) -> None:
    """After five minutes, in one sentence, and no subscription is made."""
    (tmp_path / "says").touch()
    done = run_hook(EVENTS["hooks"]["preprovision"], tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith("The host made no key within 5 minutes: ")
    assert done.stderr.count("\n") == 1
    assert (tmp_path / "slept").read_text() == "10\n" * 29


@pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed")
def test_azd_shows_the_preflight_after_each_deployment(tmp_path: Path) -> None:
    """Of the code alone as well, but not before there is a subscription; the key is not in the address."""
    seen = []

    def function_app(request: Request) -> Response:
        seen.append((request.url.path, request.url.query, request.headers["x-functions-key"]))
        return Response("[fails] Events: none came.", status_code=503)

    (tmp_path / "says").write_text("x-functions-key: a key\n")
    hook = EVENTS["hooks"]["postprovision"]
    assert AZURE["hooks"] == {"postdeploy": hook}
    assert hook["posix"]["continueOnError"] is hook["windows"]["continueOnError"] is True
    with serve(Starlette(routes=[Route("/api/preflight", function_app)])) as url:
        address = {"PREFLIGHT_URL": f"{url}/api/preflight"}
        before = run_hook(hook, tmp_path, **address)
        after = run_hook(hook, tmp_path, **address, EVENT_SUBSCRIPTION_NAME="drops")
    assert before.stdout == "The preflight follows once the event subscription is made: azd provision events.\n"
    assert after.stdout == "[fails] Events: none came."
    assert seen == [("/api/preflight", "", "a key")]


def test_the_address_of_the_preflight_is_that_of_the_function() -> None:
    """And it wants a key."""
    url = MAIN.all("output")["PREFLIGHT_URL"].value.text
    assert url.endswith(f"/api/{bindings()['preflight']['route']}'")
    assert bindings()["preflight"]["authLevel"].lower() == "function"


def test_only_the_app_is_deployed() -> None:
    """Tests, tools and pages stay at home; nothing that the app needs does."""
    listed = subprocess.run(["git", "ls-files"], cwd=PROJECT, capture_output=True, text=True, check=True)
    ignored = GitIgnoreSpec.from_lines((PROJECT / ".funcignore").read_text().splitlines())
    deployed = {name for name in listed.stdout.splitlines() if not ignored.match_file(name)}
    assert {name.partition("/")[0] for name in deployed} == {
        "function_app.py",
        "host.json",
        "requirements.txt",
        "shared",
    }
    assert {name for name in listed.stdout.splitlines() if name.startswith("shared/")} <= deployed


@pytest.mark.parametrize("name", WORKFLOWS)
def test_workflows_hold_no_secret(name: str) -> None:
    """The deployment logs in with a federated token; nothing is stored that could be lost."""
    text = WORKFLOWS[name].read_text()
    assert "secrets." not in text
    permissions = yaml.safe_load(text)["permissions"]
    assert permissions == {"contents": "read"} | ({"id-token": "write"} if name == "azure-dev" else {})


@pytest.mark.parametrize("name", WORKFLOWS)
def test_workflows_run_other_peoples_actions_as_they_are_now(name: str) -> None:
    """A tag can be moved to other code, a commit cannot."""
    used = re.findall(r"uses: (.*)", WORKFLOWS[name].read_text())
    assert used
    assert [action for action in used if not re.fullmatch(r"\./.+|[\w/-]+@[0-9a-f]{40} # v\d[\d.]*", action)] == []


def test_workflows_test_before_they_deploy() -> None:
    """All that must pass is run, on both ends of the supported Pythons, and the real compiler reads the Bicep."""
    tests = yaml.safe_load(WORKFLOWS["ci"].read_text())["jobs"]
    steps = tests["test"]["steps"]
    (pythons,) = [step["with"]["python-version"].split() for step in steps if "setup-python" in step.get("uses", "")]
    supported = re.search(r'requires-python = ">=3\.(\d+),<3\.(\d+)"', (PROJECT / "pyproject.toml").read_text())
    assert supported
    assert pythons == [f"3.{supported[1]}", f"3.{int(supported[2]) - 1}"]
    assert ".ci/run" in [step.get("run") for step in steps]
    assert "bicep" in str(tests["infra"])
    assert yaml.safe_load(WORKFLOWS["azure-dev"].read_text())["jobs"]["deploy"]["needs"] == "ci"


def test_the_page_has_every_parameter_and_output() -> None:
    """`infra/README.md` says what can be set, with the default, and what comes out."""
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*?) \|", README, re.MULTILINE))
    for name, parameter in MAIN.all("parameter").items():
        value = parameter.value
        shown = str(value).lower() if isinstance(value, bool) else value
        default = "required" if value is None else f"`{shown}`" if value not in ("", []) else "empty"
        assert rows.get(name) == default, (name, default)
    assert set(MAIN.all("output")) <= set(rows)


def test_the_costs_add_up() -> None:
    """Each product is what its factors make, and the sum is that of the rows."""
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


def leaves(error: type[DropError]) -> Iterator[type[DropError]]:
    """Yield the errors that are raised; the others group them."""
    children = error.__subclasses__()
    if not children:
        yield error
    for child in children:
        yield from leaves(child)


def alert_names() -> list[str]:
    """Return every alert's name."""
    return [alert["name"] for name in ("logAlerts", "metricAlerts") for alert in ALERTS.all("variable")[name].value]


def test_the_runbook_has_an_entry_for_each_code_and_alert() -> None:
    """Whoever is woken up finds what to do; an entry for what is gone is a defect too."""
    codes = {error.code for error in leaves(DropError)}
    entries = set(re.findall(r"^### `([\w-]+)`$", RUNBOOK, re.MULTILINE))
    assert entries == codes | set(alert_names())
    for entry in RUNBOOK.split("\n### ")[1:]:
        assert all(f"- **{part}:** " in entry for part in ("Means", "See", "Do")), entry.splitlines()[0]


# --- The queries: columns from the app's own lines ---

COLUMN = re.compile(r"(\w+) = to\w+\(line\.([\w.]+)\)")
OUTCOMES = (INFRA / "queries" / "outcomes.kql").read_text()
WRITES = (INFRA / "queries" / "writes.kql").read_text()
TABLES = {"outcomes", "traces", "writes"}  # which queries begin with
QUERIES = {path.stem: path.read_text() for path in (INFRA / "queries").glob("*.kql") if path.stem not in TABLES}
# The words of the Kusto Query Language that the queries use.
KUSTO = set(
    re.findall(
        r"\w+",
        """
        ago and arg_max blob1 by bin coalesce contains count dcount desc extend fullouter iff in isnull itwin1 join kind
        max maxif on or order outcomes percentile project summarize take take_any where writes
        """,
    )
)
# https://learn.microsoft.com/azure/azure-monitor/reference/tables/storagebloblogs, the columns that are read
STORAGE_LOG = {
    "ObjectKey": "string",
    "OperationName": "string",
    "RequestBodySize": "long",
    "StatusCode": "string",
    "TimeGenerated": "datetime",
}
PHOTO = encode(building_site(320, 240), "JPEG")
# The platform's words are its own; no query may rest on them.
OWN_ERROR = json.dumps({"error": {"code": "Odd", "message": "As it pleases."}}).encode()


@pytest.fixture(scope="module")
def lines() -> list[dict[str, Any]]:
    """Run drops through the whole cloud and return what the app logged of them, one object for each attempt."""
    printed: list[str] = []
    quick = {"RETRY_MIN_DELAY_S": "1", "RETRY_MAX_DELAY_S": "1", "RETRY_HORIZON_S": "2"}
    with LocalCloud(app_settings=quick, on_line=printed.append) as cloud:

        def meets(name: str, content: bytes, *answers: ScriptedAnswer) -> None:
            cloud.platform.script(answers)
            cloud.result(cloud.drop(cloud.itwin(), name, content))

        meets("uploaded.jpg", PHOTO)
        meets("rejected.jpg", b"no image")
        meets("unauthorized.jpg", PHOTO, ScriptedAnswer(status=401, times=2))
        meets("forbidden.jpg", PHOTO, ScriptedAnswer(status=403, body=OWN_ERROR))
        meets("unavailable.jpg", PHOTO, ScriptedAnswer(status=503, times=100))
        meets("throttled.jpg", PHOTO, ScriptedAnswer(status=429, body=OWN_ERROR, times=100))
        ended = re.compile(r'"blob": "throttled.jpg".*"status": "(?!retrying)')
        assert wait_until(lambda: any(ended.search(line) for line in printed), timeout_s=20)
    found = [line[line.index('{"itwin": ') :] for line in printed if '{"itwin": ' in line]
    return [json.loads(line) for line in found]


def column(line: Mapping[str, Any], path: str) -> Any:
    """Look a field up as Kusto does."""
    value: Any = line
    for part in path.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value


def row(line: Mapping[str, Any]) -> dict[str, Any]:
    """Make of one line what `outcomes.kql` makes of it."""
    return {name: column(line, path) for name, path in COLUMN.findall(OUTCOMES)}


def selects(query: str, line: Mapping[str, Any]) -> bool:
    """Evaluate the conditions of a query that are about single lines."""
    conditions = re.findall(r"^\| where (.+?);?$", query, re.MULTILINE)
    return all(any(_holds(part, row(line)) for part in condition.split(" or ")) for condition in conditions)


def _holds(condition: str, values: Mapping[str, Any]) -> bool:
    match = re.fullmatch(r'(\w+) (==|!=|contains|in) \(?("[^)]*"|"[^"]*")\)?', condition)
    assert match, condition
    name, operator, operand = match.groups()
    actual, expected = str(values[name] or ""), re.findall(r'"([^"]*)"', operand)
    holds = {"==": actual in expected, "in": actual in expected, "!=": actual not in expected}
    return holds.get(operator, expected[0].lower() in actual.lower())


def test_the_lines_are_recognized(lines: list[dict[str, Any]]) -> None:
    """They begin as the query expects, and are not the preflight's."""
    prefix = re.search(r"startswith '(.*)'", OUTCOMES)
    assert prefix
    assert lines
    assert all(json.dumps(line).startswith(prefix[1]) for line in lines)
    assert all(selects(OUTCOMES.replace(prefix[0], "").replace("| where message \n", ""), line) for line in lines)
    assert not selects('| where itwin != "preflight";', {"itwin": PROBE_CONTAINER})


def test_the_queries_read_every_field_of_the_lines_and_no_other(lines: list[dict[str, Any]]) -> None:
    """A field that is renamed in the code is missed here and not in an emergency."""
    paths = {path for _, path in COLUMN.findall(OUTCOMES)}
    logged = {key for line in lines for key in line if key != "timingsS"}
    timings = {f"timingsS.{key}" for line in lines for key in line["timingsS"]}
    assert paths == logged | timings


@pytest.mark.parametrize("name", [name for name in QUERIES if name != "alert-poison"])
def test_every_query_reads_columns_that_there_are(name: str) -> None:
    """Every word is a column, a word of the language, or defined in the query."""
    text = re.sub(r"^//.*$|\"[^\"]*\"|\{\w+:\w+\}|OVERDUE_AFTER|\b\d+\w*", "", QUERIES[name], flags=re.MULTILINE)
    defined = set(re.findall(r"(\w+) = ", text))
    columns = {"timestamp", "writtenAt", *(name for name, _ in COLUMN.findall(OUTCOMES))}
    assert set(re.findall(r"[A-Za-z_]\w*", text)) - KUSTO - defined - columns == set()
    assert text.lstrip().startswith("outcomes\n")


@pytest.mark.parametrize(
    ("alert", "blobs"),
    [
        ("failed", {"unavailable.jpg", "throttled.jpg"}),
        ("refused", {"unauthorized.jpg", "forbidden.jpg"}),
        ("throttled", {"throttled.jpg"}),
    ],
)
def test_alerts_select_what_they_are_about(lines: list[dict[str, Any]], alert: str, blobs: set[str]) -> None:
    """The app's real lines raise the right alert, and no other drop's line does."""
    assert {line["blob"] for line in lines if selects(QUERIES[f"alert-{alert}"], line)} == blobs


def test_the_alert_about_refusals_knows_all_that_an_operator_can_fix() -> None:
    """An error that is added to that group raises the alert as well."""
    (named,) = re.findall(r"error in \((.*)\)", QUERIES["alert-refused"])
    assert re.findall(r'"(\w+)"', named) == sorted(error.code for error in NeedsOperator.__subclasses__())


def test_a_drop_that_waits_has_what_the_overdue_alert_needs(lines: list[dict[str, Any]]) -> None:
    """The first attempt is numbered 1, and the last line of a drop that ended does not say that it waits."""
    of_drop = [row(line) for line in lines if line["blob"] == "unavailable.jpg"]
    assert of_drop[0]["status"] == "retrying"
    assert of_drop[0]["attempts"] == 1
    assert of_drop[0]["nextAttemptAt"]
    assert of_drop[-1]["status"] == "failed"


def in_writes(pattern: str) -> str:
    """Return the one part of `writes.kql` that a regular expression finds."""
    (found,) = re.findall(pattern, WRITES)
    return str(found)


def test_the_overdue_alert_finds_the_lines_of_what_storage_wrote(lines: list[dict[str, Any]]) -> None:
    """Storage names a blob as the app's lines do, so that what is missing is missing and not only called otherwise."""
    columns = dict(part.split(": ") for part in in_writes(r"datatable\((.*?)\)").split(", "))
    assert columns == STORAGE_LOG
    assert set(re.findall(r"\b[A-Z]\w+\b", re.sub(r'"[^"]*"|^//.*$', "", WRITES, flags=re.MULTILINE))) == {
        *STORAGE_LOG,
        "StorageBlobLogs",
    }
    parts = in_writes(r"parse trim\('\"', ObjectKey\) with (.*)").split()
    key = "".join(part.strip('"') if '"' in part else ".*?" if part == "*" else f"(?P<{part}>.*?)" for part in parts)
    joined = in_writes(r"by (.*);").split(", ")
    assert f"join kind=fullouter writes on {', '.join(joined)}\n" in QUERIES["alert-overdue"]
    for line in lines:
        parsed = re.fullmatch(key, f"/stdrops/{line['itwin']}/{line['blob']}")
        assert parsed
        assert parsed.groupdict() == {name: row(line)[name] for name in joined}
        assert re.search(in_writes(r'itwin matches regex @"(.*)"'), parsed["itwin"])


@pytest.mark.parametrize("container", ["results", "ledger", "preflight", "B3BD3A79-C5B4-41F5-BA5F-6D8C338D788A", "a-b"])
def test_the_overdue_alert_is_about_iTwins_alone(container: str) -> None:  # noqa: N802  # as the platform writes it
    """What is written elsewhere is no drop, or has a line of another kind."""
    assert not re.search(in_writes(r'itwin matches regex @"(.*)"'), container)


@pytest.mark.parametrize(
    "name",
    [
        *(name.replace("*", "x") for name in HOUSEKEEPING_NAMES),
        *(f"a/{folder}/b/c.jpg" for folder in HOUSEKEEPING_FOLDERS),
        *("site.part", "a/site.PARTIAL", "site.part07", ".tmp", "a/Thumbs.db", "a/~$plan.docx", "~$a/plan.jpg"),
        *(
            "party.png",
            "site.partner",
            "thumbs.db.png",
            "desktop.ini/a.jpg",
            "a@eadir/b.jpg",
            "a.tmp.jpg",
            "tmp",
            "a.part.jpg",
        ),
    ],
)
def test_the_overdue_alert_expects_no_line_about_what_is_ignored(name: str) -> None:
    """A name that the app ignores ends in silence; every other has to end in a line."""
    ignored = re.search(in_writes(r'not\(blob matches regex @"(.*)"\)'), name)
    assert bool(ignored) == Drop("b3bd3a79-c5b4-41f5-ba5f-6d8c338d788a", name).is_housekeeping()


@pytest.mark.parametrize(
    ("operation", "counts"),
    [(api, True) for api in CONTRACT["events"]["apis"] if api not in {"FlushWithClose", "SftpCommit"}]
    + [("PutBlobFromURL", True), ("CopyBlobSource", False), ("PutBlock", False), ("LeaseBlob", False)],
)
def test_the_overdue_alert_knows_the_ways_to_write_a_blob(operation: str, *, counts: bool) -> None:
    """All that raise events but those of hierarchical namespaces, which the account has not; no other."""
    begins = re.findall(r'OperationName startswith "(\w+)"', WRITES)
    is_one = operation.startswith(tuple(begins)) or operation in re.findall(r'OperationName == "(\w+)"', WRITES)
    assert (is_one and operation not in re.findall(r'OperationName != "(\w+)" and', WRITES)) == counts


def test_a_table_has_the_columns_that_the_overdue_alert_reads_in_the_workspace() -> None:
    """There, the lines' table and columns are called otherwise."""
    text = (INFRA / "queries" / "traces.kql").read_text()
    assert re.findall(r"(\w+) = (\w+)", text) == [
        ("traces", "AppTraces"),
        ("timestamp", "TimeGenerated"),
        ("message", "Message"),
    ]
    sources = {alert["name"]: alert["source"] for alert in ALERTS.all("variable")["logAlerts"].value}
    assert [name for name, source in sources.items() if source == "workspace"] == ["overdue"]


def test_every_alert_has_a_query_or_a_metric() -> None:
    """No rule is made of nothing, and no query is forgotten."""
    named = set(re.findall(r"queries/([\w-]+)\.kql", ALERTS.text + Document(INFRA / "modules" / "workbook.bicep").text))
    assert named == {*TABLES, *QUERIES}
    assert {f"alert-{alert['name']}" for alert in ALERTS.all("variable")["logAlerts"].value} == {
        name for name in QUERIES if name.startswith("alert-")
    }


def test_the_reader_of_bicep_finds_mistakes(tmp_path: Path) -> None:
    """The checks above rest on it."""
    broken = tmp_path / "broken.bicep"
    broken.write_text("param name string\nresource group 'a@b' = {\n  name name\n}\n")
    assert Document(broken).errors
    assert Document(broken).uses("name") > 0
