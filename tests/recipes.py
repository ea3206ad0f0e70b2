"""The programs in docs/recipes.md, to be run as they stand there."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING

from local.processes import PROJECT
from local.samples import building_site, encode
from tests.deadlines import HANG_S

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from local.cloud import LocalCloud

RECIPES = (PROJECT / "docs" / "recipes.md").read_text(encoding="utf-8")
SHELL_BLOCKS = re.findall(r"^```sh\n(.*?)^```$", RECIPES, re.DOTALL | re.MULTILINE)
PHOTO = encode(building_site(320, 240), "JPEG")
NAME = "north gate/photo.jpg"


def recipe(language: str, containing: str) -> str:
    """Return the one block of that language that has the text in it."""
    blocks = re.findall(rf"^```{language}\n(.*?)^```$", RECIPES, re.DOTALL | re.MULTILINE)
    (found,) = [block for block in blocks if containing in block]
    return str(found)


def program(language: str, *containing: str) -> str:
    """Return the one program that several blocks are together."""
    return "\n".join(recipe(language, text) for text in containing)


def prepare(folder: Path) -> Path:
    """Put into a folder what the page expects there; return it."""
    (folder / "photo.jpg").write_bytes(PHOTO)
    (folder / "docs").symlink_to(PROJECT / "docs")
    (folder / "node_modules").symlink_to(PROJECT / "node_modules")
    (folder / "itwin_image_drop.py").symlink_to(PROJECT / "client" / "itwin_image_drop.py")
    return folder


def local_variables(cloud: LocalCloud) -> dict[str, str]:
    """Return the variables of someone who uses the local cloud, with an iTwin of their own."""
    return {
        "AZURE_STORAGE_CONNECTION_STRING": cloud.connection_string,
        "DROP_ACCOUNT_URL": cloud.drops.url.rstrip("/"),
        "ITWIN_ID": cloud.itwin(),
    }


def run_python(folder: Path, variables: Mapping[str, str], *containing: str, then: str = "") -> str:
    """Run blocks as one program, with the packages of the project."""
    (folder / "recipe.py").write_text(program("python", *containing) + then, encoding="utf-8")
    return run([sys.executable, "recipe.py"], folder, variables)


def run_javascript(folder: Path, variables: Mapping[str, str], *containing: str) -> str:
    """Run blocks as one program, with the packages that the project declares."""
    text = program("js", *containing)
    declared = json.loads((PROJECT / "package.json").read_text(encoding="utf-8"))["devDependencies"]
    assert set(re.findall(r' from "(?!node:)(.*)"', text)) <= set(declared)
    (folder / "recipe.mjs").write_text(text, encoding="utf-8")
    return run(["node", "recipe.mjs"], folder, variables)


def run_shell(folder: Path, variables: Mapping[str, str], *containing: str, before: str = "") -> str:
    """Run blocks one after the other."""
    return run(["bash", "-euo", "pipefail", "-c", before + program("sh", *containing)], folder, variables)


def run(command: list[str], folder: Path, variables: Mapping[str, str]) -> str:
    """Run a program in a folder; return what it prints."""
    environment = {**os.environ, **variables}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=HANG_S, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
