"""The image of an iTwin is uploaded, judged, shown and deleted as the API's page says."""

from __future__ import annotations

import io
import random
import socket
import struct
import tracemalloc
import uuid
from urllib.parse import parse_qs, urlsplit

import pytest
import requests
from PIL import Image

from local.itwin_platform.image import read_header
from local.processes import wait_until
from tests.deadlines import HANG_S
from tests.kept import noted
from tests.local_itwin_platform.client import (
    AUDIENCE,
    IDENTITY,
    Client,
    details_of,
    error_of,
    noise,
    picture,
    png_without_pixels,
    sample,
)


@pytest.mark.parametrize(("image_format", "media_type"), [("PNG", "image/png"), ("JPEG", "image/jpeg")])
def test_the_response_to_an_upload_is_as_documented(
    client: Client, itwin: str, image_format: str, media_type: str
) -> None:
    """201 with the page's JSON, and the platform has exactly the bytes sent."""
    data = picture(image_format)
    answer = client.put(itwin, data, media_type)
    assert answer.status_code == 201
    assert uuid.UUID(answer.headers["x-correlation-id"])
    image = answer.json()["image"]
    shown = sample("201_uploaded")["image"]
    assert answer.json().keys() == {"image"}
    assert image.keys() == shown.keys()
    for size in ("small", "large"):
        assert image[f"{size}ImageName"] == f"{size}_{image['id']}.jpeg"
        link, example = urlsplit(image[f"{size}ImageUrl"]), urlsplit(shown[f"{size}ImageUrl"])
        assert link.path == example.path.replace(shown["id"], image["id"])
        assert list(parse_qs(link.query)) == list(parse_qs(example.query))
    assert client.platform.image(itwin) == (data, media_type)


def test_get_returns_what_put_returned(client: Client, itwin: str) -> None:
    """The metadata of the image can be read again."""
    put = client.put(itwin, picture()).json()["image"]
    got = client.get(itwin)
    assert got.status_code == 200
    assert {name: value for name, value in got.json()["image"].items() if not name.endswith("Url")} == {
        name: value for name, value in put.items() if not name.endswith("Url")
    }


def test_an_upper_case_id_names_the_same_itwin(client: Client, itwin: str) -> None:
    """GUIDs are not case-sensitive."""
    assert client.put(itwin.upper(), picture()).status_code == 201
    assert client.get(itwin).status_code == 200
    assert client.platform.image(itwin.upper()) == client.platform.image(itwin)


def test_the_same_bytes_keep_their_id(client: Client, itwin: str) -> None:
    """Names change only when the image changes."""
    first, again = (client.put(itwin, picture()).json()["image"]["id"] for _ in range(2))
    other = client.put(itwin, picture(colour="red")).json()["image"]["id"]
    assert first == again != other


def test_two_itwins_with_the_same_bytes_have_two_images(client: Client) -> None:
    """Names are unique."""
    ids = {client.put(client.platform.add_itwin(), picture()).json()["image"]["id"] for _ in range(2)}
    assert len(ids) == 2


def test_the_links_return_the_thumbnail_and_the_image(client: Client, itwin: str) -> None:
    """The small one is a real, smaller JPEG; the large one is what was uploaded."""
    data = picture(size=(1200, 600))
    image = client.put(itwin, data).json()["image"]
    large = requests.get(image["largeImageUrl"], timeout=HANG_S)
    assert (large.content, large.headers["content-type"]) == (data, "image/png")
    small = requests.get(image["smallImageUrl"], timeout=HANG_S)
    assert small.headers["content-type"] == "image/jpeg"
    with Image.open(io.BytesIO(small.content)) as thumbnail:
        assert (thumbnail.format, thumbnail.size) == ("JPEG", (400, 200))
        (shown,) = thumbnail.convert("RGB").resize((1, 1)).get_flattened_data()
        assert shown == pytest.approx((0, 128, 128), abs=3)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_every_kind_of_png_gets_a_thumbnail(client: Client, itwin: str, mode: str) -> None:
    """Greyscale, palette, transparency and 16 bits all become a JPEG."""
    made = io.BytesIO()
    Image.new(mode, (30, 20)).save(made, "PNG")
    image = client.put(itwin, made.getvalue()).json()["image"]
    small = requests.get(image["smallImageUrl"], timeout=HANG_S)
    with Image.open(io.BytesIO(small.content)) as thumbnail:
        assert (thumbnail.format, thumbnail.size) == ("JPEG", (30, 20))


