"""Reads the headers of AV1 and HEVC streams bit by bit."""

from __future__ import annotations


class Bits:
    """Bits, taken from the front. Raises EOFError at the end."""

    def __init__(self, data: bytes) -> None:
        self._number = int.from_bytes(data, "big")
        self._left = 8 * len(data)

    def take(self, count: int) -> int:
        """Return the next bits as a number."""
        self._left -= count
        if self._left < 0:
            raise EOFError
        return self._number >> self._left & (1 << count) - 1

    def take_code(self) -> int:
        """Return a number in Exp-Golomb code (H.265, 9.2)."""
        zeros = 0
        while not self.take(1):
            zeros += 1
        return (1 << zeros) - 1 + self.take(zeros)

    def skip_codes(self, count: int) -> None:
        """Skip numbers in Exp-Golomb code."""
        for _ in range(count):
            self.take_code()
