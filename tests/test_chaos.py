"""What judges a chaos run: it finds each broken promise, and has nothing against a run that went well."""

from __future__ import annotations

import hashlib
import socket
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
import requests

from local.azurite import ACCOUNT
from local.fault_proxy import Exchange, proxy_storage
from local.itwin_platform import ReceivedRequest
from local.serving import LOOPBACK
from shared.drop import Version
from tests.deadlines import HANG_S
from tools.chaos_judge import Evidence, Written, judge

if TYPE_CHECKING:
    from collections.abc import Callable

    from local.azurite import Azurite


def test_a_client_that_dies_while_sending_delays_no_other(azurite: Azurite) -> None:
    """Its request was incomplete; the next client with the same request is served at once."""
    target, seen = f"/{ACCOUNT}/results/x.json", list[Exchange]()
    with proxy_storage(int(azurite.blob_url.split(":")[2].split("/")[0]), lambda _: None, seen.append) as address:
        with socket.create_connection((LOOPBACK, int(address.rpartition(":")[2]))) as dying:
            dying.sendall(f"PUT {target} HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nhalf".encode())
        assert requests.put(address + target, data=b"{}", timeout=HANG_S).status_code
    assert [exchange.body for exchange in seen] == [b"{}"]


START = datetime(2026, 11, 23, 12, tzinfo=UTC)
IMAGES = [b"older", b"newer"]
SHA256 = [hashlib.sha256(image).hexdigest() for image in IMAGES]
JWT = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJ4In0.c2lnbmF0dXJl"


def document(number: int, **changes: Any) -> dict[str, Any]:
    """Return a result as it should be: of the first drop, or of the second."""
    sizes = {"bytes": 5, "sha256": SHA256[number], "mediaType": "image/png", "width": 1, "height": 1}
    name = {"container": "itwin", "blob": f"{number}.png", "metadata": {}}
    moment = f"2026-11-23T12:00:0{number}.000Z"
    return {
        "status": "uploaded",
        "image": {"id": "x", "smallImageUrl": "https://host/x?sig=abc"},
        "reason": None,
        "source": {**name, **sizes, "etag": f"0x{number}", "lastModified": moment},
        "sent": {**sizes, "changes": []},
        "response": {"httpStatus": 201, "correlationId": f"c{number}"},
        "attempts": 1,
        "firstAttemptAt": moment,
        "startedAt": moment,
        "finishedAt": moment,
        "nextAttemptAt": None,
        **changes,
    }


def good_evidence() -> Evidence:
    """Return what a run without a fault leaves behind: two drops, and the newer one is shown."""
    evidence = Evidence(images={"itwin": IMAGES[1]}, secrets=["the key"], lines=["Executed 'Functions.process_drop'"])
    for number, sha256 in enumerate(SHA256):
        version = Version(START + timedelta(seconds=number), f"0x{number}", f"{number}.png")
        written = Written("itwin", version, number, "legal", known=True, sha256=sha256)
        evidence.written.append(written)
        evidence.histories[written.path] = [document(number)]
        evidence.stored[written.path] = document(number)
        path = "/itwins/itwin/image"
        evidence.answers.append(
            ReceivedRequest(START, "PUT", path, 201, 5, sha256, "image/png", bearer=True, correlation_id=f"c{number}")
        )
    return evidence


def unhappy(number: int, status: str, code: str = "CorruptImage", **changes: Any) -> dict[str, Any]:
    """Return a result of another kind, of the right shape."""
    found = document(number, status=status, reason="It says why.", response=None, **changes)
    del found["image"]
    if status == "retrying":
        found["nextAttemptAt"] = "2026-11-23T12:00:09.000Z"
    if status == "superseded":
        return {**found, "sent": None}
    return {**found, "error": {"code": code, "message": "It says why."}}


def say(number: int, *documents: dict[str, Any], adding: bool = False) -> Callable[[Evidence], None]:
    """Return what replaces all that was said of a drop, or adds to it."""

    def replace_history(evidence: Evidence) -> None:
        name = f"itwin/{number}.png.json"
        history = [*evidence.histories[name], *documents] if adding else list(documents)
        evidence.histories[name], evidence.stored[name] = history, history[-1]

    return replace_history


