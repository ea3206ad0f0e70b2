"""What `azd up` does around its own steps: the order, and hooks that are run with an `az` that fails in each way."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

from infra import hooks
from local.serving import serve
from tests.infra.deployed import outputs, the
from tools.infra import INFRA

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from starlette.requests import Request

PROJECT = INFRA.parent
AZURE = yaml.safe_load((PROJECT / "azure.yaml").read_text("utf-8"))
LAYERS = {layer["name"]: layer for layer in AZURE["infra"]["layers"]}
SUBSCRIPTION = "00000000-0000-4000-8000-000000000002"
KEYS = "functionapp keys list --resource-group rg-drops --name func-drops"
REGIONS = "functionapp list-flexconsumption-locations"
DELETED = "keyvault list-deleted --resource-type vault"
EXISTS = "group exists --name rg-drops"
GROUP = "group show --name rg-drops"
RESOURCES = "resource list --resource-group rg-drops"


def commands() -> Iterator[tuple[Path, dict[str, str]]]:
    """Yield every hook with the folder that it runs in: a layer's in the layer's, the others in the project's."""
    for layer in LAYERS.values():
        for hook in layer["hooks"].values():
            yield PROJECT / layer["path"], {system: hook[system]["run"] for system in ("posix", "windows")}
    for hook in AZURE["hooks"].values():
        yield PROJECT, {system: hook[system]["run"] for system in ("posix", "windows")}


def test_azd_creates_the_event_subscription_after_deploying_the_code() -> None:
    """Event Grid validates the function's address before it accepts it."""
    assert [step["azd"] for step in AZURE["workflows"]["up"]["steps"]] == [
        "provision app",
        "deploy --all",
        "provision events --no-state",
    ]
    assert {name: layer.get("dependsOn", []) for name, layer in LAYERS.items()} == {"app": [], "events": ["app"]}
    for layer in LAYERS.values():
        assert all((PROJECT / layer["path"] / f"main.{kind}").is_file() for kind in ("bicep", "bicepparam"))
    assert the("Microsoft.Web/sites")["tags"]["azd-service-name"] == next(iter(AZURE["services"]))


def test_azd_deploys_to_this_environments_app() -> None:
    """A group may have several environments, whose apps have the same tag, by which azd would look for it."""
    assert AZURE["services"]["drop"]["resourceName"] == "${AZURE_FUNCTION_APP_NAME}"
    assert outputs()["AZURE_FUNCTION_APP_NAME"] == "resources.outputs.AZURE_FUNCTION_APP_NAME"


def test_a_hook_does_the_same_on_every_system() -> None:
    """One program, called by Python's name on each system, with the name of one of its hooks."""
    for folder, run in commands():
        assert run["windows"] == run["posix"].replace("python3 ", "python ")
        _, file, hook = run["posix"].split()
        assert (folder / file).resolve() == INFRA / "hooks.py"
        done = subprocess.run(
            [sys.executable, file, hook], cwd=folder, env={}, capture_output=True, text=True, check=False
        )
        assert "Traceback" not in done.stderr
    assert {run["posix"].split()[-1] for _, run in commands()} == {"before-app", "before-events", "preflight"}


def test_only_a_failing_preflight_lets_azd_continue() -> None:
    """Its report is what matters; if another hook fails, nothing may follow."""
    for hooks_of in (*(layer["hooks"] for layer in LAYERS.values()), AZURE["hooks"]):
        for hook in hooks_of.values():
            is_preflight = hook["posix"]["run"].endswith(" preflight")
            assert [hook[system].get("continueOnError", False) for system in hook] == [is_preflight] * 2


def test_hooks_read_only_outputs_and_parameters_that_exist() -> None:
    """A misspelt one would be empty."""
    read = set(re.findall(r"environ(?:\.get\(|\[)[\"'](\w+)", (INFRA / "hooks.py").read_text("utf-8")))
    text = (INFRA / "main.bicepparam").read_text("utf-8")
    given = set(re.findall(r"readEnvironmentVariable\('(\w+)'", text))
    known = {*outputs(), *outputs("events/main.bicep"), *given, "AZURE_SUBSCRIPTION_ID", "PATH"}
    assert read - known == set()


