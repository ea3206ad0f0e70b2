"""What the operator can set, and what is said of what is wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from shared.credentials import ClientCredentialsLogin, ManagedIdentityLogin
from shared.errors import InvalidSettings
from shared.image import ImageLimits
from shared.settings import Settings, StorageSettings

if TYPE_CHECKING:
    from collections.abc import Mapping

MANAGED_IDENTITY = {
    "DropStorage__blobServiceUri": "https://drops.blob.core.windows.net",
    "DropStorage__queueServiceUri": "https://drops.queue.core.windows.net",
    "DropStorage__credential": "managedidentity",
    "DropStorage__clientId": "0f8fad5b-d9cb-469f-a165-70867728950e",
    "AZURE_CLIENT_ID": "0f8fad5b-d9cb-469f-a165-70867728950e",
    "ITWIN_LOGIN": "gateway",
    "ITWIN_API_URL": "https://gateway.example",
    "ITWIN_TOKEN_SCOPE": "api://gateway/.default",
}
CLIENT_CREDENTIALS = {
    "DropStorage": "AccountName=a;AccountKey=c2VjcmV0",
    "ITWIN_LOGIN": "client-credentials",
    "ITWIN_CLIENT_ID": "service-app",
    "ITWIN_SECRET_URL": "https://kv.vault.azure.net/secrets/itwin-client-secret",
}


def problems(environ: Mapping[str, str]) -> tuple[str, ...]:
    """Return what is said of wrong settings."""
    with pytest.raises(InvalidSettings) as caught:
        Settings.from_environ(environ)
    return caught.value.problems


def test_the_managed_identitys_own_token_goes_to_a_gateway() -> None:
    """Settings that are not set have their documented defaults."""
    settings = Settings.from_environ(MANAGED_IDENTITY)
    assert settings.login == ManagedIdentityLogin("api://gateway/.default", "0f8fad5b-d9cb-469f-a165-70867728950e")
    assert settings.api_url == "https://gateway.example"
    assert settings.limits == ImageLimits()
    assert settings.max_source_bytes == 100_000_000
    assert settings.storage.blob_service_url == "https://drops.blob.core.windows.net"
    assert settings.storage.client_id == "0f8fad5b-d9cb-469f-a165-70867728950e"
    assert settings.storage.results_container == "results"


def test_client_credentials_default_to_the_production_authority() -> None:
    """A service app needs only its ID and the address of its secret."""
    settings = Settings.from_environ(CLIENT_CREDENTIALS)
    assert settings.api_url == "https://api.bentley.com"
    assert settings.login == ClientCredentialsLogin(
        "https://ims.bentley.com/connect/token",
        "service-app",
        "https://kv.vault.azure.net/secrets/itwin-client-secret",
        "itwin-platform",
    )


@pytest.mark.parametrize("kind", ["blob", "queue"])
def test_storage_with_an_identity_requires_https(kind: str) -> None:
    """Otherwise its clients would refuse to send a token at the first drop; an emulator accepts a key."""
    (problem,) = problems({**MANAGED_IDENTITY, f"DropStorage__{kind}ServiceUri": "http://127.0.0.1:10000/a"})
    assert problem.endswith("expected an https:// address without user, query or fragment.")


def test_there_is_no_default_login() -> None:
    """A default would be wrong for most, and fail only later."""
    (problem,) = problems({**CLIENT_CREDENTIALS, "ITWIN_LOGIN": ""})
    assert problem == "ITWIN_LOGIN: found nothing, expected client-credentials or gateway or managed-identity."


@pytest.mark.parametrize("way", ["managed-identity", "gateway"])
@pytest.mark.parametrize(
    "url", ["", "https://api.bentley.com", "https://qa-api.bentley.com/", "https://API.Bentley.com"]
)
def test_a_managed_identitys_token_is_never_sent_to_the_platform_itself(way: str, url: str) -> None:
    """It would be refused for each drop; the message says what to do instead."""
    (problem,) = problems({**MANAGED_IDENTITY, "ITWIN_LOGIN": way, "ITWIN_API_URL": url})
    assert problem.startswith(f"ITWIN_LOGIN: found {way!r} while images go to https://")
    assert problem.endswith(
        "expected client-credentials, or ITWIN_API_URL set to the address of a gateway that exchanges the token."
    )


@pytest.mark.parametrize("way", ["managed-identity", "gateway"])
@pytest.mark.parametrize("url", ["https://gateway.example", "https://bentley.com.example", "https://notbentley.com"])
def test_your_own_gateway_works_with_either_identity_login(way: str, url: str) -> None:
    """Both send the identity's own token there."""
    settings = Settings.from_environ({**MANAGED_IDENTITY, "ITWIN_LOGIN": way, "ITWIN_API_URL": url})
    assert isinstance(settings.login, ManagedIdentityLogin)


