"""What must be true after a chaos run: compares what was dropped, what the platform received, and what the results say.

A drop that was deleted or overwritten cannot be resent. So an older image may remain on its iTwin if the platform
carried out an earlier upload late.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from dataclasses import dataclass, field
from functools import cached_property
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Literal

from jsonschema import ValidationError

from tests.schema import check_result
from tools.leaks import contains_secret, publishes_secret

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from local.itwin_platform import ReceivedRequest
    from shared.drop import Version

FINAL = ("uploaded", "rejected", "superseded", "failed")
FINAL_ANSWERS = (404, 413, 422)
NEVER = (-1, 0, 0)
COMES_BACK = 2  # a dead-lettered drop is retried this many times

Kind = Literal["legal", "illegal", "ignored"]
Document = dict[str, Any]


@dataclass(frozen=True)
class Written:
    """One version of a blob, in the `order` of writing; `sha256` is the digest of what must be uploaded."""

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
    """What a run left behind, to be judged once everything is idle.

    `deleted` and `archived` are the ETags of such versions, as written; `touched` are the versions that storage
    created when metadata was set, which does not change the content, by that ETag. `histories` are all documents
    ever written, by name, in order; `replayed` are the names of results whose drops an operator replayed;
    `dead_letters` are the drops whose message was dead-lettered: the result's name, and the ETag if it was known.
    """

    written: list[Written] = field(default_factory=list)
    deleted: set[str] = field(default_factory=set)
    touched: dict[str, list[Version]] = field(default_factory=dict)
    histories: dict[str, list[Document]] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)
    calls_astray: list[str] = field(default_factory=list)
    stored: dict[str, Document] = field(default_factory=dict)
    answers: list[ReceivedRequest] = field(default_factory=list)
    images: dict[str, bytes] = field(default_factory=dict)
    queued: dict[str, int] = field(default_factory=dict)
    dead_letters: list[tuple[str, str | None]] = field(default_factory=list)
    replayed: set[str] = field(default_factory=set)
    archived: set[str] = field(default_factory=set)
    secrets: list[str] = field(default_factory=list)

    def last(self) -> dict[str, Written]:
        """Return the last version of each blob, deleted or not, by the name of its result."""
        return {written.path: written for written in self.written}

    def live(self) -> list[Written]:
        """Return the versions that storage still has."""
        return [written for written in self.last().values() if written.version.etag not in self.deleted]

    def document(self, written: Written) -> Document:
        """Return the last result of the blob if it is about this version."""
        document = (self.histories.get(written.path) or [{}])[-1]
        return document if _etag(document) in {version.etag for version in self.versions(written)} else {}

    def versions(self, written: Written) -> list[Version]:
        """Return the version that was written, and the one created by setting its metadata."""
        return [written.version, *self.touched.get(written.version.etag, [])]

    def unfinished(self) -> list[str]:
        """Return the names of results that are missing or not final yet."""
        silent = [w.path for w in self.live() if w.kind != "ignored" and self.document(w).get("status") not in FINAL]
        histories = list(self.histories.items())
        waiting = [name for name, documents in histories if (documents or [{}])[-1].get("status") not in FINAL]
        return silent + waiting

    @cached_property
    def answer(self) -> dict[str, ReceivedRequest]:
        """The platform's responses, by correlation ID."""
        return {answer.correlation_id: answer for answer in self.answers}

    @cached_property
    def by_etag(self) -> dict[str, Written]:
        """The versions written, by all of their ETags."""
        return {version.etag: written for written in self.written for version in self.versions(written)}

    @cached_property
    def by_itwin(self) -> dict[str, list[Written]]:
        """The versions written, by iTwin."""
        found: defaultdict[str, list[Written]] = defaultdict(list)
        for written in self.written:
            found[written.itwin_id].append(written)
        return found

    @cached_property
    def brought_up(self) -> set[tuple[str, str]]:
        """The uploads that the platform carried out: their path and the SHA-256 of the image."""
        return {(answer.path, answer.body_sha256) for answer in self.answers if answer.status == HTTPStatus.CREATED}


