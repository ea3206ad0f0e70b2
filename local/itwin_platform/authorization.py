"""Who calls, and what they may do to an iTwin.

Two issuers are trusted: the platform's own token endpoint, whose tokens need the scope `itwin-platform`, and one
external identity provider, whose tokens need the platform's audience. Every other token is "issued by the wrong
issuer".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jwt

from local.itwin_platform import errors

if TYPE_CHECKING:
    from collections.abc import Collection

    from local.itwin_platform.itwins import ITwin
    from local.tokens import TokenIssuer

SCOPE = "itwin-platform"
AUDIENCE = "https://ims.bentley.com/resources"
MODIFY = "itwins_modify"


class Authentication:
    """Reads bearer tokens."""

    def __init__(self, tokens: TokenIssuer, identity: TokenIssuer | None, identity_audience: str) -> None:
        self._tokens = tokens
        self._identity = identity
        self._identity_audience = identity_audience

    def subject_of(self, authorization: str | None) -> str:
        """Return the sender of this `Authorization` header; raises Refusal (401)."""
        if authorization is None:
            raise errors.no_authorization()
        scheme, _, token = authorization.strip().partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            raise errors.malformed_authorization()
        try:
            claims = self._verified_claims(token.strip())
        except jwt.ExpiredSignatureError as error:
            raise errors.token_refused("The access token has expired.") from error
        except jwt.InvalidAudienceError as error:
            raise errors.token_refused("The access token is meant for another audience.") from error
        except jwt.InvalidTokenError as error:
            raise errors.token_refused("The access token is not valid.") from error
        return str(claims["sub"])

    def _verified_claims(self, token: str) -> dict[str, Any]:
        issuer = jwt.decode(token, options={"verify_signature": False}).get("iss")
        if self._identity is not None and issuer == self._identity.issuer:
            return self._identity.verify(token, audience=self._identity_audience)
        if issuer != self._tokens.issuer:
            raise errors.token_refused("The access token was issued by the wrong issuer.")
        claims = self._tokens.verify(token, audience=AUDIENCE)
        if SCOPE not in str(claims.get("scope", "")).split():
            raise errors.token_refused("The access token does not have the required scope itwin-platform.")
        return claims


def permissions_on(itwin: ITwin, subject: str, administrators: Collection[str]) -> list[str] | None:
    """Return what `subject` may do, or None if the iTwin is not even visible to it.

    `administrators` are those of the organization that owns the iTwin; they may modify all of its iTwins.
    """
    if itwin.permissions is None:
        return [MODIFY]
    granted = itwin.permissions.get(subject)
    if subject not in administrators:
        return None if granted is None else list(granted)
    return sorted({MODIFY, *(granted or ())})


def may_delete(itwin: ITwin, subject: str, administrators: Collection[str]) -> bool:
    """Say whether `subject` may delete the iTwin: its owner and the organization's administrators may."""
    return subject == itwin.owner or subject in administrators
