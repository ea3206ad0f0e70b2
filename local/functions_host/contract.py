"""What the program that starts the host must know: where it receives events, and which variables hold its keys."""

from __future__ import annotations

WEBHOOK_PATH = "/runtime/webhooks/blobs"
BLOBS_EXTENSION_KEY = "FUNCTIONS_HOST_BLOBS_EXTENSION_KEY"
FUNCTION_KEY = "FUNCTIONS_HOST_FUNCTION_KEY"