def both(*changes: Callable[[Evidence], object]) -> Callable[[Evidence], None]:
    """Return what makes one change after the other."""

    def make(evidence: Evidence) -> None:
        for change in changes:
            change(evidence)

    return make


def drop_is_dead_lettered(evidence: Evidence, times: int = 1) -> None:
    """Let the host stop trying the older drop, so many times."""
    evidence.dead_letters += times * [("itwin/0.png.json", "0x0")]


def drop_is_dead_lettered_for_good(evidence: Evidence) -> None:
    """Let the host stop trying the older drop again and again."""
    drop_is_dead_lettered(evidence, times=3)


def newer_is_deleted(evidence: Evidence) -> None:
    """Let somebody delete the newer drop."""
    evidence.deleted.add("0x1")


def nothing_of_newer(evidence: Evidence) -> None:
    """Let the platform never have seen the newer drop."""
    evidence.answers.pop()
    evidence.images["itwin"] = IMAGES[0]


def touch(number: int, etag: str) -> Callable[[Evidence], None]:
    """Return what sets the metadata of a drop, a minute after it was written."""

    def make(evidence: Evidence) -> None:
        version = evidence.written[number].version
        later = version.last_modified + timedelta(minutes=1)
        evidence.touched[version.etag] = [replace(version, etag=etag, last_modified=later)]

    return make


def touched(number: int, etag: str) -> dict[str, Any]:
    """Return a result of a drop that was read when its metadata had been set."""
    found = document(number)
    return {**found, "source": {**found["source"], "etag": etag}}


RIGHTS: dict[str, Callable[[Evidence], object]] = {
    "nothing happened": lambda _: None,
    "a drop was touched before it was read": both(touch(1, "0x9"), say(1, touched(1, "0x9"))),
    "a drop was sent again by an event after it was touched": both(
        touch(0, "0x9"), say(0, touched(0, "0x9"), adding=True)
    ),
    "an older drop was sent again after it was touched": both(
        touch(0, "0x9"), say(0, touched(0, "0x9"), adding=True), lambda e: e.images.update({"itwin": IMAGES[0]})
    ),
    "an older drop was superseded": say(0, unhappy(0, "superseded")),
    "a drop waited": say(0, unhappy(0, "retrying"), document(0)),
    "a drop was dead-lettered too often": both(drop_is_dead_lettered_for_good, say(0, unhappy(0, "failed", "Bug"))),
    "a drop was dead-lettered too often, but is up": both(
        drop_is_dead_lettered_for_good, say(0, unhappy(0, "failed", "Bug"), document(0))
    ),
    "a drop was deleted unread": both(
        newer_is_deleted,
        nothing_of_newer,
        lambda e: (e.histories.pop("itwin/1.png.json"), e.stored.pop("itwin/1.png.json")),
    ),
    "a drop was deleted while it waited": both(
        newer_is_deleted, nothing_of_newer, say(1, unhappy(1, "retrying"), unhappy(1, "rejected", "DropGone"))
    ),
    "an older image came over one that was deleted": both(
        newer_is_deleted, lambda e: e.images.update({"itwin": IMAGES[0]})
    ),
}

