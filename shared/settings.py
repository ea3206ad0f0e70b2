"""What the operator can set: read from a mapping into frozen values, all problems in one message."""

from __future__ import annotations

import fnmatch
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar, get_args
from urllib.parse import urlsplit

from azure.storage.blob import BlobServiceClient

from shared.credentials import ITWIN_SCOPE, ClientCredentialsLogin, Login, ManagedIdentityLogin
from shared.decisions import MAX_DELAY_S, RetryPolicy
from shared.drop import CONTAINER_NAME, ITWIN_ID, MAX_READABLE_BYTES, RESERVED_CONTAINERS
from shared.errors import InvalidSettings
from shared.image.model import AspectPolicy, ImageLimits

if TYPE_CHECKING:
    from collections.abc import Mapping

CONNECTION = "DropStorage"
DEFAULT_MAX_SOURCE_BYTES = 100_000_000
KEY_VAULT_REFERENCE = "@microsoft.keyvault("  # in whatever case
LOGINS = ("client-credentials", "gateway", "managed-identity")
# Without a version: the current one is read.
SECRET_PATH = re.compile(r"/secrets/[0-9a-zA-Z-]{1,127}")
PLATFORM_HOST = re.compile(r"(^|\.)bentley\.com$")
LOOPBACK_HOSTS = ("127.0.0.1", "localhost", "::1")

Choice = TypeVar("Choice", bound=str)


@dataclass(frozen=True)
class StorageSettings:
    """Where drops are read and results are written: a connection string, or URLs with a managed identity."""

    connection_string: str = field(repr=False)
    blob_service_url: str
    queue_service_url: str
    client_id: str | None
    results_container: str

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> StorageSettings:
        """Read only what is needed to write a result. Raises InvalidSettings.

        If RESULTS_CONTAINER is wrong, its default is used, so that a result can say so.
        """
        reader = _Reader(environ)
        storage = _read_storage(reader, _Reader(environ))
        reader.raise_problems()
        return storage


@dataclass(frozen=True)
class ImageSettings:
    """Which images are accepted."""

    limits: ImageLimits
    max_source_bytes: int

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> ImageSettings:
        """Read these settings alone. Raises InvalidSettings."""
        reader = _Reader(environ)
        images = _read_images(reader)
        reader.raise_problems()
        return images


@dataclass(frozen=True)
class Settings:
    """Everything that the operator can set."""

    storage: StorageSettings
    api_url: str
    login: Login
    limits: ImageLimits
    max_source_bytes: int
    max_image_cpu_s: int
    max_image_memory_mb: int
    timeout_s: int
    retries: RetryPolicy

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> Settings:
        """Read every setting. Raises InvalidSettings, which lists every problem."""
        reader = _Reader(environ)
        images = _read_images(reader)
        api_url = reader.url("ITWIN_API_URL", "https://api.bentley.com")
        settings = cls(
            storage=_read_storage(reader, reader),
            api_url=api_url,
            login=_read_login(reader, api_url),
            limits=images.limits,
            max_source_bytes=images.max_source_bytes,
            max_image_cpu_s=reader.integer("MAX_IMAGE_CPU_S", 10, 1, 30),
            max_image_memory_mb=reader.integer("MAX_IMAGE_MEMORY_MB", 0, 0, 100_000),
            timeout_s=reader.integer("ITWIN_TIMEOUT_S", 40, 1, 45),
            retries=_read_retries(reader),
        )
        reader.raise_problems()
        return settings


def _read_images(reader: _Reader) -> ImageSettings:
    default = ImageLimits()
    limits = ImageLimits(
        max_source_pixels=reader.integer("MAX_SOURCE_PIXELS", default.max_source_pixels, 1, 1_000_000_000),
        max_output_pixels=reader.integer("MAX_OUTPUT_PIXELS", default.max_output_pixels, 10_000, 1_000_000_000),
        aspect_policy=reader.choice("ASPECT_POLICY", default.aspect_policy, get_args(AspectPolicy)),
    )
    return ImageSettings(limits, reader.integer("MAX_SOURCE_BYTES", DEFAULT_MAX_SOURCE_BYTES, 1, MAX_READABLE_BYTES))


