"""The recipes and the schema, tried with other people's tools: `make test-vendors`."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from local.processes import PROJECT
from tests.deadlines import HANG_S
from tests.recipes import NAME, PHOTO, RECIPES, local_variables, prepare, program, run, run_shell

if TYPE_CHECKING:
    from pathlib import Path

    from local.cloud import LocalCloud

pytestmark = pytest.mark.vendors

SAMPLES = PROJECT / "tests" / "samples" / "results"
TYPESCRIPT = """
import type { Result } from "./result";

export function tell(result: Result): string | null {
  switch (result.status) {
    case "uploaded":
      return result.image.largeImageUrl ?? null;
    case "retrying":
      return result.nextAttemptAt.slice(0, 10);
    case "rejected":
    case "failed":
      return result.error.code;
    case "superseded":
      return result.reason;
  }
}
"""
PYTHON = """
from datetime import datetime

from result import Result


def tell(result: Result) -> str | datetime | None:
    outcome = result.root
    if outcome.status == "uploaded":
        return outcome.image.largeImageUrl
    if outcome.status == "retrying":
        return outcome.nextAttemptAt
    return outcome.reason
"""
READER = """
import pathlib, sys
from result import Result

print(type(Result.model_validate_json(pathlib.Path(sys.argv[1]).read_text()).root).__name__)
"""
GRAMMARS = {"csharp": "tree_sitter_c_sharp", "powershell": "tree_sitter_powershell"}
PARSER = """
import importlib, json, sys
from tree_sitter import Language, Parser

def errors(node):
    if node.type == "ERROR" or node.is_missing:
        yield f"line {node.start_point.row + 1}: {node.text.decode()}"
    for child in node.children:
        yield from errors(child)

grammar = Language(importlib.import_module(sys.argv[1]).language())
print(json.dumps(list(errors(Parser(grammar).parse(sys.stdin.buffer.read()).root_node))))
"""


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """Return a folder with what the page expects there."""
    return prepare(tmp_path)


def test_az_drops_and_awaits(cloud: LocalCloud, work: Path) -> None:
    """It finds its own result, not that of an earlier drop of the same name."""
    variables = {**local_variables(cloud), "AZURE_CONFIG_DIR": str(work / "azure")}
    blocks = ("az storage blob upload", "jq --exit-status")
    assert run_shell(work, variables, *blocks).splitlines() == ["uploaded", "null"]
    download = cloud.drops.get_blob_client(variables["ITWIN_ID"], NAME).download_blob()
    assert (download.readall(), download.properties.metadata) == (PHOTO, {"order": "4711"})
    (work / "photo.jpg").write_bytes(b"not an image")
    assert run_shell(work, variables, *blocks).splitlines()[0] == "rejected"


def test_az_finds_the_result_of_a_drop_whose_metadata_was_set(cloud: LocalCloud, work: Path) -> None:
    """By the content, if the blob no longer has the ETag that az was given."""
    variables = {**local_variables(cloud), "AZURE_CONFIG_DIR": str(work / "azure")}
    run_shell(work, variables, "az storage blob upload")
    written = json.loads((work / "written.json").read_text())
    (work / "written.json").write_text(json.dumps({**written, "etag": '"0x8D"'}))
    awaited = run_shell(work, variables, "jq --exit-status", before=f"BLOB='{NAME}'\n")
    assert awaited.splitlines()[0] == "uploaded"


@pytest.mark.parametrize("block", ["az storage blob upload", "generate-sas"])
def test_az_uses_the_users_own_login(work: Path, block: str) -> None:
    """With a deployment's variables it asks for no key: only the login itself is missing here."""
    script = ["bash", "-euo", "pipefail", "-c", program("sh", "DROP_ACCOUNT=imagedrops", block)]
    environment = {**os.environ, "AZURE_CONFIG_DIR": str(work / "azure")}
    done = subprocess.run(
        script, cwd=work, env=environment, capture_output=True, text=True, timeout=HANG_S, check=False
    )
    assert done.returncode != 0
    assert "ERROR: Please run 'az login' to setup account." in done.stderr


