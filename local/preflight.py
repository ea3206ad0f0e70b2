"""Asks the app of the local cloud that runs what works and what does not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import requests

from local.serving import LocalCloudError

if TYPE_CHECKING:
    from collections.abc import Mapping

TIMEOUT_S = 230


def ask_app(state: Mapping[str, Any], itwin_id: str | None) -> tuple[bool, str]:
    """Return whether nothing fails, and the app's own words. Raises LocalCloudError where the host does not answer."""
    try:
        answer = requests.get(
            f"{state['host']}/api/preflight",
            params={"itwin": itwin_id} if itwin_id else {},
            headers={"x-functions-key": state["functionKey"]},
            timeout=TIMEOUT_S,
        )
    except requests.RequestException as error:
        raise LocalCloudError(f"The Functions host did not answer ({type(error).__name__}).") from error
    return answer.ok, answer.text
