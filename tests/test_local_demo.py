"""What the demo keeps can be looked at."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from local import demo

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_every_result_and_every_picture_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is in a result, half a character too; what an earlier run kept is gone."""
    monkeypatch.setattr(demo, "OUTPUT", tmp_path)
    (tmp_path / "earlier.json").touch()
    document = {"status": "uploaded", "source": {"blob": "写真 \ud800.jpg"}, "sent": {"bytes": 3}}
    demo.keep([demo.Outcome(demo.Step("phone.jpg", "Town Hall"), "id", document, (b"jpg", "image/jpeg"))])
    assert {file.name for file in tmp_path.iterdir()} == {
        "town-hall.phone.jpg.json",
        "town-hall.phone.jpg.uploaded.jpeg",
    }
    text = (tmp_path / "town-hall.phone.jpg.json").read_text("utf-8")
    assert json.loads(text) == document
    assert "写真" in text
