"""The published schema of the result document, to hold every result against."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator, FormatChecker

SCHEMA = json.loads((Path(__file__).parent.parent / "docs" / "result.schema.json").read_text(encoding="utf-8"))
FORMATS = FormatChecker(formats=())
VALIDATOR = Draft202012Validator(SCHEMA, format_checker=FORMATS)


@FORMATS.checks("date-time", raises=ValueError)
def is_time(value: object) -> bool:
    """Say whether it is a moment that the calendar has; what is no text has no format."""
    return not isinstance(value, str) or bool(datetime.fromisoformat(value))


def check_result(document: dict[str, Any]) -> dict[str, Any]:
    """Return the document; raises jsonschema.ValidationError where it is not what is published."""
    VALIDATOR.validate(document)
    return document
