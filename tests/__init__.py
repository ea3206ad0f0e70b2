"""The tests: one file per module, and stories through the whole local cloud."""
