"""The console in a real browser, as people use it: `make test-console`.

With SCREENSHOTS=1, the pictures of the docs are taken on the way.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import socketserver
import subprocess
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import pytest
import requests
from playwright.sync_api import Browser, BrowserContext, Error, Locator, Page, ViewportSize, expect, sync_playwright

from local.cloud import RESULTS_CONTAINER, LocalCloud
from local.console import open_console
from local.event_grid import AdvancedFilter
from local.processes import wait_until
from local.samples import building_site, encode, make_samples
from tests.deadlines import HANG_S
from tests.schema import check_result

if TYPE_CHECKING:
    from collections.abc import Iterator

IMAGES = Path(__file__).parent.parent / "docs" / "images"
DESKTOP = ViewportSize(width=1280, height=800)
PHONE = ViewportSize(width=390, height=844)
PHOTO = encode(building_site(320, 240), "JPEG")
HOSTILE = "<img src=x onerror=alert(1)>.jpg"
NO_EVENTS = AdvancedFilter("StringIn", "data.api", ("nothing",))
MANY = 500
# Chromium calls its maker about updates, an account and forms, whatever it shows; the page names no such place.
OWN_ERRANDS = re.compile(rb"[\w.-]+\.google(apis)?\.com[:/]")
IS_UNDER_WAY = "bar => 0.2 < bar.value && bar.value < 1"
IS_SEEN = "image => image.complete || !image.checkVisibility() || image.getBoundingClientRect().top > innerHeight"

pytestmark = pytest.mark.browser
expect.set_options(timeout=1_000 * HANG_S)


@contextmanager
def way_out() -> Iterator[tuple[str, list[bytes]]]:
    """Stand at the one way off the machine: yields its address, and what came that way."""
    heard: list[bytes] = []

    class Listener(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            heard.append(self.rfile.readline())

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Listener) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_address[1]}", heard
        server.shutdown()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Run the browser of this machine; in all the tests it, and whatever it shows, asks nobody but this machine."""
    path = os.environ.get("CHROMIUM") or shutil.which("chromium")
    assert path, "Chromium is needed: run `make test-console`."
    # Its sandbox does not run as root, which containers are; what it shows is the project's own.
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    with way_out() as (proxy, heard), sync_playwright() as playwright:
        # All but loopback goes through the proxy, and no name is looked up.
        arguments.append(f"--proxy-server=http://{proxy}")
        running = playwright.chromium.launch(executable_path=path, args=arguments)
        yield running
        running.close()
    assert [line for line in heard if not OWN_ERRANDS.search(line)] == []


@pytest.fixture(scope="module")
def running() -> Iterator[tuple[LocalCloud, str]]:
    """Run a cloud that waits a second at least, and its console."""
    with LocalCloud(app_settings={"RETRY_MIN_DELAY_S": "1"}) as cloud, open_console(cloud) as address:
        yield cloud, address


@pytest.fixture
def context(browser: Browser, running: tuple[LocalCloud, str]) -> Iterator[BrowserContext]:
    """Open a window; whatever it asks for, it asks the console, and nothing goes wrong in it."""
    cloud, address = running
    cloud.platform.reset()
    wrong: list[str] = []

    def watch(page: Page) -> None:
        page.on("request", lambda request: wrong.append(request.url) if not request.url.startswith(address) else None)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("dialog", lambda dialog: wrong.append(dialog.message))

    with browser.new_context(viewport=DESKTOP, color_scheme="light", reduced_motion="reduce", locale="en-GB") as opened:
        opened.on("page", watch)
        yield opened
    assert wrong == []


@pytest.fixture
def page(context: BrowserContext, running: tuple[LocalCloud, str]) -> Page:
    """Open the console and wait until it listens."""
    opened = context.new_page()
    opened.goto(running[1])
    expect(opened.get_by_role("status")).to_have_text("live")
    return opened


def drop_by_mouse(page: Page, target: Locator, *files: Path) -> None:
    """Drag files over the target and let go of them there."""
    target.scroll_into_view_if_needed()
    box = target.bounding_box()
    assert box
    session = page.context.new_cdp_session(page)
    place = {"x": box["x"] + box["width"] / 2, "y": box["y"] + box["height"] / 2}
    data = {"items": [], "files": [str(file) for file in files], "dragOperationsMask": 1}
    for kind in ("dragEnter", "dragOver", "drop"):
        session.send("Input.dispatchDragEvent", {"type": kind, **place, "data": data})
    session.detach()