class Az:
    """An `az` that answers each command with what is written for it: JSON, or a text to fail with; noted in order."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.slept: list[float] = []
        self.environ = {
            "PATH": str(folder),
            "AZURE_SUBSCRIPTION_ID": SUBSCRIPTION,
            "AZURE_ENV_NAME": "drops",
            "AZURE_LOCATION": "westeurope",
            "AZURE_RESOURCE_GROUP": "rg-drops",
            "AZURE_FUNCTION_APP_NAME": "func-drops",
            "ITWIN_LOGIN": "client-credentials",
            "OPERATOR_PRINCIPAL_ID": "11111111-1111-4111-8111-111111111111",
        }
        self.answers: dict[str, list[Any]] = {
            "account show": [{}],
            REGIONS: [[{"name": "westeurope"}]],
            DELETED: [[]],
            EXISTS: [False],
        }

    def with_azd(self, says: str = "", code: int = 0) -> None:
        """Put an `azd` beside it that notes what it is called with, says something, and ends with this code."""
        program = (
            f"#!/bin/sh\nfor argument; do printf '%s\\n' \"$argument\"; done > '{self._folder}/azd-asked'\n"
            f"echo '{says}' >&2\nexit {code}\n"
        )
        (self._folder / "azd").write_text(program, "utf-8")
        (self._folder / "azd").chmod(0o755)

    @property
    def azd_asked(self) -> list[str]:
        """What azd was called with; nothing where it was not called."""
        asked = self._folder / "azd-asked"
        return asked.read_text("utf-8").splitlines() if asked.exists() else []

    def run(self, *arguments: str, **environ: str) -> int:
        """Run a hook in this process, without waits."""
        (self._folder / "answers.json").write_text(json.dumps(self.answers), "utf-8")
        program = (
            f"#!/bin/sh\n'''exec' \"{sys.executable}\" \"$0\" \"$@\"\n' '''\nimport json, pathlib, sys\n"
            f"folder = pathlib.Path({str(self._folder)!r})\n"
            "asked = ' '.join(sys.argv[1:])\n"
            "with (folder / 'asked').open('a') as file: file.write(asked + '\\n')\n"
            f"assert asked.endswith(' --subscription {SUBSCRIPTION} --output json'), asked\n"
            "asked = asked.partition(' --subscription ')[0]\n"
            "answers = json.loads((folder / 'answers.json').read_text())\n"
            "answer = answers[asked].pop(0) if len(answers[asked]) > 1 else answers[asked][0]\n"
            "(folder / 'answers.json').write_text(json.dumps(answers))\n"
            "if isinstance(answer, str) and answer.startswith('text: '): sys.exit(print(answer[6:]))\n"
            "if isinstance(answer, str): sys.exit(answer)\n"
            "print(json.dumps(answer))\n"
        )
        (self._folder / "az").write_text(program, "utf-8")
        (self._folder / "az").chmod(0o755)
        return hooks.main([*arguments], {**self.environ, **environ}, self.slept.append)

    @property
    def asked(self) -> list[str]:
        """The commands that were run, without what all have in common."""
        asked = (self._folder / "asked").read_text("utf-8").splitlines()
        return [line.partition(" --subscription ")[0] for line in asked]


@pytest.fixture
def az(tmp_path: Path) -> Az:
    """Return an `az` that is logged in and finds nothing wrong."""
    return Az(tmp_path)


NOT_LOGGED_IN = "ERROR: Please run 'az login' to setup account."
EXPIRED = "ERROR: AADSTS70043: The refresh token has expired or is invalid due to sign-in frequency checks."
WRONG_SUBSCRIPTION = f"ERROR: The subscription of '{SUBSCRIPTION}' doesn't exist in cloud 'AzureCloud'."
NO_ROLE = "ERROR: (AuthorizationFailed) The client 'x' does not have authorization to perform action 'y'."
NEVER = {
    "not logged in": (NOT_LOGGED_IN, "az is not logged in: run az login."),
    "expired": (EXPIRED, "az is not logged in: run az login."),
    "wrong subscription": (WRONG_SUBSCRIPTION, f"The login of az has no access to the subscription {SUBSCRIPTION} "),
    "no role": (NO_ROLE, "The login of az lacks a role; "),
}


@pytest.mark.parametrize(("fails", "said"), NEVER.values(), ids=NEVER)
@pytest.mark.parametrize(
    ("hook", "command"), [("before-app", "account show"), ("before-events", KEYS), ("preflight", KEYS)]
)
def test_a_deployment_that_can_never_succeed_is_refused_at_once(
    az: Az, capsys: pytest.CaptureFixture[str], *, hook: str, command: str, fails: str, said: str
) -> None:
    """In one sentence with az's own message, not after five minutes of retries."""
    az.answers[command] = [fails]
    assert az.run(hook, EVENT_SUBSCRIPTION_NAME="drops") == 1
    first, *rest = capsys.readouterr().err.splitlines()
    assert first.startswith(said)
    assert rest == [fails]
    assert az.slept == []
    assert az.asked == [command]


