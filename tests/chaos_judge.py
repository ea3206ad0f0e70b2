"""The judge of a chaos run: compares what was dropped, what the platform saw, and what the results say of it."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from jsonschema import ValidationError

from tests.leaks import publishes_secret, tells_secret
from tests.schema import check_result

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from local.itwin_platform import ReceivedRequest
    from shared.drop import Version

FINAL = ("uploaded", "rejected", "superseded", "failed")
FINAL_ANSWERS = (404, 413, 422)

Kind = Literal["legal", "illegal", "ignored"]
Document = dict[str, Any]


@dataclass(frozen=True)
class Written:
    """One version of a blob, in the `order` of writing; `sha256` is what must reach the platform."""

    itwin_id: str
    version: Version
    order: int
    kind: Kind
    known: bool
    sha256: str | None

    @property
    def path(self) -> str:
        """The result's name."""
        return f"{self.itwin_id}/{self.version.blob}.json"


@dataclass
class Evidence:
    """What a run left behind; `histories` are all documents ever written, by name, in order."""

    written: list[Written] = field(default_factory=list)
    histories: dict[str, list[Document]] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)
    calls_astray: list[str] = field(default_factory=list)
    stored: dict[str, Document] = field(default_factory=dict)
    answers: list[ReceivedRequest] = field(default_factory=list)
    images: dict[str, bytes] = field(default_factory=dict)
    queued: dict[str, int] = field(default_factory=dict)
    dead_letters: list[str] = field(default_factory=list)
    secrets: list[str] = field(default_factory=list)

    def live(self) -> list[Written]:
        """Return the last version of each blob."""
        return list({written.path: written for written in self.written}.values())

    def document(self, written: Written) -> Document:
        """Return the last result of the blob if it is of this version."""
        document = (self.histories.get(written.path) or [{}])[-1]
        return document if _etag(document) == written.version.etag else {}

    def unfinished(self) -> list[Written]:
        """Return the drops that have no final result yet."""
        return [w for w in self.live() if w.kind != "ignored" and self.document(w).get("status") not in FINAL]


def judge(evidence: Evidence) -> list[str]:
    """Return every promise that was broken, in words."""
    answers = {answer.correlation_id: answer for answer in evidence.answers}
    by_itwin: defaultdict[str, list[Written]] = defaultdict(list)
    for written in evidence.written:
        by_itwin[written.itwin_id].append(written)
    verdicts: list[Iterator[str]] = [
        (f"The queue {name} holds {count} messages." for name, count in evidence.queued.items() if count),
        (f"A call or a token went astray: {where}." for where in evidence.calls_astray),
        (f"{name} is a dead letter." for name in evidence.dead_letters),
        *(_judge_drop(written, evidence, answers) for written in evidence.live()),
        *(_judge_history(name, documents, evidence.written) for name, documents in evidence.histories.items()),
        *(_judge_itwin(drops, evidence) for drops in by_itwin.values() if drops[0].known),
        _judge_secrets(evidence),
    ]
    return [violation for verdict in verdicts for violation in verdict]


def _judge_drop(written: Written, evidence: Evidence, answers: Mapping[str, ReceivedRequest]) -> Iterator[str]:
    """See that the result is final and what the platform saw."""
    document = evidence.document(written)
    if written.kind == "ignored":
        if document:
            yield f"{written.path} has a result, but nobody meant that blob."
    elif document.get("status") not in FINAL:
        yield f"{written.path} has no final result: {document.get('status')}, {document.get('reason')}"
    elif evidence.stored.get(written.path) != document:
        yield f"{written.path} is not what was written last."
    else:
        yield from _judge_status(written, document, answers)


def _judge_status(written: Written, document: Document, answers: Mapping[str, ReceivedRequest]) -> Iterator[str]:
    status, response = document["status"], document["response"]
    answer = answers.get(response["correlationId"]) if response else None
    heard = (answer.path, answer.status) if answer else None
    path = f"/itwins/{written.itwin_id}/image"
    match status:
        case "uploaded":
            sent = document["sent"]["sha256"]
            if heard != (path, 201) or not answer or not sent == answer.body_sha256 == written.sha256:
                yield f"{written.path} says uploaded, but the platform saw {heard}."
        case "rejected" if response:
            if heard != (path, response["httpStatus"]) or response["httpStatus"] not in FINAL_ANSWERS:
                yield f"{written.path} says rejected with {response['httpStatus']}, but the platform answered {heard}."
        case "rejected" if written.kind == "legal":
            yield f"{written.path} was rejected, but is legal: {document['reason']}"
        case "failed":
            yield f"{written.path} failed: {document['reason']}"


def _judge_history(name: str, documents: Sequence[Document], written: Sequence[Written]) -> Iterator[str]:
    """See that a final result stayed, unless a later version came, or the same one was brought up after all."""
    order = {w.version.etag: w.order for w in written if w.path == name}
    ended: Document | None = None
    for document in documents:
        try:
            check_result(document)
        except ValidationError as error:
            yield f"{name} is not what the schema says: {error.message}"
        if ended is not None:
            before, now = (order.get(_etag(d) or "", -1) for d in (ended, document))
            if now < before or (now == before and document["status"] != "uploaded"):
                yield f"{name}: {ended['status']} was final, but gave way to {document['status']}."
            elif now > before:
                ended = None
        if document["status"] in FINAL:
            ended = document


def _judge_itwin(drops: Sequence[Written], evidence: Evidence) -> Iterator[str]:
    """See that no drop that ended well is newer than the image that is there."""
    ended_well = [w for w in drops if w.sha256 and evidence.document(w).get("status") in ("uploaded", "superseded")]
    image = evidence.images.get(drops[0].itwin_id)
    shown = next((w for w in drops if image and w.sha256 == hashlib.sha256(image).hexdigest()), None)
    if shown is None:
        if ended_well:
            yield f"{drops[0].itwin_id} shows none of its drops."
        return
    for written in ended_well:
        if _is_newer(written, shown, drops):
            yield f"{written.itwin_id} shows {shown.version}, but {written.version} is newer."


def _is_newer(one: Written, other: Written, drops: Sequence[Written]) -> bool:
    """Whether one was certainly written later than the other."""
    if one.version.blob == other.version.blob:
        return one.order > other.order
    if one.version.last_modified != other.version.last_modified:
        return one.version.last_modified > other.version.last_modified
    # Versions of one blob within a second are told apart by asking which is there, those of two blobs by their ETags;
    # where both happens at once, there is no order that everybody could know.
    torn = any(drop.version.ties_with(written.version) for written in (one, other) for drop in drops)
    return not torn and one.version > other.version


def _judge_secrets(evidence: Evidence) -> Iterator[str]:
    """Find secrets in what was logged and published; signed URLs belong into results alone, and there to the image."""
    for line in evidence.lines:
        if tells_secret(line, evidence.secrets):
            yield f"A secret was logged: {line[:60]}..."
    for name, documents in evidence.histories.items():
        if any(publishes_secret(document, evidence.secrets) for document in documents):
            yield f"A secret was published in {name}."


def _etag(document: Document) -> str | None:
    etag = (document.get("source") or {}).get("etag")
    return etag if isinstance(etag, str) else None