def drop_named(page: Page, name: str) -> Locator:
    """Return the newest drop of that name."""
    return page.locator(".drop").filter(has=page.get_by_text(name, exact=True)).first


def itwin_named(page: Page, name: str) -> Locator:
    """Return the card of an iTwin."""
    return page.locator(".itwin").filter(has=page.get_by_text(name, exact=True)).first


def wait_for_next_second() -> None:
    """Storage dates in whole seconds: only a drop of a later one is certainly the newer."""
    now = int(time.time())
    assert wait_until(lambda: time.time() >= now + 1, timeout_s=HANG_S)


def take_picture(page: Page, name: str) -> None:
    """Take a screenshot for the docs, where that is asked for."""
    if os.environ.get("SCREENSHOTS"):
        page.evaluate("document.activeElement?.blur()")
        page.wait_for_function(f"() => [...document.images].every({IS_SEEN})")
        page.wait_for_timeout(700)  # until what moves has come to rest; only a picture's beauty hangs on it
        IMAGES.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=IMAGES / name)


def test_a_dropped_image_appears_and_survives_an_outage(page: Page, tmp_path: Path) -> None:
    """The main story: dropped with the mouse, shown by its iTwin, and not lost while the platform is down."""
    for name, content in make_samples().items():
        (tmp_path / name).write_bytes(content)
    for name, file in (
        ("Archive", "scan.tif"),
        ("Library", "render.webp"),
        ("Harbour", "logo.png"),
        ("School", "notes.jpg"),
        ("Town Hall", "phone.jpg"),
    ):
        page.get_by_placeholder("Name of a new iTwin").fill(name)
        page.get_by_role("button", name="Create iTwin").click()
        expect(page.locator("#target option:checked")).to_contain_text(name)
        drop_by_mouse(page, page.locator(".zone"), tmp_path / file)
        status = "rejected" if file == "notes.jpg" else "uploaded"
        expect(drop_named(page, file).locator(".pill")).to_have_text(status)
    town_hall, phone = itwin_named(page, "Town Hall"), drop_named(page, "phone.jpg")
    expect(town_hall.get_by_role("img", name="The picture that Town Hall shows now")).to_be_visible()
    expect(phone).to_contain_text("shown now")
    expect(phone).to_contain_text("turned upright")

    page.get_by_role("switch", name="Outage").check()
    wait_for_next_second()
    drop_by_mouse(page, town_hall, tmp_path / "drone.jpg")
    waiting = drop_named(page, "drone.jpg")
    expect(waiting.locator(".pill")).to_have_text("retrying")
    expect(waiting.locator(".how")).to_contain_text(re.compile(r"attempt \d+ in \d+ s|retrying now"))
    expect(waiting.locator(".reason")).to_contain_text("503")
    expect(waiting.locator("figcaption").last).to_contain_text("Prepared JPEG")
    expect(waiting.locator("figure").last).to_contain_text("not sent yet")
    page.wait_for_function(f"() => [...document.querySelectorAll('progress')].some({IS_UNDER_WAY})")
    expect(phone).to_contain_text("shown now")
    take_picture(page, "console.png")

    page.get_by_role("switch", name="Outage").uncheck()
    expect(waiting.locator(".pill")).to_have_text("uploaded")
    expect(waiting).to_contain_text("shown now")
    expect(phone).not_to_contain_text("shown now")
    waiting.locator("summary").first.click()
    expect(waiting.locator("dd").nth(2)).not_to_have_text("1")
    refused = waiting.locator(".story li").filter(has_text="HTTP 503 · PlatformUnavailable").first
    expect(refused).to_contain_text(re.compile(r"attempt \d: retrying"))
    expect(waiting.locator(".story li").last).to_contain_text("uploaded HTTP 201")

    page.emulate_media(color_scheme="dark")
    phone.locator("summary").first.click()
    waiting.locator("summary").first.click()
    for title, extent in (("Dropped", r"JPEG · 2000 . 1500 · 138 kB"), ("Sent", r"JPEG · 1500 . 2000 · \d+ kB")):
        expect(phone.locator("figure").filter(has_text=title)).to_contain_text(re.compile(extent))
        picture = phone.locator("figure").filter(has_text=title).locator("img")
        expect(picture).to_be_visible()
        page.wait_for_function("image => image.naturalWidth > 0", arg=picture.element_handle())
    phone.scroll_into_view_if_needed()
    phone.evaluate("element => scrollTo(0, element.getBoundingClientRect().top + scrollY - 180)")
    take_picture(page, "console-dark.png")
    page.set_viewport_size(PHONE)
    phone.evaluate("element => scrollTo(0, element.getBoundingClientRect().top + scrollY - 76)")
    take_picture(page, "console-phone.png")


