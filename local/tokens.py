"""Access tokens of the stand-ins: real JSON Web Tokens, signed with a key that lives as long as the process."""

from __future__ import annotations

import time
import uuid
from typing import TYPE_CHECKING, Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class TokenIssuer:
    """A token authority: issues ES256 access tokens and verifies its own."""

    def __init__(self, issuer: str) -> None:
        self.issuer = issuer
        self._key = ec.generate_private_key(ec.SECP256R1())

    def issue(
        self,
        *,
        subject: str,
        audience: str,
        scope: str | None = None,
        lifetime_s: float = 3600,
        claims: Mapping[str, str] | None = None,
    ) -> str:
        """Make an access token for `subject`, with more `claims`; a negative lifetime makes one that has expired."""
        now = int(time.time())
        told: dict[str, Any] = {
            **(claims or {}),
            "iss": self.issuer,
            "sub": subject,
            "aud": audience,
            "iat": now,
            "nbf": now - 300,
            "exp": int(now + lifetime_s),
            "jti": str(uuid.uuid4()),
        }
        if scope is not None:
            told["scope"] = scope
        return jwt.encode(told, self._key, algorithm="ES256")

    def verify(self, token: str, *, audience: str | Sequence[str]) -> dict[str, Any]:
        """Return the claims of a token of this issuer for an audience, or one of several.

        Raises jwt.InvalidTokenError where it is not one, or expired.
        """
        return jwt.decode(
            token,
            self._key.public_key(),
            algorithms=["ES256"],
            audience=audience,
            issuer=self.issuer,
            options={"require": ["exp", "iss", "sub", "aud"]},
        )
