"""The Content-Encoding of a drop: what the app decodes, what it ignores, and what it names."""

from __future__ import annotations

import gzip
import zlib
from typing import TYPE_CHECKING

import pytest
from azure.storage.blob import ContentSettings

from shared.drop import Drop
from tests.drop_bench import PICTURES

if TYPE_CHECKING:
    from tests.drop_bench import Bench

GZIP = ["gzip", "GZIP", "x-gzip", "X-GZip"]
OTHERS = ["br", "deflate", "gzip, gzip", "identity", "compress", "utf-8", "image/png", "größe"]


def write(bench: Bench, content: bytes, label: str) -> Drop:
    """Drop content with a Content-Encoding, on a new iTwin."""
    drop = bench.write(b"made for its iTwin", Drop(bench.platform.add_itwin(), "labelled.png"))
    settings = ContentSettings(content_encoding=label)
    blob = bench.storage.get_blob_client(drop.container, drop.blob)
    blob.upload_blob(content, overwrite=True, content_settings=settings)
    return drop


@pytest.mark.parametrize("label", [*GZIP, *OTHERS])
def test_a_wrong_content_encoding_is_ignored_whatever_it_is(bench: Bench, label: str) -> None:
    """The content itself identifies its format."""
    drop = write(bench, PICTURES[0], label)
    assert bench.process(drop)["status"] == "uploaded"
    assert bench.shows(drop) == PICTURES[0]


@pytest.mark.parametrize("label", GZIP)
def test_a_blob_labelled_gzip_is_decompressed(bench: Bench, label: str) -> None:
    """In either case, and by its older name."""
    drop = write(bench, gzip.compress(PICTURES[0]), label)
    assert bench.process(drop)["status"] == "uploaded"
    assert bench.shows(drop) == PICTURES[0]


@pytest.mark.parametrize(
    ("label", "content"),
    [
        ("deflate", zlib.compress(PICTURES[0])),
        ("br", b"\x0b\x02\x80hello\x03"),
        ("gzip, gzip", gzip.compress(gzip.compress(PICTURES[0]))),
    ],
)
def test_an_unsupported_content_encoding_is_named(bench: Bench, label: str, content: bytes) -> None:
    """Otherwise the writer would look for a mistake in the image."""
    result = bench.process(write(bench, content, label))
    assert (result["status"], result["error"]["code"]) == ("rejected", "UnsupportedFormat")
    assert f"Content-Encoding is {label!r}" in result["reason"]


@pytest.mark.parametrize("label", ["", "identity", *GZIP])
def test_an_irrelevant_content_encoding_is_not_mentioned(bench: Bench, label: str) -> None:
    """A file that is not an image is not one whatever its label."""
    result = bench.process(write(bench, b"no image", label))
    assert result["error"]["code"] == "UnsupportedFormat"
    assert "Content-Encoding" not in result["reason"]
