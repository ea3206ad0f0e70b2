"""The life of a drop without a host: real storage, a real platform stand-in, and a queue drained by the test."""

from __future__ import annotations

import gc
import hashlib
import json
import logging
import re
import tracemalloc
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
import requests
from azure.core.exceptions import HttpResponseError

from local.azurite import ACCOUNT
from local.itwin_platform import ScriptedResponse
from local.processes import PROJECT, wait_until
from shared.admission import Admission
from shared.attempt import Attempt
from shared.clock import StorageTime, utc_now
from shared.dead_letters import drop_poisoned
from shared.deadline import ATTEMPT_S, ENDING_S
from shared.drop import EMPTY_GRACE_S, Drop
from shared.errors import EXHAUSTION
from shared.ledger import LEDGER_CONTAINER
from shared.outcome import HOLD_S
from shared.pipeline import process_drop
from shared.records import Entry, Recorded
from shared.results import result_name
from shared.retries import RETRY_QUEUE, RetryQueue
from shared.services import Services
from shared.settings import StorageSettings
from shared.storage import open_queue
from tests.deadlines import HANG_S
from tests.drop_bench import PICTURES, SLOW, Bench, event, refusal
from tests.schema import check_result

if TYPE_CHECKING:
    from azure.storage.queue import QueueClient

    from local.fault_proxy import Exchange, Fault

UPLOAD_REQUESTS = [
    ("GET", "results"),  # has this version ended already?
    ("GET", "drop"),  # the image itself
    ("GET", "ledger"),  # is a newer one uploaded, or being uploaded?
    ("PUT", "ledger"),  # one upload at a time
    ("PUT", "ledger"),  # what is uploaded now
    ("PUT", "results"),
]


def test_an_upload_costs_six_requests_to_storage(bench: Bench) -> None:
    """The first drop of an iTwin and each later one alike."""
    first = bench.write(PICTURES[0])
    bench.process(first)
    assert bench.asked() == UPLOAD_REQUESTS
    later = bench.write_later(PICTURES[1], Drop(first.container, "later.png"), first)
    entry = bench.services.app().ledger.read(first.container)
    assert entry.upload
    uploaded_at = entry.upload.at
    assert wait_until(lambda: utc_now() > uploaded_at + timedelta(seconds=1), timeout_s=HANG_S)
    bench.exchanges.clear()
    assert bench.process(later)["status"] == "uploaded"
    assert bench.asked() == UPLOAD_REQUESTS


def test_a_drop_redelivered_after_its_end_sends_nothing(bench: Bench) -> None:
    """The result is left as it is; storage gets two requests and the platform none."""
    drop = bench.write(PICTURES[0])
    result = bench.process(drop)
    bench.exchanges.clear()
    assert bench.process(drop) == result
    assert bench.calls(drop) == [201]
    assert [e.method for e in bench.exchanges[:2]] == ["GET", "GET"]
    assert not any(e.method == "PUT" for e in bench.exchanges)


def test_two_deliveries_at_once_make_one_upload(bench: Bench) -> None:
    """The second delivery finds a call in progress, waits, and then finds the drop uploaded."""
    drop = bench.write(PICTURES[0])
    bench.platform.script([SLOW])
    with ThreadPoolExecutor(4) as pool:
        for delivery in [pool.submit(process_drop, event(drop), bench.services) for _ in range(4)]:
            delivery.result()
    bench.drain()
    assert bench.calls(drop) == [201]
    assert bench.result(drop)["status"] == "uploaded"


def test_a_late_upload_is_reported_as_uploaded(bench: Bench) -> None:
    """Of two simultaneous deliveries, one is refused and one uploads: the result is not the refusal."""
    drop = bench.write(PICTURES[0])
    bench.platform.script([refusal(404)])

    def overtake(exchange: Exchange) -> None:
        if exchange.method == "GET" and f"/{LEDGER_CONTAINER}/" in exchange.target:
            bench.hinder = lambda _: None
            assert bench.process(drop)["status"] == "rejected"

    bench.hinder = overtake
    assert bench.process(drop)["status"] == "uploaded"
    assert bench.calls(drop) == [404, 201]


@pytest.mark.parametrize("fault", ["none", "refused", "platform"])
def test_files_are_released_when_their_drops_have_ended(bench: Bench, fault: str) -> None:
    """At once, not at some later garbage collection: until then they would fill the memory."""
    size = 5_000_000
    content = b"not an image" if fault == "refused" else PICTURES[0]
    bench.process(bench.write(content))
    drops = [bench.write(content + bytes(size)) for _ in range(4)]
    gc.collect()
    gc.disable()
    tracemalloc.start()
    try:
        for drop in drops:
            bench.platform.script([ScriptedResponse(500)] if fault == "platform" else [])
            bench.process(drop)
        assert wait_until(lambda: tracemalloc.get_traced_memory()[0] < size, timeout_s=HANG_S)
    finally:
        tracemalloc.stop()
        gc.enable()


def test_an_older_drop_is_neither_decoded_nor_sent(bench: Bench) -> None:
    """A newer drop is uploaded, so the older one is not even checked for being an image."""
    older = bench.write(b"not an image")
    newer = bench.write_later(PICTURES[1], Drop(older.container, "newer.png"), older)
    bench.process(newer)
    result = bench.process(older)
    assert (result["status"], result["sent"]) == ("superseded", None)
    assert bench.calls(older) == [201]
    assert bench.shows(older) == PICTURES[1]


def test_a_newer_drop_of_another_name_replaces_the_uploaded_one(bench: Bench) -> None:
    """All blobs of a container are for the same iTwin."""
    older = bench.write(PICTURES[0])
    bench.process(older)
    newer = bench.write_later(PICTURES[1], Drop(older.container, "newer.png"), older)
    bench.process(newer)
    bench.drain()
    assert bench.shows(older) == PICTURES[1]
    assert (bench.result(older)["status"], bench.result(newer)["status"]) == ("uploaded", "uploaded")


def test_of_two_versions_within_a_second_the_last_one_stays(bench: Bench) -> None:
    """Dates and ETags cannot tell which came later, but storage has only one of them."""
    for _ in bench.seconds():
        drop = bench.write(PICTURES[0])
        bench.process(drop)
        written_at = bench.last_modified(drop)
        bench.write(PICTURES[1], drop)
        torn = bench.last_modified(drop) == written_at
        bench.process(drop)
        bench.drain()
        assert bench.result(drop)["status"] == "uploaded"
        assert bench.shows(drop) == PICTURES[1]
        if torn:
            return
    pytest.fail("In none of many seconds was there time to write twice.")


def test_a_stale_result_never_replaces_the_later_one_of_its_second(bench: Bench) -> None:
    """A delayed attempt learns from storage that its version no longer exists."""
    for _ in bench.seconds():
        drop = bench.write(PICTURES[0])
        stale = check_result(bench.process(drop))
        bench.write(PICTURES[1], drop)
        bench.process(drop)
        bench.drain()
        later = bench.result(drop)
        if stale["source"]["lastModified"] == later["source"]["lastModified"]:
            assert not bench.services.results.write(drop, {**stale, "status": "retrying"}, Recorded())
            assert not bench.services.results.write(drop, stale, Recorded())
            assert bench.result(drop) == later
            return
    pytest.fail("In none of many seconds was there time to write twice.")


