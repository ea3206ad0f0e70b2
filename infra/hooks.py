"""What azd does around its own steps, on every system alike: azure.yaml calls it.

    python3 hooks.py before-app       # ends what could never succeed, and brings back what `azd down` left behind
    python3 hooks.py before-events    # waits for the key that the host makes some time after it has the code
    python3 hooks.py preflight        # says what works and what does not, in plain words

It asks the Azure CLI, always about the subscription that azd deploys to: `az` has a current one of its own.
"""

from __future__ import annotations

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
    hooks: dict[str, Callable[[AzureCli, Mapping[str, str]], str]] = {
        "before-app": before_app,
        "before-events": lambda azure, env: before_events(azure, env, sleep),
        "preflight": preflight,
    }
    try:
        said = hooks[arguments[0]](AzureCli(environ), environ)
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
            raise HookFailedError("AZURE_SUBSCRIPTION_ID is not set: run this by azd, or export it.")
        command = [program, *arguments, "--subscription", self._subscription, "--output", "json"]
        done = subprocess.run(  # noqa: S603  # the program is az
            command, env=dict(self._environ), capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise self._failure(done.stderr.strip() or f"az failed with exit code {done.returncode}.")
        return json.loads(done.stdout) if done.stdout.strip() else None

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
    return said


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
        if (keys.get("systemKeys") or {}).get("blobs_extension"):
            return ""
    raise HookFailedError(
        "The host showed no key blobs_extension within 5 minutes: see in its log stream whether the app starts, then "
        f"run azd provision events.\n{last}"
    )


def preflight(azure: AzureCli, environ: Mapping[str, str]) -> str:
    """Return what the app's own preflight says; without a subscription yet, too much would seem to fail."""
    if not environ.get("EVENT_SUBSCRIPTION_NAME"):
        return "The preflight follows once the event subscription is made: azd provision events.\n"
    key = azure.ask("functionapp", "keys", "list", *_function_app(environ))["functionKeys"]["default"]
    # In a header: no process list and no log of addresses shows it.
    request = urllib.request.Request(environ["PREFLIGHT_URL"], headers={"x-functions-key": key})  # noqa: S310  # our own
    try:
        with urllib.request.urlopen(request, timeout=PREFLIGHT_TIMEOUT_S) as response:  # noqa: S310
            return str(response.read().decode())
    except urllib.error.HTTPError as error:
        return error.read().decode() or f"The preflight responded with {error.code} and no text.\n"
    except OSError as error:
        raise HookFailedError(f"{environ['PREFLIGHT_URL']} did not respond: {error}.") from error


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
        if (properties.get("tags") or {}).get("azd-env-name") != environ["AZURE_ENV_NAME"]:
            continue
        if _plain(properties["location"]) != _plain(environ["AZURE_LOCATION"]):
            continue
        group = properties["vaultId"].split("/")[4]
        if not azure.ask("group", "exists", "--name", group):
            tag = f"azd-env-name={environ['AZURE_ENV_NAME']}"
            azure.ask("group", "create", "--name", group, "--location", properties["location"], "--tags", tag)
        azure.ask("keyvault", "recover", "--name", vault["name"], "--resource-group", group)
        said += f"The deleted vault {vault['name']} was recovered, with the secret in it.\n"
    return said


def _purge_gateway(azure: AzureCli, environ: Mapping[str, str]) -> str:
    """Purge this environment's deleted gateway: its name is taken for two days, and all in it is made again."""
    names = json.loads(environ.get("RESOURCE_NAMES") or "{}")
    group = names.get("resourceGroup", f"rg-{environ['AZURE_ENV_NAME']}").lower()
    said = ""
    for gateway in azure.ask("apim", "deletedservice", "list"):
        if f"/resourcegroups/{group}/" in gateway["serviceId"].lower():
            place = ["--service-name", gateway["name"], "--location", gateway["location"]]
            azure.ask("apim", "deletedservice", "purge", *place)
            said += f"The deleted gateway {gateway['name']} was purged.\n"
    return said


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
