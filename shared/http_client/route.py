"""Where a request goes, through which proxy, and what its head says."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

import h11

from shared.http_client.response import NoResponse

if TYPE_CHECKING:
    from collections.abc import Mapping

USER_AGENT = "itwin-image-drop"
DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True)
class Route:
    """Where a request goes, and through which proxy."""

    scheme: str
    host: str
    port: int
    proxy: str | None

    @classmethod
    def to(cls, url: str, proxy: str | None) -> Route:
        """Return the route to an address. Raises ValueError if it is not http:// or https://."""
        parts = urlsplit(url)
        if parts.scheme not in DEFAULT_PORTS or not parts.hostname:
            raise ValueError("Not an http:// or https:// address.")
        return cls(parts.scheme, parts.hostname, parts.port or DEFAULT_PORTS[parts.scheme], proxy)

    @property
    def is_tunnel(self) -> bool:
        """Whether the proxy only passes bytes on (CONNECT), since they are encrypted."""
        return self.proxy is not None and self.scheme == "https"

    @property
    def authority(self) -> str:
        """The host and the port, as in an address (RFC 9110, 7.2)."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    @property
    def first_hop(self) -> tuple[str, int]:
        """Return what to connect to. Raises NoResponse if the proxy's address is not http://."""
        if self.proxy is None:
            return self.host, self.port
        try:
            parts = urlsplit(self.proxy)
            if parts.scheme == "http" and parts.hostname:
                return parts.hostname, parts.port or DEFAULT_PORTS["http"]
        except ValueError:
            pass
        # Its address may hold a password, so it is not repeated.
        message = "The proxy that the environment names is not an http:// address."
        raise NoResponse(message, "proxy", is_temporary=False)

    def proxy_headers(self) -> list[tuple[str, str]]:
        """Return the login of the proxy's address, if it has one."""
        parts = urlsplit(self.proxy or "")
        if not parts.username:
            return []
        login = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        return [("Proxy-Authorization", f"Basic {base64.b64encode(login.encode()).decode()}")]

    def head(self, method: str, url: str, headers: Mapping[str, str], body: bytes) -> h11.Request:
        """Return the request line and header fields; `headers` take precedence over the client's own."""
        parts = urlsplit(url)
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        default = self.port == DEFAULT_PORTS[self.scheme]
        host = self.authority.rpartition(":")[0] if default else self.authority
        own = [("Host", host), ("User-Agent", USER_AGENT), ("Accept-Encoding", "identity")]
        if body or method in ("POST", "PUT"):
            own.append(("Content-Length", str(len(body))))
        if self.proxy and not self.is_tunnel:
            target = f"{self.scheme}://{host}{target}"
            own += self.proxy_headers()
        given = {name.lower() for name in headers}
        fields = [*((name, value) for name, value in own if name.lower() not in given), *headers.items()]
        return h11.Request(method=method, target=target, headers=fields)