def test_setting_metadata_does_not_change_which_version_of_a_second_is_later(bench: Bench) -> None:
    """Setting metadata raises no event: neither the attempt nor its result may rely on one."""
    for _ in bench.seconds():
        drop = bench.write(PICTURES[0])
        bench.process(drop)
        earlier = bench.result(drop)
        bench.write(PICTURES[1], drop)
        later = bench.version(drop)
        reads = 0

        def touch_after_the_read(exchange: Exchange, drop: Drop = drop) -> None:
            nonlocal reads
            reads += exchange.target.partition("?")[0].endswith(f"/{drop.container}/{drop.blob}")
            if reads == 1 and f"/{LEDGER_CONTAINER}/" in exchange.target:
                reads += 1
                touch(bench, drop)

        bench.hinder = touch_after_the_read
        process_drop(event(drop), bench.services)
        bench.hinder = lambda _: None
        bench.drain()
        if earlier["source"]["lastModified"] == later.last_modified.isoformat(timespec="milliseconds").replace(
            "+00:00", "Z"
        ):
            assert bench.result(drop)["source"]["etag"] == later.etag
            assert bench.shows(drop) == PICTURES[1]
            return
    pytest.fail("In none of many seconds was there time to write twice.")


def test_a_call_that_ends_too_late_ends_with_the_newest_on_the_platform(bench: Bench) -> None:
    """The older upload ends when its time is over; its image may replace the newer one, which is then resent."""
    bench.settle_briefly(call_s=0.5)
    older = bench.write(PICTURES[0])
    newer = bench.write_later(PICTURES[1], Drop(older.container, "newer.png"), older)
    bench.platform.script([SLOW])
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(process_drop, event(older), bench.services)
        assert wait_until(lambda: bench.calls(older) == [201], timeout_s=HANG_S)
        ledger = bench.services.app().ledger
        assert wait_until(
            lambda: not ledger.read(older.container).is_busy(utc_now()), timeout_s=HANG_S, interval_s=0.05
        )
        bench.settle_briefly(call_s=HANG_S)
        assert bench.process(newer)["status"] == "uploaded"
        # The platform carried out the older upload late.
        put_image(bench, older, PICTURES[0])
        slow.result()
    bench.drain()
    assert bench.result(older)["status"] == "superseded"
    assert bench.result(newer)["status"] == "uploaded"
    assert bench.shows(newer) == PICTURES[1]


@pytest.mark.parametrize("fate", ["waits", "is overwritten", "is deleted", "is poisoned", "its message is lost"])
def test_an_upload_without_a_response_ends_with_the_newest_on_the_platform(bench: Bench, fate: str) -> None:
    """A call without a response may still be carried out, so the newer image is resent.

    The ledger records that, so it holds whatever happens to the older drop.
    """
    bench.settle_briefly()
    older = bench.write(PICTURES[0])
    bench.platform.script([ScriptedResponse(500, reset=True, times=2)])
    if fate == "its message is lost":
        bench.hinder = lambda e: "condition-not-met" if RETRY_QUEUE in e.target else None
        with pytest.raises(HttpResponseError):
            process_drop(event(older), bench.services)
        bench.hinder = lambda _: None
    else:
        assert bench.process(older)["status"] == "retrying"
    name = older.blob if fate == "is overwritten" else "newer.png"
    newer = bench.write_later(PICTURES[1], Drop(older.container, name), older)
    if fate == "is deleted":
        bench.storage.get_blob_client(older.container, older.blob).delete_blob()
    if fate == "is poisoned":
        drop_poisoned(event(older), bench.services)
    assert bench.process(newer)["status"] == "uploaded"
    put_image(bench, older, PICTURES[0])
    bench.drain()
    assert bench.result(newer)["status"] == "uploaded"
    assert bench.shows(newer) == PICTURES[1]
    ends = {"is overwritten": "uploaded", "is deleted": "rejected", "its message is lost": None}
    if fate in ends:
        assert not bench.has_result(older) or bench.result(older)["status"] == ends[fate]
    else:
        assert bench.result(older)["status"] == "superseded"


@pytest.mark.parametrize("status", [500, 502, 503, 504, 520])
@pytest.mark.parametrize("is_the_platforms", [True, False])
def test_a_server_error_that_the_platform_did_not_state_may_be_an_upload(
    bench: Bench, status: int, *, is_the_platforms: bool
) -> None:
    """A gateway or proxy does not know whether the platform still applies the older image; the newer one is resent."""
    bench.settle_briefly()
    older = bench.write(PICTURES[0])
    bench.platform.script([refusal(status) if is_the_platforms else ScriptedResponse(status, body=b"<html>")])
    assert bench.process(older)["status"] == "retrying"
    newer = bench.write_later(PICTURES[1], Drop(older.container, "newer.png"), older)
    assert bench.process(newer)["status"] == "uploaded"
    is_known = is_the_platforms and status in (500, 503)
    if not is_known:
        put_image(bench, older, PICTURES[0])
    bench.drain()
    assert (bench.result(older)["status"], bench.shows(newer)) == ("superseded", PICTURES[1])
    assert bench.calls(newer) == ([status, 201] if is_known else [status, 201, 201, 201])


def test_a_crash_during_an_upload_ends_with_the_newest_on_the_platform(bench: Bench) -> None:
    """A call that was noted but never recorded may still be applied."""
    bench.settle_briefly(call_s=0.5)
    older = bench.write(PICTURES[0])
    noted = bench.services.app().ledger.begin(older.container, Entry(), bench.version(older)).noted
    newer = bench.write_later(PICTURES[1], Drop(older.container, "newer.png"), older)
    assert wait_until(lambda: not noted.is_busy(utc_now()), timeout_s=HANG_S, interval_s=0.05)
    assert bench.process(newer)["status"] == "uploaded"
    put_image(bench, older, PICTURES[0])
    bench.drain()
    assert bench.calls(newer) == [201, 201, 201]
    assert bench.shows(newer) == PICTURES[1]


def test_an_upload_that_is_applied_after_all_is_not_sent_again(bench: Bench) -> None:
    """A late upload of the same image does no harm, so a lost response costs only one more call."""
    bench.settle_briefly()
    drop = bench.write(PICTURES[0])
    bench.platform.script([ScriptedResponse(reset=True)])
    bench.process(drop)
    bench.drain()
    assert bench.result(drop)["status"] == "uploaded"
    assert len(bench.calls(drop)) == 2