@pytest.mark.parametrize(
    "url",
    [
        "https://kv.vault.azure.net",
        "https://kv.vault.azure.net/secrets/",
        "https://kv.vault.azure.net/secrets/a/0123456789abcdef0123456789abcdef",
        "https://kv.vault.azure.net/keys/a",
    ],
)
def test_the_address_of_the_secret_has_its_name_and_no_version(url: str) -> None:
    """With a version, rotating the secret would have no effect."""
    (problem,) = problems({**CLIENT_CREDENTIALS, "ITWIN_SECRET_URL": url})
    assert problem.startswith("ITWIN_SECRET_URL: found ")
    assert "without a version" in problem


def test_every_problem_is_named_in_one_message() -> None:
    """An operator can fix all settings at once: name, what was found, what is expected."""
    wrong = {
        "ITWIN_LOGIN": "password",
        "ITWIN_API_URL": "http://api.bentley.com",
        "MAX_SOURCE_BYTES": "100 MB",
        "MAX_OUTPUT_PIXELS": "9",
        "ASPECT_POLICY": "squeeze",
    }
    found = problems(wrong)
    for name, expected in {
        "DropStorage__blobServiceUri": "found nothing",
        "ITWIN_LOGIN": "found 'password', expected client-credentials or gateway or managed-identity",
        "ITWIN_API_URL": "found 'http://api.bentley.com', expected an https:// address",
        "MAX_SOURCE_BYTES": "found '100 MB', expected a whole number from 1 to 2000000000",
        "MAX_OUTPUT_PIXELS": "found '9', expected a whole number from 10000 to 1000000000",
        "ASPECT_POLICY": "found 'squeeze', expected pad or crop or reject",
    }.items():
        assert any(p.startswith(f"{name}: ") and expected in p for p in found), (name, found)
    assert len(found) == 6


@pytest.mark.parametrize("setting", ["MAX_SOURCE_BYTES", "ITWIN_TIMEOUT_S", "RETRY_HORIZON_S"])
@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "1e3", "-1", "+1", "0", "1.0", "1_0", "٣", "9" * 5000])
def test_a_number_must_be_a_whole_number_within_its_bounds(setting: str, value: str) -> None:
    """Anything else that Python would accept as a number is one problem."""
    (problem,) = problems({**CLIENT_CREDENTIALS, setting: value})
    assert problem.startswith(f"{setting}: found {value!r}, expected a whole number from 1 to ")


def test_the_shortest_delay_must_not_exceed_the_longest() -> None:
    """One problem with both names; none if one of them is not a valid delay."""
    delays = {**CLIENT_CREDENTIALS, "RETRY_MIN_DELAY_S": "60", "RETRY_MAX_DELAY_S": "30"}
    (problem,) = problems(delays)
    assert problem.startswith("RETRY_MIN_DELAY_S: found 60, which is more than RETRY_MAX_DELAY_S (30), expected ")
    (problem,) = problems({**delays, "RETRY_MAX_DELAY_S": "never"})
    assert problem.startswith("RETRY_MAX_DELAY_S: found 'never'")
    assert Settings.from_environ({**delays, "RETRY_MAX_DELAY_S": "60"}).retries.min_delay_s == 60


