"""The roles that are assigned, as the table on the page has them."""

from __future__ import annotations

import re
from typing import Any

from tests.infra.deployed import README
from tools.infra import COMMON, INFRA

NAMES = dict(re.findall(r"'([\w ]+)': '([0-9a-f-]{36})'", (INFRA / "modules" / "roles.bicep").read_text("utf-8")))
IDS = {role_id: name for name, role_id in NAMES.items()}
ROW = re.compile(r"^\| (app|gateway|topic|operator) \| ([\w ]+) \| (\w+) \| (.+?) \|$", re.MULTILINE)
TABLE = set(ROW.findall(README))


def _resource_name(scope: str) -> str:
    """Return what the page calls the resource that a role is assigned on."""
    if scope.endswith("/resourceGroups/rg-prod"):
        return "group"
    if "/containers/" in scope or "/queues/" in scope:
        return {"undeliverable": "deadLetters", "undeliverable-events": "letters"}[scope.rpartition("/")[2]]
    kinds = {"stdrops": "drops", "sthost": "host", "appi-": "insights", "kv-": "vault"}
    return next(name for begin, name in kinds.items() if scope.rpartition("/")[2].startswith(begin))


def _principal_name(principal: str) -> str:
    """Return what the page calls whoever a role is assigned to."""
    if principal == COMMON["OPERATOR_PRINCIPAL_ID"]:
        return "operator"
    kinds = {"/systemTopics/": "topic", "/Microsoft.ApiManagement/": "gateway"}
    return next((name for part, name in kinds.items() if part in principal), "app")


def row(assignment: dict[str, Any]) -> tuple[str, str, str, str]:
    """Return a role assignment as the page's table has it."""
    properties = assignment["properties"]
    found = re.match(r"\[extensionResourceId\('([^']+)'", assignment["id"])
    scope = found[1] if found else assignment["id"].partition("/providers/Microsoft.Authorization/")[0]
    role = IDS[properties["roleDefinitionId"].rpartition("/")[2]]
    return _principal_name(properties["principalId"]), role, _resource_name(scope), properties["description"]