@pytest.mark.parametrize("hook", ["before-app", "before-events", "preflight"])
def test_a_machine_without_az_is_told_to_install_it(az: Az, capsys: pytest.CaptureFixture[str], hook: str) -> None:
    """And where to get it."""
    assert az.run(hook, EVENT_SUBSCRIPTION_NAME="drops", PATH="/nowhere") == 1
    assert capsys.readouterr().err == (
        "The Azure CLI (az) was not found on the PATH: install it, https://aka.ms/azure-cli.\n"
    )


def test_the_current_subscription_of_az_is_never_used(az: Az, capsys: pytest.CaptureFixture[str]) -> None:
    """If azd has no subscription, no request is made at all."""
    assert az.run("before-app", AZURE_SUBSCRIPTION_ID="") == 1
    assert capsys.readouterr().err.startswith("AZURE_SUBSCRIPTION_ID is not set: ")


def test_azd_waits_for_the_hosts_key_before_it_creates_the_event_subscription(
    az: Az, capsys: pytest.CaptureFixture[str]
) -> None:
    """The host creates it some time after the deployment, and may not respond until then."""
    az.answers[KEYS] = [
        "ERROR: Operation returned an invalid status 'Bad Request'",
        {"functionKeys": {}, "systemKeys": {}},
        {"functionKeys": {}, "systemKeys": None},
        {"functionKeys": {}, "systemKeys": {"blobs_extension": "the key"}},
    ]
    assert az.run("before-events") == 0
    assert az.slept == [10, 10, 10]
    assert az.asked == [KEYS] * 4
    assert "".join(capsys.readouterr()) == ""


@pytest.mark.parametrize("answer", ["ERROR: Bad Request", {"systemKeys": {}}])
def test_azd_says_what_to_do_if_the_host_creates_no_key(
    az: Az, capsys: pytest.CaptureFixture[str], answer: object
) -> None:
    """After five minutes, with az's last message; no event subscription is created."""
    az.answers[KEYS] = [answer]
    assert az.run("before-events") == 1
    assert az.slept == [10] * 29
    first, last = capsys.readouterr().err.splitlines()
    assert first.startswith("The host showed no key blobs_extension within 5 minutes: ")
    assert first.endswith("then run azd provision events.")
    assert last == (answer if isinstance(answer, str) else "It has made none yet.")


def test_a_region_without_flex_consumption_is_refused_before_anything_is_deployed(
    az: Az, capsys: pytest.CaptureFixture[str]
) -> None:
    """By itself, azd offers all regions, also those without the plan."""
    az.answers[REGIONS] = [[{"name": "West US 2"}, {"name": "eastus"}]]
    assert az.run("before-app") == 1
    assert capsys.readouterr().err == (
        "westeurope does not have Flex Consumption, which this app needs: azd env set AZURE_LOCATION with one of "
        "eastus, westus2.\n"
    )
    assert az.run("before-app", AZURE_LOCATION="westus2") == 0


def test_zone_support_is_checked_if_zones_are_chosen(az: Az) -> None:
    """Fewer regions have them."""
    az.answers[f"{REGIONS} --zone-redundant"] = [[{"name": "westeurope"}]]
    assert az.run("before-app", ZONE_REDUNDANT="True") == 0
    assert f"{REGIONS} --zone-redundant" in az.asked


