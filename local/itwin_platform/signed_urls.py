"""Decides who may read an image: anyone with a link to it that has not expired.

The links look like the platform's, which are shared access signatures of Azure Storage, and are as secret.
https://learn.microsoft.com/rest/api/storageservices/create-service-sas
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import math
import secrets
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from urllib.parse import urlencode

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

EXPIRY_FORMAT = "%Y-%m-%dT%H:%M:%SZ"
VERSION = "2018-03-28"


class SignedUrls:
    """Signs paths and verifies its own signatures."""

    def __init__(self, lifetime_s: float, clock: Callable[[], float]) -> None:
        self._key = secrets.token_bytes(32)
        self._lifetime_s = lifetime_s
        self._clock = clock

    def sign(self, origin: str, path: str) -> str:
        """Return a link to `path`, which begins with a slash, at `origin`, which does not end with one."""
        expires_at = datetime.fromtimestamp(math.ceil(self._clock() + self._lifetime_s), UTC)
        fields = {"sv": VERSION, "sr": "b", "se": expires_at.strftime(EXPIRY_FORMAT), "sp": "r"}
        signed = {**fields, "sig": self._signature(path, fields)}
        query = urlencode([(name, signed[name]) for name in ("sv", "sr", "sig", "se", "sp")])  # as on the API's page
        return f"{origin}{path}?{query}"

    def allow(self, path: str, query: Mapping[str, str]) -> bool:
        """Say whether the query of a link to `path` was signed here, is unchanged, and has not expired."""
        fields = {name: query.get(name, "") for name in ("sv", "sr", "se", "sp")}
        if not hmac.compare_digest(query.get("sig", "").encode(), self._signature(path, fields).encode()):
            return False
        expires_at = datetime.strptime(fields["se"], EXPIRY_FORMAT).replace(tzinfo=UTC)
        return self._clock() < expires_at.timestamp()

    def _signature(self, path: str, fields: Mapping[str, str]) -> str:
        signed = "\n".join([path, *(f"{name}={fields[name]}" for name in sorted(fields))])
        return base64.b64encode(hmac.digest(self._key, signed.encode(), hashlib.sha256)).decode()
