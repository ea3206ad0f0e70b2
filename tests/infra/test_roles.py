"""Who may do what: the roles that are assigned, their reasons, and the page's table."""

from __future__ import annotations

import pytest

from tests.infra.deployed import EVERYWHERE, app_settings, resources, role_assignments, the
from tests.infra.role_table import NAMES, TABLE, row


def test_the_page_has_every_role_with_its_reason() -> None:
    """Whoever approves the deployment can read what it grants."""
    assigned = [*role_assignments(), *role_assignments("gateway")]
    assert {row(assignment) for assignment in assigned} == TABLE
    assert all(reason.endswith(".") for *_, reason in TABLE)


@pytest.mark.parametrize("environment", EVERYWHERE)
def test_every_assigned_role_is_on_the_page(environment: str) -> None:
    """In every environment; and the operator gets none on an existing vault."""
    rows = {row(assignment) for assignment in role_assignments(environment)}
    assert rows <= TABLE
    if environment == "existing":
        assert [each for each in rows if each[0] == "operator" and each[2] == "vault"] == []
        assert "rg-hub" in next(key for key in resources(environment) if "roleAssignments" in key and "kv-hub" in key)


def test_every_role_is_used_and_has_an_id_of_its_own() -> None:
    """A role that nothing needs does not exist."""
    assert {role for _, role, *_ in TABLE} == set(NAMES)
    assert len(set(NAMES.values())) == len(NAMES)


def test_the_app_has_exactly_the_roles_that_its_settings_need() -> None:
    """Each setting that points to a resource needs one role there."""
    needed_by = {
        "AzureWebJobsStorage__blobServiceUri": ("Storage Blob Data Owner", "host"),
        "AzureWebJobsStorage__queueServiceUri": ("Storage Queue Data Contributor", "host"),
        "AzureWebJobsStorage__tableServiceUri": ("Storage Table Data Contributor", "host"),
        "DropStorage__blobServiceUri": ("Storage Blob Data Contributor", "drops"),
        "DropStorage__queueServiceUri": ("Storage Queue Data Contributor", "drops"),
        "APPLICATIONINSIGHTS_AUTHENTICATION_STRING": ("Monitoring Metrics Publisher", "insights"),
        "ITWIN_SECRET_URL": ("Key Vault Secrets User", "vault"),
    }
    reaching = {
        name
        for name, value in app_settings().items()
        if "Uri" in name or "AUTHENTICATION" in name or "SECRET_URL" in name
    }
    assert needed_by.keys() == reaching
    assert sorted((role, on) for name, role, on, _ in TABLE if name == "app") == sorted(needed_by.values())


def test_the_vaults_log_records_who_read_the_secret() -> None:
    """In the same workspace as all other logs."""
    log = the("Microsoft.Insights/diagnosticSettings", name="audit")
    assert "/Microsoft.KeyVault/vaults/" in log["id"]
    assert log["properties"]["logs"] == [{"category": "AuditEvent", "enabled": True}]
