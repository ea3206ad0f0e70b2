"""What the platform knows: iTwins, whom they belong to, and the image of each."""

from __future__ import annotations

import re
import threading
import uuid
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

ORGANIZATION = "Example Industries"
NEW_PROPERTIES = {"class": "Endeavor", "subClass": "Project"}
GUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@dataclass(frozen=True)
class ITwinImage:
    """An image exactly as it was uploaded, and the thumbnail made of it."""

    id: str
    data: bytes = field(repr=False)
    media_type: str
    thumbnail: bytes = field(repr=False)

    @property
    def small_name(self) -> str:
        """Name of the thumbnail."""
        return f"small_{self.id}.jpeg"

    @property
    def large_name(self) -> str:
        """Name of the image itself; it ends in .jpeg for a PNG too, as on the API's page."""
        return f"large_{self.id}.jpeg"


@dataclass(frozen=True)
class ITwin:
    """One iTwin. `permissions` by subject; None gives everybody `itwins_modify`."""

    id: str
    properties: Mapping[str, Any]
    organization: str
    permissions: Mapping[str, Sequence[str]] | None
    owner: str | None = None
    image: ITwinImage | None = None
    created_at: datetime = field(default_factory=lambda: datetime.now(UTC))

    @property
    def number(self) -> str:
        """What identifies it within its organization."""
        return str(self.properties.get("number") or self.id)


class NumberTaken(Exception):
    """Another iTwin has that number."""


class ITwins:
    """All iTwins, for use from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._by_id: dict[str, ITwin] = {}
        self._keep: Callable[[str, ITwin | None], object] = lambda _, __: None

    def keep(self, kept: Iterable[ITwin], keep: Callable[[str, ITwin | None], object]) -> None:
        """Know these too, and tell `keep` of each change from now on: the ID, and the iTwin, None where it is gone."""
        with self._lock:
            new, self._by_id = self._by_id, {itwin.id: itwin for itwin in kept}
            self._keep = keep
            for itwin_id in new.keys() - self._by_id.keys():
                self._set(itwin_id, new[itwin_id])

    def all(self) -> list[ITwin]:
        """Return them in the order in which they were made."""
        with self._lock:
            return list(self._by_id.values())

    def find(self, itwin_id: str) -> ITwin | None:
        """Return the one with that id, in whatever case; None where there is none or it is not a GUID."""
        with self._lock:
            return self._by_id.get(itwin_id.lower())

    def create(self, itwin: ITwin) -> None:
        """Add a new one; raises NumberTaken."""
        with self._lock:
            taken = {other.number for other in self._by_id.values() if other.organization == itwin.organization}
            if itwin.number in taken:
                raise NumberTaken(itwin.number)
            self._set(itwin.id, itwin)

    def put(
        self,
        itwin_id: str | None,
        *,
        display_name: str,
        permissions: Mapping[str, Sequence[str]] | None,
        organization: str,
    ) -> tuple[str, bool]:
        """Make an iTwin, or change the one with that ID; return its ID in lower case, and whether it is new.

        Raises ValueError where the ID is not a GUID.
        """
        itwin_id = as_itwin_id(itwin_id) if itwin_id is not None else str(uuid.uuid4())
        with self._lock:
            known = self._by_id.get(itwin_id)
            itwin = known or ITwin(itwin_id, NEW_PROPERTIES, organization, permissions)
            properties = {**itwin.properties, "displayName": display_name}
            changed = replace(itwin, properties=properties, organization=organization, permissions=permissions)
            self._set(itwin_id, changed)
            return itwin_id, known is None

    def delete(self, itwin_id: str) -> None:
        """Forget it with its image."""
        with self._lock:
            self._set(itwin_id, None)

    def clear(self) -> None:
        """Forget all."""
        with self._lock:
            for itwin_id in tuple(self._by_id):
                self._set(itwin_id, None)

    def set_image(self, itwin_id: str, data: bytes, media_type: str, thumbnail: bytes) -> ITwinImage | None:
        """Make it the image; the same bytes keep their id. None where the iTwin has gone meanwhile."""
        with self._lock:
            itwin = self._by_id.get(itwin_id)
            if itwin is None:
                return None
            if itwin.image is not None and (itwin.image.data, itwin.image.media_type) == (data, media_type):
                return itwin.image
            image = ITwinImage(str(uuid.uuid4()), data, media_type, thumbnail)
            self._set(itwin_id, replace(itwin, image=image))
            return image

    def delete_image(self, itwin_id: str) -> bool:
        """Take the image away; False where there is none."""
        with self._lock:
            itwin = self._by_id.get(itwin_id)
            if itwin is None or itwin.image is None:
                return False
            self._set(itwin_id, replace(itwin, image=None))
            return True

    def _set(self, itwin_id: str, itwin: ITwin | None) -> None:
        self._keep(itwin_id, itwin)  # first: what cannot be kept is not done
        if itwin is None:
            self._by_id.pop(itwin_id, None)
        else:
            self._by_id[itwin_id] = itwin


def as_itwin_id(text: str) -> str:
    """Return a GUID in lower case; raises ValueError for anything else."""
    lowered = text.lower()
    if not GUID.fullmatch(lowered):
        raise ValueError(f"{text!r} is not an iTwin ID: it must be a GUID like {uuid.UUID(int=0)}.")
    return lowered
