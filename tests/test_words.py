"""What people read is plain, idiomatic English: phrases that no native engineer would write do not come back."""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING

import pytest

from local.processes import PROJECT

if TYPE_CHECKING:
    from collections.abc import Iterator

# What reads as if it were translated, and what to write instead.
INSTEAD_OF = {
    r"(?<!there )\bis no (?!longer\b|more\b|older\b|newer\b|different\b)": '"is not a ..."',
    r"\banew\b": '"again", or re-encoded',
    r"\b(?:be|was|were) had\b": "obtained, available",
    r"\b(?:an?|as) text\b(?! file)": '"a text file", "a string"',
    r"\b(?:give[ns]?|gave|giving) (?:it )?up\b": "stop retrying, fail",
    r"\ball are there\b": "name what is complete",
    r"\bin doubt\b": "unsettled",
    r"\bonce more\b": '"again"',
    r"\blast word\b": "dead letter",
    r"\blie over\b|\bcome to lie\b": "overwrite",
    r"\bmanieth\b|\bso many wait\b": '"every n-th", "about n"',
    r"\bstrangers?\b": "unsupported formats",
    r"\bsound (?:file|image|picture)\b|\bsoundness\b": "intact, integrity",
    r"\b(?:did not do it|do what it was asked|did what it was asked)\b": "name what failed",
    r"\b(?:that|which) (?:is|are) read\b": "supported",
    r"\bsays of itself\b": "states, claims",
    r"\bthe cloud that runs\b": "the running cloud",
    r"\bmore lately\b": "more recently",
    r"\bhalf a character\b": "a lone surrogate",
    r"\bnone of this app's\b": "not a message of this app",
    r"\bwants? (?:the|a|its) \w*\s?key\b": "needs, requires",
    r"\bforeign (?:JSON|messages?)\b": "untrusted, unknown",
    r"\bwhat (?:is|are) no\b": "what is not a",
    r"\bfor good\b": "permanently",
    r"\bcounts? as none\b": "is ignored",
    r"\ba usual (?:JPEG|PNG|TIFF|one)\b": "an ordinary ..., than usual",
    r"\bresponded (?:X|\d{3})\b": "responded with",
    r"\bavailable just now\b": "currently unavailable",
    r"\bbits a channel\b": "bits per channel",
    r"\bof a kind that is not known\b": "of an unknown kind",
    r"\bput together of\b": "put together from",
    r"\bdata (?:end|are)\b": "data ends, data is",
    r"\bagreed on\b": "negotiated",
    r"\bthe process that had the\b": "that was decoding the ...",
    r"\bone (?:\w+ )*?a line\b": "one per line",
    r"\bwith all that is in (?:it|them)\b": "with everything in it",
    r"\blies in no\b": '"is not in a ..."',
    r"\bwhich there is not\b": "which does not exist",
    r"\b(?:does|did) not take it\b": "refuses, refused",
    r"\bby its name it is\b": "its name is that of",
    r"\banswered (?:with )?(?:status )?(?:X|\dxx|\d{3})\b": "responded with",
    r"\bforbids? to\b": "prevents ... from",
    r"\bshall\b": "must, should, will",
    r"\b(?:is|are) not there\b(?! yet)": "does not exist",
    r"\btak(?:es|en|e|ing) up\b": "processes, recovers",
    r"\bbrings? up\b|\bgoes out of\b|\bsaid to be\b": "plainer words",
    r"\bwhat (?:became|becomes) of\b": "what happened to",
    r"\btells? of\b": "reports, is about",
    r"\bat a second try\b": "on a second try",
    r"\bin the place of\b": "in place of",
    r"\bjust (?:now|then)\b": "at the moment, temporarily",
    r"\bwritten down\b": "recorded, stored",
    r"\bsaid nothing\b": "printed nothing",
    r"\bmakes? (?:an|the|this) iTwin\b": "create",
    r"\bfor ever\b": "forever",
    r"\ball the world\b": "public",
    r"\bpeople's tools\b": "third-party tools",
    r"\bof one's own\b": "your own",
    r"\blies in\b": "is in",
    r"\bdoes not do\b": "is not suitable",
    r"\bhow far it is\b": "its progress",
    r"\bmends?\b|\bcure[sd]?\b": "fixes",
}


def files(*patterns: str) -> list[str]:
    """Return files by their place in the project."""
    return sorted(file.relative_to(PROJECT).as_posix() for pattern in patterns for file in PROJECT.glob(pattern))


PROGRAMS = files(
    "*.py", *(f"{folder}/**/*.py" for folder in ("benchmarks", "client", "infra", "local", "shared", "tools"))
)
PAGES = files(
    "*.md", "*/*.md", "*.yaml", "Makefile", ".ci/run", "infra/**/*.bicep", "infra/*.json", "local/console/static/*.*"
)


def messages(source: str) -> Iterator[tuple[int, str]]:
    """Yield what a program says, each with its line; not its docstrings, which say things to whoever changes it."""
    tree = ast.parse(source)
    silent = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    inner = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    for node in ast.walk(tree):
        if id(node) in silent | inner:
            continue
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, node.value
        elif isinstance(node, ast.JoinedStr):
            yield (
                node.lineno,
                "".join(str(part.value) if isinstance(part, ast.Constant) else "X" for part in node.values),
            )


def odd_phrases(text: str) -> list[str]:
    """Return which phrases are in a text, each with what to write instead."""
    flat = " ".join(text.split())
    return [
        f"{found[0]!r}: {better}"
        for odd, better in INSTEAD_OF.items()
        for found in re.finditer(odd, flat, re.IGNORECASE)
    ]


@pytest.mark.parametrize("file", PROGRAMS)
def test_messages_are_idiomatic(file: str) -> None:
    """Errors, results, help and logs alike."""
    found = {
        line: odd for line, said in messages((PROJECT / file).read_text(encoding="utf-8")) if (odd := odd_phrases(said))
    }
    assert found == {}


@pytest.mark.parametrize("file", PAGES)
def test_pages_are_idiomatic(file: str) -> None:
    """The docs, the console, and what the portal shows of the deployment."""
    assert odd_phrases((PROJECT / file).read_text(encoding="utf-8")) == []


def test_an_unidiomatic_phrase_is_found_across_lines_and_parts() -> None:
    """Also in capitals, and in a message with placeholders."""
    assert odd_phrases("Save it\nANEW.") == ["'ANEW': \"again\", or re-encoded"]
    (said,) = messages('"""It was given up."""\nsay(f"{port} is no port")')
    assert odd_phrases(said[1]) == ["'is no ': \"is not a ...\""]
    assert odd_phrases("There is no such blob. It is no longer there; it is a text file.") == []


def test_the_descriptions_of_the_schema_are_idiomatic() -> None:
    """They become comments in generated code."""
    assert odd_phrases((PROJECT / "docs" / "result.schema.json").read_text(encoding="utf-8")) == []