# What is done, and what the judge says of it.
WRONGS: dict[str, tuple[Callable[[Evidence], object], str]] = {
    "a queue holds something": (lambda e: e.queued.update({"drop-retries": 1}), "holds 1 messages"),
    "a call went to another host": (lambda e: e.calls_astray.append("/"), "sent to another host"),
    "dead-lettered without a result": (lambda e: e.dead_letters.append(("itwin/9.png.json", "0x9")), "without a final"),
    "dead-lettered and waiting": (
        both(drop_is_dead_lettered, say(0, unhappy(0, "retrying"))),
        "was dead-lettered without a final",
    ),
    "failed, but never dead-lettered": (say(0, unhappy(0, "failed", "Bug")), "says failed, which is not true"),
    "failed, but not tried again": (
        both(drop_is_dead_lettered, say(0, unhappy(0, "failed", "Bug"))),
        "says failed, which is not true",
    ),
    "no result": (lambda e: e.histories.pop("itwin/0.png.json"), "has no final result"),
    "a result was lost": (lambda e: e.stored.pop("itwin/0.png.json"), "is not about the version that was written last"),
    "the platform never saw it": (lambda e: e.answers.pop(0), "but the platform responded with None"),
    "the older image is shown": (lambda e: e.images.update({"itwin": IMAGES[0]}), "is newer"),
    "no image is shown": (lambda e: e.images.clear(), "shows none of its drops"),
    "another image is shown": (lambda e: e.images.update({"itwin": b"?"}), "shows none of its drops"),
    "retrying after the end": (say(0, unhappy(0, "retrying"), adding=True), "was replaced by retrying"),
    "another end": (say(0, unhappy(0, "superseded"), adding=True), "was replaced by superseded"),
    "an older version after the end": (say(1, document(0), adding=True), "of an older version"),
    "no version after the end": (
        say(1, unhappy(1, "retrying", source={**document(1)["source"], "etag": None}), adding=True),
        "of an older version, or of none",
    ),
    "an earlier ETag after a later one": (
        both(touch(0, "0x9"), say(0, touched(0, "0x9"), document(0))),
        "of an older version",
    ),
    "the newer one was touched, but the older one is shown": (
        both(touch(1, "0x9"), lambda e: e.images.update({"itwin": IMAGES[0]})),
        "is newer",
    ),
    "superseded by nothing": (both(nothing_of_newer, say(0, unhappy(0, "superseded"))), "says superseded"),
    "superseded by an older one": (say(1, unhappy(1, "superseded")), "says superseded"),
    "rejected, but legal": (say(1, unhappy(1, "rejected")), "says rejected"),
    "rejected by the platform, which took it": (
        say(1, {**unhappy(1, "rejected"), "response": document(1)["response"]}),
        "says rejected",
    ),
    "said to have gone, but there": (say(1, unhappy(1, "rejected", "DropGone")), "says rejected"),
    "still waiting": (say(1, unhappy(1, "retrying")), "has no final result: retrying"),
    "still waiting, but deleted": (both(newer_is_deleted, say(1, unhappy(1, "retrying"))), "has no final result"),
    "another image was sent than is said": (
        lambda e: e.answers.append(replace(e.answers.pop(), body_sha256=SHA256[0])),
        "says uploaded, which is not true",
    ),
    "waiting for an answer that nobody gave": (
        say(0, {**unhappy(0, "retrying"), "response": {"httpStatus": 503, "correlationId": "c0"}}, document(0)),
        "says retrying after 503, but the platform responded with ('/itwins/itwin/image', 201)",
    ),
    "a wrong end on the way": (say(0, unhappy(0, "failed", "Bug"), document(0)), "says failed, which is not true"),
    "not the schema": (say(0, document(0, attempts=0)), "does not match the schema"),
    "a token was logged": (lambda e: e.lines.append(f"x {JWT}"), "was logged"),
    "a bearer was logged": (lambda e: e.lines.append("Authorization: Bearer abcdefghijkl"), "was logged"),
    "a key was logged": (lambda e: e.lines.append("AccountKey=the key"), "was logged"),
    "a signed URL was logged": (lambda e: e.lines.append("https://host/x?se=1&sig=abc"), "was logged"),
    "a token was published": (say(0, {**unhappy(0, "retrying"), "reason": JWT}, document(0)), "was published"),
    "a signed URL was published as a reason": (
        say(0, {**unhappy(0, "retrying"), "reason": "https://host/x?sig=abc"}, document(0)),
        "was published",
    ),
}


@pytest.mark.parametrize("change", RIGHTS.values(), ids=RIGHTS.keys())
def test_the_judge_accepts_a_run_that_went_well(change: Callable[[Evidence], object]) -> None:
    """Otherwise every run would fail."""
    evidence = good_evidence()
    change(evidence)
    assert judge(evidence) == []


@pytest.mark.parametrize(("wrong", "verdict"), WRONGS.values(), ids=WRONGS.keys())
def test_the_judge_finds_each_broken_promise(wrong: Callable[[Evidence], object], verdict: str) -> None:
    """A judge that finds nothing would prove nothing."""
    evidence = good_evidence()
    wrong(evidence)
    assert any(verdict in violation for violation in judge(evidence))
