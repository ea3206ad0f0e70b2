"""The console tells what is so, and takes orders from its own page alone."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import socket
import sys
import threading
import time
import uuid
from datetime import datetime
from http.client import HTTPConnection
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import pytest
import requests
from PIL import Image

from local.cloud import LocalCloud
from local.console import open_console
from local.console.board import Board
from local.console.faults import Faults
from local.console.observer import PREFLIGHT_CONTAINER
from local.console.pictures import Pictures
from local.itwin_platform import ITwinPlatform, ScriptedResponse
from local.processes import PROJECT, Child, wait_until
from local.samples import building_site, encode, phone_photo
from local.serving import listen
from shared.preflight.storage import PROBE_CONTAINER
from tests.deadlines import HANG_S

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

STATIC = Path(__file__).parent.parent / "local" / "console" / "static"
PHOTO = encode(building_site(320, 240), "JPEG")
HOSTILE = "<img src=x onerror=alert(1)>'\".jpg"


class Page:
    """What a browser does without showing anything: listens to the stream, and sends with its own origin."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._changed = threading.Condition()
        self._items: dict[str, dict[str, Any] | None] = {}
        self._connection = HTTPConnection(address.removeprefix("http://"), timeout=HANG_S)
        self._listener = threading.Thread(target=self._listen, daemon=True)

    def __enter__(self) -> Self:
        self._connection.request("GET", "/api/events")
        self._listener.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.sock.shutdown(socket.SHUT_RDWR)
        self._listener.join()
        self._connection.close()

    def send(self, method: str, path: str, body: object = None) -> requests.Response:
        """Send as the page does."""
        data = body if isinstance(body, bytes) else json.dumps(body)
        return requests.request(
            method, self.address + path, data=data, headers={"Origin": self.address}, timeout=HANG_S
        )

    def get(self, path: str) -> requests.Response:
        """Read something."""
        return requests.get(self.address + path, timeout=HANG_S)

    def wait_for(self, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Return the first item that is as wanted, with its key."""
        found: list[dict[str, Any]] = []

        def there() -> bool:
            items = [{"key": key, **item} for key, item in self._items.items() if item]
            found[:] = filter(wanted, items)
            return bool(found)

        with self._changed:
            assert self._changed.wait_for(there, timeout=HANG_S), self._items
        return found[0]

    def names(self) -> set[str]:
        """Return the names of the drops that are shown."""
        return {item["name"] for key, item in self._items.items() if item and key.startswith("drop:")}

    def drop(self, name: str, *, status: str, itwin: str = "") -> dict[str, Any]:
        """Wait until the newest drop of that name has that status."""
        return self.wait_for(
            lambda item: (
                item.get("name") == name
                and "container" in item
                and itwin in item["container"]
                and (item["result"] or {}).get("status", "waiting") == status
            )
        )

    def _listen(self) -> None:
        # Who lets go while something is still coming may be told so by a reset.
        with contextlib.suppress(ConnectionError), self._connection.getresponse() as stream:
            for line in stream:
                if line.startswith(b"data: "):
                    with self._changed:
                        self._items |= json.loads(line[6:])
                        self._changed.notify_all()


@pytest.fixture(scope="module")
def running() -> Iterator[tuple[LocalCloud, str]]:
    """Run a cloud of its own, for its platform's script is switched; one second is its shortest wait."""
    with LocalCloud(app_settings={"RETRY_MIN_DELAY_S": "1"}) as cloud, open_console(cloud) as address:
        yield cloud, address


@pytest.fixture
def page(running: tuple[LocalCloud, str]) -> Iterator[Page]:
    """Open the page with no fault switched on."""
    cloud, address = running
    cloud.platform.script([])
    with Page(address) as opened:
        yield opened


@pytest.mark.parametrize("host", ["attacker.example", "127.0.0.1.attacker.example:80", "", "[", "0.0.0.0"])
def test_only_requests_to_loopback_names_are_served(running: tuple[LocalCloud, str], host: str) -> None:
    """An attacker's DNS name that resolves to loopback does not give access to the console."""
    for path in ("/", "/static/console.js", "/api/events"):
        answer = requests.get(running[1] + path, headers={"Host": host}, timeout=HANG_S)
        assert answer.status_code in (400, 403)
        assert "iTwin Image Drop" not in answer.text
    port = running[1].rpartition(":")[2]
    assert requests.get(running[1], headers={"Host": f"localhost:{port}"}, timeout=HANG_S).ok


@pytest.mark.parametrize("origin", [None, "null", "https://attacker.example", "http://127.0.0.1:1", "http://localhost"])
def test_pages_of_other_sites_cannot_change_anything(running: tuple[LocalCloud, str], origin: str | None) -> None:
    """Whatever a developer has open in another tab cannot drop, create or switch anything."""
    cloud, address = running
    before = len(cloud.platform.itwins())
    headers = {"Origin": origin} if origin else {}
    for method, path in (
        ("POST", "/api/samples"),
        ("POST", "/api/drops?name=a.jpg"),
        ("POST", "/api/itwins"),
        ("POST", "/api/drops/x/itwin"),
        ("PUT", "/api/faults/outage"),
        ("DELETE", "/api/itwins"),
    ):
        answer = requests.request(method, address + path, data='{"on": true}', headers=headers, timeout=HANG_S)
        assert answer.status_code == 403
    assert len(cloud.platform.itwins()) == before
    assert cloud.platform.remaining_script() == []


@pytest.mark.parametrize("path", ["/", "/static/console.css", "/nothing", "/api/drops/x/before", "/api/itwins/x/image"])
def test_no_response_can_be_scripted_framed_or_embedded(page: Page, path: str) -> None:
    """The browser is told so, whatever the response is."""
    headers = page.get(path).headers
    assert "default-src 'none'" in headers["content-security-policy"]
    assert "require-trusted-types-for 'script'" in headers["content-security-policy"]
    assert "unsafe" not in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cross-origin-resource-policy"] == "same-origin"
    assert "access-control-allow-origin" not in headers


def test_the_page_sends_no_request_elsewhere_and_makes_no_html_of_text() -> None:
    """No address is off the machine, and nothing that parses HTML or code is called."""
    for file in STATIC.iterdir():
        text = file.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"https?:|//[a-z]+\.|@import|url\(", text), file
        assert not re.search(r"(inner|outer|Adjacent)HTML|document\.write|\beval\b|new Function", text), file


