"""A file that hits a limit is refused for that, whatever its decoder reports: every decoder is run out of memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from shared.cage import CageLimits, Images, open_images
from shared.errors import TooDemanding
from shared.image import ImageLimits
from tests.cage.large_files import FILES, file
from tests.deadlines import HANG_S

if TYPE_CHECKING:
    from collections.abc import Iterator

    from shared.image import NormalizedImage

LIMITS = ImageLimits(max_output_pixels=500_000, max_output_bytes=300_000)
ENOUGH = CageLimits(wall_s=int(HANG_S))


@pytest.fixture(scope="module", params=[2, 3, 4, 8, 16, 32], ids=lambda megabytes: f"{megabytes} MB")
def starved(request: pytest.FixtureRequest) -> Iterator[Images]:
    """Give a file less memory than it needs."""
    images = open_images(LIMITS, CageLimits(budget_bytes=request.param * 1_000_000, wall_s=int(HANG_S)))
    yield images
    images.close()


@pytest.fixture(scope="module")
def roomy() -> Iterator[Images]:
    """Give a file all the memory that it needs."""
    images = open_images(LIMITS, ENOUGH)
    yield images
    images.close()


@pytest.mark.parametrize("kind", FILES)
def test_a_file_is_not_called_damaged_when_its_decoder_runs_out_of_memory(
    kind: str, starved: Images, roomy: Images, request: pytest.FixtureRequest
) -> None:
    """A decoder may report damage then; but the file is intact, and with enough memory it becomes an image."""
    budget = request.node.callspec.params["starved"]
    refusal, image = outcome(starved, file(kind))
    if refusal:
        assert f"more than {budget} MB of memory" in refusal
    else:
        assert image == roomy.normalize(file(kind))


def test_the_least_memory_is_too_little_for_most_formats() -> None:
    """Otherwise no allocation would have failed; for a small file, a template's own free memory may suffice."""
    images = open_images(LIMITS, CageLimits(budget_bytes=2_000_000, wall_s=int(HANG_S)))
    refused = [kind for kind in FILES if outcome(images, file(kind))[0]]
    images.close()
    assert len(refused) > len(FILES) * 3 // 4, refused


def outcome(images: Images, data: bytes) -> tuple[str | None, NormalizedImage | None]:
    """Return why a file was too demanding, or its image."""
    try:
        return None, images.normalize(data)
    except TooDemanding as refusal:
        return refusal.message, None
