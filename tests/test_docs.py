"""The docs say what is so: their links, commands and tables are held against the project."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
from importlib import metadata
from typing import TYPE_CHECKING, get_args

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from PIL import Image, ImageChops, ImageStat

from local.processes import PROJECT
from shared.drop import HOUSEKEEPING_FOLDERS, HOUSEKEEPING_NAMES, Drop
from shared.image import Change
from shared.records import Status
from shared.settings import Settings
from tests.deadlines import HANG_S
from tools.before_and_after import pictures
from tools.limits_and_errors import PAGE, page

if TYPE_CHECKING:
    from pathlib import Path

PAGES = sorted([*PROJECT.glob("*.md"), *PROJECT.glob("docs/*.md"), *PROJECT.glob("infra/*.md")])
TEXTS = {path.relative_to(PROJECT).as_posix(): path.read_text(encoding="utf-8") for path in PAGES}
COMMANDS = sorted(
    {
        (module, arguments.partition("#")[0].strip().rstrip("`"))
        for text in TEXTS.values()
        for module, arguments in re.findall(r"python -m ((?:local|shared)[\w.]*)([^\n`|]*)", text)
    }
)
LINKS = sorted((name, link) for name, text in TEXTS.items() for link in re.findall(r"\]\(([^)\s]+)\)", text))


def anchors(text: str) -> set[str]:
    """Return the addresses of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize(("name", "link"), LINKS)
def test_every_link_has_a_target(name: str, link: str) -> None:
    """No reader is sent to a file that does not exist; external links use https."""
    if "://" in link:
        assert link.startswith("https://")
        return
    path, _, anchor = link.partition("#")
    target = (PROJECT / name).parent / path if path else PROJECT / name
    assert target.exists()
    if anchor:
        assert anchor in anchors(target.read_text(encoding="utf-8"))


def test_every_make_target_named_in_the_docs_exists() -> None:
    """A command that a page suggests can be run."""
    listed = subprocess.run(["make", "help"], cwd=PROJECT, capture_output=True, text=True, check=True).stdout
    targets = {line.split()[0] for line in listed.splitlines()}
    named = {
        target
        for text in TEXTS.values()
        for command in re.findall(r"(?:^|`)make ([a-z -]+?)(?=`|$|  )", text, re.MULTILINE)
        for target in command.split()
    }
    assert named <= targets
    assert {"help", "lint", "test", "demo", "chaos", "bench", "fuzz", "docs", "clean"} <= targets


@pytest.mark.parametrize(("module", "arguments"), COMMANDS)
def test_every_command_named_in_the_docs_is_valid(module: str, arguments: str) -> None:
    """Its module exists and knows each option."""
    assert importlib.util.find_spec(module)
    options = set(re.findall(r"(?<!\S)--[a-z-]+", arguments))
    commands = re.findall(r"^ *([a-z]+)(?= |$)", arguments)
    if not options and not commands:
        return
    command = [sys.executable, "-m", module, *((commands or ["up"]) if module == "local" else []), "--help"]
    known = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=HANG_S, check=True).stdout
    assert options <= set(re.findall(r"--[a-z-]+", known))


def test_a_command_that_waits_for_input_is_the_last_of_its_block() -> None:
    """Without bracketed paste, a shell would give it the rest of a pasted block as its input."""
    for name, text in TEXTS.items():
        for _, language, block in re.findall(r"^( *)```(\w*)\n(.*?)\n\1```$", text, re.DOTALL | re.MULTILINE):
            if language in {"", "sh"}:
                *others, _ = block.splitlines()
                waiting = r" *(read |azd auth login|az login|azd up|make up)"
                assert [line for line in others if re.match(waiting, line)] == [], name


def test_the_page_generated_from_the_code_is_current() -> None:
    """Run `make docs` when this fails."""
    assert PAGE.read_text(encoding="utf-8") == page()


def test_the_pictures_in_the_readme_are_current() -> None:
    """Run `make docs` when this fails."""
    for file, picture in pictures().items():
        with Image.open(file) as kept:
            assert kept.size == picture.size
            difference = ImageChops.difference(kept.convert("RGB"), picture)
        assert max(ImageStat.Stat(difference).mean) < 8


def test_every_test_named_in_security_exists() -> None:
    """Nothing is claimed to be tested that is not."""
    tests = "".join(path.read_text(encoding="utf-8") for path in PROJECT.glob("tests/**/test_*.py"))
    named = re.findall(r"`(test_\w+)`", TEXTS["SECURITY.md"])
    assert named
    assert [name for name in named if f"def {name}(" not in tests] == []


