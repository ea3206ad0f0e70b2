"""What the host runs in place of the app: its peer, and the app itself with stopwatches."""
