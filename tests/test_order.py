"""The newest drop stays and no drop is lost, in whatever order events occur and whatever fails."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Any, cast

import pytest
from azure.core import MatchConditions
from azure.core.exceptions import HttpResponseError
from azure.storage.blob import BlobServiceClient
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.simulation.storage import Account, BlobService
from tests.model.world import LATEST_S, SETTINGS, Answer, Archival, Deletion, Fate, Replay, Strike, Touch, World, Write
from tools.chaos_judge import judge

if TYPE_CHECKING:
    from collections.abc import Callable

    from local.azurite import Azurite

SOON = (0.0, 0.02, 0.05, 1.0, 5.0)
LATER = (30.0, 60.0, LATEST_S)
moments = st.sampled_from(SOON + LATER)
blobs = st.sampled_from("abc")
writes = st.builds(
    Write,
    blob=blobs,
    after_s=moments,
    legal=st.sampled_from([True, True, True, True, False]),
    announced_after_s=st.lists(moments, max_size=2),
    caught_up_after_s=st.lists(moments, max_size=1),
    picture=st.sampled_from([None, None, None, 0, 1]),
    is_empty=st.booleans(),
)
answers = st.builds(
    Answer,
    status=st.sampled_from([201, 201, None, None, "crash", "crash", 504, 500, 202, 503, 404, 429, 0]),
    late_s=st.sampled_from([None, 0.0, 1.0, 30.0, 100.0, LATEST_S]),
)
strikes = st.builds(
    Strike,
    kind=st.sampled_from(
        ["pause", "pause", "crash", "crash", "busy", "busy", "condition not met", "outage", "lacking"]
    ),
    seconds=moments,
)
archivals = st.builds(Archival, blob=blobs, at_s=moments, rehydrated_after_s=st.sampled_from([None, 2.0, 300.0]))
fates = st.builds(
    Fate,
    writes=st.lists(writes, min_size=2, max_size=4),
    deletions=st.lists(st.builds(Deletion, blob=blobs, at_s=moments), max_size=2),
    touches=st.lists(st.builds(Touch, blob=blobs, at_s=moments), max_size=3),
    writes_held_up_s=st.lists(st.sampled_from([0.0, 0.0, 0.02, 1.0, 60.0]), max_size=6),
    answers=st.lists(answers, max_size=8),
    strikes=st.dictionaries(st.integers(0, 99), strikes, max_size=8),
    doomed=st.dictionaries(st.integers(0, 5), st.integers(1, 24), max_size=1),
    replays=st.lists(st.builds(Replay, blob=blobs, at_s=st.sampled_from((*LATER, 600.0, 2000.0))), max_size=2),
    archivals=st.lists(archivals, max_size=1),
    echoes=st.dictionaries(st.integers(0, 9), moments, max_size=2),
    skews_s=st.lists(st.sampled_from([-2.0, 0.0, 2.0]), min_size=1, max_size=3),
)


# The platform carries out the older upload only after all others, whether its process died or got no response.
DIED, UNSURE, UP = Answer("crash", late_s=200), Answer(504, late_s=200), Answer(201, late_s=None)


def written(*after_s: float) -> list[Write]:
    """Return legal drops, each of its own blob."""
    return [Write(blob, each, legal=True, announced_after_s=[0]) for blob, each in zip("abc", after_s, strict=False)]


FOUND = {
    "who comes after a crash is refused": Fate(written(0, 1), answers=[DIED, Answer(429, late_s=None)]),
    "a note was on its way while another crashed": Fate(
        written(0, 30, 0), answers=[UP, DIED], writes_held_up_s=[0, 0, 0, 60]
    ),
    "the message to send it again is poison": Fate(written(0, 5), answers=[UNSURE], doomed={3: 1}),
    # The process dies before it records the upload, and its message is redelivered after the blob was deleted.
    "a drop is deleted that waits to be sent again": Fate(
        written(0, 5),
        deletions=[Deletion("b", at_s=243)],
        answers=[UNSURE, UP, Answer(503, late_s=None)],
        strikes={33: Strike("crash", seconds=3000)},
    ),
    # The attempt that makes the drop wait publishes that only after the blob was deleted and found missing by a retry.
    "a drop is deleted while its result is being written": Fate(
        written(0),
        deletions=[Deletion("a", at_s=1)],
        answers=[Answer(503, late_s=None)],
        strikes={14: Strike("pause", seconds=15)},
    ),
    "a blob is overwritten and deleted while its upload is not answered": Fate(
        [
            Write("a", 0, legal=True, announced_after_s=[0, 0]),
            Write("b", 0, legal=True, announced_after_s=[0]),
            Write("a", 0.05, legal=True, announced_after_s=[0]),
        ],
        deletions=[Deletion("a", at_s=1)],
        answers=[Answer(None, late_s=None)],
    ),
    # The upload cannot be recorded; so an overwritten version that was read earlier is sent after it.
    "the message to send it again is poison, and the ledger knows nothing": Fate(
        [Write("a", after_s, legal=True, announced_after_s=[0]) for after_s in (0, 0.05)],
        writes_held_up_s=[60],
        strikes={13: Strike("outage", seconds=0.05)},
        doomed={2: 1},
    ),
    # It is compared with the uploaded version of the same second by asking storage, which no longer has either.
    "a drop is deleted between its read and its decision": Fate(
        [
            Write("a", 30, legal=True, announced_after_s=[1]),
            Write("b", 0, legal=True, announced_after_s=[0]),
            Write("b", 0.05, legal=True, announced_after_s=[0.05]),
            Write("a", 0, legal=True, announced_after_s=[0]),
        ],
        deletions=[Deletion("b", at_s=60)],
        answers=[UP, Answer(None, late_s=None)],
        strikes={61: Strike("pause", seconds=5)},
    ),
    # Storage has an ETag that neither result names, and content that both name.
    "the same bytes are written twice within a second and touched": Fate(
        [Write("a", after_s, legal=False, announced_after_s=[0]) for after_s in (0, 0.05)],
        touches=[Touch("a", at_s=1)],
        writes_held_up_s=[1],
    ),
    # The first result is late, and cannot be told from that of the third.
    "the same bytes are written again within a second, others between them": Fate(
        [
            Write("a", 0, legal=False, announced_after_s=[0]),
            Write("a", 0.05, legal=True, announced_after_s=[0]),
            Write("a", 0.05, legal=False, announced_after_s=[1]),
        ],
        writes_held_up_s=[1],
    ),
    # Its version is unknown then: a result without one would be nobody's.
    "an archived drop cannot be listed for a moment": Fate(
        written(0), archivals=[Archival("a", at_s=0)], strikes={3: Strike("busy", seconds=0)}
    ),
    # The version could not be read yet; and when the message is poisoned, the ledger cannot be read.
    "a drop is poison while storage fails": Fate(
        written(0), strikes={0: Strike("busy", seconds=0), 14: Strike("busy", seconds=0)}, doomed={1: 1}
    ),
}


@pytest.mark.parametrize("fate", FOUND.values(), ids=FOUND)
def test_past_failures_do_not_recur(fate: Fate) -> None:
    """Random runs found these cases; each is kept as a regression test."""
    assert judge(World(fate).run()) == []


@given(fates)
@settings(max_examples=300, deadline=None, derandomize=True)
def test_no_drop_is_lost_and_the_newest_stays(fate: Fate) -> None:
    """Whatever is attempted, fails, dies or arrives late, in any order.

    A failure may cost each drop two more uploads: the one that fails, and one when the unsettled call is over.
    """
    world = World(fate)
    assert judge(world.run()) == []
    assert world.calls <= sum(write.legal for write in fate.writes) * (1 + 2 * world.mishaps)


def test_a_burst_on_one_itwin_costs_few_uploads() -> None:
    """Uploads to an iTwin are spaced out, and newer drops come first: of 200 drops only a handful is sent."""
    burst = [Write(f"{number}.png", 0.05, legal=True, announced_after_s=[1.0]) for number in range(200)]
    evidence = World(Fate(burst)).run()
    assert judge(evidence) == []
    uploads = [answer.time for answer in evidence.answers]
    rest = timedelta(seconds=SETTINGS.retries.min_delay_s)
    assert all(later - earlier >= rest for earlier, later in pairwise(uploads))
    assert len(uploads) <= 5


def test_storage_in_memory_answers_as_the_emulator_does(azurite: Azurite) -> None:
    """Otherwise the model would prove nothing: ETags and conditions, met and not met."""
    account = Account(clock=lambda: datetime.now(UTC))
    in_memory = cast("BlobServiceClient", BlobService(account, lambda do, _: do()))
    with BlobServiceClient.from_connection_string(azurite.connection_string, retry_total=0) as storage:
        container = storage.create_container(str(uuid.uuid4())).container_name
        assert answers_of(in_memory, container) == answers_of(storage, container)


def answers_of(storage: BlobServiceClient, container: str) -> list[object]:
    """Run the operations on a blob, and return the outcome of each request."""
    blob = storage.get_container_client(container).get_blob_client("a.json")
    tags: list[str] = []

    def write(number: int = -1, **options: Any) -> None:
        if number >= 0:
            options |= {"etag": tags[number], "match_condition": MatchConditions.IfNotModified}
        tags.append(str(blob.upload_blob(b"{}", **{"overwrite": True, **options})["etag"]))

    def read(**condition: Any) -> object:
        found = blob.download_blob(**condition)
        return found.readall(), found.properties.etag == tags[-1]

    steps: list[Callable[[], object]] = [
        read,
        lambda: write(overwrite=False),
        lambda: write(overwrite=False),
        lambda: read(etag=tags[0], match_condition=MatchConditions.IfModified),
        lambda: write(0),
        lambda: write(0),
        lambda: read(etag=tags[0], match_condition=MatchConditions.IfModified),
        lambda: blob.get_blob_properties().etag == tags[1],
        read,
        write,
        lambda: write(1),
        read,
    ]
    answers: list[object] = []
    for step in steps:
        try:
            answers.append(step())
        except HttpResponseError as error:
            answers.append((type(error), error.status_code))
    return [*answers, len(tags), sorted(tags) == tags]