REQUIREMENTS = ("requirements.txt", "requirements-local.txt", "requirements-dev.txt")


def test_every_dependency_is_pinned() -> None:
    """Each package that is installed has one version, including transitive dependencies."""
    lines = "".join((PROJECT / name).read_text() for name in REQUIREMENTS).splitlines()
    pins = [Requirement(line) for line in lines if line and not line.startswith(("#", "-r"))]
    assert [str(pin) for pin in pins if not re.fullmatch(r"==[\d.]+", str(pin.specifier))] == []
    here = {canonicalize_name(pin.name) for pin in pins if pin.marker is None or pin.marker.evaluate()}
    needed = [Requirement(need) for name in here for need in metadata.requires(name) or ()]
    in_turn = {canonicalize_name(n.name) for n in needed if n.marker is None or n.marker.evaluate({"extra": ""})}
    assert in_turn - here == set()


@pytest.mark.parametrize("folder", [PROJECT, PROJECT / "tests" / "vendors"])
def test_every_npm_package_is_pinned(folder: Path) -> None:
    """To one version and one content, including transitive dependencies."""
    package = json.loads((folder / "package.json").read_text())
    locked = json.loads((folder / "package-lock.json").read_text())["packages"]
    for name, version in {**package.get("dependencies", {}), **package["devDependencies"]}.items():
        assert locked[f"node_modules/{name}"]["version"] == version
    assert [name for name, found in locked.items() if name and "integrity" not in found] == []


@pytest.mark.parametrize("name", ["az", "generators"])
def test_every_third_party_tool_is_pinned(name: str) -> None:
    """In separate environments, whose every package is listed."""
    lines = (PROJECT / "tests" / "vendors" / f"{name}.txt").read_text().splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert [pin for pin in pins if not re.fullmatch(r"[\w.-]+==[\w.]+", pin)] == []


def test_no_pull_request_is_deployed() -> None:
    """A deployment starts with a push to main, or manually by someone who may push."""
    workflow = yaml.safe_load((PROJECT / ".github" / "workflows" / "azure-dev.yml").read_text())
    assert workflow[True] == {"push": {"branches": ["main"]}, "workflow_dispatch": None}  # YAML 1.1 reads `on` as true


@pytest.mark.parametrize("name", ["README.md", "docs/recipes.md", "docs/limits-and-errors.md"])
def test_every_page_lists_all_ignored_names(name: str) -> None:
    """The three pages with such a list agree, and the app ignores each name."""
    text = TEXTS[name][TEXTS[name].lower().index("`.ds_store`") :]
    listed = re.match(r"(?:`([^`]+)`(?:,\s| and )?)+", text)
    assert listed
    names = re.findall(r"`([^`]+)`", listed[0].lower())
    assert set(names) == {*HOUSEKEEPING_NAMES, "*.part", "*.partial", "*.part<n>"}
    folders = re.findall(r"`([^`/]+)/`", text.partition("\n\n")[0].lower())
    assert set(folders) == set(HOUSEKEEPING_FOLDERS)
    for ignored in (*names, *(f"{folder}/*" for folder in folders)):
        assert Drop("", ignored.replace("*", "photo.jpg").replace("<n>", "12")).is_housekeeping()


def test_contributing_fits_on_one_screen() -> None:
    """Whoever wants to help can read all of it."""
    assert len(TEXTS["CONTRIBUTING.md"].splitlines()) <= 60


def test_the_example_of_local_settings_works() -> None:
    """It has everything the app needs, and nothing secret."""
    example = json.loads((PROJECT / "local.settings.example.json").read_text(encoding="utf-8"))
    settings = Settings.from_environ(example["Values"])
    assert settings.api_url == "http://127.0.0.1:4000"
    assert example["Values"]["FUNCTIONS_WORKER_RUNTIME"] == "python"
    assert not [name for name in example["Values"] if "SECRET" in name]