def test_a_thumbnail_of_16_bits_is_as_bright_as_the_image(client: Client, itwin: str) -> None:
    """At every brightness."""
    made = io.BytesIO()
    ramp = b"".join((257 * grey).to_bytes(2, "little") for grey in range(256)) * 60
    Image.frombytes("I;16", (256, 60), ramp).save(made, "PNG")
    image = client.put(itwin, made.getvalue()).json()["image"]
    with Image.open(io.BytesIO(requests.get(image["smallImageUrl"], timeout=HANG_S).content)) as thumbnail:
        shown = [thumbnail.convert("L").getpixel((grey, 30)) for grey in (0, 64, 128, 192, 255)]
    assert shown == pytest.approx([0, 64, 128, 192, 255], abs=6)


def test_the_links_of_a_replaced_image_are_not_found(client: Client, itwin: str) -> None:
    """A deleted image is not served, however valid the signature."""
    old = client.put(itwin, picture()).json()["image"]
    client.put(itwin, picture(colour="red"))
    gone = requests.get(old["smallImageUrl"], timeout=HANG_S)
    assert (gone.status_code, gone.headers["x-ms-error-code"]) == (404, "BlobNotFound")


def test_an_image_can_be_deleted_once(client: Client, itwin: str) -> None:
    """204, then 404 for everything that needs the image."""
    client.put(itwin, picture())
    deleted = client.call("DELETE", f"/itwins/{itwin}/image")
    assert (deleted.status_code, deleted.content) == (204, b"")
    assert error_of(client.get(itwin), 404)["code"] == "ImageNotFound"
    assert error_of(client.call("DELETE", f"/itwins/{itwin}/image"), 404)["code"] == "ImageNotFound"
    assert client.platform.image(itwin) is None


@pytest.mark.parametrize(
    "itwin_id",
    [
        "6ba7b811-9dad-11d1-80b4-00c04fd430c8",
        "not-a-guid",
        "6ba7b8119dad11d180b400c04fd430c8",
        "{6ba7b811-9dad-11d1-80b4-00c04fd430c8}",
    ],
)
@pytest.mark.parametrize("method", ["PUT", "GET", "DELETE"])
def test_an_unknown_itwin_is_not_found(client: Client, method: str, itwin_id: str) -> None:
    """404 as documented, also for an ID that is not a GUID."""
    answer = client.call(method, f"/itwins/{itwin_id}/image", picture())
    assert error_of(answer, 404) == sample("404_itwin_not_found")["error"]


@pytest.mark.parametrize("media_type", ["image/jpeg", "text/plain"])
def test_size_is_checked_before_content(client: Client, itwin: str, media_type: str) -> None:
    """6 MB of zeros is 413 as documented, whatever else is wrong with it."""
    assert error_of(client.put(itwin, bytes(6_000_000), media_type), 413) == sample("413_request_too_large")["error"]


def test_five_decimal_megabytes_are_the_limit(client: Client, itwin: str) -> None:
    """5,000,000 bytes are accepted, one more is not."""
    image = picture("JPEG")
    largest = image + bytes(5_000_000 - len(image))
    assert client.put(itwin, largest, "image/jpeg").status_code == 201
    assert client.put(itwin, largest + b"\0", "image/jpeg").status_code == 413
    assert client.platform.image(itwin) == (largest, "image/jpeg")


