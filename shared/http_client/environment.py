"""The proxies, certificates and names that the environment and the system have.

Proxies and certificates are in the variables of `requests` and curl: HTTPS_PROXY, HTTP_PROXY, ALL_PROXY, NO_PROXY;
REQUESTS_CA_BUNDLE, CURL_CA_BUNDLE, or OpenSSL's SSL_CERT_FILE.
"""

from __future__ import annotations

import ipaddress
import os
import socket
import ssl
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import certifi
from requests.utils import get_environ_proxies, select_proxy

from shared.errors import is_exhaustion
from shared.http_client.response import NoResponse, exhausted

if TYPE_CHECKING:
    from collections.abc import Sequence

Address = tuple[socket.AddressFamily, Any]

# The first that is set names the certificates to trust: those of `requests` and curl, and OpenSSL's own.
CERTIFICATE_VARIABLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE")


def look_up(host: str, port: int) -> Sequence[Address]:
    """Return the addresses of a host, as the system has them. Raises OSError and UnicodeError."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [(family, address) for family, _, _, _, address in found]


def proxy_of_environment(url: str) -> str | None:
    """Return the proxy for the address; none for what no proxy could reach, this machine and its identity endpoint."""
    host = urlsplit(url).hostname or ""
    with suppress(ValueError):
        address = ipaddress.ip_address(host)
        if address.is_loopback or address.is_link_local:
            return None
    if host == "localhost":
        return None
    proxy: str | None = select_proxy(url, get_environ_proxies(url))
    return proxy and (proxy if "://" in proxy else f"http://{proxy}")


def trust_of_environment() -> ssl.SSLContext:
    """Return the certificates to trust. Raises NoResponse where they cannot be read."""
    name = next((name for name in CERTIFICATE_VARIABLES if os.environ.get(name)), None)
    bundle = os.environ[name] if name else certifi.where()
    is_folder = Path(bundle).is_dir()
    try:
        return ssl.create_default_context(cafile=None if is_folder else bundle, capath=bundle if is_folder else None)
    except OSError as error:
        if is_exhaustion(error):
            raise exhausted(error) from error
        whose = f"that {name} names" if name else "that come with the app"
        message = f"The certificates {whose} cannot be read: {error.strerror or 'they are damaged'}."
        raise NoResponse(message, "certificate", is_temporary=False) from error
