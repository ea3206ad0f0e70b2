"""iTwins are made, shown and deleted as the API's page says."""

from __future__ import annotations

import json
import uuid
from typing import Any

import pytest
import requests

from tests.deadlines import HANG_S
from tests.local_itwin_platform.client import (
    ADMINISTRATOR,
    NEW_ITWIN,
    Client,
    create,
    details_of,
    error_of,
    picture,
)


def test_a_new_itwin_belongs_to_its_creator(client: Client) -> None:
    """201 with the requested properties; the creator may do everything with it, others do not see it."""
    made = create(client)
    assert made.status_code == 201
    itwin = made.json()["iTwin"]
    assert {name: itwin[name] for name in NEW_ITWIN} == NEW_ITWIN
    assert (itwin["image"], itwin["imageName"]) == (None, None)
    assert client.call("GET", f"/itwins/{itwin['id']}", subject="stranger").status_code == 404
    assert client.put(itwin["id"], picture()).status_code == 201


def test_an_itwin_shows_its_thumbnail(client: Client, itwin: str) -> None:
    """`image` and `imageName` are those of the small image."""
    image = client.put(itwin, picture()).json()["image"]
    got = client.call("GET", f"/itwins/{itwin}")
    assert got.status_code == 200
    shown = got.json()["iTwin"]
    assert (shown["id"], shown["imageName"]) == (itwin, image["smallImageName"])
    assert requests.get(shown["image"], timeout=HANG_S).headers["content-type"] == "image/jpeg"


def test_a_number_cannot_be_used_twice(client: Client) -> None:
    """409 iTwinExists."""
    assert create(client).status_code == 201
    error = error_of(create(client, displayName="Another"), 409)
    assert error["code"] == "iTwinExists"
    assert (error["details"][0]["code"], error["details"][0]["target"]) == ("InvalidValue", "number")
    assert [create(client, number=None).status_code for _ in range(2)] == [201, 201]


def test_an_incomplete_itwin_is_refused_with_all_details(client: Client) -> None:
    """422 MissingRequiredProperty and whatever else is wrong."""
    assert details_of(create(client, **{"class": None})) == [("MissingRequiredProperty", "class")]
    assert details_of(create(client, **{"class": None, "displayName": None, "id": "x"})) == [
        ("MissingRequiredProperty", "class"),
        ("MissingRequiredProperty", "displayName"),
        ("ReadOnlyProperty", "id"),
    ]
    assert details_of(create(client, **{"class": "Nonsense"})) == [("InvalidValue", "class")]
    assert details_of(create(client, **{"class": ["Thing"]})) == [("InvalidValue", "class")]
    assert details_of(create(client, displayName="")) == [("MissingRequiredProperty", "displayName")]
    for body in (b"", b"{", b"[]", b"7", b"\xff", b"[" * 100_000, b" " * 2_000_000):
        assert details_of(client.call("POST", "/itwins/", body)) == [("InvalidRequestBody", None)]


WRONG_VALUES: dict[str, list[Any]] = {
    "displayName": [7, True, ["Bridge"], {"en": "Bridge"}, []],
    "number": [7],
    "type": [["Bridge"]],
    "geographicLocation": [{}],
    "ianaTimeZone": [1],
    "dataCenterLocation": [False],
    "parentId": [7],
    "class": [0, False, ["Thing"], "thing"],
    "subClass": ["Bridge", 7],
    "status": ["Asleep", {}],
    "latitude": ["51", 90.5, True, [51]],
    "longitude": ["0", -181],
}


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in WRONG_VALUES.items() for value in values]
)
def test_a_property_of_the_wrong_type_or_value_is_refused(client: Client, name: str, value: Any) -> None:
    """422 that names it, and nothing is created."""
    answer = create(client, **{name: value})
    assert details_of(answer) == [("InvalidValue", name)]
    assert answer.json()["error"]["details"][0]["message"] == f"Provided '{name}' value is not valid."
    assert client.platform.itwins() == []


def test_numbers_and_null_are_valid_values(client: Client) -> None:
    """Coordinates are numbers, and optional properties may be null."""
    properties = {**NEW_ITWIN, "latitude": -90, "longitude": 12.5, "parentId": None, "type": None}
    made = client.call("POST", "/itwins/", json.dumps(properties))
    assert made.status_code == 201
    assert (made.json()["iTwin"]["latitude"], made.json()["iTwin"]["longitude"]) == (-90, 12.5)


@pytest.mark.parametrize("value", ['"\\ud800"', "NaN", "1e999"])
def test_values_that_json_cannot_repeat_are_refused(client: Client, value: str) -> None:
    """Some parsers accept lone surrogates and infinite numbers, which can never be written again."""
    body = f'{{"class": "Thing", "subClass": "Asset", "displayName": "x", "latitude": {value}}}'
    assert details_of(client.call("POST", "/itwins/", body)) == [("InvalidRequestBody", None)]
    address = f"{client.address}/_control/itwins/{uuid.uuid4()}"
    assert requests.put(address, data=f'{{"displayName": {value}}}', timeout=HANG_S).status_code == 422


def test_an_itwin_can_be_deleted_by_its_owner_or_an_administrator(client: Client) -> None:
    """The permission to modify does not suffice; once deleted, it is gone with its image."""
    shared = client.platform.add_itwin()
    assert error_of(client.call("DELETE", f"/itwins/{shared}"), 403)["code"] == "InsufficientPermissions"
    assert client.call("DELETE", f"/itwins/{shared}", subject=ADMINISTRATOR).status_code == 204
    own = create(client).json()["iTwin"]["id"]
    assert client.call("DELETE", f"/itwins/{own}").status_code == 204
    assert client.call("GET", f"/itwins/{own}").status_code == 404
    assert client.put(own, picture()).status_code == 404
