"""What the host runs instead of the app: its peer, and the app itself with stopwatches."""