def test_files_in_a_folder_keep_their_paths(page: Page, tmp_path: Path) -> None:
    """A file that is dropped with its folder is named by its path in it."""
    (tmp_path / "site" / "north 1").mkdir(parents=True)
    for name in ("a.jpg", "north 1/b+ü%#.jpg"):
        (tmp_path / "site" / name).write_bytes(PHOTO)
    drop_by_mouse(page, page.locator(".zone"), tmp_path / "site")
    for name in ("site/a.jpg", "site/north 1/b+ü%#.jpg"):
        expect(drop_named(page, name).locator(".pill")).to_have_text("uploaded")


def test_a_refused_file_does_not_stop_the_others(page: Page, tmp_path: Path) -> None:
    """It is named with the reason, and the rest of the folder is dropped."""
    deep = tmp_path / "site" / Path(*["m" * 250] * 5)
    deep.mkdir(parents=True)
    for file in (deep / "b.jpg", tmp_path / "site" / "a.jpg", tmp_path / "site" / "z.jpg"):
        file.write_bytes(PHOTO)
    drop_by_mouse(page, page.locator(".zone"), tmp_path / "site")
    for name in ("site/a.jpg", "site/z.jpg"):
        expect(drop_named(page, name).locator(".pill")).to_have_text("uploaded")
    expect(page.get_by_role("alert")).to_have_text(
        re.compile(r"^site/m+/.*/b\.jpg: A blob's name has 1 to 1024 characters\.$")
    )
    expect(page.locator("#uploads")).to_be_hidden()


def test_at_most_ten_refused_files_are_named(page: Page) -> None:
    """A screen reader would read all of them aloud."""
    told = page.evaluate("""async () => {
      const { dropFiles } = await import("/static/uploads.js");
      const file = new File(["x"], "a.jpg");
      const files = Array.from({ length: 25 }, (_, number) => [`${number} ${"x".repeat(1100)}`, file]);
      return await dropFiles(files, "", () => {}).catch((error) => error.message.split("\\n"));
    }""")
    assert (len(told), told[-1]) == (11, "and 15 more")


def test_a_rejected_drop_shows_its_size(page: Page, running: tuple[LocalCloud, str]) -> None:
    """In the list and when it is opened."""
    cloud, _ = running
    cloud.drop(cloud.itwin(), "notes.jpg", b"no image\n" * 200)
    rejected = drop_named(page, "notes.jpg")
    expect(rejected.locator(".pill")).to_have_text("rejected")
    expect(rejected.locator(".sizes")).to_have_text("1.8 kB")
    rejected.locator("summary").first.click()
    expect(rejected.locator("dd").filter(has_text=re.compile(r"^1\.8 kB$"))).to_be_visible()


def test_a_waiting_drop_says_so(page: Page, running: tuple[LocalCloud, str]) -> None:
    """Nobody outside can tell whether the app is already processing it."""
    cloud, _ = running
    page.get_by_role("switch", name="Slow").check()
    cloud.drop(cloud.itwin(), "slow.jpg", PHOTO)
    waiting = drop_named(page, "slow.jpg")
    waiting.locator("summary").first.click()
    expect(waiting.locator("dd").first).to_contain_text("no result yet")


