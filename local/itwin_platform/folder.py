"""Keeps iTwins from one run to the next: a folder with one JSON file for each, including its image."""

from __future__ import annotations

import base64
import json
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Any

from local.itwin_platform.itwins import ITwin, ITwinImage
from local.serving import LocalCloudError

if TYPE_CHECKING:
    from pathlib import Path

CONTENT = ("data", "thumbnail")


class ITwinFolder:
    """The files of one platform; the caller makes sure that no other process uses them."""

    def __init__(self, folder: Path) -> None:
        """Create the folder if it does not exist. Raises LocalCloudError."""
        self._folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise LocalCloudError(f"The folder {folder} cannot be used ({error.strerror}).") from error

    def read(self) -> list[ITwin]:
        """Return what was kept, in the order of creation. Raises LocalCloudError."""
        found = []
        for file in self._folder.glob("*.json"):
            try:
                found.append(_from_json(json.loads(file.read_bytes())))
            except OSError as error:
                raise LocalCloudError(f"{file} cannot be read ({error.strerror}).") from error
            except (ValueError, TypeError, KeyError) as error:
                raise LocalCloudError(
                    f"{file} is damaged: restore it, or delete it together with its iTwin."
                ) from error
        return sorted(found, key=lambda itwin: itwin.created_at)

    def keep(self, itwin_id: str, itwin: ITwin | None) -> None:
        """Keep the iTwin's current state, or delete it if None; even if interrupted, no file is truncated."""
        file = self._folder / f"{itwin_id}.json"
        if itwin is None:
            file.unlink(missing_ok=True)
        else:
            unfinished = file.with_suffix(".new")
            unfinished.write_text(json.dumps(_as_json(itwin)), encoding="utf-8")
            unfinished.replace(file)


def _as_json(itwin: ITwin) -> dict[str, Any]:
    document = asdict(itwin) | {"created_at": itwin.created_at.isoformat()}
    if image := document["image"]:
        document["image"] = image | {name: base64.b64encode(image[name]).decode() for name in CONTENT}
    return document


def _from_json(document: dict[str, Any]) -> ITwin:
    image = document["image"]
    if image:
        image = ITwinImage(**image | {name: base64.b64decode(image[name]) for name in CONTENT})
    return ITwin(**document | {"created_at": datetime.fromisoformat(document["created_at"]), "image": image})
