"""What whoever starts the host knows of it: where it hears of events, and which variables hold the keys to it."""

from __future__ import annotations

WEBHOOK_PATH = "/runtime/webhooks/blobs"
BLOBS_EXTENSION_KEY = "FUNCTIONS_HOST_BLOBS_EXTENSION_KEY"
FUNCTION_KEY = "FUNCTIONS_HOST_FUNCTION_KEY"
