"""The published schema of the result document, to hold every result against."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

SCHEMA = json.loads((Path(__file__).parent.parent / "docs" / "result.schema.json").read_text())
VALIDATOR = Draft202012Validator(SCHEMA)


def check_result(document: dict[str, Any]) -> dict[str, Any]:
    """Return the document; raises jsonschema.ValidationError where it is not what is published."""
    VALIDATOR.validate(document)
    return document
