"""What is deployed of the repository, and by which pipeline."""

from __future__ import annotations

import re
import subprocess

import pytest
import yaml
from pathspec import GitIgnoreSpec

from tools.infra import INFRA

PROJECT = INFRA.parent
WORKFLOWS = {path.stem: path for path in (PROJECT / ".github" / "workflows").glob("*.yml")}


def test_only_the_app_is_deployed() -> None:
    """Tests, tools and pages are left out; nothing that the app needs is."""
    listed = subprocess.run(["git", "ls-files"], cwd=PROJECT, capture_output=True, text=True, check=True)
    ignored = GitIgnoreSpec.from_lines((PROJECT / ".funcignore").read_text().splitlines())
    deployed = {name for name in listed.stdout.splitlines() if not ignored.match_file(name)}
    assert {name.partition("/")[0] for name in deployed} == {
        "function_app.py",
        "host.json",
        "requirements.txt",
        "shared",
    }
    assert {name for name in listed.stdout.splitlines() if name.startswith("shared/")} <= deployed


@pytest.mark.parametrize("name", WORKFLOWS)
def test_workflows_contain_no_secret(name: str) -> None:
    """The deployment logs in with a federated token; nothing is stored that could leak."""
    text = WORKFLOWS[name].read_text()
    assert "secrets." not in text
    permissions = yaml.safe_load(text)["permissions"]
    assert permissions == {"contents": "read"} | ({"id-token": "write"} if name == "azure-dev" else {})


@pytest.mark.parametrize("name", WORKFLOWS)
def test_workflows_pin_actions_to_commits(name: str) -> None:
    """A tag can be moved to other code, a commit cannot."""
    used = re.findall(r"uses: (.*)", WORKFLOWS[name].read_text())
    assert used
    assert [action for action in used if not re.fullmatch(r"\./.+|[\w/-]+@[0-9a-f]{40} # v\d[\d.]*", action)] == []


def test_workflows_test_before_they_deploy() -> None:
    """Every check is run, on the lowest and the highest supported Python, and the real compiler checks the Bicep."""
    tests = yaml.safe_load(WORKFLOWS["ci"].read_text())["jobs"]
    steps = tests["test"]["steps"]
    (pythons,) = [step["with"]["python-version"].split() for step in steps if "setup-python" in step.get("uses", "")]
    supported = re.search(r'requires-python = ">=3\.(\d+),<3\.(\d+)"', (PROJECT / "pyproject.toml").read_text())
    assert supported
    assert pythons == [f"3.{supported[1]}", f"3.{int(supported[2]) - 1}"]
    assert ".ci/run" in [step.get("run") for step in steps]
    assert any(step.get("run", "").startswith("az bicep install --version v") for step in steps)
    assert yaml.safe_load(WORKFLOWS["azure-dev"].read_text())["jobs"]["deploy"]["needs"] == "ci"
