"""The rclone recipe, run with the real rclone by the whole local cloud: `make test-vendors`."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from local.cloud import LocalCloud
from local.drops import DroppedFile
from local.samples import building_site, encode
from tests.recipes import local_variables, run_shell

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# Oldest first, which is neither the order of their names nor that of their folders or sizes.
NAMES = (
    "m.jpg",
    "größe/日本 写真.jpg",
    "/".join(["x" * 200] * 4 + ["y" * 216 + ".jpg"]),
    "z.jpg",
    "a b+c%41#d.jpg",
    "folder/n.jpg",
)
pytestmark = pytest.mark.vendors
LEFT_ALONE = ("big.jpg.part", "young.jpg")


@pytest.fixture
def cloud() -> Iterator[LocalCloud]:
    """Run a cloud where drops of one second have their turns on an iTwin soon after one another."""
    with LocalCloud(app_settings={"RETRY_MIN_DELAY_S": "1"}) as running:
        yield running


def test_a_folder_is_kept_in_sync(cloud: LocalCloud, tmp_path: Path) -> None:
    """Settled files arrive under their own names, and the newest wins; others and existing blobs are left alone."""
    itwin = cloud.itwin()
    photos = {name: encode(building_site(320 + 10 * (number ^ 3), 240), "JPEG") for number, name in enumerate(NAMES)}
    for number, (name, photo) in enumerate({**photos, **dict.fromkeys(LEFT_ALONE, b"unfinished")}.items()):
        file = tmp_path / "photos" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(photo)
        if name != "young.jpg":
            os.utime(file, (1e9 + number, 1e9 + number))
    container = cloud.drops.get_container_client(itwin)
    variables = {
        **local_variables(cloud),
        "ITWIN_ID": itwin,
        "AZURE_CONFIG_DIR": str(tmp_path / "azure"),
        "RCLONE_CONFIG": str(tmp_path / "none.conf"),
    }
    seen: list[dict[str, str]] = []
    for _ in range(2):
        run_shell(tmp_path, variables, "generate-sas", "--azureblob-sas-url")
        seen.append({blob.name: str(blob.etag) for blob in container.list_blobs()})
    assert set(seen[0]) == set(NAMES)
    assert seen[1] == seen[0]
    written_at = {}
    for name in NAMES:
        written = container.get_blob_client(name).get_blob_properties()
        dropped = DroppedFile(itwin, name, str(written.etag).strip('"'), "", written.last_modified)
        assert cloud.result(dropped)["status"] in ("uploaded", "superseded")
        written_at[name] = int(dropped.etag, 16)
    assert sorted(NAMES, key=written_at.__getitem__) == list(NAMES)
    assert cloud.platform.image(itwin) == (photos[NAMES[-1]], "image/jpeg")