def test_a_chunked_body_is_measured_but_not_kept(client: Client, itwin: str) -> None:
    """Without Content-Length, the response is 413 as well, and no more than the limit and a chunk is in memory."""
    chunk = bytes(1_000_000)
    tracemalloc.start()
    try:
        answer = client.put(itwin, (chunk for _ in range(60)), "image/jpeg")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert error_of(answer, 413)["code"] == "RequestTooLarge"
    assert client.platform.requests()[-1].body_bytes == 60_000_000
    assert peak < 20_000_000


def test_a_small_chunked_body_is_accepted(client: Client, itwin: str) -> None:
    """A body needs no Content-Length."""
    data = picture()
    assert client.put(itwin, iter([data[:50], data[50:]])).status_code == 201
    assert client.platform.image(itwin) == (data, "image/png")


def test_the_ratio_is_checked_by_the_header_alone(client: Client, itwin: str) -> None:
    """A 600 x 100 PNG without pixels is 422 for its ratio, with the documented message, and for nothing else."""
    error = error_of(client.put(itwin, png_without_pixels(600, 100)), 422)
    shown = sample("422_invalid")["error"]
    assert error == {**shown, "details": [shown["details"][2]]}


@pytest.mark.parametrize(
    ("size", "status"),
    [((500, 100), 201), ((100, 500), 201), ((501, 100), 422), ((100, 501), 422), ((5, 1), 201), ((6, 1), 422)],
)
@pytest.mark.parametrize("image_format", ["PNG", "JPEG"])
def test_exactly_five_to_one_is_legal(
    client: Client, itwin: str, image_format: str, size: tuple[int, int], status: int
) -> None:
    """Five times is not "greater than 5 times"."""
    answer = client.put(itwin, picture(image_format, size), f"image/{image_format.lower()}")
    assert answer.status_code == status


def test_a_422_lists_everything_that_is_wrong(client: Client, itwin: str) -> None:
    """One response has all details."""
    wide = png_without_pixels(600, 100)
    assert details_of(client.put(itwin, wide, "text/plain")) == [
        ("InvalidValue", "Content-Type"),
        ("InvalidValue", "image"),
    ]
    assert details_of(client.put(itwin, wide, "image/jpeg")) == [
        ("InvalidRequestBody", "image"),
        ("InvalidValue", "image"),
    ]
    assert client.put(itwin, b"").json()["error"]["details"][0]["message"] == "The iTwin Image is missing."
    assert details_of(client.put(itwin, b"", None)) == [
        ("InvalidValue", "Content-Type"),
        ("InvalidRequestBody", "image"),
    ]


@pytest.mark.parametrize(
    "media_type", [None, "application/octet-stream", "image/gif", "image/jpg", "image/png, image/png"]
)
def test_another_content_type_is_refused(client: Client, itwin: str, media_type: str | None) -> None:
    """Only image/png and image/jpeg are accepted."""
    assert details_of(client.put(itwin, picture(), media_type)) == [("InvalidValue", "Content-Type")]


def test_a_content_type_may_have_parameters_and_capitals(client: Client, itwin: str) -> None:
    """Media types are compared as in HTTP."""
    assert client.put(itwin, picture(), "Image/PNG; charset=binary").status_code == 201
    assert client.platform.image(itwin) == (picture(), "image/png")


def test_an_image_with_the_wrong_content_type_is_refused(client: Client, itwin: str) -> None:
    """The image's own signature decides."""
    assert details_of(client.put(itwin, picture("JPEG"), "image/png")) == [("InvalidRequestBody", "image")]


def test_an_image_with_too_many_pixels_is_not_decoded(client: Client, itwin: str) -> None:
    """A small file that decodes to gigabytes is refused by its header."""
    assert details_of(client.put(itwin, png_without_pixels(40_000, 40_000))) == [("InvalidValue", "image")]


JPEG_WITH_FRAME = picture("JPEG")