def test_every_blob_written_to_storage_appears(running: tuple[LocalCloud, str], page: Page) -> None:
    """Including those that no page dropped, under their own names, with their outcome."""
    cloud, _ = running
    itwin = cloud.itwin(display_name="Town Hall")
    cloud.drop(itwin, HOSTILE, PHOTO)
    drop = page.drop(HOSTILE, status="uploaded", itwin=itwin)
    assert (drop["bytes"], drop["result"]["attempts"]) == (len(PHOTO), 1)
    shown = page.wait_for(lambda item: item.get("id") == itwin and item["image"])
    assert (shown["name"], shown["image"]["id"]) == ("Town Hall", drop["result"]["image"]["id"])
    assert page.get(f"/api/itwins/{itwin}/image?large").content == PHOTO
    assert Image.open(io.BytesIO(page.get(f"/api/itwins/{itwin}/image").content)).format == "JPEG"


def test_a_file_dropped_on_the_page_is_uploaded(page: Page) -> None:
    """Without an iTwin it gets a new one, named after it; with one it is uploaded to that."""
    made = page.send("POST", "/api/itwins", {"displayName": " Harbour "}).json()["id"]
    assert page.send("POST", f"/api/drops?itwin={made}&name=site%201/a%2Bb%23.jpg", PHOTO).status_code == 201
    assert page.drop("site 1/a+b#.jpg", status="uploaded", itwin=made)
    assert page.send("POST", "/api/drops?itwin=&name=folder/gate.v2.jpg", PHOTO).status_code == 201
    drop = page.drop("folder/gate.v2.jpg", status="uploaded")
    assert page.wait_for(lambda item: item.get("id") == drop["container"])["name"] == "gate.v2"
    assert page.wait_for(lambda item: item.get("id") == made)["name"] == "Harbour"


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "/api/drops?itwin=results&name=a.jpg", b"x", 422),
        ("POST", "/api/drops?itwin=", b"x", 422),
        ("POST", "/api/drops?name=" + "x" * 1025, b"x", 422),
        ("POST", "/api/itwins", {"displayName": " "}, 422),
        ("POST", "/api/itwins", [], 422),
        ("PUT", "/api/faults/flood", {"on": True}, 404),
    ],
)
def test_invalid_requests_are_refused(page: Page, method: str, path: str, body: object, status: int) -> None:
    """In particular, nothing can be dropped into the app's own containers."""
    assert page.send(method, path, body).status_code == status


