"""`python -m local itwin`: create an iTwin on the platform, and the container for its drops."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

from local.commands.running import cloud_errors_explained, find_running, make_itwin
from local.terminal import say

if TYPE_CHECKING:
    import argparse


@cloud_errors_explained()
def run(options: argparse.Namespace) -> int:
    """Create it if it is new, and print only its ID, for `$(...)`. Raises LocalCloudError."""
    itwin_id = options.id or str(uuid.uuid4())
    make_itwin(find_running(), itwin_id, options.name)
    say(itwin_id)
    return 0