def judge(evidence: Evidence) -> list[str]:
    """Return every promise that was broken, in words."""
    documents = [(name, document) for name, history in evidence.histories.items() for document in history]
    verdicts: list[Iterator[str]] = [
        (f"The queue {name} holds {count} messages." for name, count in evidence.queued.items() if count),
        (f"A call or a token was sent to another host: {where}." for where in evidence.calls_astray),
        *(_judge_dead_letter(*letter, evidence) for letter in evidence.dead_letters),
        *(_judge_end(written, evidence) for written in evidence.last().values()),
        *(_judge_history(name, history, evidence) for name, history in evidence.histories.items()),
        *(_judge_document(name, document, evidence) for name, document in documents),
        *(_judge_itwin(drops, evidence) for drops in evidence.by_itwin.values() if drops[0].known),
        _judge_secrets(evidence),
    ]
    return [violation for verdict in verdicts for violation in verdict]


def _judge_dead_letter(name: str, etag: str | None, evidence: Evidence) -> Iterator[str]:
    """Check that a dead-lettered drop has a final result, unless the blob was overwritten."""
    documents, last = evidence.histories.get(name), evidence.last().get(name)
    is_overwritten = etag is not None and last is not None and evidence.by_etag.get(etag) != last
    if not is_overwritten and (not documents or documents[-1]["status"] not in FINAL):
        yield f"{name} was dead-lettered without a final result."


def _judge_end(written: Written, evidence: Evidence) -> Iterator[str]:
    """Check that the last result of a blob is final, and is about the version in storage.

    A blob that is deleted before it is read has no result.
    """
    history = evidence.histories.get(written.path, [])
    if written.kind == "ignored":
        if history:
            yield f"{written.path} has a result, but was never dropped."
        return
    is_gone = written.version.etag in evidence.deleted
    document = (history or [{}])[-1] if is_gone else evidence.document(written)
    if document.get("status") not in FINAL and not (is_gone and not history):
        yield f"{written.path} has no final result: {document.get('status')}, {document.get('reason')}"
    elif evidence.stored.get(written.path, {}) != document:
        yield f"{written.path} is not about the version that was written last."


def _judge_history(name: str, history: Sequence[Document], evidence: Evidence) -> Iterator[str]:
    """Check that a final result was only replaced by one about a later version, or by the upload of the same version.

    A result without a version, such as that of a deleted blob, may be replaced by one with a version; and that of a
    version that had been uploaded may be replaced by the outcome of resending it.
    """
    latest, ended = NEVER, ""
    for document in history:
        etag, status = _etag(document) or "", document["status"]
        written = evidence.by_etag.get(etag)
        order = _order(written, etag, evidence) if written else NEVER
        is_tried_again = name in evidence.replayed or (written and _was_up(written, evidence))
        is_corrected = ended in ("failed", "rejected") and status in FINAL and is_tried_again
        if order < latest and (ended or written):
            yield f"{name}: {status} of an older version, or of none, replaced the result of a later version."
        elif order == latest and written and ended and status != "uploaded" and not is_corrected:
            yield f"{name}: {ended} was final, but was replaced by {status}."
        if order > latest or not ended:
            latest, ended = order, ""
        if order == latest and status in FINAL:
            ended = status


def _order(written: Written, etag: str, evidence: Evidence) -> tuple[int, int, int]:
    """Return the position of the version with this ETag among all versions.

    Two writes of the same bytes within a second cannot be told apart, whatever was written between them. If a blob's
    metadata is set before its event arrives, the event begins a drop of its own, with the same content.
    """
    version = written.version
    twins = (
        other.order
        for other in evidence.by_itwin[written.itwin_id]
        if other.version.has_content_of(version) and other.version.last_modified == version.last_modified
    )
    etags = [each.etag for each in evidence.versions(written)]
    return max(twins, default=written.order), written.order, etags.index(etag)


def _judge_document(name: str, document: Document, evidence: Evidence) -> Iterator[str]:
    """Check that a result matches the schema, and that what it says about the platform's response is true."""
    try:
        check_result(document)
    except ValidationError as error:
        yield f"{name} does not match the schema: {error.message}"
        return
    written, status, response = evidence.by_etag.get(_etag(document) or ""), document["status"], document["response"]
    answer = evidence.answer.get(response["correlationId"]) if response else None
    heard = (answer.path, answer.status) if answer else None
    if response and heard != (f"/itwins/{name.partition('/')[0]}/image", response["httpStatus"]):
        yield f"{name} says {status} after {response['httpStatus']}, but the platform responded with {heard}."
    elif status in FINAL and not _is_true(written, document, answer, evidence):
        yield f"{name} says {status}, which is not true: {document['reason']} The platform responded with {heard}."