def test_before_and_after_can_be_compared(running: tuple[LocalCloud, str], page: Page) -> None:
    """The photo as it is in its file, and exactly what was sent."""
    cloud, _ = running
    itwin = cloud.itwin()
    cloud.drop(itwin, "phone.jpg", phone_photo())
    path = f"/api/drops/{page.drop('phone.jpg', status='uploaded', itwin=itwin)['key']}"
    before = Image.open(io.BytesIO(page.get(f"{path}/before").content))
    after = Image.open(io.BytesIO(page.get(f"{path}/after").content))
    assert before.width > before.height
    assert after.width < after.height
    assert b"Telephone" not in page.get(f"{path}/before").content
    large = page.get(f"{path}/after?large")
    assert cloud.platform.image(itwin) == (large.content, large.headers["content-type"])


def test_a_rejected_file_is_never_drawn(running: tuple[LocalCloud, str], page: Page) -> None:
    """Nobody has found it intact, so it is not decoded."""
    cloud, _ = running
    itwin = cloud.itwin()
    cloud.drop(itwin, "page.jpg", b"<script>alert(1)</script>")
    drop = page.drop("page.jpg", status="rejected", itwin=itwin)
    for side in ("before", "after"):
        assert page.get(f"/api/drops/{drop['key']}/{side}").status_code == 404


def test_an_overwritten_picture_is_not_shown_for_another_drop(running: tuple[LocalCloud, str], page: Page) -> None:
    """Each version of a blob is a drop of its own."""
    cloud, _ = running
    itwin = cloud.itwin()
    cloud.drop(itwin, "same.jpg", PHOTO)
    old = page.drop("same.jpg", status="uploaded", itwin=itwin)
    cloud.drop(itwin, "same.jpg", phone_photo())
    new = page.wait_for(
        lambda item: item.get("container") == itwin and item["key"] != old["key"] and item["hasAfter"] is True
    )
    assert page.get(f"/api/drops/{old['key']}/before").status_code == 404
    assert page.get(f"/api/drops/{new['key']}/before").ok
    assert page.get(f"/api/drops/{old['key']}/after?large").content == PHOTO


def test_a_drop_in_a_container_without_an_itwin_shows_its_rejection(
    running: tuple[LocalCloud, str], page: Page
) -> None:
    """The result of a drop that was never read is shown with its drop."""
    running[0].drop("harbour", "a.jpg", PHOTO)
    drop = page.drop("a.jpg", status="rejected", itwin="harbour")
    assert drop["result"]["error"]["code"] == "ContainerNotAnITwin"
    assert drop["etag"]


def test_a_drop_waits_while_the_platform_is_down(running: tuple[LocalCloud, str], page: Page) -> None:
    """The effect of a switch can be seen, and so can the recovery."""
    itwin = running[0].itwin()
    assert page.send("PUT", "/api/faults/outage", {"on": True}).status_code == 204
    assert page.wait_for(lambda item: item["key"] == "faults" and item["outage"])
    running[0].drop(itwin, "down.jpg", PHOTO)
    waiting = page.drop("down.jpg", status="retrying", itwin=itwin)
    assert waiting["result"]["nextAttemptAt"]
    page.send("PUT", "/api/faults/outage", {"on": False})
    assert page.drop("down.jpg", status="uploaded", itwin=itwin)["result"]["attempts"] > 1


def test_each_attempt_is_shown(running: tuple[LocalCloud, str], page: Page) -> None:
    """Whoever opens the page later can still see how a drop survived."""
    cloud, _ = running
    itwin = cloud.itwin()
    cloud.platform.script([ScriptedResponse(503, path=f"/itwins/{itwin}/image")])
    cloud.drop(itwin, "told.jpg", PHOTO)
    steps = page.drop("told.jpg", status="uploaded", itwin=itwin)["steps"]
    assert [(step["attempt"], step["status"], step["httpStatus"]) for step in steps] == [
        (1, "retrying", 503),
        (2, "uploaded", 201),
    ]


