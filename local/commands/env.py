"""`python -m local env`: what other programs need to work with the running cloud, as commands for a shell."""

from __future__ import annotations

import os
import shlex
from typing import TYPE_CHECKING

from local.commands.running import find_running
from local.terminal import say

if TYPE_CHECKING:
    import argparse

PROXIES = ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY")


def run(_: argparse.Namespace) -> int:
    """Print the variables. Raises LocalCloudError if no cloud is running."""
    connection_string = find_running()["connectionString"]
    parts = dict(part.split("=", 1) for part in connection_string.rstrip(";").split(";"))
    variables = {"AZURE_STORAGE_CONNECTION_STRING": connection_string, "DROP_ACCOUNT_URL": parts["BlobEndpoint"]}
    if any(os.environ.get(name) for name in PROXIES):
        variables |= {name: os.environ[name] for name in ("no_proxy", "NO_PROXY")}
    for name, value in variables.items():
        say(f"export {name}={shlex.quote(value)}")
    return 0