def _is_true(written: Written | None, document: Document, answer: ReceivedRequest | None, evidence: Evidence) -> bool:
    name = f"{document['source']['container']}/{document['source']['blob']}.json"
    if document["status"] == "failed":
        return [found for found, _ in evidence.dead_letters].count(name) > COMES_BACK
    if document["status"] == "rejected" and document["error"]["code"] == "DropGone":
        return any(w.path == name and w.version.etag in evidence.deleted for w in evidence.written)
    if written is None or written.path != name:
        return False
    if document["status"] == "superseded":
        drops = evidence.by_itwin[written.itwin_id]
        return any(w is not written and _was_up(w, evidence) and not _is_newer(written, w, evidence) for w in drops)
    if answer is None:
        code = (document.get("error") or {}).get("code")
        is_archived = code == "SourceArchived" and written.version.etag in evidence.archived
        return document["status"] == "rejected" and (written.kind == "illegal" or is_archived)
    expected = FINAL_ANSWERS if document["status"] == "rejected" else (201,)
    return answer.status in expected and document["sent"]["sha256"] == answer.body_sha256 == written.sha256


def _judge_itwin(drops: Sequence[Written], evidence: Evidence) -> Iterator[str]:
    """Check that the image on each iTwin is that of the newest drop that was uploaded.

    Several drops may have that image. If the newest one was uploaded, but was deleted or refused when it was resent, an
    older image may have replaced it.
    """
    live = [w for w in evidence.live() if w.itwin_id == drops[0].itwin_id]
    stuck = [w for w in drops if _was_up(w, evidence) and (w not in live or _is_refused(w, evidence))]
    stuck += [w for w in drops if w.version.etag in evidence.archived]
    ends = ("uploaded", "superseded")
    ended_well = [w for w in live if w.sha256 and evidence.document(w).get("status") in ends and w not in stuck]
    image = evidence.images.get(drops[0].itwin_id)
    shown = [w for w in drops if image and w.sha256 == hashlib.sha256(image).hexdigest()]
    if not shown:
        if image or ended_well:
            yield f"{drops[0].itwin_id} shows none of its drops."
        return
    for written in ended_well:
        if all(_is_newer(written, w, evidence) for w in (*shown, *stuck)):
            yield f"{written.itwin_id} shows {shown[-1].version}, but {written.version} is newer."


def _was_up(written: Written, evidence: Evidence) -> bool:
    return (f"/itwins/{written.itwin_id}/image", written.sha256) in evidence.brought_up


def _is_refused(written: Written, evidence: Evidence) -> bool:
    heard = [answer.status for answer in evidence.answers if answer.body_sha256 == written.sha256]
    return bool(heard) and heard[-1] in FINAL_ANSWERS


def _is_newer(one: Written, other: Written, evidence: Evidence) -> bool:
    """Whether one was certainly written later than the other, whenever the other was read or resent."""
    drops = evidence.by_itwin[one.itwin_id]
    if one.version.blob == other.version.blob:
        return one.order > other.order
    if evidence.touched.keys() & {one.version.etag, other.version.etag}:
        return one.version.last_modified > max(version.last_modified for version in evidence.versions(other))
    if one.version.last_modified != other.version.last_modified:
        return one.version.last_modified > other.version.last_modified
    # Versions of one blob within a second are told apart by reading which one is current, those of two blobs by ETag;
    # if both happens at once, no order is defined.
    torn = any(drop.version.ties_with(written.version) for written in (one, other) for drop in drops)
    return not torn and one.version > other.version


def _judge_secrets(evidence: Evidence) -> Iterator[str]:
    """Find secrets in logs and results; signed URLs may appear only in results, and there only in the image."""
    for line in evidence.lines:
        if contains_secret(line, evidence.secrets):
            yield f"A secret was logged: {line[:60]}..."
    for name, documents in evidence.histories.items():
        if any(publishes_secret(document, evidence.secrets) for document in documents):
            yield f"A secret was published in {name}."


def _etag(document: Document) -> str | None:
    etag = (document.get("source") or {}).get("etag")
    return etag if isinstance(etag, str) else None
