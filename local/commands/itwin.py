"""`python -m local itwin`: make an iTwin on the platform, and the container for its drops."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

from local.commands.running import find_running, hearing_from_cloud, make_itwin
from local.terminal import say

if TYPE_CHECKING:
    import argparse


@hearing_from_cloud()
def run(options: argparse.Namespace) -> int:
    """Make it where it is new, and print its ID alone, for `$(...)`. Raises LocalCloudError."""
    itwin_id = options.id or str(uuid.uuid4())
    make_itwin(find_running(), itwin_id, options.name)
    say(itwin_id)
    return 0
