"""`make` is understood at a glance, installs no more than is needed, and works wherever the project lies."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from typing import TYPE_CHECKING

import pytest

from local.processes import PROJECT

if TYPE_CHECKING:
    from pathlib import Path

TEXT = (PROJECT / "Makefile").read_text(encoding="utf-8")
SHELL = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
"""The environment of somebody's shell: not of the `make` that may run these tests."""
TARGETS = re.findall(r"^\.PHONY: (\S+)", TEXT, re.MULTILINE)


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """Return the project in a folder with a space in its name, without what was made in it."""
    folder = tmp_path / "with space"
    folder.mkdir()
    for entry in PROJECT.iterdir():
        if entry.name not in (".git", ".venv", ".venv-highest", "node_modules", ".local"):
            (folder / entry.name).symlink_to(entry)
    return folder


def commands(folder: Path, target: str, **variables: str) -> str:
    """Return what a target would run where nothing has been made yet."""
    done = subprocess.run(
        ["make", "--dry-run", "--always-make", target],
        cwd=folder,
        env={**SHELL, **variables},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.replace("\\\n", " ")


def test_help_lists_every_target_once_and_aligned() -> None:
    """Targets that only other targets use are not listed."""
    done = subprocess.run(["make", "help"], cwd=PROJECT, env=SHELL, capture_output=True, text=True, check=True)
    listed = [re.fullmatch(r"(\S+)( +)(\S.*)", line) for line in done.stdout.splitlines()]
    assert all(listed)
    names = [line[1] for line in listed if line]
    assert sorted(names) == sorted(target for target in TARGETS if re.search(rf"^{target}:.*##", TEXT, re.MULTILINE))
    assert {"demo", "up", "test", "lint"} <= set(names)
    assert len({len(line[1] + line[2]) for line in listed if line}) == 1


@pytest.mark.parametrize("target", ["demo", "up"])
def test_the_demo_installs_no_development_tools(elsewhere: Path, target: str) -> None:
    """Whoever only wants to see it waits briefly, and sees what for."""
    said = commands(elsewhere, target)
    assert "-r requirements-local.txt" in said
    assert "npm ci --loglevel=error --omit=dev" in said
    assert "requirements-dev.txt" not in said
    assert re.search(r"^echo .*Installing ", said, re.MULTILINE)
    assert "--quiet" not in said


@pytest.mark.parametrize("target", ["test", "lint", "docs", "fuzz", "test-console"])
def test_development_targets_install_development_tools(elsewhere: Path, target: str) -> None:
    """In addition to what the demo needs."""
    assert "-r requirements-dev.txt" in commands(elsewhere, target)


@pytest.mark.parametrize("target", TARGETS)
def test_every_target_works_in_a_folder_with_a_space_in_its_name(elsewhere: Path, target: str) -> None:
    """No path is split into words, neither the project's nor a tool's."""
    tools = elsewhere / "tools of others"
    variables = {"CHROMIUM": str(tools / "chromium"), "PYENV_ROOT": str(tools)}
    (tools / "versions").mkdir(parents=True)
    said = commands(elsewhere, target, **variables)
    words = [word for line in said.splitlines() for word in shlex.split(line, comments=True)]
    broken = [word for word in words if str(elsewhere.parent) in word and str(elsewhere) not in word]
    assert broken == []
    assert not [word for word in words if word.startswith(("space/", "of others/", "others/"))]


def test_a_python_is_found_if_its_path_contains_a_space(tmp_path: Path) -> None:
    """A home folder may be named after a first and a last name."""
    python = tmp_path / "two names" / "versions" / "3.12.9" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text('#!/bin/sh\n[ "$3" = 3.12 ]\n')
    python.chmod(0o755)
    rule = "found: ; @echo '$(call find_python,3.12)'\n"
    (tmp_path / "Makefile").write_text(
        TEXT.partition("LOWEST :=")[0].replace("/usr/bin/python", "/nowhere/python") + rule
    )
    done = subprocess.run(
        ["make", "--silent", "found"],
        cwd=tmp_path,
        env={"PATH": "/nowhere:/usr/bin:/bin", "PYENV_ROOT": str(tmp_path / "two names")},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == str(python)
