"""Every way a drop can fail, grouped by who can fix it.

::

    DropError
    ├── Rejected                     the uploader can fix it; final at once
    │   ├── ContainerNotAnITwin      the container's name is not a GUID
    │   ├── BlobNameRefused          a name that would lead into another folder or container
    │   ├── DropGone                 deleted before it could be read
    │   ├── SourceTooLarge           more bytes than MAX_SOURCE_BYTES
    │   ├── ImageRefused             the content is at fault
    │   │   ├── EmptySource          no bytes at all
    │   │   ├── UnsupportedFormat    not an image, or not in a supported format
    │   │   ├── CorruptImage         truncated or damaged
    │   │   ├── TooManyPixels        more than MAX_SOURCE_PIXELS, or than its decoder may have
    │   │   ├── TooDemanding         took more CPU or memory than a file may
    │   │   ├── DecoderCrashed       its decoder crashed on it, twice
    │   │   └── AspectRatioRefused   longer than 5:1 under ASPECT_POLICY=reject
    │   └── PlatformRejected         404, 413, 415, 422 and every other 4xx
    ├── NeedsTime                    nobody needs to do anything; worth another try
    │   ├── PlatformThrottled        429
    │   ├── PlatformUnavailable      5xx, or no connection
    │   ├── PlatformSilent           no response, from it or its gateway: it may still apply the upload
    │   ├── PlatformAnswerUnreadable a success that does not hold what it promises
    │   ├── ITwinBusy                another drop of the same iTwin is being uploaded
    │   ├── ResourcesExhausted       the instance had too little memory, or a process of its own was killed
    │   └── StorageUnavailable       the drop account refused a request or did not respond
    ├── NeedsOperator                the operator can fix it; worth another try, less often
    │   ├── InvalidSettings          a setting is missing or wrong
    │   ├── TokenUnavailable         no access token could be obtained
    │   ├── PlatformUnauthorized     401, also with a new token
    │   ├── PlatformForbidden        403
    │   ├── PlatformRedirected       3xx, which is never followed
    │   └── StorageForbidden         a role is missing on the drop account
    └── Bug                          ours; the log has the traceback
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


@dataclass(frozen=True)
class PlatformResponse:
    """What is kept of an answer of the platform; nothing in it is secret.

    `error` is the platform's own error object, unchanged, or None where it sent none.
    """

    http_status: int
    correlation_id: str | None = None
    error: Mapping[str, Any] | None = field(default=None, compare=False)
    retry_after_s: float | None = None


class DropError(Exception):
    """A drop that cannot end as `uploaded` in this attempt.

    The message is safe to publish: no token, key, signed URL or path of this machine is ever in it.
    """

    status: ClassVar[Literal["rejected", "failed"]] = "failed"

    def __init__(
        self, message: str, *, response: PlatformResponse | None = None, retry_after_s: float | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.response = response
        self.retry_after_s = response.retry_after_s if response else retry_after_s

    @property
    def code(self) -> str:
        """The error's stable name in results and logs."""
        return type(self).__name__


class Rejected(DropError):
    """The uploader can fix it."""

    status = "rejected"


class ContainerNotAnITwin(Rejected):
    """The container's name is not a GUID, so it names no iTwin."""


class BlobNameRefused(Rejected):
    """A part of the blob's name is `.` or `..`, which a client would follow into another folder or container."""


class DropGone(Rejected):
    """The blob was deleted before it could be read."""


class SourceTooLarge(Rejected):
    """The blob has more bytes than `MAX_SOURCE_BYTES`; its content was not read."""


class ImageRefused(Rejected):
    """The blob's content is at fault."""


class EmptySource(ImageRefused):
    """The blob has no bytes."""


class UnsupportedFormat(ImageRefused):
    """Not an image, or not in a supported format."""


class CorruptImage(ImageRefused):
    """Truncated or damaged."""


class TooManyPixels(ImageRefused):
    """More pixels than are ever decoded."""


class TooDemanding(ImageRefused):
    """Reading or decoding it took more CPU or memory than one file may take; the message says which, and how much."""


class DecoderCrashed(ImageRefused):
    """Its decoder crashed on it, and again at a second try."""


class AspectRatioRefused(ImageRefused):
    """Longer than 5:1 while `ASPECT_POLICY` is `reject`."""


class PlatformRejected(Rejected):
    """404, 413, 415, 422 or another 4xx that no repetition cures."""


class NeedsTime(DropError):
    """Nobody needs to do anything; another try may succeed."""


class PlatformThrottled(NeedsTime):
    """429."""


class PlatformUnavailable(NeedsTime):
    """5xx, or no connection could be made: nothing was done."""


class PlatformSilent(NeedsTime):
    """A timeout, a reset, 502 or 504: nobody knows whether the image is up, or will be yet."""


class PlatformAnswerUnreadable(NeedsTime):
    """A success whose body does not hold what the API's page promises."""


class ITwinBusy(NeedsTime):
    """Another drop of the same iTwin is being uploaded, or was a moment ago."""


class ResourcesExhausted(NeedsTime):
    """Memory, descriptors or processes of this instance ran out, or a process of its own was killed or stopped."""


class StorageUnavailable(NeedsTime):
    """The drop account refused a request or did not respond."""


class NeedsOperator(DropError):
    """The operator can fix it; the message names the setting or the role."""


class InvalidSettings(NeedsOperator):
    """One or more settings are missing or wrong; `problems` holds one sentence for each."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__(" ".join(problems))
        self.problems = tuple(problems)


class TokenUnavailable(NeedsOperator):
    """No access token could be obtained."""


class PlatformUnauthorized(NeedsOperator):
    """401, also with a new token."""


class PlatformForbidden(NeedsOperator):
    """403."""


class PlatformRedirected(NeedsOperator):
    """3xx; redirects are never followed, so that no token reaches another host."""


class StorageForbidden(NeedsOperator):
    """The app's identity lacks a role on the drop account."""


class Bug(DropError):
    """Ours; the log has the traceback."""
