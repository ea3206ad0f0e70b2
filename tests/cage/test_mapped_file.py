"""A file that is only mapped is read in place, and replaces bytes."""

from __future__ import annotations

import mmap
import os
from typing import Any, cast

import pytest

from shared.cage.mapped_file import MappedFile
from shared.image import examine_image
from tests.cage.large_files import FILES, file

READ_WHOLE = {kind for kind in FILES if kind.startswith("avif")}
"""The AV1 parser reads all of an item."""


class Watched(MappedFile):
    """A mapped file that records the largest copy made of it."""

    most = 0

    def __getitem__(self, index: Any) -> Any:
        """Note how much is copied."""
        piece = super().__getitem__(index)
        self.most = max(self.most, len(piece) if isinstance(index, slice) else 1)
        return piece


@pytest.mark.parametrize("kind", sorted(FILES.keys() - READ_WHOLE))
def test_examining_a_file_copies_almost_none_of_it(kind: str) -> None:
    """Each page of a copy would take the process as much memory as a page of the file itself."""
    content = file(kind)
    descriptor = os.memfd_create("file")
    os.write(descriptor, content)
    watched = Watched(descriptor, len(content), prot=mmap.PROT_READ)
    os.close(descriptor)
    examine_image(cast("bytes", watched))
    assert 0 < watched.most <= 100_000
