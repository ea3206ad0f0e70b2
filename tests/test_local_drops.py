"""Whatever a drop is called, its result is found by its name."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from client.itwin_image_drop import result_name
from local.drops import files_in, why_left_alone
from local.samples import building_site, encode
from shared import results
from shared.drop import Drop
from tests.deadlines import HANG_S
from tests.schema import check_result

if TYPE_CHECKING:
    from pathlib import Path

    from local.cloud import LocalCloud

PHOTO = encode(building_site(320, 240), "JPEG")
ITWIN = "b3bd3a79-c5b4-41f5-ba5f-6d8c338d788a"


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=9), st.integers(1, 1024))
@example(".", 1)
@example("..", 1)
@example("a/../b", 1)
@example("a\\.", 1)
@example("./", 1024)
def test_uploader_and_app_compute_the_same_name(text: str, times: int) -> None:
    """The rule is published, and each side implements it independently."""
    name = (text * times)[:1024]
    assert result_name(ITWIN, name) == results.result_name(Drop(ITWIN, name))


@pytest.mark.parametrize("folder", ["", "north gate/"])
@pytest.mark.parametrize(
    "name",
    [
        *(".DS_Store", "Thumbs.db", "desktop.ini", "~$plan.docx", "a.tmp", "a.jpg.CRDOWNLOAD", "a.part", "a.part12"),
        *("a.partial", "a.part.jpg", "a.parts", "a.part1x", "DS_Store", "thumbs.db.png", "photo.jpg", "tmp", "a.tmp/b"),
    ],
)
def test_drop_and_app_ignore_the_same_names(folder: str, name: str) -> None:
    """What the app would leave without a result is not dropped, and everything else is."""
    assert (why_left_alone(folder + name) is not None) is Drop(ITWIN, folder + name).is_housekeeping()


def test_linked_folders_are_dropped_too(tmp_path: Path) -> None:
    """Each once, even if links form a cycle; hidden files and folders are not drops."""
    photos, elsewhere = tmp_path / ".photos", tmp_path / "elsewhere"
    for folder in (photos / "site", photos / ".git", elsewhere):
        folder.mkdir(parents=True)
        (folder / "a.jpg").touch()
    (photos / ".a.jpg").touch()
    (photos / "linked").symlink_to(elsewhere)
    (photos / "site" / "back").symlink_to(photos)
    (photos / "gone.jpg").symlink_to(tmp_path / "nothing")
    assert list(files_in(photos)) == [photos / "linked" / "a.jpg", photos / "site" / "a.jpg"]


def test_a_name_that_no_blob_can_have_is_reported() -> None:
    """A file's name may be any bytes."""
    assert why_left_alone("photo \udcff.jpg") == "its name is not UTF-8, so no blob can have it"


@pytest.mark.parametrize("length", [982, 983, 984, 1024])
def test_no_result_has_a_longer_name_than_a_blob_may_have(length: int) -> None:
    """If the name is truncated, its digest distinguishes it from others with the same beginning."""
    names = {result_name(ITWIN, "x" * (length - 1) + last) for last in "ab"}
    assert len(names) == 2
    assert all(len(name) == min(length + 42, 1024) for name in names)


@pytest.mark.parametrize(
    "name",
    [
        "north gate/week 7/cam 1.jpg",
        "100% + more #1?.jpg",
        "%2e%2e%2f%00.jpg",
        "Größe/дом/写真/📷.jpg",
        "e\u0301 is not \u00e9.jpg",
        "a\\b:c*d\"e<f>g|h'i.jpg",
        "x" * 1020 + ".jpg",
        "写" * 1020 + ".jpg",
    ],
    ids=lambda name: f"{name[:20]} ({len(name)})".encode("ascii", "backslashreplace").decode(),
)
def test_any_blob_name_works_end_to_end(cloud: LocalCloud, name: str) -> None:
    """Sub-folders, spaces, characters with a meaning in URLs, every script, and 1,024 characters."""
    result = check_result(cloud.result(cloud.drop(cloud.itwin(), name, PHOTO)))
    assert (result["status"], result["source"]["blob"]) == ("uploaded", name)


def test_a_name_with_dot_segments_has_its_result_at_once(cloud: LocalCloud) -> None:
    """A file may have such a name where only `/` separates folders; its rejection is found without waiting."""
    result = check_result(cloud.result(cloud.drop(cloud.itwin(), "a\\..\\b.jpg", PHOTO), timeout_s=HANG_S))
    assert (result["status"], result["error"]["code"]) == ("rejected", "BlobNameRefused")


def test_the_result_of_a_drop_whose_metadata_was_set_is_found(cloud: LocalCloud) -> None:
    """Setting a blob's metadata changes its ETag, but not what was dropped."""
    itwin = cloud.itwin()
    dropped = cloud.drop(itwin, "a.jpg", PHOTO)
    cloud.drops.get_blob_client(itwin, "a.jpg").set_blob_metadata({"seen": "yes"})
    assert cloud.result(dropped)["status"] == "uploaded"
