"""An app that the host runs."""
