"""What works and what does not, in plain words: for use after a deployment, and when drops do not arrive.

Every check does what the app itself does with a drop, leaves nothing behind, and says what to do if it fails.

::

    examination     which checks are made, all at once, and what their exceptions mean
    platform        checks of the access token and of the iTwin Platform
    storage         checks of the drop account: containers, queues and events
    report          what a check found, and how a report reads
"""

from shared.preflight.examination import examine
from shared.preflight.report import Finding, Report

__all__ = ["Finding", "Report", "examine"]
