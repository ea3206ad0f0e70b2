"""The vault's REST API: what a reader of secrets gets, and the vault's own refusals."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
import requests

from local.key_vault import AUDIENCE, KeyVault
from local.serving import serve
from local.tokens import TokenIssuer
from tests.deadlines import HANG_S

if TYPE_CHECKING:
    from collections.abc import Iterator

ENTRA = TokenIssuer("https://sts.windows.net/11111111-aaaa-4aaa-8aaa-aaaaaaaaaaaa/")
NAME = "itwin-client-secret"


class Reader:
    """A vault, and whoever reads it over the wire."""

    def __init__(self, vault: KeyVault, address: str) -> None:
        self.vault = vault
        self.address = address

    def get(self, path: str = NAME, *, token: str | None = "", **query: str) -> requests.Response:
        """Ask for a secret, with a good token unless another or none is given."""
        headers = {} if token is None else {"Authorization": f"Bearer {token or ENTRA.issue(**READER)}"}
        query = query or {"api-version": "7.4"}
        return requests.get(f"{self.address}/secrets/{path}", headers=headers, params=query, timeout=HANG_S)


READER: dict[str, Any] = {"subject": "reader", "audience": AUDIENCE}


@pytest.fixture
def reader() -> Iterator[Reader]:
    """Serve a vault with one secret that one principal may read."""
    vault = KeyVault(ENTRA, readers=["reader"])
    vault.set_secret(NAME, "hush-1", expires=datetime(2027, 3, 1, tzinfo=UTC))
    with serve(vault.app) as address:
        yield Reader(vault, address)


def test_a_reader_gets_the_current_version_with_its_name_and_expiry(reader: Reader) -> None:
    """`id` ends in the version, `attributes.exp` is in seconds since 1970."""
    version = reader.vault.set_secret(NAME, "hush-2", expires=datetime(2027, 6, 1, tzinfo=UTC))
    bundle = reader.get().json()
    assert (bundle["value"], bundle["id"]) == ("hush-2", f"{reader.address}/secrets/{NAME}/{version}")
    assert datetime.fromtimestamp(bundle["attributes"]["exp"], UTC) == datetime(2027, 6, 1, tzinfo=UTC)
    assert reader.vault.requests == 1


def test_a_secret_without_an_expiry_has_no_expiry_attribute(reader: Reader) -> None:
    """It is absent, not null."""
    reader.vault.set_secret(NAME, "hush-2")
    assert "exp" not in reader.get().json()["attributes"]


def test_an_earlier_version_can_be_read_by_its_id(reader: Reader) -> None:
    """Rotation deletes no version."""
    version = urlsplit(reader.get().json()["id"]).path.rpartition("/")[2]
    reader.vault.set_secret(NAME, "hush-2")
    assert reader.get(f"{NAME}/{version}").json()["value"] == "hush-1"


def test_an_expired_secret_can_still_be_read(reader: Reader) -> None:
    """https://learn.microsoft.com/azure/key-vault/secrets/about-secrets#date-time-controlled-operations."""
    reader.vault.set_secret(NAME, "hush-2", expires=datetime(2020, 1, 1, tzinfo=UTC))
    assert reader.get().json()["value"] == "hush-2"


def test_a_disabled_version_cannot_be_read(reader: Reader) -> None:
    """Nor is the previous version returned instead; a new version can be read."""
    reader.vault.disable_secret(NAME)
    refusal = reader.get()
    assert (refusal.status_code, refusal.json()["error"]["innererror"]) == (403, {"code": "SecretDisabled"})
    reader.vault.set_secret(NAME, "hush-2")
    assert reader.get().json()["value"] == "hush-2"


def test_an_absent_secret_is_not_found(reader: Reader) -> None:
    """Whether it was deleted, never created, or has another version."""
    assert {reader.get("another").status_code, reader.get(f"{NAME}/0123").status_code} == {404}
    reader.vault.delete_secret(NAME)
    refusal = reader.get()
    assert (refusal.status_code, refusal.json()["error"]["code"]) == (404, "SecretNotFound")


@pytest.mark.parametrize(
    "token",
    [
        None,
        "rubbish",
        ENTRA.issue(subject="reader", audience="https://storage.azure.com"),
        ENTRA.issue(subject="reader", audience=AUDIENCE, lifetime_s=-60),
        TokenIssuer("https://sts.windows.net/another/").issue(subject="reader", audience=AUDIENCE),
    ],
)
def test_without_a_valid_token_the_vault_says_where_to_get_one(reader: Reader, token: str | None) -> None:
    """401, with the tenant and the resource in the challenge."""
    refusal = reader.get(token=token)
    assert (refusal.status_code, refusal.json()["error"]["code"]) == (401, "Unauthorized")
    assert refusal.headers["www-authenticate"] == (
        'Bearer authorization="https://login.microsoftonline.com/11111111-aaaa-4aaa-8aaa-aaaaaaaaaaaa", '
        'resource="https://vault.azure.net"'
    )
    assert "hush" not in refusal.text


def test_an_identity_without_a_role_is_refused(reader: Reader) -> None:
    """Even with a valid token."""
    reader.vault.readers.discard("reader")
    refusal = reader.get()
    assert (refusal.status_code, refusal.json()["error"]["innererror"]) == (403, {"code": "ForbiddenByRbac"})


@pytest.mark.parametrize("query", [{"another": "1"}, {"api-version": "latest"}])
def test_the_version_of_the_api_is_required(reader: Reader, query: dict[str, str]) -> None:
    """400 without one, or with an invalid one."""
    refusal = reader.get(**query)
    assert (refusal.status_code, refusal.json()["error"]["code"]) == (400, "BadParameter")


def test_the_identity_service_fails_on_demand(reader: Reader) -> None:
    """For tests of its clients; it recovers on demand too."""
    reader.vault.failing_with = 503
    assert reader.get().status_code == 503
    reader.vault.failing_with = None
    assert reader.get().status_code == 200
