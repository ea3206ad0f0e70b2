"""The README says what is so."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from shared.errors import InvalidSettings
from shared.settings import Settings
from tests.schema import check_result

if TYPE_CHECKING:
    from collections.abc import Mapping

PROJECT = Path(__file__).parent.parent
README = (PROJECT / "README.md").read_text(encoding="utf-8")


class Recorder(dict[str, str]):
    """An environment that remembers what is asked of it."""

    def __init__(self, values: Mapping[str, str]) -> None:
        super().__init__(values)
        self.asked: set[str] = set()

    def get(self, name: str, default: str = "") -> str:  # type: ignore[override]  # a default is always given
        """Remember the name."""
        self.asked.add(name)
        return super().get(name, default)


def settings_read() -> set[str]:
    """Return every setting that the app reads, by any login and connection."""
    asked: set[str] = set()
    for environ in ({"DropStorage__blobServiceUri": "https://x"}, {"ITWIN_LOGIN": "client-credentials"}):
        recorder = Recorder(environ)
        with pytest.raises(InvalidSettings):
            Settings.from_environ(recorder)
        asked |= recorder.asked
    return asked


def test_the_table_of_settings_has_all_that_are_read_and_no_other() -> None:
    """A setting that is not documented, or not read any more, is a defect."""
    table = README.partition("## Settings")[2].partition("\n## ")[0]
    documented = {
        name
        for line in table.splitlines()
        if line.startswith("| `")
        for name in re.findall(r"`(\w+)`", line.split("|")[1])
    }
    assert documented == settings_read()


def test_the_defaults_in_the_table_are_those_of_the_code() -> None:
    """What is not set behaves as the table says."""
    environ = {"DropStorage": "AccountName=a;AccountKey=b", "ITWIN_TOKEN_SCOPE": "api://x/.default"}
    settings = Settings.from_environ(environ)
    defaults = {
        "RESULTS_CONTAINER": settings.storage.results_container,
        "ITWIN_API_URL": settings.api_url,
        "ITWIN_TIMEOUT_S": settings.timeout_s,
        "MAX_SOURCE_BYTES": settings.max_source_bytes,
        "MAX_SOURCE_PIXELS": settings.limits.max_source_pixels,
        "MAX_OUTPUT_PIXELS": settings.limits.max_output_pixels,
        "ASPECT_POLICY": settings.limits.aspect_policy,
        "RETRY_MIN_DELAY_S": settings.retries.min_delay_s,
        "RETRY_MAX_DELAY_S": settings.retries.max_delay_s,
        "RETRY_HORIZON_S": settings.retries.horizon_s,
    }
    for name, value in defaults.items():
        assert f"| `{name}` | `{value}` |" in README, name


def test_the_result_in_the_readme_is_one() -> None:
    """The example is held against the published schema like every other result."""
    (example,) = re.findall(r"```json\n(.*?)```", README, re.DOTALL)
    assert check_result(json.loads(example))["status"] == "uploaded"


def test_every_command_in_the_readme_exists() -> None:
    """Each `make` target is one, and the module that is run is there."""
    targets = subprocess.run(["make", "help"], cwd=PROJECT, capture_output=True, text=True, check=True).stdout
    for target in re.findall(r"^make (\w+)$", README, re.MULTILINE):
        assert re.search(rf"^{target} ", targets, re.MULTILINE), target
    assert (PROJECT / "local" / "__main__.py").exists()


def test_every_module_of_the_app_is_in_its_place() -> None:
    """The tree in the README is the tree that is there."""
    tree = README.partition("## Where things are")[2]
    modules = {path.name for path in (PROJECT / "shared").glob("*.py")} - {"__init__.py"}
    assert modules == set(re.findall(r"^  (\w+\.py)", tree, re.MULTILINE))


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\((?!https:)([^)#]+)\)", README))))
def test_every_link_into_the_project_leads_somewhere(link: str) -> None:
    """A reader is never sent to what is not there."""
    assert (PROJECT / link).exists()
