"""What tests measure with is right itself."""

from __future__ import annotations

from tests.costs import memory_bytes


def test_memory_is_measured_even_if_more_was_used_before() -> None:
    """The process's all-time peak would hide it."""
    assert len(bytearray(200_000_000)) == 200_000_000
    assert 40_000_000 < memory_bytes(lambda: bytearray(50_000_000)) < 70_000_000
