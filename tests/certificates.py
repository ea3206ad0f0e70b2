"""A certificate of this machine for servers that speak https."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trustme

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def trusted_certificate(folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """Make a certificate of this machine that clients trust during the test, and its key."""
    authority = trustme.CA()
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    server = authority.issue_cert("127.0.0.1")
    certificate.write_bytes(b"".join(part.bytes() for part in server.cert_chain_pems))
    server.private_key_pem.write_to_path(key)
    authority.cert_pem.write_to_path(folder / "authority.pem")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(folder / "authority.pem"))
    return certificate, key