def _read_storage(reader: _Reader, results: _Reader) -> StorageSettings:
    connection_string = reader.text(CONNECTION, "")
    blob_url = queue_url = ""
    if connection_string:
        if not _is_connection_string(connection_string):
            reader.problem(
                CONNECTION, "a connection string without blob and queue endpoints", "AccountName=...;AccountKey=..."
            )
    elif reader.text(f"{CONNECTION}__blobServiceUri", ""):
        blob_url = reader.url(f"{CONNECTION}__blobServiceUri", "", loopback=False)
        queue_url = reader.url(f"{CONNECTION}__queueServiceUri", None, loopback=False)
        reader.choice(f"{CONNECTION}__credential", "managedidentity", ("managedidentity",))
    elif not reader.is_wrong(CONNECTION):
        reader.problem(
            f"{CONNECTION}__blobServiceUri",
            "nothing",
            "the drop account's URL, https://<account>.blob.core.windows.net",
        )
    return StorageSettings(
        connection_string=connection_string,
        blob_service_url=blob_url,
        queue_service_url=queue_url,
        client_id=reader.text(f"{CONNECTION}__clientId", "") or None,
        results_container=results.container("RESULTS_CONTAINER", "results"),
    )


def _is_connection_string(text: str) -> bool:
    """Whether blob and queue clients can be created from it; the latter are slow to import, so none is created here."""
    names = {part.partition("=")[0].strip().lower() for part in text.split(";")}
    try:
        BlobServiceClient.from_connection_string(text).close()
    except ValueError:
        return False
    return bool(names & {"accountname", "queueendpoint", "usedevelopmentstorage"})


def _read_login(reader: _Reader, api_url: str) -> Login:
    way = reader.choice("ITWIN_LOGIN", None, LOGINS)
    identity = reader.text("AZURE_CLIENT_ID", "") or None
    if reader.is_wrong("ITWIN_LOGIN"):
        return ManagedIdentityLogin("")
    if way == "client-credentials":
        return ClientCredentialsLogin(
            token_url=reader.url("ITWIN_TOKEN_URL", "https://ims.bentley.com/connect/token"),
            client_id=reader.text("ITWIN_CLIENT_ID", None, "the client ID of the iTwin service app"),
            secret_url=reader.secret_url("ITWIN_SECRET_URL"),
            scope=reader.text("ITWIN_TOKEN_SCOPE", ITWIN_SCOPE),
            identity_client_id=identity,
        )
    if not reader.is_wrong("ITWIN_API_URL") and PLATFORM_HOST.search(urlsplit(api_url).hostname or ""):
        reader.problem(
            "ITWIN_LOGIN",
            f"{way!r} while images go to {api_url}, which does not accept a managed identity's token",
            "client-credentials, or ITWIN_API_URL set to the address of a gateway that exchanges the token",
        )
    scope = reader.text("ITWIN_TOKEN_SCOPE", None, "the scope to ask the identity for, like api://<id>/.default")
    return ManagedIdentityLogin(scope, identity)


def _read_retries(reader: _Reader) -> RetryPolicy:
    policy = RetryPolicy(
        min_delay_s=reader.integer("RETRY_MIN_DELAY_S", 5, 1, 3600),
        max_delay_s=reader.integer("RETRY_MAX_DELAY_S", 3600, 1, MAX_DELAY_S),
        horizon_s=reader.integer("RETRY_HORIZON_S", 24 * 3600, 1, MAX_DELAY_S),
        brief_horizon_s=reader.integer("RETRY_NOT_FOUND_S", 15 * 60, 0, MAX_DELAY_S),
    )
    if policy.min_delay_s > policy.max_delay_s and not reader.is_wrong("RETRY_MIN_DELAY_S", "RETRY_MAX_DELAY_S"):
        found = f"{policy.min_delay_s}, which is more than RETRY_MAX_DELAY_S ({policy.max_delay_s})"
        reader.problem("RETRY_MIN_DELAY_S", found, "the shortest delay to be no longer than the longest")
    return policy


