"""`python -m local preflight`: ask the app in the running cloud what works and what does not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import requests

from local.commands.running import find_running
from local.serving import LocalCloudError
from local.terminal import say

if TYPE_CHECKING:
    import argparse

TIMEOUT_S = 230


def run(options: argparse.Namespace) -> int:
    """Print the app's report; 1 if something does not work. Raises LocalCloudError if the host does not respond."""
    state = find_running()
    try:
        response = requests.get(
            f"{state['host']}/api/preflight",
            params={"itwin": options.itwin} if options.itwin else {},
            headers={"x-functions-key": state["functionKey"]},
            timeout=TIMEOUT_S,
        )
    except requests.RequestException as error:
        raise LocalCloudError(f"The Functions host did not respond ({type(error).__name__}).") from error
    for line in response.text.splitlines():
        say(line)
    return 0 if response.ok else 1
