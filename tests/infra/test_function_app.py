"""The function app gets every setting that it reads, within the bounds that it takes, and nothing that Flex refuses."""

from __future__ import annotations

import json

import pytest

from shared.errors import InvalidSettings
from shared.settings import CONNECTION, Settings
from tests.environments import settings_read
from tests.infra.deployed import CONTRACT, EVERYWHERE, app_name, app_settings, bindings, outputs, parameters, the
from tools.infra import INFRA

HOST = json.loads((INFRA.parent / "host.json").read_text("utf-8"))
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
# What the platform reads, and the app does not.
PLATFORM_SETTINGS = {
    "APPLICATIONINSIGHTS_AUTHENTICATION_STRING",
    "APPLICATIONINSIGHTS_CONNECTION_STRING",
    "AzureWebJobsStorage__blobServiceUri",
    "AzureWebJobsStorage__clientId",
    "AzureWebJobsStorage__credential",
    "AzureWebJobsStorage__queueServiceUri",
    "AzureWebJobsStorage__tableServiceUri",
    "PYTHON_THREADPOOL_THREAD_COUNT",
}
# The settings that limit what is taken and how long it is tried, with their parameters.
LIMITS = {
    "ASPECT_POLICY": "aspectPolicy",
    "ITWIN_TIMEOUT_S": "itwinTimeoutS",
    "MAX_IMAGE_CPU_S": "maxImageCpuS",
    "MAX_IMAGE_MEMORY_MB": "maxImageMemoryMB",
    "MAX_OUTPUT_PIXELS": "maxOutputPixels",
    "MAX_SOURCE_BYTES": "maxSourceBytes",
    "MAX_SOURCE_PIXELS": "maxSourcePixels",
    "RETRY_HORIZON_S": "retryHorizonS",
    "RETRY_NOT_FOUND_S": "retryNotFoundS",
    "RETRY_MAX_DELAY_S": "retryMaxDelayS",
    "RETRY_MIN_DELAY_S": "retryMinDelayS",
}


@pytest.mark.parametrize("environment", EVERYWHERE)
def test_the_app_gets_every_setting_that_it_reads_and_no_other(environment: str) -> None:
    """None is missing and none is unused; only storage with keys has a connection string."""
    settings = app_settings(environment)
    read = settings_read({f"{CONNECTION}__blobServiceUri": "https://x", "ITWIN_LOGIN": settings["ITWIN_LOGIN"]})
    assert settings.keys() - PLATFORM_SETTINGS == read - {CONNECTION}
    assert settings.keys() >= PLATFORM_SETTINGS


@pytest.mark.parametrize("environment", EVERYWHERE)
def test_no_setting_is_forbidden_on_flex_consumption(environment: str) -> None:
    """A single one would fail the deployment."""
    assert not FORBIDDEN_ON_FLEX & app_settings(environment).keys()


@pytest.mark.parametrize("environment", EVERYWHERE)
def test_the_client_secret_appears_nowhere_in_the_deployment(environment: str) -> None:
    """It only states where the secret is kept, and the app reads it there."""
    settings = app_settings(environment)
    assert ("ITWIN_SECRET_URL" in settings) == (settings["ITWIN_LOGIN"] == "client-credentials")
    assert not [value for value in settings.values() if "@Microsoft.KeyVault(" in value]


def settings_with(**changes: object) -> Settings:
    """Read settings that are right but for these."""
    environ = {
        CONNECTION: "AccountName=a;AccountKey=b",
        "ITWIN_LOGIN": "gateway",
        "ITWIN_API_URL": "https://gateway.example",
        "ITWIN_TOKEN_SCOPE": "api://x/.default",
    }
    return Settings.from_environ(environ | {name: str(value) for name, value in changes.items()})


def test_the_defaults_of_the_limits_are_those_of_the_code() -> None:
    """Whether a limit is deployed or left out, the app behaves the same."""
    assert settings_with(**{name: app_settings()[name] for name in LIMITS}) == settings_with()
    assert all(app_settings()[name] == str(parameters()[key].value) for name, key in LIMITS.items())


@pytest.mark.parametrize("setting", [name for name in LIMITS if name != "ASPECT_POLICY"])
def test_the_bounds_of_the_limits_are_those_of_the_code(setting: str) -> None:
    """Every value that the deployment accepts, the app accepts; what the app refuses, the deployment refuses first."""
    parameter = parameters()[LIMITS[setting]]
    assert parameter.least is not None
    assert parameter.most is not None
    shortest = {"RETRY_MIN_DELAY_S": 1}  # for it may not be more than the longest delay
    settings_with(**shortest | {setting: parameter.least})
    settings_with(**shortest | {setting: parameter.most})
    for value in (parameter.least - 1, parameter.most + 1):
        with pytest.raises(InvalidSettings):
            settings_with(**{setting: value})


def test_as_many_drops_run_at_once_as_there_are_threads() -> None:
    """The host must not accept a message that no thread is free for: its lease would expire while it waits."""
    extensions = HOST["extensions"]
    assert app_settings()["PYTHON_THREADPOOL_THREAD_COUNT"] == str(CONTRACT["threads"])
    assert extensions["blobs"]["maxDegreeOfParallelism"] == CONTRACT["threads"]
    assert extensions["queues"]["batchSize"] + extensions["queues"]["newBatchThreshold"] == CONTRACT["threads"]


def test_the_address_of_the_preflight_is_that_of_the_function() -> None:
    """And it needs a key."""
    assert outputs("resources.bicep")["PREFLIGHT_URL"].endswith(f"/api/{bindings()['preflight']['route']}'")
    assert bindings()["preflight"]["authLevel"].lower() == "function"


@pytest.mark.parametrize("environment", EVERYWHERE)
def test_code_can_be_deployed_only_with_an_entra_token(environment: str) -> None:
    """Neither by FTP nor with a password, and over HTTPS with TLS 1.2 or later."""
    app = the("Microsoft.Web/sites", environment)["properties"]
    assert app["httpsOnly"] is True
    assert app["siteConfig"]["ftpsState"] == "Disabled"
    assert app["siteConfig"]["minTlsVersion"] == app["siteConfig"]["scmMinTlsVersion"] == "1.2"
    assert app["functionAppConfig"]["deployment"]["storage"]["authentication"]["type"] == "UserAssignedIdentity"
    for way in ("scm", "ftp"):
        policy = the("Microsoft.Web/sites/basicPublishingCredentialsPolicies", environment, name=f"/{way}")
        assert policy["properties"] == {"allow": False}


def test_instances_are_kept_ready_and_spread_over_zones_if_configured() -> None:
    """Plan and storage are spread together: either alone would stop with its zone."""
    scale = [
        the("Microsoft.Web/sites", environment)["properties"]["functionAppConfig"]["scaleAndConcurrency"]
        for environment in ("client-credentials", "switches")
    ]
    assert [each["alwaysReady"] for each in scale] == [[], {"blob": {"instanceCount": 1}}]
    assert the("Microsoft.Web/serverfarms", "switches")["properties"]["zoneRedundant"] is True
    for name in ("stdrops", "sthost"):
        account = the("Microsoft.Storage/storageAccounts", "switches", name=app_name(name))
        assert account["sku"] == {"name": "Standard_ZRS"}
