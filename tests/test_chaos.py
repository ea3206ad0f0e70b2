"""What is promised holds while everything fails: the short form of `make chaos`."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest

from local.cloud import RESULTS_CONTAINER, LocalCloud
from local.itwin_platform import ReceivedRequest
from local.processes import wait_until
from local.samples import building_site, encode
from shared.drop import Version
from tests.chaos import Chaos, Storm
from tests.chaos_judge import Evidence, Written, judge
from tests.schema import check_result

if TYPE_CHECKING:
    from collections.abc import Callable

BURST = 200


def test_no_drop_is_lost_and_the_newest_wins_while_everything_fails() -> None:
    """Every drop ends in one true result, and each iTwin with its newest legal drop; no secret is told."""
    report = Chaos(Storm()).run()
    print(report)  # noqa: T201 - the seed that repeats the run
    assert report.violations == []
    assert report.drops >= 100
    assert report.kills >= 3
    assert sum(report.storage_faults.values()) >= 5
    assert sum(count for status, count in report.answers.items() if status != 201) >= 5


def test_a_burst_on_one_itwin_costs_few_uploads() -> None:
    """The iTwin rests between two uploads, so of 200 drops few are sent, the newest among them; all have results."""
    with LocalCloud(app_settings={"RETRY_MIN_DELAY_S": "1"}) as cloud:
        itwin_id = cloud.itwin()
        pictures = {f"{number:03}.png": encode(building_site(60 + number, 60), "PNG") for number in range(BURST)}
        drops = [cloud.drop(itwin_id, name, picture) for name, picture in pictures.items()]
        newest = max(drops, key=lambda drop: (drop.uploaded_at, drop.etag))
        results = cloud.drops.get_container_client(RESULTS_CONTAINER)

        def read_results() -> list[dict[str, Any]]:
            names = results.list_blob_names(name_starts_with=f"{itwin_id}/")
            return [check_result(json.loads(results.download_blob(name).readall())) for name in names]

        def all_ended() -> bool:
            documents = read_results()
            return len(documents) == BURST and all(d["status"] in ("uploaded", "superseded") for d in documents)

        assert wait_until(all_ended, timeout_s=90, interval_s=1)
        uploads = sorted(request.time for request in cloud.platform.requests() if request.status == 201)
        print(f"{BURST} drops cost {len(uploads)} uploads")  # noqa: T201 - the figure
        assert all(later - earlier >= timedelta(seconds=1) for earlier, later in pairwise(uploads))
        assert len(uploads) < BURST / 5
        assert cloud.platform.image(itwin_id) == (pictures[newest.name], "image/png")


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


def after_the_end(**changes: Any) -> Callable[[Evidence], None]:
    """Return what adds a document after the final one."""
    return lambda evidence: evidence.histories["itwin/0.png.json"].append(document(0, **changes))


WRONGS: dict[str, Callable[[Evidence], object]] = {
    "a queue holds something": lambda e: e.queued.update({"drop-retries": 1}),
    "a call went to another host": lambda e: e.calls_astray.append("/"),
    "given up without a result": lambda e: e.dead_letters.append(("itwin/9.png.json", "0x9")),
    "failed, but never given up": after_the_end(status="failed"),
    "no result": lambda e: e.histories.pop("itwin/0.png.json"),
    "a result was lost": lambda e: e.stored.pop("itwin/0.png.json"),
    "the platform never saw it": lambda e: e.answers.pop(0),
    "the older image is shown": lambda e: e.images.update({"itwin": IMAGES[0]}),
    "no image is shown": lambda e: e.images.clear(),
    "retrying after the end": after_the_end(status="retrying"),
    "another end": after_the_end(status="superseded"),
    "an older version after the end": lambda e: e.histories["itwin/1.png.json"].append(document(0)),
    "not the schema": after_the_end(attempts=0),
    "a token was logged": lambda e: e.lines.append(f"x {JWT}"),
    "a bearer was logged": lambda e: e.lines.append("Authorization: Bearer abcdefghijkl"),
    "a key was logged": lambda e: e.lines.append("AccountKey=the key"),
    "a signed URL was logged": lambda e: e.lines.append("https://host/x?se=1&sig=abc"),
    "a token was published": after_the_end(reason=JWT),
    "a signed URL was published as a reason": after_the_end(reason="https://host/x?sig=abc"),
}


def test_the_judge_has_nothing_against_a_run_without_a_fault() -> None:
    """Else every run would fail."""
    assert judge(good_evidence()) == []


@pytest.mark.parametrize("wrong", WRONGS.values(), ids=WRONGS.keys())
def test_the_judge_finds_each_broken_promise(wrong: Callable[[Evidence], object]) -> None:
    """A judge who finds nothing would prove nothing."""
    evidence = good_evidence()
    wrong(evidence)
    assert judge(evidence)
