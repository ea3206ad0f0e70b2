"""The policy document: how it is read into statements, and which of its sections a call runs through."""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

from local.api_management.call import Call, Failure, Response, Returned, told
from local.api_management.expressions import PolicyError
from local.api_management.statements import SECTIONS, SectionReader, run_all

if TYPE_CHECKING:
    from collections.abc import Mapping


class Policy:
    """The statements of a policy document. Raises PolicyError if it contains anything that is not supported."""

    def __init__(self, document: str, named_values: Mapping[str, str]) -> None:
        try:
            root = ET.fromstring(document)  # noqa: S314 - the project's own file
        except ET.ParseError as error:
            raise PolicyError(f"The policy is not well-formed XML: {error}.") from error
        _check_named_values(document, named_values)
        _fill_in(root, named_values)
        if root.tag != "policies" or tuple(child.tag for child in root) != SECTIONS:
            raise PolicyError(f"A policy for this stand-in must have the sections {', '.join(SECTIONS)}.")
        self._sections = {section.tag: SectionReader(section.tag).read(section) for section in root}

    async def run(self, call: Call) -> Response:
        """Run a call through the sections."""
        try:
            try:
                for section in ("inbound", "backend", "outbound"):
                    await run_all(self._sections[section], call)
            except Failure as failure:
                call.last_error = failure.error
                call.response = told(failure.status, failure.error.message)
                await run_all(self._sections["on-error"], call)
        except Returned as returned:
            return returned.response
        assert call.response is not None  # noqa: S101 - forward-request is required
        return call.response


def _check_named_values(document: str, named_values: Mapping[str, str]) -> None:
    """Check all named values in double braces, even in comments, which API Management may read."""
    for name in (rest.partition("}}")[0] for rest in document.split("{{")[1:]):
        if name not in named_values:
            raise PolicyError(f"The policy uses the named value {name!r}, which does not exist.")


def _fill_in(root: ET.Element, named_values: Mapping[str, str]) -> None:
    """Replace `{{names}}` by the named values."""

    def fill(text: str) -> str:
        for name, value in named_values.items():
            text = text.replace(f"{{{{{name}}}}}", value)
        return text

    for element in root.iter():
        element.text = fill(element.text or "")
        for name, text in element.attrib.items():
            element.set(name, fill(text))