class _Reader:
    """Reads settings and collects what is wrong with them; a wrong one yields a harmless value of its type."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self._problems: list[str] = []

    def raise_problems(self) -> None:
        if self._problems:
            raise InvalidSettings(self._problems)

    def problem(self, name: str, found: str, expected: str) -> None:
        self._problems.append(f"{name}: found {found}, expected {expected}.")

    def is_wrong(self, *names: str) -> bool:
        """Whether there is a problem with one of them."""
        return any(problem.startswith(f"{name}:") for problem in self._problems for name in names)

    def text(self, name: str, default: str | None, expected: str = "a value") -> str:
        """Return the setting; it is required if the default is None."""
        value = self._environ.get(name, "").strip()
        if value.lower().startswith(KEY_VAULT_REFERENCE):
            self.problem(
                name,
                "a Key Vault reference that the platform did not resolve",
                "the value itself, or a reference to a secret on which the identity that resolves it has the role Key "
                "Vault Secrets User; the client secret needs none, since the app reads it itself at ITWIN_SECRET_URL",
            )
            return ""
        if not value and default is None:
            self.problem(name, "nothing", expected)
        return value or default or ""

    def integer(self, name: str, default: int, minimum: int, maximum: int) -> int:
        text = self.text(name, str(default))
        value = int(text) if text.isascii() and text.isdigit() and len(text) < len(str(maximum)) + 1 else -1
        if not minimum <= value <= maximum:
            self.problem(name, repr(text), f"a whole number from {minimum} to {maximum}")
            return default
        return value

    def choice(self, name: str, default: Choice | None, choices: tuple[Choice, ...]) -> Choice:
        text = self.text(name, default, " or ".join(choices))
        for choice in choices:
            if choice == text:
                return choice
        if text:
            self.problem(name, repr(text), " or ".join(choices))
        return default or choices[0]

    def container(self, name: str, default: str) -> str:
        text = self.text(name, default)
        is_taken = ITWIN_ID.fullmatch(text) or any(fnmatch.fnmatchcase(text, taken) for taken in RESERVED_CONTAINERS)
        if is_taken or not CONTAINER_NAME.fullmatch(text):
            self.problem(name, repr(text), "a container name that is not reserved: a-z, 0-9 and -, not an iTwin ID")
            return default
        return text

    def secret_url(self, name: str) -> str:
        url = self.url(name, None)
        if url and not self.is_wrong(name) and not SECRET_PATH.fullmatch(urlsplit(url).path):
            expected = "the secret's address in the key vault without a version, https://<vault>.../secrets/<name>"
            self.problem(name, repr(url), expected)
        return url

    def url(self, name: str, default: str | None, *, loopback: bool = True) -> str:
        """Return a URL without a trailing slash; it must be https, or http on loopback if `loopback` is true.

        Storage clients send no token without TLS, not even on loopback.
        """
        text = self.text(name, default, "an https:// address")
        if not text:
            return ""
        expected = "an https:// address without user, query or fragment"
        expected += " (http:// only on loopback)" if loopback else ""
        plain = text.isprintable() and text.isascii() and not set(text) & set("@?# ")
        try:
            parts = urlsplit(text)
            is_local = loopback and parts.scheme == "http" and parts.hostname in LOOPBACK_HOSTS
            legal = parts.scheme == "https" or is_local
            legal = legal and bool(parts.hostname) and parts.port != 0
        except ValueError:
            legal = False
        if not legal or not plain:
            # A user part or a query may contain a secret, so such a value is not repeated.
            self.problem(name, repr(text) if plain else "an address that is not allowed", expected)
        return text.rstrip("/")
