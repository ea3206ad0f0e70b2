"""The rclone recipe, run with the real rclone by the whole local cloud: `make test-rclone`."""

from __future__ import annotations

import os
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from azure.storage.blob import ContainerSasPermissions, generate_container_sas

from local.azurite import ACCOUNT, ACCOUNT_KEY
from local.drops import DroppedFile
from local.samples import building_site, encode
from tests.test_recipes import recipe

if TYPE_CHECKING:
    from local.cloud import LocalCloud

PHOTO = encode(building_site(320, 240), "JPEG")
NAMES = ("a b+c%41#d.jpg", "größe/日本 写真.jpg", "/".join(["x" * 200] * 4 + ["y" * 216 + ".jpg"]))
LEFT_ALONE = ("big.jpg.part", "young.jpg")


def test_a_folder_is_kept_in_sync(cloud: LocalCloud, tmp_path: Path) -> None:
    """What has settled arrives under its own name; the rest, and what is there already, is left alone."""
    itwin = cloud.itwin()
    for name in (*NAMES, *LEFT_ALONE):
        file = tmp_path / "photos" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(PHOTO)
        if name != "young.jpg":
            os.utime(file, (1e9, 1e9))
    container = cloud.drops.get_container_client(itwin)
    sas = generate_container_sas(
        ACCOUNT,
        itwin,
        account_key=ACCOUNT_KEY,
        permission=ContainerSasPermissions(read=True, list=True, create=True, write=True),
        expiry=datetime.now(UTC) + timedelta(hours=1),
    )
    environment = {
        **os.environ,
        "PATH": f"{Path(os.environ['RCLONE']).parent}:{os.environ['PATH']}",
        "RCLONE_CONFIG": str(tmp_path / "none.conf"),
        "ITWIN_ID": itwin,
        "CONTAINER_SAS_URL": f"{container.url}?{sas}",
    }
    seen: list[dict[str, str]] = []
    for _ in range(2):
        script = ["bash", "-euo", "pipefail", "-c", recipe("sh", "CONTAINER_SAS_URL")]
        subprocess.run(script, cwd=tmp_path, env=environment, check=True, timeout=120)
        seen.append({blob.name: str(blob.etag) for blob in container.list_blobs()})
    assert set(seen[0]) == set(NAMES)
    assert seen[1] == seen[0]
    for name in NAMES:
        written = container.get_blob_client(name).get_blob_properties()
        dropped = DroppedFile(itwin, name, str(written.etag).strip('"'), written.last_modified)
        assert cloud.result(dropped)["status"] in ("uploaded", "superseded")