def test_an_upload_that_was_sent_on_two_connections_stays_unsettled(bench: Bench) -> None:
    """A reused connection broke without a response: the image is uploaded, and the first call may still be applied."""
    bench.settle_briefly()
    drop = bench.write(PICTURES[0])
    bench.platform.script([ScriptedResponse(500, reset=True)])
    assert bench.process(drop)["status"] == "uploaded"
    assert bench.calls(drop) == [500, 201]
    assert json.loads(bench.ledger_entry(drop).download_blob().readall())["unsettled"]


def test_many_unsettled_calls_cost_one_more_upload(bench: Bench) -> None:
    """However many older drops got no response, the newest is sent twice."""
    bench.settle_briefly()
    drop = bench.write(PICTURES[0])
    older = [drop, *(bench.write(PICTURES[n], Drop(drop.container, f"{n}.png")) for n in (1, 2))]
    bench.platform.script([ScriptedResponse(504, times=3)])
    for each in older:
        assert bench.process(each)["status"] == "retrying"
    newest = bench.write_later(PICTURES[3], Drop(drop.container, "newest.png"), older[-1])
    bench.process(newest)
    bench.drain()
    assert bench.calls(newest) == [504, 504, 504, 201, 201]
    assert [bench.result(each)["status"] for each in older] == ["superseded"] * 3


def test_an_upload_that_could_not_be_recorded_is_reported_and_resent(bench: Bench) -> None:
    """The result reports the 201 even if the blob is deleted before the ledger is updated."""
    bench.settle_briefly()
    drop = bench.write(PICTURES[0])

    def fail_after_upload(exchange: Exchange) -> Fault | None:
        is_record = exchange.method == "PUT" and f"/{LEDGER_CONTAINER}/" in exchange.target and bench.calls(drop)
        return "condition-not-met" if is_record else None

    bench.hinder = fail_after_upload
    assert bench.process(drop)["status"] == "uploaded"
    bench.hinder = lambda _: None
    assert bench.waiting() == 1
    bench.drain()
    assert bench.calls(drop) == [201, 201]
    assert bench.result(drop)["status"] == "uploaded"
    assert json.loads(bench.ledger_entry(drop).download_blob().readall())["upload"]["blob"] == drop.blob


def test_a_clock_that_is_set_back_during_an_upload_leaves_it_known(bench: Bench) -> None:
    """Otherwise the entry would count as damaged, and an older drop could replace the uploaded one."""
    drop = bench.write(PICTURES[0])
    bench.local_time = lambda: utc_now() - timedelta(hours=5 if bench.calls(drop) else 0)
    assert bench.process(drop)["status"] == "uploaded"
    entry = bench.services.app().ledger.read(drop.container)
    assert entry.upload
    assert entry.upload.version.blob == drop.blob


def test_an_upload_ends_when_the_ledger_no_longer_calls_the_itwin_busy(bench: Bench) -> None:
    """Even if a slow clock dated the note, so that another drop begins then."""
    bench.settle_briefly(call_s=60)
    drop = bench.write(PICTURES[0])

    def noted_late(exchange: Exchange) -> None:
        if exchange.method == "PUT" and f"/{LEDGER_CONTAINER}/" in exchange.target:
            bench.local_time = lambda: utc_now() + timedelta(seconds=55)

    bench.hinder = noted_late
    bench.platform.script([ScriptedResponse(delay_s=HANG_S)])
    result = bench.process(drop)
    assert result["error"]["code"] == "PlatformSilent"
    assert re.search(r"within [0-5](\.\d)? s", result["reason"])


@pytest.mark.parametrize("write", [0, 1])
def test_a_ledger_write_that_the_sdk_sent_twice_is_recognized_as_its_own(bench: Bench, write: int) -> None:
    """Storage carried out the write before it failed: there was no other writer, so nothing has to wait."""
    drop = bench.write(PICTURES[0])
    faults: list[Fault | None] = [*([None] * write), "busy-afterwards"]

    def fail_once(exchange: Exchange) -> Fault | None:
        is_write = exchange.method == "PUT" and f"/{LEDGER_CONTAINER}/" in exchange.target
        return faults.pop(0) if is_write and faults else None

    bench.hinder = fail_once
    assert bench.process(drop)["status"] == "uploaded"
    assert (bench.calls(drop), bench.waiting()) == ([201], 0)


def test_a_failed_condition_without_another_writer_is_a_storage_error(bench: Bench) -> None:
    """No other upload is reported, as none has begun."""
    drop = bench.write(PICTURES[0])

    def refuse(exchange: Exchange) -> Fault | None:
        return "condition-not-met" if exchange.method == "PUT" and f"/{LEDGER_CONTAINER}/" in exchange.target else None

    bench.hinder = refuse
    assert bench.process(drop)["error"]["code"] == "StorageUnavailable"


def test_a_result_that_may_not_be_written_ends_the_attempt(bench: Bench) -> None:
    """The result is leased by someone: that is a storage error, and not a reason to retry endlessly."""
    drop = bench.write(PICTURES[0])
    blob = bench.storage.get_blob_client(bench.services.results_container, result_name(drop))
    blob.upload_blob(b"{}")
    lease = blob.acquire_lease(60)
    process_drop(event(drop), bench.services)
    assert sum(result_name(drop).split("/")[0] in e.target and e.method == "PUT" for e in bench.exchanges) < 9
    assert bench.waiting() == 1
    lease.release()
    bench.drain()
    assert bench.result(drop)["status"] == "uploaded"


def test_a_blob_that_is_written_again_after_its_deletion_gets_a_result(bench: Bench) -> None:
    """A result without a version is replaced by one with a version, even if that is still waiting."""
    drop = bench.write(PICTURES[0])
    blob = bench.storage.get_blob_client(drop.container, drop.blob)
    blob.delete_blob()
    assert bench.process(drop)["error"]["code"] == "DropGone"
    bench.platform.script([ScriptedResponse(503)])
    assert bench.process(bench.write(PICTURES[0], drop))["status"] == "retrying"
    bench.drain()
    assert bench.result(drop)["status"] == "uploaded"


def test_the_result_of_a_deleted_drop_keeps_its_version(bench: Bench) -> None:
    """Even if an event without a version finds out; after that, a slower attempt cannot replace the result."""
    drop = bench.write(PICTURES[0])
    bench.platform.script([ScriptedResponse(503)])
    waiting = bench.process(drop)
    bench.storage.get_blob_client(drop.container, drop.blob).delete_blob()
    gone = bench.process(drop)
    assert (waiting["status"], gone["error"]["code"]) == ("retrying", "DropGone")
    assert gone["source"] == waiting["source"]


def test_a_folder_in_a_misspelt_container_has_no_result(bench: Bench) -> None:
    """Folder markers are not drops; a blob in the folder gets a result saying that the container names no iTwin."""
    container = f"site-{uuid.uuid4().hex[:12]}"
    folder, photo = bench.write(b"", Drop(container, "roof/")), bench.write(PICTURES[0], Drop(container, "roof/a.png"))
    process_drop(event(folder), bench.services)
    assert not bench.has_result(folder)
    rejected = bench.process(photo)
    assert (rejected["error"]["code"], rejected["source"]["bytes"]) == ("ContainerNotAnITwin", len(PICTURES[0]))


