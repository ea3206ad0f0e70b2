"""Checks of the access token, of the iTwin Platform, and of what the app may do there."""

from __future__ import annotations

import base64
import math
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from shared.credentials import (
    AccessTokens,
    ClientCredentials,
    IdentityTokens,
    ManagedIdentityLogin,
    read_by_identity,
)
from shared.drop import ITWIN_ID
from shared.errors import (
    ITwinNotFound,
    PlatformRejected,
    PlatformThrottled,
    TokenServiceUnavailable,
    TokenUnavailable,
)
from shared.http_client import NoResponse
from shared.image import ImageHeader, NormalizedImage
from shared.itwin_platform import ITwinPlatform
from shared.preflight.report import CheckFailed, NotChecked
from shared.throttle import Throttle
from shared.untrusted_json import parse_object

if TYPE_CHECKING:
    from collections.abc import Mapping

    from shared.http_client import HttpClient, Response
    from shared.settings import Settings
    from shared.vault import VaultSecret

PERMISSION = "itwins_modify"
# What is sent to the iTwin Platform: a PNG of one pixel, for an iTwin that cannot exist (RFC 9562, 5.9).
NIL_ITWIN = "00000000-0000-0000-0000-000000000000"
PIXEL = base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNoAAAAggCBd81ytgAAAABJRU5ErkJggg==")
TOKEN_CLAIMS = 1  # of a JSON Web Token's three parts
# The claims that name the client of a token: in Microsoft Entra's two kinds of tokens, and in OAuth 2.0's (RFC 9068).
CLIENT_CLAIMS = ("appid", "azp", "client_id")


@dataclass(frozen=True)
class PlatformAccess:
    """What the checks of the platform have in common."""

    settings: Settings
    tokens: AccessTokens
    secret: VaultSecret | None
    http: HttpClient
    deadline: float

    @classmethod
    def of(cls, settings: Settings, http: HttpClient, deadline: float) -> PlatformAccess:
        """Read the secret that the key vault has now, not the cached one that drops are uploaded with."""
        login = settings.login
        if isinstance(login, ManagedIdentityLogin):
            return cls(settings, AccessTokens(IdentityTokens(login, http)), None, http, deadline)
        secret = read_by_identity(login, http)
        return cls(settings, AccessTokens(ClientCredentials(login, http, secret)), secret, http, deadline)

    def token(self) -> str:
        """Return an access token. Raises NotChecked: another check says why there is none."""
        try:
            return self.tokens.get(self.deadline)
        except (TokenUnavailable, TokenServiceUnavailable) as error:
            message = "An access token is needed first."
            raise NotChecked(message) from error


def check_token(platform: PlatformAccess) -> str:
    """Obtain an access token, and say what an operator can compare: its claims, and the version of the secret."""
    login = platform.settings.login
    issuer = "The managed identity" if isinstance(login, ManagedIdentityLogin) else login.token_url
    claims = _describe(_claims(platform.tokens.get(platform.deadline)))
    said = claims or "It is opaque: its audience and expiry cannot be read."
    return f"{issuer} issued one for the scope {login.scope!r}. {said}{_describe_secret(platform)}"


def _describe_secret(platform: PlatformAccess) -> str:
    """Return which version of the secret the key vault has now; drops may still use an earlier one."""
    if platform.secret is None:
        return ""
    secret = platform.secret.current(platform.deadline)
    expiry = f"expires on {secret.expires_at:%Y-%m-%d}" if secret.expires_at else "has no expiry date"
    return (
        f" It was obtained with version {secret.version} of the client secret, the vault's current one, which {expiry}."
    )


