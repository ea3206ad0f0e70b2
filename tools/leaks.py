"""What counts as a secret: tokens, signed URLs and given secrets, in what is logged and in what is published."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

# Secrets that tests invent contain "hush".
TOKEN = re.compile(r"eyJ[\w-]{8,}\.|[Bb]earer [\w-]{8,}|SharedKey \w|hush")
SIGNATURE = re.compile(r"[?&;](sig|code)=")


def contains_secret(text: str, secrets: Collection[str] = ()) -> bool:
    """Whether a log line contains a token, a signed URL or one of the `secrets`."""
    return bool(TOKEN.search(text) or SIGNATURE.search(text)) or any(secret in text for secret in secrets)


def publishes_secret(document: Mapping[str, Any], secrets: Collection[str] = ()) -> bool:
    """Whether a result contains one; signed URLs are allowed in the platform's own object, and only there."""
    whole = json.dumps(document)
    without_image = json.dumps({**document, "image": None})
    return bool(TOKEN.search(whole) or SIGNATURE.search(without_image)) or any(secret in whole for secret in secrets)
