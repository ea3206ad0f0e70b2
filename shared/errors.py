"""Every way a drop can fail, grouped by who can fix it.

::

    DropError
    ├── Rejected                     the uploader can fix it; final at once
    │   ├── ContainerNotAnITwin      the container's name is not a GUID
    │   ├── BlobNameRefused          a name that would lead into another folder or container
    │   ├── DropGone                 deleted before it could be uploaded
    │   ├── SourceTooLarge           more bytes than MAX_SOURCE_BYTES
    │   ├── SourceArchived           in the archive tier
    │   ├── SourceEncrypted          encrypted with a key that only the writer has
    │   ├── NotABlockBlob            an append or page blob, whose content is written after its event
    │   ├── ImageRefused             the content is at fault
    │   │   ├── EmptySource          no bytes at all
    │   │   ├── UnsupportedFormat    not an image, or not in a supported format
    │   │   ├── CorruptImage         truncated or damaged
    │   │   ├── TooManyPixels        more than MAX_SOURCE_PIXELS, or than its decoder is allowed
    │   │   ├── TooDemanding         took more CPU or memory than one file may use
    │   │   ├── DecoderCrashed       its decoder crashed on it, twice
    │   │   └── AspectRatioRefused   longer than 5:1 under ASPECT_POLICY=reject
    │   └── PlatformRejected         400, 413, 415, 422, with the platform's own error object
    ├── NeedsTime                    nobody needs to act; another try may succeed
    │   ├── PlatformThrottled        429
    │   ├── PlatformUnavailable      5xx, 408, 409, 423, 425, or no connection
    │   ├── PlatformSilent           no response, from it or its gateway: it may still apply the upload
    │   ├── PlatformResponseUnreadable  a success whose body is not what the API documents
    │   ├── ITwinNotFound            404 from the platform itself; retried for minutes, then `rejected`
    │   ├── TokenServiceUnavailable  the source of access tokens was temporarily unavailable
    │   ├── ITwinBusy                another drop of the same iTwin is being uploaded
    │   ├── ResourcesExhausted       the instance had too little memory, or a process of its own was killed
    │   ├── StorageUnavailable       the drop account refused a request or did not respond
    │   ├── SourceNotReady           the blob's content is not there yet
    │   ├── AttemptsInterrupted      the app failed on the drop several times in a row
    │   └── OutOfTime                an attempt reached its deadline
    ├── NeedsOperator                the operator can fix it; retried less often
    │   ├── InvalidSettings          a setting is missing or wrong
    │   ├── TokenUnavailable         no access token could be obtained
    │   ├── PlatformUnauthorized     401, even with a new token
    │   ├── PlatformForbidden        403
    │   ├── PlatformRedirected       3xx, which is never followed
    │   ├── UnexpectedRefusal        another 4xx: from a gateway, a proxy or another server, or not about the image
    │   ├── StorageForbidden         the drop account refused the app: a role, a key, the network
    │   └── StorageLocked            a lease or a policy prevents writing a result or the ledger
    └── Bug                          a bug in the app; the log has the traceback
"""

from __future__ import annotations

import errno
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# 202 says that the rest comes later (RFC 9110, 15.3.3). Of the statuses beyond HTTP's own, gateways have some for what
# they passed on and heard nothing of, as Cloudflare its 520 and 524.
NONCOMMITTAL = (202, *range(512, 1000))
# A server error of whoever is in front of the platform does not say what the platform did behind it.
SERVER_ERRORS = range(500, 1000)


# What the system reports if this instance lacks memory, descriptors, sockets, threads or disk space.
EXHAUSTION = (
    errno.ENOMEM,
    errno.EMFILE,
    errno.ENFILE,
    errno.ENOBUFS,
    errno.EAGAIN,
    errno.ENOSPC,
    errno.EDQUOT,
)


def is_exhaustion(error: BaseException) -> bool:
    """Whether the exception says that this instance lacks something, whatever it was doing."""
    return isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno in EXHAUSTION)


@dataclass(frozen=True)
class PlatformResponse:
    """What is kept of a response from the platform; nothing in it is secret.

    `error` is the platform's own error object, unchanged, or None if it sent none. `resent` says that the request had
    already been sent on a connection that broke without a response: the platform may still apply that one as well.
    """

    http_status: int
    correlation_id: str | None = None
    error: Mapping[str, Any] | None = field(default=None, compare=False)
    retry_after_s: float | None = None
    resent: bool = False

    @property
    def is_settling(self) -> bool:
        """Whether it says that the platform applies none of the upload's requests later on."""
        is_hearsay = self.http_status in SERVER_ERRORS and self.error is None
        return not (self.resent or is_hearsay or self.http_status in NONCOMMITTAL)


