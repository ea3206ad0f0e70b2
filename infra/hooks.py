"""What azd does around its own steps, on every system alike: azure.yaml calls it.

    python3 hooks.py before-app       # ends what could never succeed, and keeps what a deployment would lose
    python3 hooks.py before-events    # waits for the key that the host makes some time after it has the code
    python3 hooks.py preflight        # says what works and what does not, in plain words
    python3 hooks.py tags GROUP       # prints EXISTING_TAGS for a deployment into a resource group without azd

It asks the Azure CLI, always about the subscription that azd deploys to: `az` has a current one of its own.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

KEY_ATTEMPTS, KEY_INTERVAL_S = 30, 10
# An HTTP function is cut off by then.
PREFLIGHT_TIMEOUT_S = 230


class HookFailedError(Exception):
    """It will not succeed by being tried again; says what was found, what was expected and what to do."""


class AzFailedError(Exception):
    """`az` failed in a way that may pass; says what it said."""


def main(
    arguments: list[str], environ: Mapping[str, str] = os.environ, sleep: Callable[[float], object] = time.sleep
) -> int:
    """Run the hook that is named on the command line."""
    hook, *values = arguments or [""]
    hooks: dict[str, Callable[..., str]] = {
        "before-app": before_app,
        "before-events": lambda azure, env: before_events(azure, env, sleep),
        "preflight": preflight,
        "tags": lambda azure, env, group: existing_tags(azure, env, group) + "\n",
    }
    if hook not in hooks or len(values) != (hook == "tags"):
        sys.stderr.write(__doc__ or "")
        return 2
    try:
        said = hooks[hook](AzureCli(environ), environ, *values)
    except (HookFailedError, AzFailedError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(said)
    return 0


class AzureCli:
    """`az`, asked about one subscription."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self._subscription = environ.get("AZURE_SUBSCRIPTION_ID", "")

    def ask(self, *arguments: str) -> Any:
        """Run a command and return its JSON. Raises HookFailedError or AzFailedError."""
        program = shutil.which("az", path=self._environ.get("PATH"))
        if program is None:
            raise HookFailedError("The Azure CLI (az) was not found on the PATH: install it, https://aka.ms/azure-cli.")
        if not self._subscription:
            raise HookFailedError("AZURE_SUBSCRIPTION_ID is not set: run this with azd, or export it.")
        command = [program, *arguments, "--subscription", self._subscription, "--output", "json"]
        done = subprocess.run(  # noqa: S603  # the program is az
            command, env=dict(self._environ), capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise self._failure(done.stderr.strip() or f"az failed with exit code {done.returncode}.")
        try:
            return json.loads(done.stdout) if done.stdout.strip() else None
        except ValueError:
            # Keys may be among it.
            said = f"az {' '.join(arguments)} printed something other than JSON: run it by itself to see what."
            raise AzFailedError(said) from None

    def _failure(self, said: str) -> Exception:
        if "az login" in said or "AADSTS" in said:
            return HookFailedError(f"az is not logged in: run az login.\n{said}")
        if "The subscription of" in said or "SubscriptionNotFound" in said:
            return HookFailedError(
                f"The login of az has no access to the subscription {self._subscription} that azd deploys to: run az "
                f"login with the account that azd has, or azd env set AZURE_SUBSCRIPTION_ID with another one.\n{said}"
            )
        if "AuthorizationFailed" in said or "does not have authorization" in said:
            return HookFailedError(f"The login of az lacks a role; infra/README.md lists those needed.\n{said}")
        return AzFailedError(said)


def before_app(azure: AzureCli, environ: Mapping[str, str]) -> str:
    """Check login, subscription and region before anything is deployed, and free or bring back deleted names."""
    azure.ask("account", "show")
    said = _check_location(azure, environ)
    login = environ.get("ITWIN_LOGIN", "")
    if login != "managed-identity" and not environ.get("KEY_VAULT_ID"):
        said += _recover_vault(azure, environ)
    if login == "gateway":
        said += _purge_gateway(azure, environ)
    if not environ.get("OPERATOR_PRINCIPAL_ID"):
        said += "OPERATOR_PRINCIPAL_ID is not set: nobody gets the roles to drop images and set the secret.\n"
    return said + _keep_tags(azure, environ)


def existing_tags(azure: AzureCli, environ: Mapping[str, str], group: str) -> str:
    """Return, as JSON, the tags of this environment's resources in a group that the deployment does not set itself.

    {"microsoft.web/sites/func-drops": {"owner": "maintenance"}}, as tags.bicep takes them.
    """
    if not azure.ask("group", "exists", "--name", group):
        return "{}"
    itself = {
        **azure.ask("group", "show", "--name", group),
        "id": f"/providers/Microsoft.Resources/resourceGroups/{group}",
    }
    set_here = {"azd-env-name", "azd-service-name", *map(str.lower, _object(environ, "RESOURCE_TAGS"))}
    found = {}
    for resource in [itself, *azure.ask("resource", "list", "--resource-group", group)]:
        tags = resource.get("tags") or {}
        others = {name: value for name, value in tags.items() if name.lower() not in set_here}
        if others and tags.get("azd-env-name") == _environment(environ):
            found[resource["id"].lower().rpartition("/providers/")[2]] = others
    return json.dumps(found, ensure_ascii=False, sort_keys=True)


def before_events(azure: AzureCli, environ: Mapping[str, str], sleep: Callable[[float], object]) -> str:
    """Wait for the key that the subscription needs."""
    last = "It has made none yet."
    for attempt in range(KEY_ATTEMPTS):
        if attempt:
            sleep(KEY_INTERVAL_S)
        try:
            keys = azure.ask("functionapp", "keys", "list", *_function_app(environ))
        except AzFailedError as error:
            last = str(error)
            continue
        if ((keys or {}).get("systemKeys") or {}).get("blobs_extension"):
            return ""
    raise HookFailedError(
        "The host showed no key blobs_extension within 5 minutes: see in its log stream whether the app starts, then "
        f"run azd provision events.\n{last}"
    )


def preflight(azure: AzureCli, environ: Mapping[str, str]) -> str:
    """Return what the app's own preflight says; without a subscription yet, too much would seem to fail."""
    if not environ.get("EVENT_SUBSCRIPTION_NAME"):
        return "The preflight follows once the event subscription is made: azd provision events.\n"
    keys = azure.ask("functionapp", "keys", "list", *_function_app(environ))
    key = ((keys or {}).get("functionKeys") or {}).get("default")
    if not key:
        raise HookFailedError(
            "The function app has no function key default, which the preflight requires: see in its log stream whether "
            "the app starts, then run azd provision events."
        )
    # In a header: no process list and no log of addresses shows it.
    request = urllib.request.Request(environ["PREFLIGHT_URL"], headers={"x-functions-key": key})  # noqa: S310  # our own
    try:
        with urllib.request.urlopen(request, timeout=PREFLIGHT_TIMEOUT_S) as response:  # noqa: S310
            return str(response.read().decode())
    except urllib.error.HTTPError as error:
        return error.read().decode() or f"The preflight responded with {error.code} and no text.\n"
    except OSError as error:
        raise HookFailedError(f"{environ['PREFLIGHT_URL']} did not respond: {error}.") from error


def _group(environ: Mapping[str, str]) -> str:
    return _object(environ, "RESOURCE_NAMES").get("resourceGroup", f"rg-{_environment(environ)}")


def _environment(environ: Mapping[str, str]) -> str:
    if not environ.get("AZURE_ENV_NAME"):
        raise HookFailedError("AZURE_ENV_NAME is not set: run this with azd, or export it.")
    return environ["AZURE_ENV_NAME"]


def _object(environ: Mapping[str, str], name: str) -> dict[str, str]:
    text = environ.get(name) or "{}"
    with contextlib.suppress(ValueError):
        if isinstance(value := json.loads(text), dict):
            return value
    raise HookFailedError(f'{name} is {text}, but must be a JSON object with string values, like {{"name": "value"}}.')


def _function_app(environ: Mapping[str, str]) -> list[str]:
    group, name = environ.get("AZURE_RESOURCE_GROUP"), environ.get("AZURE_FUNCTION_APP_NAME")
    if not (group and name):
        raise HookFailedError("There is no function app yet: run azd provision app, then azd deploy.")
    return ["--resource-group", group, "--name", name]


def _check_location(azure: AzureCli, environ: Mapping[str, str]) -> str:
    location = _plain(environ.get("AZURE_LOCATION", ""))
    zonal = environ.get("ZONE_REDUNDANT", "").lower() == "true"
    try:
        found = azure.ask("functionapp", "list-flexconsumption-locations", *(["--zone-redundant"] if zonal else []))
    except AzFailedError as error:
        return f"Whether {location} has Flex Consumption could not be checked.\n{error}\n"
    regions = sorted(_plain(region["name"]) for region in found)
    if location not in regions:
        what = "Flex Consumption with zone redundancy" if zonal else "Flex Consumption"
        raise HookFailedError(
            f"{location} does not have {what}, which this app needs: azd env set AZURE_LOCATION with one of "
            f"{', '.join(regions)}."
        )
    return ""


def _plain(location: str) -> str:
    """Return a region's name as Azure keeps it: westeurope of West Europe."""
    return location.lower().replace(" ", "")


def _recover_vault(azure: AzureCli, environ: Mapping[str, str]) -> str:
    """Bring this environment's deleted vault back: nobody can purge it, and its name is taken until it is gone."""
    said = ""
    for vault in azure.ask("keyvault", "list-deleted", "--resource-type", "vault"):
        properties = vault["properties"]
        if (properties.get("tags") or {}).get("azd-env-name") != _environment(environ):
            continue
        if _plain(properties["location"]) != _plain(environ["AZURE_LOCATION"]):
            continue
        group = properties["vaultId"].split("/")[4]
        if not azure.ask("group", "exists", "--name", group):
            tag = f"azd-env-name={_environment(environ)}"
            azure.ask("group", "create", "--name", group, "--location", properties["location"], "--tags", tag)
        azure.ask("keyvault", "recover", "--name", vault["name"], "--resource-group", group)
        said += f"The deleted vault {vault['name']} was recovered, with the secret in it.\n"
    return said


def _keep_tags(azure: AzureCli, environ: Mapping[str, str]) -> str:
    """Hand the deployment the tags that it would remove; azd reads its environment again after this hook."""
    tags = existing_tags(azure, environ, _group(environ))
    if tags == (environ.get("EXISTING_TAGS") or "{}"):
        return ""
    program = shutil.which("azd", path=environ.get("PATH"))
    if program is None:
        raise HookFailedError(
            "azd was not found on the PATH; without it, tags that were set by hand would be removed: add its folder."
        )
    command = [program, "env", "set", "EXISTING_TAGS", tags, "--environment", _environment(environ)]
    done = subprocess.run(command, env=dict(environ), capture_output=True, text=True, check=False)  # noqa: S603  # azd
    if done.returncode:
        raise HookFailedError(f"azd env set EXISTING_TAGS failed: {done.stderr.strip() or done.stdout.strip()}")
    return "Tags that were set by hand are kept.\n" if tags != "{}" else ""


def _purge_gateway(azure: AzureCli, environ: Mapping[str, str]) -> str:
    """Purge this environment's deleted gateway: its name is taken for two days, and all in it is made again."""
    group = _group(environ).lower()
    said = ""
    for gateway in azure.ask("apim", "deletedservice", "list"):
        if f"/resourcegroups/{group}/" in gateway["serviceId"].lower():
            place = ["--service-name", gateway["name"], "--location", gateway["location"]]
            azure.ask("apim", "deletedservice", "purge", *place)
            said += f"The deleted gateway {gateway['name']} was purged.\n"
    return said


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