def put_image(bench: Bench, drop: Drop, content: bytes) -> None:
    """Let the platform show an image, as a late upload does."""
    headers = {"Authorization": f"Bearer {bench.platform.token('the-app')}", "Content-Type": "image/png"}
    address = f"{bench.platform_address}/itwins/{drop.container}/image"
    assert requests.put(address, data=content, headers=headers, timeout=HANG_S).status_code == 201


def test_a_crash_after_the_upload_costs_no_second_upload(bench: Bench) -> None:
    """The ledger has the result, even if the process died before writing it."""
    drop = bench.write(PICTURES[0])
    result = bench.process(drop)
    bench.storage.get_blob_client(bench.services.results_container, result_name(drop)).delete_blob()
    assert bench.process(drop) == result
    assert bench.calls(drop) == [201]


def test_an_upload_whose_result_could_not_be_written_is_published_later(bench: Bench) -> None:
    """Storage fails between the upload and its result; the retry finds it in the ledger."""
    drop = bench.write(PICTURES[0])
    results = f"/{ACCOUNT}/{bench.services.results_container}/"
    bench.hinder = lambda e: "condition-not-met" if e.method == "PUT" and e.target.startswith(results) else None
    process_drop(event(drop), bench.services)
    assert not bench.has_result(drop)
    bench.hinder = lambda _: None
    assert bench.drain() == 1
    assert bench.result(drop)["status"] == "uploaded"
    assert bench.calls(drop) == [201]


def test_a_drop_for_an_itwin_that_is_created_a_moment_later_is_uploaded(bench: Bench) -> None:
    """The platform's own 404 is not final at once if the operator allows for new iTwins."""
    policy = replace(bench.services.app().settings.retries, brief_horizon_s=900)
    settings = replace(bench.services.app().settings, retries=policy)
    app = replace(bench.services.app(), settings=settings)
    bench.services = replace(bench.services, app_or_problem=app)
    drop = bench.write(PICTURES[0])
    bench.platform.script([refusal(404)])
    result = bench.process(drop)
    assert (result["status"], result["error"]["code"]) == ("retrying", "iTwinNotFound")
    bench.drain()
    assert bench.result(drop)["status"] == "uploaded"


def test_a_404_after_an_hour_of_throttling_is_not_final_at_once(bench: Bench) -> None:
    """The minutes for which a 404 is retried begin with the first 404, not with the first attempt."""
    policy = replace(bench.services.app().settings.retries, brief_horizon_s=900)
    settings = replace(bench.services.app().settings, retries=policy)
    bench.services = replace(bench.services, app_or_problem=replace(bench.services.app(), settings=settings))
    drop = bench.write(PICTURES[0])
    waited = replace(event(drop), number=9, first_at=utc_now() - timedelta(hours=1))
    bench.platform.script([refusal(404)] * 9)
    process_drop(waited, bench.services)
    assert bench.result(drop)["status"] == "retrying"
    assert wait_until(lambda: bench.make_due_attempts() > 0, timeout_s=HANG_S, interval_s=0.2)
    assert (bench.result(drop)["status"], bench.result(drop)["attempts"]) == ("retrying", 10)


@pytest.mark.parametrize("status", [404, 413, 415, 422, 400])
def test_what_the_platform_refuses_is_final_at_once(bench: Bench, status: int) -> None:
    """The same request would be refused again, so nothing is retried."""
    drop = bench.write(PICTURES[0])
    bench.platform.script([refusal(status)])
    assert bench.process(drop)["status"] == "rejected"
    assert bench.waiting() == 0


@pytest.mark.parametrize(
    "answer",
    [
        ScriptedResponse(429, {"Retry-After": "1"}),
        *(ScriptedResponse(status) for status in (500, 502, 503, 504, 403, 404, 409, 413, 423, 307, 201, 200)),
        ScriptedResponse(401, times=2),
        ScriptedResponse(reset=True),
        ScriptedResponse(201, body=b'{"image": {"id"'),
    ],
    ids=lambda answer: f"{answer.status}{answer.body[:1]!r}",
)
def test_temporary_errors_are_retried_without_raising(bench: Bench, answer: ScriptedResponse) -> None:
    """The result says `retrying`, why and when; one message waits; in the end the image is uploaded."""
    drop = bench.write(PICTURES[0])
    bench.platform.script([answer])
    began = datetime.now(UTC)
    result = bench.process(drop)
    assert (result["status"], bench.waiting()) == ("retrying", 1)
    assert datetime.fromisoformat(result["nextAttemptAt"]) > began
    assert result["reason"]
    bench.drain()
    assert bench.result(drop)["status"] == "uploaded"
    assert bench.shows(drop) == PICTURES[0]


def test_a_throttle_keeps_other_drops_from_calling(bench: Bench) -> None:
    """After a 429, the next drop returns to the queue without a call, and both are retried when Retry-After is over."""
    throttled, other = bench.write(PICTURES[0]), bench.write(PICTURES[1])
    bench.platform.script([ScriptedResponse(429, {"Retry-After": "2"})])
    assert bench.process(throttled)["response"]["httpStatus"] == 429
    waiting = bench.process(other)
    assert (waiting["status"], waiting["error"]["code"], waiting["response"]) == ("retrying", "PlatformThrottled", None)
    assert bench.calls(other) == []
    bench.drain()
    assert (bench.calls(throttled), bench.calls(other)) == ([429, 201], [201])


def test_after_the_horizon_a_drop_has_failed_for_the_last_reason(bench: Bench) -> None:
    """No drop is retried forever."""
    drop = bench.write(PICTURES[0])
    bench.platform.script([ScriptedResponse(503)])
    old = replace(event(drop), number=9, first_at=datetime.now(UTC) - timedelta(days=2))
    process_drop(old, bench.services)
    result = bench.result(drop)
    assert (result["status"], result["error"]["code"], result["attempts"]) == ("failed", "PlatformUnavailable", 9)
    assert bench.waiting() == 0


def test_a_retry_of_a_deleted_drop_ends(bench: Bench) -> None:
    """The result says that the blob was deleted."""
    drop = bench.write(PICTURES[0])
    bench.platform.script([ScriptedResponse(503)])
    etag = bench.process(drop)["source"]["etag"]
    bench.storage.get_blob_client(drop.container, drop.blob).delete_blob()
    bench.drain()
    result = bench.result(drop)
    assert (result["status"], result["error"]["code"], result["source"]["etag"]) == ("rejected", "DropGone", etag)


def test_a_retry_of_an_overwritten_drop_is_the_first_attempt_at_the_new_one(bench: Bench) -> None:
    """The new version has its own count of attempts, and its own horizon."""
    drop = bench.write(PICTURES[0])
    bench.platform.script([refusal(503)])
    bench.process(drop)
    bench.write(PICTURES[1], drop)
    bench.drain()
    result = bench.result(drop)
    assert (result["status"], result["attempts"]) == ("uploaded", 1)
    assert bench.shows(drop) == PICTURES[1]