@pytest.mark.parametrize("path", sorted([*PROJECT.glob(".vscode/*.json"), *PROJECT.glob(".devcontainer/*.json")]))
def test_the_files_for_editors_can_be_parsed(path: Path) -> None:
    """And the programs that they name belong to this project."""
    found = json.loads(path.read_text(encoding="utf-8"))
    tasks = json.loads((PROJECT / ".vscode" / "tasks.json").read_text(encoding="utf-8"))["tasks"]
    labels = [task["label"] for task in tasks]
    for configuration in found.get("configurations", []):
        assert configuration.get("module", "local") in ("local", "pytest")
        assert configuration.get("preLaunchTask", labels[0]) in labels
        assert configuration["name"] == "This test file" or f"*{configuration['name']}*" in TEXTS["CONTRIBUTING.md"]


def test_the_dev_container_has_the_tools_that_the_pages_require() -> None:
    """Those of CONTRIBUTING.md, and the tested version of Node.js."""
    container = json.loads((PROJECT / ".devcontainer" / "devcontainer.json").read_text(encoding="utf-8"))
    made = container["postCreateCommand"].split(" && ")
    assert "make .venv/dev node_modules/dev" in made
    (installed,) = re.findall(r"`(pipx install pre-commit==[\d.]+) && pre-commit install`", TEXTS["CONTRIBUTING.md"])
    assert made[-2:] == [installed, "pre-commit install"]
    tested = (PROJECT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8")
    (node,) = [feature["version"] for name, feature in container["features"].items() if "/node:" in name]
    assert re.findall(r'node-version: "(\d+)"', tested) == [node]


def test_the_dev_container_pins_its_deployment_tools() -> None:
    """Az and Bicep have the tested versions; Azure's tools change what they accept from month to month."""
    container = json.loads((PROJECT / ".devcontainer" / "devcontainer.json").read_text(encoding="utf-8"))
    features = {name.rpartition("/")[2].partition(":")[0]: given for name, given in container["features"].items()}
    vendors = (PROJECT / "tests" / "vendors" / "az.txt").read_text(encoding="utf-8")
    ci = (PROJECT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8")
    assert f"azure-cli=={features['azure-cli']['version']}\n" in vendors
    assert features["azure-cli"]["installBicep"] is True
    assert f"az bicep install --version {features['azure-cli']['bicepVersion']}\n" in ci
    (least,) = re.findall(r'azd: ">= ([\d.]+)"', (PROJECT / "azure.yaml").read_text(encoding="utf-8"))
    assert _version(features["azd"]["version"]) >= _version(least)
    assert re.search(r"npm install --global azure-functions-core-tools@4\.\d+\.\d+ ", container["postCreateCommand"])
    assert re.fullmatch(r"mcr\.microsoft\.com/devcontainers/python:\d+\.\d+\.\d+-3\.13-\w+", container["image"])
    assert all(re.fullmatch(r"[\w./-]+:\d+\.\d+\.\d+", name) for name in container["features"])
    assert "dev container, which has never been built" in " ".join(TEXTS["README.md"].split())


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split("."))


def test_commits_are_checked_by_the_tools_of_make_lint() -> None:
    """Both use the same tools and versions."""
    hooks = (PROJECT / ".pre-commit-config.yaml").read_text(encoding="utf-8")
    makefile = (PROJECT / "Makefile").read_text(encoding="utf-8")
    lint = makefile.partition("\nlint:")[2].partition("\n\n")[0]
    entries = re.findall(r"entry: (\.venv/bin/.*)", hooks)
    for tool in re.findall(r"^\t(\.venv/bin/\w+(?: (?!-)\w+)?)", lint, re.MULTILINE):
        assert any(entry.startswith(tool) for entry in entries), tool
    assert "https:" not in hooks


def test_the_console_has_words_for_every_status_and_change() -> None:
    """A new status or change is shown in words, not as its code."""
    words = (PROJECT / "local" / "console" / "static" / "words.js").read_text(encoding="utf-8")
    statuses, changes = (
        words.partition(f"const {name} = {{")[2].partition("};")[0] for name in ("STATUSES", "CHANGES")
    )
    assert set(re.findall(r'^  "?([\w-]+)"?:', statuses, re.MULTILINE)) == {
        "waiting",
        "ignored",
        "probe",
        *get_args(Status),
    }
    assert set(re.findall(r'^  "?([\w-]+)"?:', changes, re.MULTILINE)) == set(get_args(Change))


def test_the_deployed_app_needs_no_development_package() -> None:
    """It imports only what is in requirements.txt; a progress bar for terminals may need more."""
    code = "import sys, function_app, shared.deliveries, shared.preview.program; sys.exit('rich' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=PROJECT, check=True, timeout=HANG_S)
