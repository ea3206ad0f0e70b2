"""The published schema says exactly what a reader of results may rely on."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import pytest
from jsonschema import Draft202012Validator, ValidationError

from shared.records import Status
from tests.schema import SCHEMA, check_result

if TYPE_CHECKING:
    from collections.abc import Iterator

SAMPLES = Path(__file__).parent / "samples" / "results"
RIGHT = {status: json.loads((SAMPLES / f"{status}.json").read_text(encoding="utf-8")) for status in get_args(Status)}
DEFINITIONS = SCHEMA["$defs"]
BRANCHES = {branch["properties"]["status"]["const"]: branch for branch in map(DEFINITIONS.get, map(str.title, RIGHT))}

Where = tuple[str, ...]


def objects(document: dict[str, Any], path: Where = ()) -> Iterator[tuple[Where, dict[str, Any]]]:
    """Return the document and every object in it, each with where it stands."""
    yield path, document
    for name, value in document.items():
        if isinstance(value, dict):
            yield from objects(value, (*path, name))


def resolve(schema: dict[str, Any], path: Where) -> dict[str, Any]:
    """Return the definition of the object that stands there."""
    for name in path:
        schema = schema["properties"][name]
        for candidate in schema.get("oneOf", [schema]):
            if "$ref" in candidate:
                schema = DEFINITIONS[candidate["$ref"].rpartition("/")[2]]
    return schema


def changed(document: dict[str, Any], path: Where, **values: object) -> dict[str, Any]:
    """Return a copy with other values in the object that stands there."""
    document = inner = copy.deepcopy(document)
    for name in path:
        inner = inner[name]
    inner.update(values)
    return document


def without(document: dict[str, Any], path: Where, name: str) -> dict[str, Any]:
    """Return a copy without a field of the object that stands there."""
    document = inner = copy.deepcopy(document)
    for part in path:
        inner = inner[part]
    del inner[name]
    return document


FIELDS = [
    (status, path, name)
    for status, document in RIGHT.items()
    for path, part in objects(document)
    if path[-1:] != ("metadata",)
    for name in part
]


def test_the_schema_is_valid_and_has_a_version() -> None:
    """With a mistake it would accept everything, and without a version it could never change."""
    Draft202012Validator.check_schema(SCHEMA)
    assert re.fullmatch(r"urn:itwin-image-drop:result:\d+\.\d+", SCHEMA["$id"])


def test_every_status_has_one_complete_titled_branch() -> None:
    """From it, generators create one type with the same name."""
    assert list(BRANCHES) == list(get_args(Status))
    assert SCHEMA["oneOf"] == [{"$ref": f"#/$defs/{branch['title']}"} for branch in BRANCHES.values()]
    assert [name for name, definition in DEFINITIONS.items() if definition["title"] != name] == []
    for status, branch in BRANCHES.items():
        assert branch["title"].lower() == status
        assert set(branch["required"]) == set(branch["properties"])
        assert list(branch["properties"]) == list(RIGHT[status])


def test_every_time_has_the_format_date_time() -> None:
    """From it, generators create a date type instead of a string."""
    moments = {
        name: field
        for definition in DEFINITIONS.values()
        for name, field in definition["properties"].items()
        if (name.endswith("At") or name == "lastModified") and field["type"] != "null"
    }
    assert set(moments) == {"firstAttemptAt", "startedAt", "finishedAt", "nextAttemptAt", "lastModified"}
    assert {field["format"] for field in moments.values()} == {"date-time"}


@pytest.mark.parametrize("status", RIGHT)
def test_a_valid_document_is_accepted(status: str) -> None:
    """As it is, and with fields that a later version may add anywhere."""
    check_result(RIGHT[status])
    for path, _ in objects(RIGHT[status]):
        if path[-1:] != ("metadata",):
            check_result(changed(RIGHT[status], path, new={"in": ["a later version"]}))


@pytest.mark.parametrize(("status", "path", "name"), FIELDS)
def test_a_missing_field_is_refused(status: str, path: Where, name: str) -> None:
    """Every promised field is present, so a reader need not check."""
    if name in resolve(BRANCHES[status], path)["required"]:
        with pytest.raises(ValidationError):
            check_result(without(RIGHT[status], path, name))


@pytest.mark.parametrize(("status", "path", "name"), FIELDS)
def test_a_field_of_the_wrong_type_is_refused(status: str, path: Where, name: str) -> None:
    """No string for a number, no list of lists, except where the platform may send anything."""
    if path == ("error",) and name in ("target", "details"):
        return
    wrong: object
    for wrong in ([[]], True):
        with pytest.raises(ValidationError):
            check_result(changed(RIGHT[status], path, **{name: wrong}))


TIME = "2026-11-23T12:00:08.000Z"
WRONG: list[tuple[str, Where, dict[str, object]]] = [
    ("uploaded", (), {"error": RIGHT["rejected"]["error"]}),
    ("uploaded", (), {"reason": "It was uploaded."}),
    ("uploaded", (), {"sent": None}),
    ("uploaded", (), {"response": None}),
    ("uploaded", (), {"nextAttemptAt": TIME}),
    ("uploaded", ("response",), {"httpStatus": 200}),
    ("uploaded", ("source",), {"sha256": None}),
    ("rejected", (), {"image": RIGHT["uploaded"]["image"]}),
    ("rejected", (), {"reason": None}),
    ("rejected", (), {"reason": ""}),
    ("superseded", (), {"reason": ""}),
    ("retrying", (), {"reason": ""}),
    ("failed", (), {"reason": ""}),
    ("rejected", (), {"nextAttemptAt": TIME}),
    ("superseded", (), {"image": RIGHT["uploaded"]["image"]}),
    ("superseded", (), {"error": RIGHT["rejected"]["error"]}),
    ("superseded", (), {"sent": RIGHT["uploaded"]["sent"]}),
    ("superseded", (), {"response": RIGHT["uploaded"]["response"]}),
    ("superseded", (), {"nextAttemptAt": TIME}),
    ("retrying", (), {"image": RIGHT["uploaded"]["image"]}),
    ("retrying", (), {"nextAttemptAt": None}),
    ("failed", (), {"image": RIGHT["uploaded"]["image"]}),
    ("failed", (), {"nextAttemptAt": TIME}),
    ("failed", (), {"status": "done"}),
    ("failed", (), {"attempts": 0}),
    ("failed", (), {"startedAt": "2026-13-23T12:00:08.000Z"}),
    ("failed", (), {"startedAt": "2026-11-23T12:00:08.000+01:00"}),
    ("failed", (), {"startedAt": "23 November 2026"}),
    ("uploaded", ("source",), {"etag": '"0x8DE2D6C1A2B3C4D"'}),
    ("uploaded", ("source",), {"sha256": "34A42EAA"}),
    ("uploaded", ("source",), {"bytes": -1}),
    ("uploaded", ("source", "metadata"), {"order": 4711}),
    ("uploaded", ("sent",), {"bytes": 5_000_001}),
    ("uploaded", ("sent",), {"mediaType": "image/gif"}),
    ("uploaded", ("sent",), {"changes": ["converted", "converted"]}),
]


@pytest.mark.parametrize(("status", "path", "values"), WRONG)
def test_fields_of_another_status_and_unknown_values_are_refused(
    status: str, path: Where, values: dict[str, object]
) -> None:
    """The app never writes them."""
    with pytest.raises(ValidationError):
        check_result(changed(RIGHT[status], path, **values))