def test_a_replayed_drop_that_was_deleted_stays_uploaded(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    """There is nothing left to send, which the log says; the earlier upload still counts."""
    drop = bench.write(PICTURES[0])
    result = bench.process(drop)
    bench.storage.get_blob_client(drop.container, drop.blob).delete_blob()
    bench.services.retries.postpone(Attempt.replay(drop), 0)
    bench.drain()
    assert bench.result(drop) == result
    assert '"error": "DropGone"' in caplog.text


def test_a_replayed_drop_keeps_its_result_until_it_has_another(bench: Bench) -> None:
    """A final result is never replaced by `retrying`."""
    drop = bench.write(PICTURES[0])
    result = bench.process(drop)
    bench.platform.script([ScriptedResponse(503)])
    bench.services.retries.postpone(Attempt.replay(drop), 0)
    assert wait_until(lambda: bench.make_due_attempts() == 1, timeout_s=HANG_S, interval_s=0.1)
    assert bench.calls(drop) == [201, 503]
    assert bench.result(drop) == result
    bench.drain()
    again = bench.result(drop)
    assert (again["status"], again["attempts"]) == ("uploaded", 2)
    assert again["response"]["correlationId"] != result["response"]["correlationId"]


def test_a_drop_whose_replay_fails_stays_uploaded(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    """The platform accepted it once; that the replay was refused is only logged."""
    drop = bench.write(PICTURES[0])
    result = bench.process(drop)
    bench.platform.script([refusal(413)])
    bench.services.retries.postpone(Attempt.replay(drop), 0)
    bench.drain()
    assert bench.calls(drop) == [201, 413]
    assert bench.result(drop) == result
    assert '"status": "rejected"' in caplog.text


DAMAGED_ENTRIES = [
    b"",
    b"{",
    b"[]",
    b"null",
    b"\xff",
    b'{"lastModified": "soon"}',
    b'{"lastModified": "2026-01-01T00:00:00", "etag": "x", "blob": "b", "uploadedAt": "2026-01-01", "result": {}}',
    b'{"doubts": 7}',
    b'{"unsettled": 7}',
    b'{"upload": [], "busyUntil": 7}',
    b'{"upload": "x"}',
    b'{"busyUntil": "2026-01-01T00:00:00"}',
    b'{"doubts": {"0x1": "soon", "0x2": 3}}',
    b'{"doubts": [["0x1", "2026-01-01T00:00:00"]]}',
]


@pytest.mark.parametrize("damage", DAMAGED_ENTRIES)
def test_a_damaged_ledger_stops_no_drop(bench: Bench, damage: bytes) -> None:
    """A manually damaged entry is treated as empty."""
    drop = bench.write(PICTURES[0])
    bench.ledger_entry(drop).upload_blob(damage)
    assert bench.process(drop)["status"] == "uploaded"
    assert bench.shows(drop) == PICTURES[0]


@pytest.mark.parametrize("damaged_result", [{}, {"status": "uploaded"}, {"status": "uploaded", "source": {}}, 7])
def test_a_ledger_without_the_result_of_its_upload_counts_as_empty(bench: Bench, damaged_result: object) -> None:
    """A result without a version, or of another one, is not reported."""
    drop = bench.write(PICTURES[0])
    bench.process(drop)
    entry = json.loads(bench.ledger_entry(drop).download_blob().readall())
    entry["upload"]["result"] = damaged_result
    bench.ledger_entry(drop).upload_blob(json.dumps(entry), overwrite=True)
    bench.storage.get_blob_client(bench.services.results_container, result_name(drop)).delete_blob()
    assert bench.process(drop)["status"] == "uploaded"
    assert bench.calls(drop) == [201, 201]


@pytest.mark.parametrize(
    "damage",
    [{"at": "9999-12-31T23:59:59+00:00"}, {"lastModified": "2999-01-01T00:00:00+00:00"}],
    ids=lambda damage: next(iter(damage)),
)
def test_a_ledger_with_impossible_times_stops_no_drop(bench: Bench, damage: dict[str, str]) -> None:
    """An upload dated in the future delays no drop, and an image that was written after its upload is ignored."""
    older = bench.write(PICTURES[0])
    bench.process(older)
    entry = json.loads(bench.ledger_entry(older).download_blob().readall())
    entry["upload"] |= damage
    bench.ledger_entry(older).upload_blob(json.dumps(entry), overwrite=True)
    newer = bench.write_later(PICTURES[1], Drop(older.container, "newer.png"), older)
    bench.process(newer)
    bench.drain()
    assert bench.result(newer)["status"] == "uploaded"


DAMAGED_RESULTS = [
    b"",
    b"\xff{",
    b'{"status": "retrying", "nextAttemptAt": "9999-12-31T00:00:00Z", "source": {"etag": "no\\r\\nheader"}}',
    '{"status": "uploaded", "source": {"etag": "größe"}}'.encode(),
    b'{"status": "uploaded", "source": {"etag": "0x\\ud800"}, "attempts": "many"}',
    b'{"status": ["uploaded"], "source": [{"etag": "x"}]}',
]


@pytest.mark.parametrize("damage", DAMAGED_RESULTS)
def test_a_damaged_result_stops_no_drop(bench: Bench, damage: bytes) -> None:
    """It neither counts as final nor reaches a header."""
    drop = bench.write(PICTURES[0])
    name = result_name(drop)
    bench.storage.get_blob_client(bench.services.results_container, name).upload_blob(damage)
    assert bench.process(drop)["status"] == "uploaded"


def test_a_result_that_the_sdk_wrote_twice_is_logged(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    """Storage applied the write, but reported an error; the SDK's retry finds another ETag, which is the drop's own."""
    drop = bench.write(PICTURES[0])
    faults: list[Fault] = ["busy-afterwards"]
    results = f"/{bench.services.results_container}/"
    bench.hinder = lambda e: faults.pop() if faults and e.method == "PUT" and results in e.target else None
    with caplog.at_level(logging.INFO, "itwin_image_drop"):
        assert bench.process(drop)["status"] == "uploaded"
    assert not faults
    assert [record for record in caplog.records if '"status": "uploaded"' in record.message]


def poison(attempt: Attempt, bench: Bench) -> dict[str, Any]:
    """Deliver the message that the host stopped retrying, and return the result."""
    drop_poisoned(attempt, bench.services)
    return bench.result(attempt.drop)


def test_a_drop_that_the_host_stopped_retrying_is_retried_first(bench: Bench) -> None:
    """An exception never ends a drop: nothing is wrong with it, so it is uploaded in the end."""
    drop = bench.write(PICTURES[0])
    result = poison(event(drop), bench)
    assert (result["status"], result["error"]["code"]) == ("retrying", "AttemptsInterrupted")
    assert result["source"]["etag"] == bench.version(drop).etag
    bench.drain()
    assert bench.result(drop)["status"] == "uploaded"


def test_repeated_crashes_are_called_a_bug(bench: Bench) -> None:
    """It returns to the retry queue twice, counted in the message; then it fails, and the operator is alerted."""
    drop = bench.write(PICTURES[0])
    poison(event(drop), bench)
    for turn in range(2):
        later = utc_now() + timedelta(minutes=turn + 1)
        bench.local_time = partial(datetime.fromtimestamp, later.timestamp(), UTC)
        messages: list[str] = []

        def has_come(found: list[str] = messages) -> bool:
            for message in bench.queue.receive_messages():
                found.append(message.content)
                bench.queue.delete_message(message)
            return bool(found)

        assert wait_until(has_come, timeout_s=HANG_S, interval_s=0.1)
        result = poison(Attempt.from_message(messages[0]), bench)
    assert (result["status"], result["error"]["code"]) == ("failed", "Bug")
    assert bench.waiting() == 0


def test_an_unrecorded_count_is_not_trusted(bench: Bench) -> None:
    """Write access to the poison queue does not suffice to end a drop before its first attempt."""
    drop = bench.write(PICTURES[0])
    assert poison(replace(event(drop), poisoned=99), bench)["error"]["code"] == "AttemptsInterrupted"
    bench.drain()
    assert bench.result(drop)["status"] == "uploaded"


def test_a_storage_error_on_a_poisoned_message_is_not_a_bug(bench: Bench) -> None:
    """Only a failure while storage works is called a bug."""
    bench.ask_storage_once()
    drop = bench.write(PICTURES[0])
    attempt = replace(event(drop), poisoned=2)
    bench.hinder = lambda e: "busy" if e.method == "GET" and drop.container in e.target else None
    drop_poisoned(attempt, bench.services)
    bench.hinder = lambda _: None
    assert bench.result(drop)["error"]["code"] == "StorageUnavailable"
    bench.drain()
    assert bench.result(drop)["status"] == "uploaded"


def test_an_attempt_waits_while_storage_refuses_it(bench: Bench) -> None:
    """Half a minute without storage costs none of the host's five attempts."""
    drop = bench.write(PICTURES[0])
    ends_at = bench.clock.monotonic() + 30
    bench.hinder = lambda _: "refused" if bench.clock.monotonic() < ends_at else None
    process_drop(event(drop), bench.services)
    assert (bench.result(drop)["status"], bench.result(drop)["error"]["code"]) == ("retrying", "StorageForbidden")
    bench.drain()
    assert bench.result(drop)["status"] == "uploaded"


def test_an_attempt_that_storage_refuses_for_long_raises_before_the_host_would_end_it(bench: Bench) -> None:
    """Then the host retries; its own time limit, which would end the worker and all of its drops, is higher."""
    drop = bench.write(PICTURES[0])
    bench.hinder = lambda _: "refused"
    began = bench.clock.monotonic()
    with pytest.raises(HttpResponseError):
        process_drop(event(drop), bench.services)
    timeout = json.loads((PROJECT / "host.json").read_text())["functionTimeout"]
    hours, minutes, seconds = map(int, timeout.split(":"))
    assert (
        ATTEMPT_S - 60 < bench.clock.monotonic() - began < ATTEMPT_S + ENDING_S < 3600 * hours + 60 * minutes + seconds
    )


def test_a_file_is_not_read_before_there_is_room_for_it(bench: Bench) -> None:
    """Waiting files would fill an instance that decodes one at a time; the next is read while an image is sent."""
    files, free_at_upload = Admission(1), []
    bench.services = replace(bench.services, app_or_problem=replace(bench.services.app(), files=files))
    drop = bench.write(PICTURES[0])

    def look(exchange: Exchange) -> None:
        if exchange.method == "PUT" and LEDGER_CONTAINER in exchange.target:
            free_at_upload.append(files._free)

    bench.hinder = look
    with ThreadPoolExecutor(1) as pool:
        with files.admit(1):
            result = pool.submit(bench.process, drop)
            assert wait_until(lambda: len(files._line) == 1, timeout_s=HANG_S)
            assert ("GET", "drop") not in bench.asked()
        assert result.result(HANG_S)["status"] == "uploaded"
    assert free_at_upload == [1, 1]


def test_an_attempt_that_takes_too_long_is_postponed(bench: Bench) -> None:
    """Whatever it waits for, it is postponed by message, and its result says so."""
    drop = bench.write(PICTURES[0])

    def take_long(exchange: Exchange) -> None:
        if exchange.method == "GET" and drop.container in exchange.target and "/results" not in exchange.target:
            bench.clock.sleep(ATTEMPT_S)

    bench.hinder = take_long
    result = bench.process(drop)
    assert (result["status"], result["error"]["code"]) == ("retrying", "OutOfTime")
    assert bench.calls(drop) == []
    bench.hinder = lambda _: None
    bench.drain()
    assert bench.result(drop)["status"] == "uploaded"


def test_an_upload_whose_time_is_over_before_it_begins_is_not_sent(bench: Bench) -> None:
    """The process hung after it had noted the call: another one may have begun a call of its own since."""
    drop = bench.write(PICTURES[0])
    began = utc_now()
    bench.local_time = lambda: began

    def stand_still(exchange: Exchange) -> None:
        if exchange.method == "PUT" and f"/{LEDGER_CONTAINER}/" in exchange.target:
            bench.local_time = lambda: began + timedelta(seconds=60)

    bench.hinder = stand_still
    assert bench.process(drop)["error"]["code"] == "ITwinBusy"
    assert bench.calls(drop) == []


def test_a_recorded_count_and_time_override_those_in_a_message(bench: Bench) -> None:
    """Write access to the queue suffices neither to end a drop nor to keep it from ending."""
    drop = bench.write(PICTURES[0])
    bench.platform.script([ScriptedResponse(503, times=2)])
    first = bench.process(drop)
    long_ago = replace(
        event(drop).at(bench.version(drop), utc_now()), number=99, first_at=utc_now() - timedelta(days=9)
    )
    process_drop(long_ago, bench.services)
    second = bench.result(drop)
    assert (second["status"], second["attempts"]) == ("retrying", 2)
    assert second["firstAttemptAt"] == first["firstAttemptAt"]


@pytest.mark.parametrize("skew", [timedelta(hours=5), timedelta(hours=-5)], ids=str)
def test_an_instance_whose_clock_is_wrong_uses_storages_time(bench: Bench, skew: timedelta) -> None:
    """From its first drop on: otherwise other instances would misread its times."""
    normalize = bench.services.app().normalize
    wrong = Services.from_environ(bench.environ, local_time=lambda: utc_now() + skew, normalizer=lambda _: normalize)
    drop = bench.write(PICTURES[0])
    bench.platform.script([refusal(503)])
    process_drop(event(drop), wrong)
    result = bench.result(drop)
    for name in ("firstAttemptAt", "startedAt", "finishedAt", "nextAttemptAt"):
        assert abs(datetime.fromisoformat(result[name]) - utc_now()) < timedelta(hours=1)
    bench.drain()
    assert bench.result(drop)["status"] == "uploaded"
    newer = bench.write_later(PICTURES[1], Drop(drop.container, "newer.png"), drop)
    process_drop(event(newer), wrong)
    bench.drain()
    assert (bench.result(newer)["status"], bench.shows(newer)) == ("uploaded", PICTURES[1])


@pytest.mark.parametrize("skew", [timedelta(days=2), timedelta(days=-2)], ids=str)
def test_no_drop_is_late_before_storage_has_reported_the_time(bench: Bench, skew: timedelta) -> None:
    """A clock that is days off neither ends a drop nor dates it while storage does not respond."""
    wrong = Services.from_environ(bench.environ, local_time=lambda: utc_now() + skew)
    drop = bench.write(PICTURES[0])
    bench.hinder = lambda exchange: "refused" if exchange.method == "GET" else None
    process_drop(event(drop).begun_by(utc_now()), wrong)
    refused = bench.result(drop)
    assert (refused["status"], refused["error"]["code"]) == ("retrying", "StorageForbidden")
    assert abs(datetime.fromisoformat(refused["firstAttemptAt"]) - utc_now()) < timedelta(hours=1)
    bench.hinder = lambda _: None
    bench.platform.script([ScriptedResponse(503)])
    bench.drain()
    assert bench.result(drop)["status"] == "uploaded"


@pytest.mark.parametrize("is_poisoned", [False, True])
def test_no_drop_is_late_while_storages_responses_have_no_date(bench: Bench, *, is_poisoned: bool) -> None:
    """The machine's own clock may be days off, and would end a drop that has only just been written."""
    drop = bench.write(PICTURES[0])
    clock, times = bench.services.clock, StorageTime(lambda: utc_now() + timedelta(days=9))
    bench.services = replace(bench.services, clock=replace(clock, now=times.now, is_told=times.is_told))
    attempt = replace(event(drop), number=5, first_at=utc_now(), poisoned=2)
    bench.platform.script([ScriptedResponse(503)])
    (drop_poisoned if is_poisoned else process_drop)(attempt, bench.services)
    assert bench.result(drop)["status"] == "retrying"
    times.observe(format_datetime(utc_now() + timedelta(days=2), usegmt=True))
    bench.platform.script([ScriptedResponse(503)])
    bench.drain()
    assert bench.result(drop)["status"] == "failed"


@pytest.mark.parametrize("problem", [MemoryError(), *(OSError(number, "So it is.") for number in EXHAUSTION)], ids=repr)
def test_an_attempt_waits_while_the_instance_lacks_what_postponing_takes(
    bench: Bench, problem: OSError | MemoryError
) -> None:
    """As while storage refuses it: raising would use up one of the host's five attempts at once."""
    lacking, began = [problem] * 3, bench.clock.monotonic()

    def open_retries() -> QueueClient:
        if lacking:
            raise lacking.pop()
        return open_queue(StorageSettings.from_environ(bench.environ), RETRY_QUEUE)

    bench.services = replace(bench.services, retries=RetryQueue(open_retries, utc_now))
    bench.platform.script([ScriptedResponse(503)])
    assert bench.process(bench.write(PICTURES[0]))["status"] == "retrying"
    assert (bench.waiting(), lacking) == (1, [])
    assert bench.clock.monotonic() - began >= sum(HOLD_S[:3])


def test_no_message_ends_a_drop_that_waits(bench: Bench) -> None:
    """A poisoned message may claim anything: the scheduled retry comes first."""
    drop = bench.write(PICTURES[0])
    bench.platform.script([ScriptedResponse(503)])
    waiting = bench.process(drop)
    said = replace(event(drop).at(bench.version(drop), utc_now()), number=99, poisoned=99)
    drop_poisoned(said, bench.services)
    assert bench.result(drop) == waiting
    bench.drain()
    assert bench.result(drop)["status"] == "uploaded"


def test_no_message_moves_a_drop_ahead_of_later_ones(bench: Bench) -> None:
    """A date in the future would prevent every later result of the blob from being written."""
    drop = bench.write(PICTURES[0])
    content = hashlib.sha256(PICTURES[0]).hexdigest()
    said = replace(event(drop), etag="0x0", last_modified=utc_now() + timedelta(days=999), content=content)
    process_drop(said, bench.services)
    assert bench.result(drop)["source"]["etag"] == bench.version(drop).etag
    bench.write_later(PICTURES[1], drop, drop)
    bench.process(drop)
    bench.drain()
    assert bench.result(drop)["source"]["etag"] == bench.version(drop).etag


def touch(bench: Bench, drop: Drop) -> str:
    """Set the blob's metadata, as rclone and the portal do, and return the new ETag."""
    properties = bench.storage.get_blob_client(drop.container, drop.blob).set_blob_metadata({"note": "touched"})
    return str(properties["etag"]).strip('"')


def test_setting_metadata_while_a_drop_waits_does_not_make_it_another(bench: Bench) -> None:
    """Its ETag and its place in the order stay: setting its metadata never lets an older drop replace a newer one."""
    older = bench.write(PICTURES[0])
    bench.platform.script([refusal(503)])
    waiting = bench.process(older)
    newer = bench.write_later(PICTURES[1], Drop(older.container, "newer.png"), older)
    assert bench.process(newer)["status"] == "uploaded"
    assert wait_until(
        lambda: bool(touch(bench, older)) and bench.last_modified(older) > bench.last_modified(newer),
        timeout_s=HANG_S,
        interval_s=0.2,
    )
    bench.drain()
    result = bench.result(older)
    assert (result["status"], result["source"]["etag"]) == ("superseded", waiting["source"]["etag"])
    assert bench.shows(newer) == PICTURES[1]


def test_setting_metadata_before_a_message_is_poisoned_does_not_lose_the_result(bench: Bench) -> None:
    """The host's message has the ETag of the event; the blob has another one."""
    drop = bench.write(PICTURES[0])
    etag = bench.version(drop).etag
    touch(bench, drop)
    poison(replace(event(drop), etag=etag), bench)
    bench.drain()
    assert bench.result(drop)["status"] == "uploaded"


def test_a_waiting_drop_never_replaces_a_later_one_of_its_second_whose_metadata_was_set(bench: Bench) -> None:
    """Both have the same content and the same date; storage has the later one's ETag."""
    for _ in bench.seconds():
        drop = bench.write(PICTURES[0])
        bench.platform.script([ScriptedResponse(503)])
        waiting = bench.process(drop)
        touch(bench, drop)
        up = bench.process(drop)
        if up["source"]["lastModified"] == waiting["source"]["lastModified"]:
            assert up["status"] == "uploaded"
            assert not bench.services.results.write(drop, waiting, Recorded())
            assert bench.result(drop) == up
            return
    pytest.fail("In none of many seconds was there time to touch what was written in it.")


def test_the_same_bytes_written_again_are_a_new_drop(bench: Bench) -> None:
    """Its writer waits for the new ETag."""
    drop = bench.write(PICTURES[0])
    first = bench.process(drop)
    bench.write_later(PICTURES[0], drop, drop)
    bench.process(drop)
    bench.drain()
    second = bench.result(drop)
    assert second["source"]["etag"] != first["source"]["etag"]
    assert (second["status"], bench.calls(drop)) == ("uploaded", [201, 201])


def test_a_picture_that_returns_after_another_is_shown(bench: Bench) -> None:
    """A, B, and A again: each is a drop of its own."""
    drop = bench.write(PICTURES[0])
    bench.process(drop)
    for picture in (PICTURES[1], PICTURES[0]):
        bench.write_later(picture, drop, drop)
        bench.process(drop)
        bench.drain()
        assert bench.result(drop)["status"] == "uploaded"
        assert bench.shows(drop) == picture


@pytest.mark.parametrize("blob_type", ["AppendBlob", "PageBlob"])
def test_a_blob_that_is_written_after_its_event_is_refused_by_its_type(bench: Bench, blob_type: str) -> None:
    """The app cannot tell when its content is complete; the result says which blob type to use instead."""
    drop = Drop(bench.platform.add_itwin(), "photo.png")
    bench.storage.create_container(drop.container)
    blob = bench.storage.get_blob_client(drop.container, drop.blob)
    blob.upload_blob(PICTURES[0].ljust(5120, b"\0")[:5120], blob_type=blob_type)
    result = bench.process(drop)
    assert (result["status"], result["error"]["code"]) == ("rejected", "NotABlockBlob")
    assert blob_type in result["reason"]


def test_an_archived_drop_is_rejected_under_its_own_version(bench: Bench) -> None:
    """Its writer recognizes the result; a duplicate event adds nothing, and writing it again is a new drop."""
    drop = bench.write(PICTURES[0])
    blob = bench.storage.get_blob_client(drop.container, drop.blob)
    blob.set_standard_blob_tier("Archive")
    result = bench.process(drop)
    assert (result["status"], result["error"]["code"]) == ("rejected", "SourceArchived")
    assert result["source"]["etag"] == bench.version(drop).etag
    assert datetime.fromisoformat(result["source"]["lastModified"]) == bench.last_modified(drop)
    assert (result["source"]["bytes"], result["source"]["sha256"]) == (len(PICTURES[0]), None)
    bench.exchanges.clear()
    assert bench.process(drop) == result
    assert not any(exchange.method == "PUT" for exchange in bench.exchanges)
    blob.delete_blob()
    assert bench.process(bench.write(PICTURES[0], drop))["status"] == "uploaded"


def test_a_drop_that_was_rehydrated_is_uploaded_when_it_is_replayed(bench: Bench) -> None:
    """As the runbook says; rehydration itself raises no event."""
    drop = bench.write(PICTURES[0])
    blob = bench.storage.get_blob_client(drop.container, drop.blob)
    blob.set_standard_blob_tier("Archive")
    bench.process(drop)
    blob.set_standard_blob_tier("Hot")
    bench.services.retries.postpone(Attempt.replay(drop), 0)
    bench.drain()
    assert (bench.result(drop)["status"], bench.shows(drop)) == ("uploaded", PICTURES[0])


def test_an_archived_drop_never_replaces_what_is_known_about_a_newer_one(bench: Bench) -> None:
    """Its place in the order is known without its content."""
    older = bench.write(PICTURES[0])
    newer = bench.write_later(PICTURES[1], Drop(older.container, "newer.png"), older)
    bench.storage.get_blob_client(older.container, older.blob).set_standard_blob_tier("Archive")
    bench.process(newer)
    assert bench.process(older)["status"] == "superseded"


def test_an_empty_blob_may_be_about_to_be_written(bench: Bench) -> None:
    """Some tools create a blob first; one that stays empty is rejected in the end."""
    drop = bench.write(b"")
    assert bench.process(drop)["error"]["code"] == "SourceNotReady"
    bench.write(PICTURES[0], drop)
    bench.drain()
    assert bench.result(drop)["status"] == "uploaded"
    empty = bench.write(b"", Drop(drop.container, "empty.png"))
    written = bench.last_modified(empty)
    bench.local_time = lambda: written + timedelta(seconds=EMPTY_GRACE_S)
    assert bench.process(empty)["error"]["code"] == "EmptySource"


def test_a_drop_poisoned_after_its_end_stays_as_it_ended(bench: Bench) -> None:
    """A duplicate that crashed says nothing about the first delivery."""
    drop = bench.write(PICTURES[0])
    result = bench.process(drop)
    drop_poisoned(event(drop), bench.services)
    assert bench.result(drop) == result


@pytest.mark.parametrize("poisoned", [0, 2])
def test_a_drop_poisoned_after_its_upload_was_uploaded(bench: Bench, poisoned: int) -> None:
    """The crashes may have happened after the upload; the ledger knows."""
    drop = bench.write(PICTURES[0])
    result = bench.process(drop)
    bench.storage.get_blob_client(bench.services.results_container, result_name(drop)).delete_blob()
    drop_poisoned(replace(event(drop), poisoned=poisoned), bench.services)
    bench.drain()
    assert bench.result(drop) == result
    assert bench.calls(drop) == [201]


def test_a_drop_poisoned_while_it_waits_goes_on_waiting(bench: Bench) -> None:
    """Its message is still to come, so the drop has not failed yet."""
    drop = bench.write(PICTURES[0])
    bench.platform.script([ScriptedResponse(503)])
    bench.process(drop)
    drop_poisoned(event(drop), bench.services)
    assert bench.result(drop)["status"] == "retrying"
    bench.drain()
    assert bench.result(drop)["status"] == "uploaded"


def test_a_poisoned_drop_that_was_deleted_still_has_a_result(bench: Bench) -> None:
    """Even a deleted blob gets a result."""
    drop = Drop(bench.write(PICTURES[0]).container, "gone.png")
    drop_poisoned(Attempt(drop, 1, utc_now(), "0x1"), bench.services)
    assert bench.result(drop)["status"] == "retrying"
    bench.drain()
    result = bench.result(drop)
    assert (result["status"], result["error"]["code"]) == ("rejected", "DropGone")


def test_a_duplicate_of_a_message_does_nothing_while_its_successor_waits(bench: Bench) -> None:
    """If a host dies after the attempt, its message is redelivered; two chains of retries become one again."""
    drop = bench.write(PICTURES[0])
    bench.platform.script([ScriptedResponse(403, times=2)])
    first = event(drop)
    process_drop(first, bench.services)
    second = replace(first, number=2, etag=bench.result(drop)["source"]["etag"])
    assert wait_until(lambda: bench.make_due_attempts() == 1, timeout_s=HANG_S, interval_s=0.1)
    assert bench.calls(drop) == [403, 403]
    process_drop(second, bench.services)
    assert bench.waiting() == 1
    assert bench.calls(drop) == [403, 403]