def _claims(token: str) -> Mapping[str, Any]:
    """Return the claims of a JSON Web Token (RFC 7519), unverified; nothing for any other token."""
    try:
        part = token.split(".")[TOKEN_CLAIMS]
        return parse_object(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    except (IndexError, ValueError):
        return {}


def _describe(claims: Mapping[str, Any]) -> str:
    """Describe the claims that an operator compares; any of them may be missing, as authorities differ."""
    named = {
        "audience": claims.get("aud"),
        "issuer": claims.get("iss"),
        "client": next((claims[name] for name in CLIENT_CLAIMS if name in claims), None),
    }
    facts = [f"{name} {value!r}" for name, value in named.items() if value and isinstance(value, str | list)]
    with suppress(KeyError, TypeError, ValueError, OverflowError, OSError):
        facts.append(f"valid until {datetime.fromtimestamp(claims['exp'], UTC).isoformat()}")
    return f"Its claims: {', '.join(facts)}." if facts else ""


def check_platform(platform: PlatformAccess) -> str:
    """Upload a pixel to an iTwin that cannot exist: only the platform itself refuses that with its own error object.

    This proves the address, any gateway on the way and the token, and changes no iTwin.
    """
    platform.token()
    api_url = platform.settings.api_url
    client = ITwinPlatform(api_url, platform.tokens, Throttle(), platform.http, timeout_s=math.inf)
    image = NormalizedImage(PIXEL, "image/png", 1, 1, (), ImageHeader("image/png", 1, 1))
    try:
        client.upload_image(NIL_ITWIN, image, platform.deadline)
    except (ITwinNotFound, PlatformRejected, PlatformThrottled) as error:
        response = error.response
        if response is None or response.error is None:
            raise
        return (
            f"{api_url} accepts the app's token: it refused an image for an iTwin that cannot exist, with the "
            f"platform's own error ({response.http_status} {response.error['code']})."
        )
    raise CheckFailed(
        f"{api_url} accepted an image for an iTwin that cannot exist, so it is not the iTwin Platform: check "
        "ITWIN_API_URL."
    )


def check_permission(platform: PlatformAccess, itwin_id: str | None) -> str:
    """Ask what the app may do to the iTwin: https://developer.bentley.com/apis/access-control-v2/."""
    if not itwin_id:
        raise NotChecked("Name an iTwin to learn whether the app may change its image: add ?itwin=<iTwin ID>.")
    if not ITWIN_ID.fullmatch(itwin_id):
        raise CheckFailed("That is not an iTwin ID, which is a GUID in lower case with hyphens.")
    token = platform.token()
    try:
        response = platform.http.send(
            "GET",
            f"{platform.settings.api_url}/accesscontrol/itwins/{itwin_id}/permissions",
            headers={"Accept": "application/json", "Authorization": f"Bearer {token}"},
            deadline=platform.deadline,
        )
    except NoResponse as error:
        raise CheckFailed(f"{error.message} Check ITWIN_API_URL and the network.") from error
    return _read_permissions(platform.settings.api_url, itwin_id, response)


def _read_permissions(api_url: str, itwin_id: str, response: Response) -> str:
    if response.status == HTTPStatus.UNAUTHORIZED:
        raise CheckFailed(
            f"{api_url} does not accept the access token (401): check ITWIN_LOGIN and ITWIN_TOKEN_SCOPE. A managed "
            "identity's own token requires a gateway in front of the API that exchanges it."
        )
    if response.status == HTTPStatus.NOT_FOUND:
        raise CheckFailed(
            f"{api_url} has no iTwin {itwin_id}, or does not show it to the app (404): check the ID and, if there is a "
            "gateway in front of the API, that it forwards /accesscontrol."
        )
    permissions = None
    with suppress(ValueError):
        permissions = parse_object(response.body).get("permissions") if response.status == HTTPStatus.OK else None
    if not isinstance(permissions, list):
        raise CheckFailed(
            f"{api_url} responded with {response.status} without permissions: check ITWIN_API_URL, or try again."
        )
    if PERMISSION not in permissions:
        raise CheckFailed(
            f"The app lacks the permission {PERMISSION} on the iTwin {itwin_id}: give the app's iTwin user (the e-mail "
            "address of the service app) a role with that permission."
        )
    return f"The app may change the image of {itwin_id} ({PERMISSION})."