class DropError(Exception):
    """A drop that cannot end as `uploaded` in this attempt.

    The message is safe to publish: it never contains a token, key, signed URL or path of this machine. `code` is the
    error's stable name in results and logs, even if the class is renamed. `is_brief` says that it is retried only for
    minutes.
    """

    status: ClassVar[Literal["rejected", "failed"]] = "failed"
    code: ClassVar[str] = "DropError"
    is_brief: ClassVar[bool] = False

    def __init_subclass__(cls, *, code: str | None = None) -> None:
        """Set the code: the class's name, unless an earlier name has to be kept."""
        cls.code = code or cls.__name__

    def __init__(
        self, message: str, *, response: PlatformResponse | None = None, retry_after_s: float | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.response = response
        self.retry_after_s = response.retry_after_s if response else retry_after_s

    @property
    def is_settled(self) -> bool:
        """Whether no request remains that the platform may still apply."""
        return self.response is None or self.response.is_settling


class Rejected(DropError):
    """The uploader can fix it."""

    status = "rejected"


class ContainerNotAnITwin(Rejected):
    """The container's name is not a GUID, so it names no iTwin."""


class BlobNameRefused(Rejected):
    """A part of the blob's name is `.` or `..`, which clients would follow into another folder or container."""


class DropGone(Rejected):
    """The blob was deleted before it could be uploaded."""


class SourceTooLarge(Rejected):
    """The blob has more bytes than `MAX_SOURCE_BYTES`; its content was not read."""


class SourceArchived(Rejected):
    """The blob is in the archive tier, where nobody can read it."""


class SourceEncrypted(Rejected):
    """The blob is encrypted with a key that only its writer has."""


class NotABlockBlob(Rejected):
    """The blob is an append or page blob, whose content is written after its event is raised."""


class ImageRefused(Rejected):
    """The blob's content is at fault."""


class EmptySource(ImageRefused):
    """The blob has no bytes."""


class UnsupportedFormat(ImageRefused):
    """The file is not an image, or its format is not supported."""


class CorruptImage(ImageRefused):
    """The image is truncated or damaged."""


class TooManyPixels(ImageRefused):
    """The image has more pixels than are ever decoded."""


class TooDemanding(ImageRefused):
    """Reading or decoding it took more CPU or memory than one file may use; the message says which, and how much."""


class DecoderCrashed(ImageRefused):
    """Its decoder crashed on it, and again on a second try."""


class AspectRatioRefused(ImageRefused):
    """The image is longer than 5:1, and `ASPECT_POLICY` is `reject`."""


class PlatformRejected(Rejected):
    """The platform itself refused the image with 400, 413, 415 or 422; repeating the request would not help."""


class NeedsTime(DropError):
    """Nobody needs to act; another try may succeed."""


class PlatformThrottled(NeedsTime):
    """The platform responded with 429, or the pause after that is not over."""


class PlatformUnavailable(NeedsTime):
    """The platform responded with 5xx, 408, 409, 423 or 425, or no connection could be made."""


class PlatformSilent(NeedsTime):
    """A timeout, a reset, 502 or 504: the platform may have applied the image, or may still do so."""

    is_settled = False


class PlatformResponseUnreadable(NeedsTime, code="PlatformAnswerUnreadable"):
    """The platform reported success, but the body is not what the API documents."""


class ITwinNotFound(NeedsTime):
    """404 from the platform itself: the iTwin, or the app's role on it, may be new; final after some minutes."""

    status = "rejected"
    is_brief = True


class TokenServiceUnavailable(NeedsTime):
    """The token authority, the identity endpoint or the key vault was temporarily unavailable."""


class ITwinBusy(NeedsTime):
    """Another drop of the same iTwin is being uploaded, or was a moment ago."""


class ResourcesExhausted(NeedsTime):
    """The instance ran out of memory, descriptors or processes, or one of the app's processes was killed or stopped."""


class StorageUnavailable(NeedsTime):
    """The drop account refused a request or did not respond."""


class SourceNotReady(NeedsTime):
    """The blob's content is not there yet: it is being copied or rehydrated, or was created empty a moment ago."""


class AttemptsInterrupted(NeedsTime):
    """The app failed on the drop several times in a row: the worker was killed, or storage refused the app."""


class OutOfTime(NeedsTime):
    """An attempt reached its deadline and was postponed."""


class NeedsOperator(DropError):
    """The operator can fix it; the message names the setting or the role."""


class InvalidSettings(NeedsOperator):
    """One or more settings are missing or wrong; the message has a sentence for each of its `problems`."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__(" ".join(problems))
        self.problems = tuple(problems)


class TokenUnavailable(NeedsOperator):
    """No access token could be obtained."""


class PlatformUnauthorized(NeedsOperator):
    """The platform responded with 401, even to a new token."""


class PlatformForbidden(NeedsOperator):
    """The platform responded with 403."""


class PlatformRedirected(NeedsOperator):
    """The platform responded with a redirect, which is never followed, so that no token reaches another host."""


class UnexpectedRefusal(NeedsOperator):
    """A 4xx without the platform's own error object, or with one that is not about the image."""


class StorageForbidden(NeedsOperator):
    """The drop account refused the app: its role, its key, or the network it comes from."""


class StorageLocked(NeedsOperator):
    """A lease, a legal hold or an immutability policy prevents the app from writing a result or the ledger."""


class Bug(DropError):
    """A bug in the app; the log has the traceback."""
