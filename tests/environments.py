"""Which settings the app reads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pytest

from shared.errors import InvalidSettings
from shared.settings import Settings


class RecordingEnviron(Mapping[str, str]):
    """An environment that records which variables are read."""

    def __init__(self, values: Mapping[str, str]) -> None:
        self._values = values
        self.read: set[str] = set()

    def __getitem__(self, name: str) -> str:
        self.read.add(name)
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)


def settings_read(environ: Mapping[str, str]) -> set[str]:
    """Return the names of the settings that the app reads if only these are set, which is not enough."""
    recording = RecordingEnviron(environ)
    with pytest.raises(InvalidSettings):
        Settings.from_environ(recording)
    return recording.read