def test_a_time_of_another_day_has_its_date(page: Page) -> None:
    """Drops of an earlier run may be old."""
    shown = page.evaluate("""async () => {
      const { timeWords } = await import("/static/words.js");
      return [new Date(), "2020-02-03T12:05:06Z"].map(timeWords);
    }""")
    assert re.fullmatch(r"\d\d:\d\d:\d\d", shown[0])
    assert re.fullmatch(r"3 Feb 2020, \d\d:05:06", shown[1])


def test_the_page_says_if_older_drops_are_not_shown(browser: Browser, running: tuple[LocalCloud, str]) -> None:
    """The page says that there were more than it shows."""
    cloud, _ = running
    for name in ("a.jpg.part", "b.jpg.part"):
        cloud.drop(cloud.itwin(), name, PHOTO)
    with open_console(cloud, max_drops=2) as address, browser.new_page() as page:
        page.goto(address)
        expect(page.locator(".drop")).to_have_count(2)
        cloud.drop(cloud.itwin(), "c.jpg.part", PHOTO)
        expect(drop_named(page, "c.jpg.part")).to_be_visible()
        expect(page.locator(".drop")).to_have_count(2)
        expect(page.locator("#older")).to_have_text("among the newest 2; older ones are only in storage")


@pytest.mark.parametrize("colours", ["none", "active"])
def test_a_switch_shows_its_state_in_any_colour_scheme(page: Page, colours: str) -> None:
    """Windows' high contrast replaces all colours by its own."""
    page.emulate_media(forced_colors="active" if colours == "active" else "none")
    page.get_by_role("switch", name="Slow").check()
    shown = {
        page.get_by_role("switch", name=name).evaluate("box => getComputedStyle(box).backgroundColor")
        for name in ("Slow", "Outage")
    }
    assert len(shown) == 2


def test_files_can_be_chosen_for_an_itwin(page: Page, running: tuple[LocalCloud, str], tmp_path: Path) -> None:
    """Without a mouse, with the iTwin's own button."""
    itwin = running[0].itwin(display_name="Quarry")
    (tmp_path / "picked.jpg").write_bytes(PHOTO)
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Drop here on Quarry").press("Enter")
    chooser.value.set_files(tmp_path / "picked.jpg")
    expect(drop_named(page, "picked.jpg").locator(".pill")).to_have_text("uploaded")
    assert running[0].platform.image(itwin) == (PHOTO, "image/jpeg")


def test_a_folder_can_be_chosen(page: Page, tmp_path: Path) -> None:
    """Its files are named as if it had been dragged; no mouse is needed."""
    (tmp_path / "site" / "north").mkdir(parents=True)
    (tmp_path / "site" / "north" / "chosen.jpg").write_bytes(PHOTO)
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="choose a folder").press("Enter")
    chooser.value.set_files(tmp_path / "site")
    expect(drop_named(page, "site/north/chosen.jpg").locator(".pill")).to_have_text("uploaded")


def test_what_a_program_needs_can_be_copied(
    page: Page, context: BrowserContext, running: tuple[LocalCloud, str], tmp_path: Path
) -> None:
    """An iTwin's ID, the connection string, and a command that works as it is."""
    cloud, address = running
    context.grant_permissions(["clipboard-read", "clipboard-write"], origin=address)
    itwin = cloud.itwin(display_name="Bridge")

    def copied(button: str) -> str:
        page.get_by_role("button", name=button).click()
        expect(page.get_by_text("Copied").first).to_be_visible()
        return str(page.evaluate("navigator.clipboard.readText()"))

    assert copied("Copy the connection string") == cloud.connection_string
    assert copied("Copy the ID of Bridge") == itwin
    command = copied("Copy a curl command that writes to Bridge")
    (tmp_path / "photo.jpg").write_bytes(PHOTO)
    subprocess.run(["sh", "-c", command], cwd=tmp_path, check=True, timeout=HANG_S)
    expect(drop_named(page, "photo.jpg").locator(".pill")).to_have_text("uploaded")
    assert cloud.platform.image(itwin) == (PHOTO, "image/jpeg")
    expect(page.get_by_role("button", name="Copy the connection string")).to_have_text("Copy the connection string")


