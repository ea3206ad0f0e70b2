"""The story of a drop, top to bottom: read, normalize, upload, write what came of it."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from shared.drop import read_source
from shared.errors import Bug, DropError
from shared.image import normalize_image
from shared.results import Result

if TYPE_CHECKING:
    from shared.drop import Drop, Source
    from shared.image import NormalizedImage
    from shared.itwin_platform import UploadedImage
    from shared.services import Services

log = logging.getLogger("itwin_image_drop")


def process_drop(drop: Drop, services: Services) -> Result | None:
    """Take a drop to its iTwin and write its result; None where the blob is nobody's image.

    Raises azure.core.exceptions.AzureError where the result cannot be written: then the host delivers the drop again.
    """
    if drop.is_reserved(services.results_container) or drop.is_housekeeping():
        return None
    started_at = datetime.now(UTC)
    source: Source | None = None
    image: NormalizedImage | None = None
    verdict: UploadedImage | DropError
    try:
        itwin_id = drop.itwin_id
        settings = services.settings
        source = read_source(services.storage, drop, max_bytes=settings.max_source_bytes)
        if source.is_directory_marker(drop):
            return None
        image = normalize_image(source.content(), settings.limits)
        verdict = services.platform.upload_image(itwin_id, image)
    except DropError as error:
        verdict = error
    return _conclude(Result(drop, source, image, verdict, 1, started_at, datetime.now(UTC)), services)


def bury_poison(drop: Drop, services: Services) -> Result | None:
    """Write the result of a drop on which the app failed so often that the host gave it up."""
    if drop.is_reserved(services.results_container):
        return None
    now = datetime.now(UTC)
    message = "The app failed on this drop again and again, and it was given up: see the log. Drop the image again."
    return _conclude(Result(drop, None, None, Bug(message), 1, now, now), services)


def _conclude(result: Result, services: Services) -> Result:
    services.results.write(result)
    level = {"uploaded": logging.INFO, "rejected": logging.WARNING}.get(result.status, logging.ERROR)
    # The cause of an error is the operator's business: it is logged, and not published.
    cause = result.verdict.__cause__ if isinstance(result.verdict, DropError) else None
    log.log(level, "%s", json.dumps(_log_entry(result, cause), ensure_ascii=False))
    return result


def _log_entry(result: Result, cause: BaseException | None) -> dict[str, object]:
    document = result.document()
    verdict = result.verdict
    return {
        "itwin": result.drop.container,
        "blob": result.drop.blob,
        "etag": document["source"]["etag"],
        "status": result.status,
        "code": verdict.code if isinstance(verdict, DropError) else None,
        "reason": document["reason"],
        "cause": type(cause).__name__ if cause else None,
        "changes": document["sent"]["changes"] if document["sent"] else None,
        "correlationId": document["response"]["correlationId"] if document["response"] else None,
        "durationS": round((result.finished_at - result.started_at).total_seconds(), 3),
    }