def test_a_failing_list_of_regions_does_not_stop_the_deployment(az: Az, capsys: pytest.CaptureFixture[str]) -> None:
    """An older az lacks the command; Azure itself refuses an unsuitable region later."""
    az.answers[REGIONS] = ["ERROR: 'list-flexconsumption-locations' is misspelled or not recognized by the system."]
    assert az.run("before-app") == 0
    assert "could not be checked" in capsys.readouterr().out


def deleted_vault(environment: str, location: str = "westeurope") -> dict[str, Any]:
    """Return what az lists of a deleted vault."""
    return {
        "name": f"kv-{environment}",
        "properties": {
            "location": location,
            "purgeProtectionEnabled": True,
            "tags": {"azd-env-name": environment},
            "vaultId": f"/subscriptions/{SUBSCRIPTION}/resourceGroups/rg-{environment}/providers/x/vaults/kv",
        },
    }


def test_up_after_down_recovers_the_vault(az: Az, capsys: pytest.CaptureFixture[str]) -> None:
    """It cannot be purged and keeps its name for a week; those of other environments are left alone."""
    az.answers[DELETED] = [[deleted_vault("other"), deleted_vault("drops", "eastus"), deleted_vault("drops")]]
    create = "group create --name rg-drops --location westeurope --tags azd-env-name=drops"
    recover = "keyvault recover --name kv-drops --resource-group rg-drops"
    az.answers.update({create: [{}], recover: [{}]})
    assert az.run("before-app") == 0
    assert az.asked[-4:-1] == [EXISTS, create, recover]
    assert capsys.readouterr().out == "The deleted vault kv-drops was recovered, with the secret in it.\n"


def test_a_region_is_the_same_however_it_is_written(az: Az, capsys: pytest.CaptureFixture[str]) -> None:
    """By its name or its display name, in the settings as in az's output."""
    az.answers[DELETED] = [[deleted_vault("drops", "West Europe")]]
    recover = "keyvault recover --name kv-drops --resource-group rg-drops"
    az.answers.update({EXISTS: [True], recover: [{}], GROUP: [{"tags": None}], RESOURCES: [[]]})
    assert az.run("before-app", AZURE_LOCATION="west europe") == 0
    assert "kv-drops was recovered" in capsys.readouterr().out


def test_an_existing_group_is_not_created_again(az: Az) -> None:
    """Creating it again would remove its tags."""
    az.answers[DELETED] = [[deleted_vault("drops")]]
    recover = "keyvault recover --name kv-drops --resource-group rg-drops"
    az.answers.update({EXISTS: [True], recover: [{}], GROUP: [{"tags": None}], RESOURCES: [[]]})
    assert az.run("before-app") == 0
    assert az.asked[-5:-3] == [EXISTS, recover]


@pytest.mark.parametrize("environ", [{"ITWIN_LOGIN": "managed-identity"}, {"KEY_VAULT_ID": "/subscriptions/x"}])
def test_no_vault_is_recovered_if_none_is_deployed(az: Az, environ: dict[str, str]) -> None:
    """Nothing is asked about resources that are not needed."""
    assert az.run("before-app", **environ) == 0
    assert DELETED not in az.asked


def test_up_after_down_frees_the_name_of_the_gateway(az: Az, capsys: pytest.CaptureFixture[str]) -> None:
    """Its contents are created again; a gateway of another group is left alone."""
    list_deleted, purge = (
        "apim deletedservice list",
        "apim deletedservice purge --service-name apim-1 --location eastus",
    )
    az.answers[list_deleted] = [
        [
            {"name": "apim-2", "location": "eastus", "serviceId": "/subscriptions/x/resourceGroups/rg-other/y/apim-2"},
            {"name": "apim-1", "location": "eastus", "serviceId": "/subscriptions/x/resourceGroups/RG-drops/y/apim-1"},
        ]
    ]
    az.answers[purge] = [None]
    assert az.run("before-app", ITWIN_LOGIN="gateway") == 0
    assert az.asked[-3:-1] == [list_deleted, purge]
    assert capsys.readouterr().out == "The deleted gateway apim-1 was purged.\n"