def test_a_missing_itwin_can_be_created_with_a_button(page: Page, running: tuple[LocalCloud, str]) -> None:
    """Where the page says that it is missing."""
    cloud, _ = running
    itwin = str(uuid.uuid4())
    cloud.drop(itwin, "lacking.jpg", PHOTO)
    expect(drop_named(page, "lacking.jpg").locator(".pill")).to_have_text("rejected")
    remedy = page.get_by_role("button", name="Create this iTwin and drop the file again: lacking.jpg")
    remedy.click()
    expect(drop_named(page, "lacking.jpg").locator(".pill")).to_have_text("uploaded")
    expect(remedy).to_have_count(0)
    assert cloud.platform.image(itwin) == (PHOTO, "image/jpeg")


def test_the_preflight_leaves_no_red_row(page: Page, running: tuple[LocalCloud, str]) -> None:
    """Its own drop needs nobody's attention."""
    cloud, _ = running
    key = {"x-functions-key": cloud.host.function_key}
    requests.get(f"{cloud.host.address}/api/preflight", headers=key, timeout=HANG_S)
    probe = page.locator(".drop[data-status=probe]").first
    expect(probe.locator(".pill")).to_have_text("probe")
    expect(page.locator(".drop[data-status=rejected]").filter(has_text=".probe")).to_have_count(0)


CONTROLS = [
    *("choose-folder", "samples", "target", "itwin-name"),
    *("throttle", "outage", "slow", "copy-connection"),
]


def test_everything_can_be_done_with_the_keyboard(page: Page, running: tuple[LocalCloud, str]) -> None:
    """Tab moves in order, Space switches, Enter opens, and new rows do not move the focus."""
    cloud, _ = running
    itwin = cloud.itwin(display_name="School")
    cloud.drop(itwin, "keys.jpg", PHOTO)
    expect(drop_named(page, "keys.jpg").locator(".pill")).to_have_text("uploaded")
    page.locator("#files").focus()
    reached = []
    for _ in range(30):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.name || document.activeElement.id"))
        if reached[-1] == "slow":
            page.keyboard.press("Space")
        if page.evaluate("Boolean(document.activeElement.closest('.drop'))"):
            break
    assert [name for name in reached if name in CONTROLS] == CONTROLS
    expect(page.get_by_role("switch", name="Slow")).to_be_checked()
    page.keyboard.press("Enter")
    expect(drop_named(page, "keys.jpg").locator("figure").first).to_be_visible()
    cloud.platform.script([])
    wait_for_next_second()
    cloud.drop(itwin, "newer.jpg", PHOTO)
    expect(drop_named(page, "newer.jpg").locator(".pill")).to_have_text("uploaded")
    assert page.evaluate("document.activeElement.closest('.drop').textContent.includes('keys.jpg')")
    expect(drop_named(page, "keys.jpg").locator("figure").first).to_be_visible()


def test_no_name_and_no_text_becomes_html(page: Page, running: tuple[LocalCloud, str]) -> None:
    """An attacker's file name, or a service's message, is shown and never executed."""
    cloud, _ = running
    itwin = cloud.itwin(display_name=HOSTILE)
    cloud.drop(itwin, HOSTILE, b"<script>alert(1)</script>")
    hostile = drop_named(page, HOSTILE)
    expect(hostile.locator(".pill")).to_have_text("rejected")
    hostile.locator("summary").first.click()
    hostile.get_by_text("The whole result").click()
    expect(hostile.locator("pre")).to_contain_text(HOSTILE)
    assert page.locator("img[src='x'], img[onerror]").count() == 0
    with pytest.raises(Error, match="TrustedHTML"):  # also where somebody forgets to
        page.evaluate("document.body.innerHTML = 'x'")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_fits_a_phone_in_both_colour_schemes(page: Page, running: tuple[LocalCloud, str], scheme: str) -> None:
    """Nothing overflows to the side, however long a name is, and text has enough contrast."""
    page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    page.set_viewport_size(PHONE)
    for _ in range(5):
        running[0].itwin(display_name="One of many")
    itwin = running[0].itwin(display_name="x" * 100)
    running[0].drop(itwin, "y" * 900 + ".jpg", PHOTO)
    drop = page.locator(".drop").filter(has_text="yyyy").first
    expect(drop.locator(".pill")).to_have_text("uploaded")
    drop.locator("summary").first.click()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    explained = page.get_by_text("The platform responds with 503.").evaluate(
        "text => parseFloat(getComputedStyle(text).fontSize)"
    )
    assert explained > 10
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    text = page.evaluate("getComputedStyle(document.body).color")
    bright = [sum(map(int, re.findall(r"\d+", colour)[:3])) > 384 for colour in (ground, text)]
    assert bright == ([True, False] if scheme == "light" else [False, True])


