"""What an environment gets, read from the snapshots that the compiler made; and the parameters, read as text."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cache
from typing import Any

import function_app
from tools.infra import ENVIRONMENTS, FULL, INFRA, kept

CONTRACT: dict[str, Any] = json.loads((INFRA / "contract.json").read_text("utf-8"))
README = (INFRA / "README.md").read_text("utf-8")
RUNBOOK = (INFRA.parent / "docs" / "runbook.md").read_text("utf-8")
# What the two templates that are deployed by themselves have in common.
TEMPLATES = ("main.bicep", "resources.bicep")


@cache
def resources(environment: str = FULL) -> dict[str, dict[str, Any]]:
    """Return all resources of an environment by their IDs."""
    return kept(environment)


def of_type(kind: str, environment: str = FULL) -> list[dict[str, Any]]:
    """Return its resources of a type, like `Microsoft.Web/sites`."""
    return [resource for resource in resources(environment).values() if resource["type"] == kind]


def the(kind: str, environment: str = FULL, *, name: str = "") -> dict[str, Any]:
    """Return its only resource of a type, whose name ends so."""
    (found,) = (resource for resource in of_type(kind, environment) if resource["name"].endswith(name))
    return found


def app_settings(environment: str = FULL) -> dict[str, str]:
    """Return the settings of its function app."""
    settings = the("Microsoft.Web/sites", environment)["properties"]["siteConfig"]["appSettings"]
    return {name: setting["value"] for name, setting in settings.items()}


def role_assignments(environment: str = FULL) -> list[dict[str, Any]]:
    """Return its role assignments."""
    return of_type("Microsoft.Authorization/roleAssignments", environment)


def log_alerts(environment: str = FULL) -> dict[str, dict[str, Any]]:
    """Return its alerts on logs by what follows their prefix."""
    return _alerts("Microsoft.Insights/scheduledQueryRules", environment)


def metric_alerts(environment: str = FULL) -> dict[str, dict[str, Any]]:
    """Return its alerts on metrics by what follows their prefix."""
    return _alerts("Microsoft.Insights/metricAlerts", environment)


def _alerts(kind: str, environment: str) -> dict[str, dict[str, Any]]:
    rules = of_type(kind, environment)
    return {re.sub(r"^alert-itwindrop-\w{13}-", "", rule["name"]): rule["properties"] for rule in rules}


@dataclass(frozen=True)
class Parameter:
    """One parameter of a template: what it may be, and its default as it is written; None where it is required."""

    description: str
    type: str
    least: int | None
    most: int | None
    default: str | None

    @property
    def value(self) -> Any:
        """The default as a value."""
        text = self.default
        if text is None:
            return None
        return json.loads(text.replace("'", '"'))

    @property
    def choices(self) -> list[str]:
        """The values that it may have, where they are few."""
        return re.findall(r"'([^']+)'", self.type) or (self.type.split(" | ") if "|" in self.type else [])


DECLARATION = re.compile(r"((?:^@.+\n)*)^(?:param|type) (\w+) (?:= )?(.+)$", re.MULTILINE)


@cache
def parameters(template: str = "main.bicep") -> dict[str, Parameter]:
    """Return a template's parameters; most have a type of their own in `options.bicep`."""
    types = {name: (above, declared) for above, name, declared in DECLARATION.findall(_text("options.bicep"))}
    found = {}
    for above, name, rest in DECLARATION.findall(_text(template)):
        declared, _, default = rest.partition(" = ")
        decorators, kind = types[name] if declared == f"options.{name}" else (above, declared)
        description = re.search(r"@description\('(.*)'\)", decorators)
        found[name] = Parameter(
            description=description[1].replace("\\'", "'") if description else "",
            type=kind,
            least=_bound("minValue", decorators),
            most=_bound("maxValue", decorators),
            default=default or None,
        )
    return found


def outputs(template: str = "main.bicep") -> dict[str, str]:
    """Return a template's outputs with their expressions."""
    return dict(re.findall(r"^output (\w+) string = (.+)$", _text(template), re.MULTILINE))


def _text(file: str) -> str:
    return (INFRA / file).read_text("utf-8")


def _bound(name: str, decorators: str) -> int | None:
    found = re.search(rf"@{name}\((\d+)\)", decorators)
    return int(found[1]) if found else None


EVERYWHERE = tuple(ENVIRONMENTS)


@cache
def bindings() -> dict[str, dict[str, Any]]:
    """Return the trigger of each function of the app."""
    return {
        str(function.get_function_name()): json.loads(function.get_raw_bindings()[0])
        for function in function_app.app.get_functions()
    }


def app_name(kind: str) -> str:
    """Return a storage account's name, by what it begins with."""
    return f"{kind}{the('Microsoft.Web/sites')['name'].rpartition('-')[2]}"
