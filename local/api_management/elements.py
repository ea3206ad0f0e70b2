"""Reads the elements of a policy document. Raises PolicyError for whatever the stand-in does not support."""

from __future__ import annotations

from typing import TYPE_CHECKING

from local.api_management.expressions import PolicyError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from xml.etree import ElementTree as ET


def attributes_of(element: ET.Element, *names: str) -> Mapping[str, str]:
    """Return the attributes, which must be exactly these."""
    if set(element.attrib) != set(names):
        odd = sorted(set(element.attrib) ^ set(names))
        raise PolicyError(
            f"The stand-in of API Management supports <{element.tag}> with the attributes "
            f"{', '.join(names) or 'none'}; here {', '.join(odd)} is missing or unexpected."
        )
    return element.attrib


def check_value(element: ET.Element, name: str, found: str, *known: str) -> None:
    """Refuse a value of an attribute that is not a known one."""
    if found not in known:
        raise PolicyError(
            f"The stand-in of API Management supports {' and '.join(known)} for {name} of <{element.tag}>, "
            f"not {found!r}."
        )


def children_of(element: ET.Element, *tags: str) -> list[ET.Element]:
    """Return the children, which must be exactly these, in this order."""
    found = [child.tag for child in element]
    if found != list(tags):
        raise PolicyError(
            f"The stand-in of API Management supports <{element.tag}> with {', '.join(tags) or 'nothing'} in it, "
            f"not with {', '.join(found) or 'nothing'}."
        )
    return list(element)


def entries_of(element: ET.Element, tag: str) -> list[ET.Element]:
    """Return the children, of which there must be at least one, all with this tag."""
    return children_of(element, *[tag] * max(len(element), 1))


def children_by_tag(element: ET.Element, *tags: str) -> dict[str, list[ET.Element]]:
    """Return the children by tag: any number of each, in this order, as the policies' documentation demands."""
    positions = [tags.index(child.tag) if child.tag in tags else -1 for child in element]
    if -1 in positions or positions != sorted(positions):
        raise PolicyError(
            f"The stand-in of API Management supports <{element.tag}> with {', '.join(tags)} in it, in this order, "
            f"not with {', '.join(child.tag for child in element)}."
        )
    return {tag: element.findall(tag) for tag in tags}


def text_of(element: ET.Element) -> str:
    """Return the text of an element without the space around it."""
    return (element.text or "").strip()