def test_the_page_stays_responsive_with_five_hundred_drops(browser: Browser) -> None:
    """It responds at once while they arrive, and soon after the last one it shows all; also when it is reloaded."""
    with LocalCloud(filters=(NO_EVENTS,)) as cloud, open_console(cloud) as address, browser.new_page() as page:
        page.goto(address)
        expect(page.get_by_role("status")).to_have_text("live")
        empty_ms = reaction_ms(page)
        with ThreadPoolExecutor(4) as pool:
            coming = [pool.submit(put_drop_and_result, cloud, f"photo {number}.jpg") for number in range(MANY)]
            expect(page.locator(".drop").first).to_be_visible()
            busy_ms = reaction_ms(page)
            for drop in coming:
                drop.result()
        expect(page.locator("#tally")).to_have_text(f"{MANY} uploaded")
        assert busy_ms < 30 * empty_ms
        page.reload()
        expect(page.locator("#tally")).to_have_text(f"{MANY} uploaded")
        page.locator(".drop > details > summary").last.click()
        expect(page.locator(".drop").last.get_by_text("What it means")).to_be_visible()
        assert reaction_ms(page) < 30 * empty_ms


def reaction_ms(page: Page) -> float:
    """Return how quick the page is: the middle of some tries."""
    return float(median(page.evaluate(REACTION) for _ in range(9)))


# How long a press on a switch takes until the cloud has done it and the next picture is drawn, in milliseconds.
REACTION = """async () => {
  const pressed = performance.now();
  await fetch("/api/faults/slow", { method: "PUT", body: JSON.stringify({ on: true }) });
  await fetch("/api/faults/slow", { method: "PUT", body: JSON.stringify({ on: false }) });
  await new Promise((resolve) => requestAnimationFrame(() => setTimeout(resolve)));
  return performance.now() - pressed;
}"""


def put_drop_and_result(cloud: LocalCloud, name: str) -> None:
    """Write what an uploader and the app write, without the app's work."""
    dropped = cloud.drop(cloud.itwin(display_name=name), name, PHOTO)
    moment = dropped.written_at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    kind = {"bytes": len(PHOTO), "sha256": "0" * 64, "mediaType": "image/jpeg", "width": 320, "height": 240}
    blob = {"container": dropped.itwin_id, "blob": name, "etag": dropped.etag, "lastModified": moment}
    result = {
        "status": "uploaded",
        "image": {"id": name},
        "reason": None,
        "source": {**blob, **kind, "metadata": {}},
        "sent": {**kind, "changes": []},
        "response": {"httpStatus": 201, "correlationId": None},
        "attempts": 1,
        "firstAttemptAt": moment,
        "startedAt": moment,
        "finishedAt": moment,
        "nextAttemptAt": None,
    }
    document = json.dumps(check_result(result))
    cloud.drops.get_blob_client(RESULTS_CONTAINER, f"{dropped.itwin_id}/{name}.json").upload_blob(document)


def test_the_page_reconnects_to_its_cloud(browser: Browser, running: tuple[LocalCloud, str]) -> None:
    """When the cloud is restarted on its port, the page says so and continues without being reloaded."""
    cloud, _ = running
    with ExitStack() as stack, browser.new_page() as page:
        address = stack.enter_context(open_console(cloud))
        page.goto(address)
        expect(page.get_by_role("status")).to_have_text("live")
        stack.close()
        expect(page.get_by_role("status")).to_have_text("the local cloud does not respond")
        page.get_by_role("button", name="drop the samples").click()
        expect(page.get_by_role("alert")).to_have_text("The local cloud does not respond.")
        stack.enter_context(open_console(cloud, int(address.rpartition(":")[2])))
        expect(page.get_by_role("status")).to_have_text("live")
