"""What a platform keeps in a folder, another one knows again."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import pytest

from local.itwin_platform import ITwinPlatform
from local.serving import LocalCloudError, serve
from tests.local_itwin_platform.client import IDENTITY, Client, picture

if TYPE_CHECKING:
    from pathlib import Path

PICTURE = picture()


def platform_of(folder: Path) -> ITwinPlatform:
    """Make a platform that keeps in the folder what it knows."""
    platform = ITwinPlatform(identity=IDENTITY)
    platform.keep_in(folder)
    return platform


def test_an_itwin_survives_a_restart_with_everything_it_has(tmp_path: Path) -> None:
    """Image, thumbnail, name, permissions and date are the same, and so is the order of creation."""
    folder = tmp_path / "new" / "folder"
    platform = platform_of(folder)
    made = [platform.add_itwin(display_name=f"Tor {number} \u00fc", permissions={"a": ["x"]}) for number in range(5)]
    open_to_all = platform.add_itwin()
    with serve(platform.app) as address:
        assert Client(platform, address).put(open_to_all, PICTURE).status_code == 201
    before = platform.itwins()
    assert [itwin.id for itwin in before] == [*made, open_to_all]
    assert platform_of(folder).itwins() == before
    assert platform_of(folder).image(open_to_all) == (PICTURE, "image/png")


def test_deleted_itwins_and_images_stay_deleted(tmp_path: Path) -> None:
    """An image, an iTwin, and all of them."""
    platform = platform_of(tmp_path)
    itwin = platform.add_itwin()
    platform.add_itwin(itwin, display_name="Renamed")
    assert [known.properties["displayName"] for known in platform_of(tmp_path).itwins()] == ["Renamed"]
    platform.reset()
    assert platform_of(tmp_path).itwins() == []
    assert list(tmp_path.iterdir()) == []


def test_itwins_created_before_the_folder_was_opened_are_kept_too(tmp_path: Path) -> None:
    """A library may create iTwins before its cloud runs."""
    platform = ITwinPlatform()
    itwin = platform.add_itwin()
    platform.keep_in(tmp_path)
    assert [known.id for known in platform_of(tmp_path).itwins()] == [itwin]


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"id": 1}', "\0"])
def test_a_damaged_file_in_the_folder_is_reported(tmp_path: Path, text: str) -> None:
    """With its name, and what to do: it may be the only copy."""
    (tmp_path / f"{uuid.uuid4()}.json").write_text(text)
    with pytest.raises(LocalCloudError, match=r"\.json is damaged: restore it, or delete it together with its iTwin"):
        platform_of(tmp_path)


def test_a_folder_that_cannot_be_used_is_reported(tmp_path: Path) -> None:
    """Such as a file."""
    (tmp_path / "file").touch()
    with pytest.raises(LocalCloudError, match=r"^The folder .*file cannot be used \(.*\)\.$"):
        platform_of(tmp_path / "file")