@pytest.mark.parametrize("name", ["ITWIN_SECRET_URL", "ITWIN_CLIENT_ID"])
@pytest.mark.parametrize("prefix", ["@Microsoft.KeyVault", "@microsoft.keyvault", "  @MICROSOFT.KeyVault"])
def test_an_unresolved_key_vault_reference_is_recognized(name: str, prefix: str) -> None:
    """The platform leaves the literal reference in a setting that it cannot resolve; that is not a secret."""
    reference = f"{prefix}(SecretUri=https://vault.vault.azure.net/secrets/itwin)"
    (problem,) = problems({**CLIENT_CREDENTIALS, name: reference})
    assert problem.startswith(f"{name}: found a Key Vault reference that the platform did not resolve")
    assert "ITWIN_SECRET_URL" in problem
    assert "keyVaultReferenceIdentity" not in problem
    assert "Key Vault Secrets User" in problem


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:8080", "http://localhost:8080/", "https://gateway.example/", "https://gateway.example/v1"]
)
def test_plain_http_is_allowed_only_for_loopback(url: str) -> None:
    """A token never leaves the machine without TLS."""
    assert Settings.from_environ({**MANAGED_IDENTITY, "ITWIN_API_URL": url}).api_url == url.rstrip("/")


@pytest.mark.parametrize(
    "url",
    [
        "http://api.bentley.com",
        "http://127.0.0.1.evil.example",
        "ftp://api.bentley.com",
        "api.bentley.com",
        "https://",
        "https://:443",
        "https://[::1",
        "https://api.bentley.com:http",
    ],
)
def test_an_address_that_would_send_the_token_elsewhere_is_refused(url: str) -> None:
    """Every other scheme and every malformed address is a problem."""
    (problem,) = problems({**MANAGED_IDENTITY, "ITWIN_API_URL": url})
    assert problem.startswith(f"ITWIN_API_URL: found {url!r}")


@pytest.mark.parametrize(
    "environ",
    [
        {**CLIENT_CREDENTIALS, "ITWIN_API_URL": "https://user:hush@api.bentley.com"},
        {**CLIENT_CREDENTIALS, "ITWIN_API_URL": "https://user:hush@api.bentley.com:notaport"},
        {**CLIENT_CREDENTIALS, "ITWIN_API_URL": "https://api.bentley.com:99999?sig=hush"},
        {**CLIENT_CREDENTIALS, "ITWIN_TOKEN_URL": "https://ims.bentley.com/connect/token?secret=hush"},
        {**CLIENT_CREDENTIALS, "MAX_SOURCE_PIXELS": "many"},
        {**CLIENT_CREDENTIALS, "DropStorage": "hush"},
        {**CLIENT_CREDENTIALS, "DropStorage": "foo=hush"},
        {**CLIENT_CREDENTIALS, "DropStorage": "AccountName=hush;AccountKey"},
    ],
)
def test_no_problem_repeats_a_secret(environ: Mapping[str, str]) -> None:
    """The value is shown only if it cannot contain a secret, and never in a repr."""
    assert "hush" not in " ".join(problems(environ))
    assert "hush" not in repr(Settings.from_environ(CLIENT_CREDENTIALS))


def test_storage_settings_can_be_read_while_others_are_wrong() -> None:
    """A wrong login must still end in a result, so storage does not depend on it."""
    environ = {"DropStorage": "AccountName=a;AccountKey=b", "ITWIN_LOGIN": "password"}
    assert StorageSettings.from_environ(environ).connection_string == "AccountName=a;AccountKey=b"


def test_the_hosts_own_queue_setting_is_required() -> None:
    """The trigger creates a queue client for the poison queue; without its address the host cannot start."""
    (problem,) = problems({k: v for k, v in MANAGED_IDENTITY.items() if "queue" not in k})
    assert problem.startswith("DropStorage__queueServiceUri: found nothing")


@pytest.mark.parametrize("name", ["Not A Container!", "a/b", "../x", "ledger", "$web", "azure-webjobs-x", "ab"])
def test_the_results_container_must_have_a_valid_name_of_its_own(name: str) -> None:
    """Otherwise no result could ever be written, or results would be mixed with other data."""
    (problem,) = problems({**CLIENT_CREDENTIALS, "RESULTS_CONTAINER": name})
    assert problem.startswith(f"RESULTS_CONTAINER: found {name!r}")


def test_the_results_container_must_not_be_an_itwins() -> None:
    """A result in an iTwin's container would be treated as a drop."""
    (problem,) = problems({**CLIENT_CREDENTIALS, "RESULTS_CONTAINER": "b3bd3a79-c5b4-41f5-ba5f-6d8c338d788a"})
    assert problem.startswith("RESULTS_CONTAINER: found")
