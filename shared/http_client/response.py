"""What comes back from a peer, or why nothing did."""

from __future__ import annotations

from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# Temporary, whoever responds with them: timeout, too early, too many requests, and every server error.
TEMPORARY_STATUSES = (408, 425, 429, *range(500, 600))

Cause = Literal["name", "connection", "proxy", "certificate", "tls", "time", "cut", "not HTTP", "exhausted"]

ADVICE: Mapping[Cause, str] = {
    "name": "Check {setting} and DNS",
    "connection": "Check {setting} and the network",
    "proxy": "Check HTTPS_PROXY and the proxy",
    "certificate": "Check {setting}, and REQUESTS_CA_BUNDLE where the network has certificates of its own",
    "tls": "Check {setting}",
    "time": "Check the network",
    "cut": "Check the network",
    "not HTTP": "Check {setting}",
}


@dataclass(frozen=True)
class Response:
    """What a peer responded; header names are in lower case.

    `fields` are the header fields as received: storage's metadata needs their case.
    The status is valid even if `is_whole` is False: then the body was cut off, too long or damaged, and is empty.
    `resent` says that the request had already been sent on a kept connection that broke without a response: it is
    unknown whether the peer received that one as well.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)
    is_whole: bool = True
    resent: bool = False
    fields: Sequence[tuple[str, str]] = field(default=(), compare=False, repr=False)


class NoResponse(Exception):
    """There was no status; the message is a sentence without any secret.

    `may_have_arrived` says whether the peer may have received the request, and may still act on it. `is_temporary` is
    false only for what stays as it is until somebody changes it, such as a name that does not exist or a certificate
    that is not trusted.
    """

    def __init__(
        self, message: str, cause: Cause, *, may_have_arrived: bool = False, is_temporary: bool = True
    ) -> None:
        super().__init__(message)
        self.message = message
        self.cause: Cause = cause
        self.may_have_arrived = may_have_arrived
        self.is_temporary = is_temporary

    def advice(self, setting: str) -> str:
        """Return what to check, as a sentence to append; `setting` is the one with the peer's address."""
        if self.cause not in ADVICE:
            return ""
        return f" {ADVICE[self.cause].format(setting=setting)}{' if this lasts' if self.is_temporary else ''}."


def retry_after_s(headers: Mapping[str, str], *, at_least: float = 0.0) -> float | None:
    """Read Retry-After (RFC 9110, 10.2.3): seconds, or a date that is measured from the response's own Date.

    The names of `headers` are in lower case.
    """
    value = headers.get("retry-after", "").strip()
    if value.isascii() and value.isdigit():
        return max(float(value[:9]), at_least)
    try:
        delay = parsedate_to_datetime(value) - parsedate_to_datetime(headers.get("date", ""))
    except (ValueError, TypeError, OverflowError):
        return None
    return max(delay.total_seconds(), at_least)


def exhausted(error: Exception) -> NoResponse:
    """Return the failure of a request for which the system lacked something."""
    return NoResponse(f"The instance has no resources left for another connection: {reason_of(error)}.", "exhausted")


def reason_of(error: Exception) -> str:
    """Return OpenSSL's or the system's own words, or else the error's name."""
    return getattr(error, "reason", None) or getattr(error, "strerror", None) or type(error).__name__
