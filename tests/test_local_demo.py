"""The demo succeeds only where all of it did, and what it keeps can be looked at."""

from __future__ import annotations

import hashlib
import json
import shutil
from typing import TYPE_CHECKING, Any

import pytest

from local.commands import demo

if TYPE_CHECKING:
    from pathlib import Path


def test_every_result_and_every_picture_is_kept(tmp_path: Path) -> None:
    """Whatever a result contains, even a lone surrogate; what an earlier run kept is removed."""
    (tmp_path / "earlier.json").touch()
    document = {"status": "uploaded", "source": {"blob": "写真 \ud800.jpg"}, "sent": {"bytes": 3}}
    demo.keep([demo.Outcome(demo.Step("phone.jpg", "Town Hall", ()), "id", document, (b"jpg", "image/jpeg"))], tmp_path)
    assert {file.name for file in tmp_path.iterdir()} == {
        "town-hall.phone.jpg.json",
        "town-hall.phone.jpg.uploaded.jpeg",
    }
    text = (tmp_path / "town-hall.phone.jpg.json").read_text("utf-8")
    assert json.loads(text) == document
    assert "写真" in text


def test_results_are_kept_elsewhere_if_the_folder_cannot_be_used(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The folder may belong to somebody else; the new place is printed, and differs each time."""
    (tmp_path / "theirs").touch()
    document: dict[str, Any] = {"status": "uploaded", "source": {}, "sent": None}
    outcomes = [demo.Outcome(demo.Step("phone.jpg", "Town Hall", ()), "id", document, (b"jpg", "image/jpeg"))]
    wanted = tmp_path / "theirs" / "demo"
    places = [demo.keep(outcomes, wanted) for _ in range(2)]
    said = capsys.readouterr().err.splitlines()
    assert said == [f"{wanted} cannot be used (Not a directory), so {place} is used instead." for place in places]
    for place in places:
        assert len(list(place.iterdir())) == 2
        shutil.rmtree(place)


PICTURE = b"the picture"
SENT = {"bytes": len(PICTURE), "sha256": hashlib.sha256(PICTURE).hexdigest(), "changes": ["converted"]}
UPLOADED = {"status": "uploaded", "sent": SENT}


@pytest.mark.parametrize(
    ("document", "picture", "as_expected"),
    [
        (UPLOADED, PICTURE, True),
        (UPLOADED, b"The picture", False),
        (UPLOADED, None, False),
        (UPLOADED | {"sent": SENT | {"changes": []}}, PICTURE, False),
        (UPLOADED | {"sent": SENT | {"changes": ["converted", "padded"]}}, PICTURE, False),
        (UPLOADED | {"status": "superseded"}, PICTURE, False),
        (UPLOADED | {"error": {"code": "Bug"}}, PICTURE, False),
        ({"status": "rejected", "error": {"code": "CorruptImage"}, "sent": None}, None, False),
    ],
)
def test_an_unexpected_outcome_of_the_demo_is_noticed(
    document: dict[str, Any], picture: bytes | None, *, as_expected: bool
) -> None:
    """The platform has exactly what the result says was sent, with the expected changes."""
    shown = (picture, "image/jpeg") if picture else None
    outcome = demo.Outcome(demo.Step("a.tif", "Archive", ("converted",)), "id", document, shown)
    assert outcome.as_expected is as_expected


@pytest.mark.parametrize(("picture", "as_expected"), [(None, True), (PICTURE, False)])
def test_the_picture_of_a_rejected_drop_must_not_be_on_the_platform(
    picture: bytes | None, *, as_expected: bool
) -> None:
    """Even though it was sent."""
    document = {"status": "rejected", "error": {"code": "iTwinNotFound"}, "sent": SENT}
    step = demo.Step("a.tif", "(unknown)", ("converted",), "rejected", "iTwinNotFound")
    outcome = demo.Outcome(step, "id", document, (picture, "image/jpeg") if picture else None)
    assert outcome.as_expected is as_expected


def test_every_drop_of_the_demo_ends_as_expected(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Through the whole cloud, with exit code 0; with a different expectation it is 1."""
    assert demo.perform(demo.STEPS, tmp_path) == 0
    assert "unexpected" not in capsys.readouterr().out
    assert demo.perform([demo.Step("logo.png", "Harbour", ("padded",))], tmp_path) == 1
    assert "(unexpected)" in capsys.readouterr().out