def test_a_deployment_without_an_operator_says_what_it_lacks(az: Az, capsys: pytest.CaptureFixture[str]) -> None:
    """The command that asks for one's own ID may have failed, and have left it empty."""
    assert az.run("before-app") == 0
    assert capsys.readouterr().out == ""
    assert az.run("before-app", OPERATOR_PRINCIPAL_ID="") == 0
    assert capsys.readouterr().out.startswith("OPERATOR_PRINCIPAL_ID is not set: nobody gets the roles ")


def tagged(resource: str, tags: dict[str, str] | None) -> dict[str, Any]:
    """Return what az lists of a resource."""
    return {"id": f"/subscriptions/{SUBSCRIPTION}/resourceGroups/rg-drops/providers/{resource}", "tags": tags}


OURS = {"azd-env-name": "drops"}
BY_HAND: dict[str, list[Any]] = {
    EXISTS: [True],
    GROUP: [{"id": f"/subscriptions/{SUBSCRIPTION}/resourceGroups/rg-drops", "tags": {**OURS, "owner": "Zoë"}}],
    RESOURCES: [
        [
            tagged("Microsoft.Web/sites/Func-1", {**OURS, "azd-service-name": "drop", "hidden-link: /x": "$Y"}),
            tagged("Microsoft.Network/privateDnsZones/z/virtualNetworkLinks/l", {**OURS, "owner": 'a "b"'}),
            tagged("Microsoft.Insights/components/appi", {**OURS, "Cost-Center": "0"}),
            tagged("Microsoft.KeyVault/vaults/kv-other", {"azd-env-name": "other", "owner": "them"}),
            tagged("Microsoft.Compute/disks/d", {"owner": "them"}),
            tagged("Microsoft.Compute/disks/e", None),
        ]
    ],
}
KEPT = {
    "microsoft.network/privatednszones/z/virtualnetworklinks/l": {"owner": 'a "b"'},
    "microsoft.resources/resourcegroups/rg-drops": {"owner": "Zoë"},
    "microsoft.web/sites/func-1": {"hidden-link: /x": "$Y"},
}


def test_tags_that_were_set_by_hand_are_passed_to_the_deployment(az: Az, capsys: pytest.CaptureFixture[str]) -> None:
    """Those of this environment's resources that the deployment does not set itself, which it would remove."""
    az.answers.update(BY_HAND)
    az.with_azd()
    assert az.run("before-app", RESOURCE_TAGS='{"cost-center": "4711"}') == 0
    *said, tags, option, environment = az.azd_asked
    assert said == ["env", "set", "EXISTING_TAGS"]
    assert json.loads(tags) == KEPT
    assert (option, environment) == ("--environment", "drops")
    assert capsys.readouterr().out == "Tags that were set by hand are kept.\n"


def test_without_azd_the_same_tags_are_printed(az: Az, capsys: pytest.CaptureFixture[str]) -> None:
    """For whoever deploys into a group by az alone, in whatever group that is."""
    az.answers.update(BY_HAND)
    assert az.run("tags", "rg-drops", RESOURCE_TAGS='{"cost-center": "4711"}', RESOURCE_NAMES="{}") == 0
    assert json.loads(capsys.readouterr().out) == KEPT
    az.answers["group exists --name rg-new"] = [False]
    assert az.run("tags", "rg-new") == 0
    assert capsys.readouterr().out == "{}\n"


def test_azd_is_called_only_if_tags_have_changed(az: Az) -> None:
    """The first deployment needs no azd on the PATH; tags that were removed by hand stay removed."""
    assert az.run("before-app") == 0
    az.answers.update({EXISTS: [True], GROUP: [{"tags": OURS}], RESOURCES: [[tagged("x/y/z", OURS)]]})
    assert az.run("before-app") == 0
    az.with_azd()
    assert az.run("before-app", EXISTING_TAGS="{}") == 0
    assert az.azd_asked == []
    assert az.run("before-app", EXISTING_TAGS=json.dumps(KEPT)) == 0
    assert az.azd_asked == ["env", "set", "EXISTING_TAGS", "{}", "--environment", "drops"]