def test_an_ignored_drop_is_shown_as_ignored(running: tuple[LocalCloud, str], page: Page) -> None:
    """An unfinished copy has no result, and the page says why."""
    cloud, _ = running
    itwin = cloud.itwin()
    for name, status, is_ignored in (
        ("big.jpg.part", "waiting", True),
        ("folder/", "waiting", True),
        ("empty.jpg", "rejected", False),
    ):
        cloud.drop(itwin, name, b"")
        assert page.drop(name, status=status, itwin=itwin)["ignored"] is is_ignored


def test_the_missing_itwin_of_a_drop_can_be_created(running: tuple[LocalCloud, str], page: Page) -> None:
    """And the file dropped again once its result is final; only if a missing iTwin was the problem."""
    cloud, _ = running
    itwin = str(uuid.uuid4())
    cloud.drop(itwin, "early.jpg", PHOTO)
    lacking = page.drop("early.jpg", status="rejected", itwin=itwin)
    assert page.send("POST", f"/api/drops/{lacking['key']}/itwin?again").status_code == 201
    uploaded = page.drop("early.jpg", status="uploaded", itwin=itwin)
    assert uploaded["key"] != lacking["key"]
    before = len(cloud.platform.itwins())
    for key in (uploaded["key"], "drop:none"):
        assert page.send("POST", f"/api/drops/{key}/itwin?again").status_code == 404
    assert len(cloud.platform.itwins()) == before


def test_the_preflights_own_drop_is_recognized(running: tuple[LocalCloud, str], page: Page) -> None:
    """The preflight expects its rejection; nobody else's drop is treated like that."""
    cloud, _ = running
    key = {"x-functions-key": cloud.host.function_key}
    requests.get(f"{cloud.host.address}/api/preflight", headers=key, timeout=HANG_S)
    probe = page.wait_for(lambda item: bool(item.get("isProbe") and item["result"]))
    assert probe["container"] == PREFLIGHT_CONTAINER == PROBE_CONTAINER
    cloud.drop(cloud.itwin(), "a.probe", PHOTO)
    assert page.drop("a.probe", status="uploaded")["isProbe"] is False


def test_a_damaged_result_does_not_stop_the_console(running: tuple[LocalCloud, str], page: Page) -> None:
    """The results container may contain anything; later results are still shown."""
    cloud, _ = running
    results = cloud.drops.get_container_client("results")
    for name, text in (("a.json", "{"), ("b.json", "[]"), ("c.json", '{"source": {"blob": 1}}')):
        results.upload_blob(name, text, overwrite=True)
    itwin = cloud.itwin()
    cloud.drop(itwin, "later.jpg", PHOTO)
    assert page.drop("later.jpg", status="uploaded", itwin=itwin)


def test_drops_of_an_earlier_run_are_shown_again(tmp_path: Path) -> None:
    """With a data folder, a new cloud shows the old drops, and the platform has its iTwins and their images."""
    itwin = str(uuid.uuid4())
    with LocalCloud(data=tmp_path) as cloud:
        cloud.itwin(itwin, "Town Hall")
        cloud.result(cloud.drop(itwin, "old.jpg", PHOTO))
        image = cloud.platform.image(itwin)
    with LocalCloud(data=tmp_path) as cloud, open_console(cloud) as address, Page(address) as page:
        assert page.drop("old.jpg", status="uploaded", itwin=itwin)
        assert cloud.platform.image(itwin) == image
        assert [known.properties["displayName"] for known in cloud.platform.itwins()] == ["Town Hall"]


def test_only_the_newest_drops_are_shown_if_there_are_many() -> None:
    """Earlier runs' drops count too, whatever their names; and the page can tell that there were more."""
    with LocalCloud() as cloud:
        for name in ("c.jpg", "b.jpg", "a.jpg"):
            before = int(time.time())
            assert wait_until(lambda before=before: time.time() >= before + 1, timeout_s=HANG_S)  # type: ignore[misc]  # a lambda may have a default
            cloud.result(cloud.drop(cloud.itwin(), name, PHOTO))
        with open_console(cloud, max_drops=2) as address, Page(address) as page:
            assert page.drop("b.jpg", status="uploaded")["sequence"] == 2
            assert page.drop("a.jpg", status="uploaded")["sequence"] == 3
            cloud.drop(cloud.itwin(), "d.jpg", PHOTO)
            page.drop("d.jpg", status="uploaded")
            page.wait_for(lambda _: page.names() == {"a.jpg", "d.jpg"})


