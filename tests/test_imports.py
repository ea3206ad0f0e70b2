"""Imports point one way: a reader can begin anywhere and never comes back to where they were."""

from __future__ import annotations

import ast
from graphlib import CycleError, TopologicalSorter
from itertools import chain
from typing import TYPE_CHECKING

import pytest

from local.processes import PROJECT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HOUSES = ("shared", "local", "client", "tools")


def name_of(file: Path) -> str:
    """Return what a module is imported as."""
    return ".".join(file.relative_to(PROJECT).with_suffix("").parts).removesuffix(".__init__")


def modules() -> dict[str, Path]:
    """Return all modules of the program by name."""
    files = chain([PROJECT / "function_app.py"], *((PROJECT / house).rglob("*.py") for house in HOUSES))
    return {name_of(file): file for file in files}


def imported_by(file: Path, known: dict[str, Path]) -> Iterator[str]:
    """Yield which of the known modules a file imports: also for its types alone, and in the midst of a function."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield from (name for name in (inner if inner in known else node.module,) if name in known)


def test_there_are_no_circular_imports() -> None:
    """Neither at run time nor for type checkers."""
    known = modules()
    graph = {name: set(imported_by(file, known)) - {name} for name, file in known.items()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" <- ".join(error.args[1]))
    assert graph["function_app"]


def test_the_local_cloud_never_imports_the_app() -> None:
    """Otherwise the two could agree on something that no real service understands."""
    known = modules()
    apart = {name for name in known if name.startswith("local")}
    assert {name for name in apart for found in imported_by(known[name], known) if found.startswith("shared")} == set()