@pytest.mark.parametrize("command", [EXISTS, GROUP, RESOURCES])
def test_nothing_is_deployed_where_tags_cannot_be_read(
    az: Az, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    """They would be removed."""
    az.with_azd()
    az.answers.update({**BY_HAND, command: ["ERROR: (GatewayTimeout) The gateway did not receive a response."]})
    assert az.run("before-app") == 1
    assert capsys.readouterr().err == "ERROR: (GatewayTimeout) The gateway did not receive a response.\n"
    assert az.azd_asked == []


def test_nothing_is_deployed_if_tags_cannot_be_passed_on(az: Az, capsys: pytest.CaptureFixture[str]) -> None:
    """Whether there is no azd, or it fails."""
    az.answers.update(BY_HAND)
    assert az.run("before-app") == 1
    assert capsys.readouterr().err.startswith("azd was not found on the PATH; ")
    az.with_azd("ERROR: environment drops does not exist", 1)
    assert az.run("before-app") == 1
    assert capsys.readouterr().err == ("azd env set EXISTING_TAGS failed: ERROR: environment drops does not exist\n")


@pytest.mark.parametrize("value", ["cost-center=4711", '["cost-center"]'])
def test_malformed_tags_are_reported(az: Az, capsys: pytest.CaptureFixture[str], value: str) -> None:
    """With the expected form."""
    az.answers.update(BY_HAND)
    assert az.run("before-app", RESOURCE_TAGS=value) == 1
    assert capsys.readouterr().err == (
        f'RESOURCE_TAGS is {value}, but must be a JSON object with string values, like {{"name": "value"}}.\n'
    )


@pytest.mark.parametrize("arguments", [[], ["tags"], ["before-app", "rg-drops"], ["after-app"]])
def test_a_wrong_command_line_is_answered_with_the_right_ones(
    capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    """Not with a traceback."""
    assert hooks.main(arguments, {}) == 2
    assert "python3 hooks.py tags GROUP" in capsys.readouterr().err


def test_azd_shows_the_preflight_after_each_deployment(az: Az, capsys: pytest.CaptureFixture[str]) -> None:
    """After one of code alone too, but not before an event subscription exists; the key is not in the address."""
    seen = []

    def function_app(request: Request) -> Response:
        seen.append((request.url.path, request.url.query, request.headers["x-functions-key"]))
        return Response("[fails] Events: none came.", status_code=503)

    az.answers[KEYS] = [{"functionKeys": {"default": "a key"}}]
    with serve(Starlette(routes=[Route("/api/preflight", function_app)])) as url:
        assert az.run("preflight", PREFLIGHT_URL=f"{url}/api/preflight") == 0
        assert az.run("preflight", PREFLIGHT_URL=f"{url}/api/preflight", EVENT_SUBSCRIPTION_NAME="drops") == 0
    assert capsys.readouterr().out == (
        "The preflight follows once the event subscription is made: azd provision events.\n[fails] Events: none came."
    )
    assert seen == [("/api/preflight", "", "a key")]


def test_a_preflight_that_does_not_respond_is_reported(az: Az, capsys: pytest.CaptureFixture[str]) -> None:
    """With its address, and without a traceback."""
    az.answers[KEYS] = [{"functionKeys": {"default": "a key"}}]
    address = "http://127.0.0.1:1/api/preflight"
    assert az.run("preflight", PREFLIGHT_URL=address, EVENT_SUBSCRIPTION_NAME="drops") == 1
    assert capsys.readouterr().err.startswith(f"{address} did not respond: ")


@pytest.mark.parametrize("answer", [None, {"functionKeys": None}, {"functionKeys": {}}])
def test_an_app_without_a_function_key_is_reported(az: Az, capsys: pytest.CaptureFixture[str], answer: object) -> None:
    """It has none until its host has started once."""
    az.answers[KEYS] = [answer]
    assert az.run("preflight", EVENT_SUBSCRIPTION_NAME="drops", PREFLIGHT_URL="http://127.0.0.1:1") == 1
    assert capsys.readouterr().err.startswith("The function app has no function key default, ")


def test_output_of_az_that_is_not_json_is_reported(az: Az, capsys: pytest.CaptureFixture[str]) -> None:
    """An extension or a wrapper may print something else; it is not repeated, as keys may be among it."""
    az.answers["account show"] = ["text: Welcome to Azure"]
    assert az.run("before-app") == 1
    assert capsys.readouterr().err == (
        "az account show printed something other than JSON: run it by itself to see what.\n"
    )