NOT_READABLE = {
    "text": b"not an image at all",
    "gif": picture("GIF"),
    "png signature": b"\x89PNG\r\n\x1a\n",
    "png half header": png_without_pixels(10, 10)[:22],
    "png other chunk first": b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 4) + b"gAMA" + bytes(30),
    "png no pixels": png_without_pixels(10, 10),
    "png no width": png_without_pixels(0, 10),
    "png half": picture(size=(300, 300))[:200],
    "png wrong checksum": picture()[:30] + b"\0\0\0" + picture()[33:],
    "png chunk without a name": b"\0\0\0\0".join(noise().rsplit(b"IDAT", 1)),
    "jpeg start": b"\xff\xd8\xff",
    "jpeg half header": JPEG_WITH_FRAME[:100],
    "jpeg no frame": b"\xff\xd8\xff\xda" + bytes(100),
    "jpeg fill bytes": b"\xff\xd8" + b"\xff" * 100,
    "jpeg endless segment": b"\xff\xd8\xff\xe0\xff\xff" + bytes(100),
    "jpeg segment of no length": b"\xff\xd8" + b"\xff\xe0\0\0" * 30,
    "jpeg no height": b"\xff\xd8\xff\xc0\0\x11\x08\0\0\0\x10" + bytes(50),
    "jpeg header only": b"\xff\xd8\xff\xc0\0\x11\x08\0\x10\0\x10" + bytes(50),
}


@pytest.mark.parametrize("name", NOT_READABLE)
def test_an_undecodable_image_is_refused(client: Client, itwin: str, name: str) -> None:
    """422, and nothing of it is kept."""
    data = NOT_READABLE[name]
    media_type = "image/jpeg" if data.startswith(b"\xff") else "image/png"
    assert details_of(client.put(itwin, data, media_type)) == [("InvalidRequestBody", "image")]
    assert client.platform.image(itwin) is None


def test_no_corrupt_image_crashes_the_platform(client: Client, itwin: str) -> None:
    """Whatever the bytes after the header are, the response is 201 or 422."""
    chance = random.Random(20_250_101)  # noqa: S311 - the same corruption in every run
    for image_format in ("PNG", "JPEG"):
        for _ in range(40):
            data = bytearray(picture(image_format))
            for _ in range(chance.randrange(1, 8)):
                data[chance.randrange(len(data))] = chance.randrange(256)
            answer = client.put(itwin, noted(bytes(data)), f"image/{image_format.lower()}")
            assert answer.status_code in {201, 422}


@pytest.mark.parametrize("image_format", ["PNG", "JPEG"])
def test_the_header_yields_width_before_height(image_format: str) -> None:
    """In whichever order the format stores them."""
    assert read_header(picture(image_format, (64, 48))) == (f"image/{image_format.lower()}", (64, 48))


def test_a_jpeg_may_have_fill_bytes(client: Client, itwin: str) -> None:
    """Any marker may be preceded by them."""
    data = picture("JPEG")
    assert client.put(itwin, data[:2] + b"\xff\xff" + data[2:], "image/jpeg").status_code == 201


def test_an_interrupted_upload_changes_nothing(client: Client, itwin: str) -> None:
    """Half an upload is ignored."""
    client.put(itwin, picture())
    host, port = client.address.removeprefix("http://").split(":")
    token = IDENTITY.issue(subject="app", audience=AUDIENCE)
    head = (
        f"PUT /itwins/{itwin}/image HTTP/1.1\r\nhost: {host}\r\nauthorization: Bearer {token}\r\n"
        "content-type: image/png\r\ncontent-length: 100000\r\n\r\n"
    )
    with socket.create_connection((host, int(port)), timeout=HANG_S) as connection:
        connection.sendall(head.encode() + picture(colour="red")[:50])
    assert wait_until(lambda: len(client.platform.requests()) == 2, timeout_s=HANG_S)
    assert client.platform.requests()[-1].status == 400
    assert client.platform.image(itwin) == (picture(), "image/png")