def test_each_switch_makes_the_platform_respond_accordingly() -> None:
    """Alone and together; the more serious refusal takes precedence."""
    platform = ITwinPlatform()
    faults = Faults(platform)
    expected = {("throttle",): 429, ("throttle", "login"): 401, ("throttle", "login", "outage"): 503, ("slow",): None}
    for names, status in expected.items():
        for name in names:
            faults.switch(name, on=True)
        (answer,) = platform.remaining_script()
        assert (answer.status, answer.delay_s > 0) == (status, "slow" in names)
        assert {name for name, on in faults.state().items() if on} == set(names)
        for name in names:
            faults.switch(name, on=False)
    assert platform.remaining_script() == []


def test_a_script_set_by_another_program_switches_the_faults_off() -> None:
    """The switches show what the platform does."""
    platform = ITwinPlatform()
    faults = Faults(platform)
    faults.switch("outage", on=True)
    platform.script([ScriptedResponse(418)])
    assert not any(faults.state().values())
    faults.switch("slow", on=True)
    platform.reset()
    assert not any(faults.state().values())


def test_each_reader_gets_what_is_new_to_it() -> None:
    """Nothing twice, and nothing that did not change."""
    board = Board()
    board.put("a", {"n": 1})
    first, items = board.changes_since(0)
    assert items == {"a": {"n": 1}}
    board.put("a", {"n": 1})
    assert board.changes_since(first) == (first, {})
    board.put("a", None)
    board.put("b", {})
    assert board.changes_since(first)[1] == {"a": None, "b": {}}
    assert board.keys("") == ["b"]


def test_pictures_take_no_more_memory_than_the_limit() -> None:
    """The oldest are discarded."""
    pictures = Pictures(max_bytes=10)
    for key in ("a", "b", "c"):
        pictures.keep(key, (b"12345", "image/png"))
    assert [bool(pictures.find(key)) for key in ("a", "b", "c")] == [False, True, True]


@pytest.mark.parametrize("kind", ["I;16", "CMYK", "P", "LA", "1"])
def test_pictures_of_any_kind_can_be_shown(kind: str) -> None:
    """A browser shows neither TIFF nor CMYK; the console shows both."""
    data = encode(Image.new(kind, (1000, 500)), "TIFF")
    drawn = Pictures().draw("a", lambda: data)
    assert drawn
    assert Image.open(io.BytesIO(drawn[0])).size == (720, 360)
    assert Pictures().draw("a", lambda: b"no picture") is None


def test_python_m_local_prints_the_consoles_address_first(tmp_path: Path) -> None:
    """Whoever starts the cloud finds the page, on the port of their choice, within seconds, not minutes."""
    with listen() as free:
        port = free.getsockname()[1]
    child = Child(
        [sys.executable, "-m", "local", "--console-port", str(port)],
        environment={**os.environ, "LOCAL_CLOUD_FOLDER": str(tmp_path)},
        directory=PROJECT,
    )
    try:
        assert wait_until(lambda: any("Drop a file:" in line for line in list(child.lines)), timeout_s=HANG_S), (
            child.lines
        )
        address = re.findall(r"http://\S+", "\n".join(child.lines))[0]
        assert address == f"http://127.0.0.1:{port}"
        assert "<title>iTwin Image Drop" in requests.get(address, timeout=HANG_S).text
        with Page(address) as page:
            page.send("PUT", "/api/faults/login", {"on": True})
            page.send("POST", "/api/drops?itwin=&name=gate.jpg", PHOTO)
            waiting = page.drop("gate.jpg", status="retrying")["result"]
            finished, due = (datetime.fromisoformat(waiting[name]) for name in ("finishedAt", "nextAttemptAt"))
            assert (due - finished).total_seconds() <= 11
    finally:
        assert child.stop() == 0
