"""Whatever a blob is called, it is a drop like any other: read, uploaded, recorded and recovered under its own name."""

from __future__ import annotations

import json
import unicodedata
from typing import TYPE_CHECKING

import pytest

from shared.drop import Drop
from shared.results import result_name
from shared.undeliverable import LETTERS_CONTAINER, recover_events
from tests.drop_bench import PICTURES

if TYPE_CHECKING:
    from tests.drop_bench import Bench

NAMES = {
    "composed": unicodedata.normalize("NFC", "größe é.png"),
    "decomposed": unicodedata.normalize("NFD", "größe é.png"),
    "reserved characters": "a%20b+c#d?e&f=g;h,i:j@k!l$m'n(o)p*q.png",
    "percent signs": "100%.png",
    "an encoded slash": "a%2Fb.png",
    "an encoded dot": "%2e%2e/a.png",
    "a trailing dot": "photo.png.",
    "a trailing slash": "photo.png/",
    "a leading slash": "/photo.png",
    "two slashes": "a//b.png",
    "a backslash": "a\\b.png",
    "spaces at its ends": " photo.png ",
    "a newline": "a\nb.png",
    "a tab": "a\tb.png",
    "quotation marks": "a\"b'c`d.png",
    "angle brackets": "a<b>c.png",
    "beyond the BMP": "\U0001f3d7\ufe0f.png",
    "right to left": "\u05e9\u05dc\u05d5\u05dd\u202e.png",
    "the longest": "x" * 1020 + ".png",
    "the longest in other letters": "\u00e4" * 1020 + ".png",
    "a result's": "a.png.json",
    "no extension": "a",
    "capitals": "PHOTO.PNG",
}


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_a_drop_of_any_name_is_uploaded_and_recorded_under_it(bench: Bench, name: str) -> None:
    """No name is changed on its way, and none is taken for another one."""
    drop = bench.write(PICTURES[0], Drop(bench.platform.add_itwin(), name))
    result = bench.process(drop)
    assert (result["status"], result["source"]["blob"]) == ("uploaded", name)
    assert result["source"]["etag"] == bench.version(drop).etag


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_an_event_of_any_name_is_recovered(bench: Bench, name: str) -> None:
    """Its URL is encoded as the client's is that wrote it."""
    drop = bench.write(PICTURES[0], Drop(bench.platform.add_itwin(), name))
    urls = [
        bench.services.storage.get_blob_client(*pair).url for pair in ((drop.container, name), (LETTERS_CONTAINER, "l"))
    ]
    event = {"eventType": "Microsoft.Storage.BlobCreated", "data": {"url": urls[0]}}
    bench.write(json.dumps([event]).encode(), Drop(LETTERS_CONTAINER, "l"))
    recover_events(urls[1], bench.services)
    bench.drain()
    assert bench.result(drop)["status"] == "uploaded"


def test_names_that_look_alike_are_different_drops(bench: Bench) -> None:
    """Composed or not, and in either case of letters."""
    itwin_id = bench.platform.add_itwin()
    names = [NAMES["composed"], NAMES["decomposed"], "PHOTO.PNG", "photo.png", "photo.png.", "photo.png/"]
    assert len({result_name(Drop(itwin_id, name)) for name in names}) == len(names)
    for name in names:
        assert bench.process(bench.write(b"no image", Drop(itwin_id, name)))["source"]["blob"] == name