def test_a_folder_is_copied_with_a_signed_url_of_az(cloud: LocalCloud, work: Path) -> None:
    """By azcopy, whose every file gets a result, and which skips what is excluded."""
    (work / "photos" / "größe").mkdir(parents=True)
    for name in ("a b.jpg", "größe/b.jpg", "c.jpg.part"):
        (work / "photos" / name).write_bytes(PHOTO)
    variables = {
        **local_variables(cloud),
        "AZURE_CONFIG_DIR": str(work / "azure"),
        "AZCOPY_LOG_LOCATION": str(work / "azcopy"),
        "AZCOPY_JOB_PLAN_LOCATION": str(work / "azcopy"),
    }
    run_shell(work, variables, "generate-sas", "azcopy sync")
    container = cloud.drops.get_container_client(variables["ITWIN_ID"])
    assert set(container.list_blob_names()) == {"a b.jpg", "größe/b.jpg"}


def generate(language: str, folder: Path) -> None:
    """Run the page's command for types in that language."""
    (command,) = re.findall(rf"^\| {re.escape(language)} \| `(.*?)`", RECIPES, re.MULTILINE)
    run(["bash", "-euo", "pipefail", "-c", command], folder, {})


def refuses(command: list[str], folder: Path) -> str:
    """Run a compiler that must find a mistake; return what it says."""
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=HANG_S, check=False)
    assert done.returncode != 0
    return done.stdout


def test_typescript_narrows_a_result_by_its_status(work: Path) -> None:
    """The compiler knows what each status has, and that the list of statuses is complete."""
    generate("TypeScript", work)
    (work / "right.ts").write_text(TYPESCRIPT)
    run(["tsc", "--noEmit", "--strict", "right.ts"], work, {})
    (work / "wrong.ts").write_text(TYPESCRIPT.replace('"uploaded"', '"superseded"', 1))
    assert "'result.image' is of type 'unknown'" in refuses(["tsc", "--noEmit", "--strict", "wrong.ts"], work)
    (work / "partial.ts").write_text(TYPESCRIPT.replace('    case "failed":\n', ""))
    assert "lacks ending return statement" in refuses(["tsc", "--noEmit", "--strict", "partial.ts"], work)


def test_python_narrows_a_result_by_its_status(work: Path) -> None:
    """The models parse every sample as its own class, and a type checker knows the fields of each."""
    generate("Python", work)
    for sample in SAMPLES.glob("*.json"):
        assert run(["generators-python", "-c", READER, str(sample)], work, {}).strip() == sample.stem.title()
    generator = shutil.which("generators-python")
    mypy = [sys.executable, "-m", "mypy", "--strict", "--config-file=", f"--python-executable={generator}"]
    (work / "right.py").write_text(PYTHON)
    run([*mypy, "right.py"], work, {})
    (work / "wrong.py").write_text(PYTHON.replace('"uploaded"', '"rejected"'))
    assert '"Rejected" has no attribute "image"' in refuses([*mypy, "wrong.py"], work)


def test_csharp_gets_one_class_with_all_fields(work: Path) -> None:
    """A property for each field of any status, a date type for times, and an enum value for each status."""
    generate("C#", work)
    text = (work / "Result.cs").read_text(encoding="utf-8")
    assert syntax_errors("csharp", text) == []
    (result,) = re.findall(r"public partial class Result\n    \{(.*?)^    \}", text, re.DOTALL | re.MULTILINE)[:1]
    named = {name.lower(): kind for kind, name in re.findall(r"public ([\w?]+) (\w+) \{ get; set; \}", result)}
    samples = [json.loads(sample.read_text(encoding="utf-8")) for sample in SAMPLES.glob("*.json")]
    assert set(named) == {name.lower() for sample in samples for name in sample}
    assert (named["startedat"], named["nextattemptat"]) == ("DateTimeOffset", "DateTimeOffset?")
    (statuses,) = re.findall(r"public enum Status \{ (.*?) \}", text)
    assert {status.lower() for status in statuses.split(", ")} == {sample["status"] for sample in samples}


def syntax_errors(language: str, text: str) -> list[str]:
    """Return where a grammar of that language does not understand a program."""
    command = ["generators-python", "-c", PARSER, GRAMMARS[language]]
    done = subprocess.run(command, input=text.encode(), capture_output=True, timeout=HANG_S, check=True)
    errors: list[str] = json.loads(done.stdout)
    return errors


@pytest.mark.parametrize("language", GRAMMARS)
def test_code_that_is_not_compiled_has_no_syntax_error(language: str) -> None:
    """The check would find one."""
    (text,) = re.findall(rf"^```{language}\n(.*?)^```$", RECIPES, re.DOTALL | re.MULTILINE)
    assert syntax_errors(language, text) == []
    assert syntax_errors(language, text.replace(")", "", 1)) != []
