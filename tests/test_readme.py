"""The README, and the pages that it leads to first, say what is so."""

from __future__ import annotations

import json
import re
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from local.itwin_platform import ScriptedResponse
from local.processes import wait_until
from local.samples import phone_photo
from shared import errors
from shared.attempt import Attempt
from shared.drop import Drop
from shared.errors import InvalidSettings
from shared.pipeline import process_drop
from shared.settings import Settings
from tests.deadlines import HANG_S
from tests.drop_bench import PICTURES, Bench
from tests.environments import settings_read
from tests.schema import check_result
from tools.infra import COMMON, INFRA, Bicep

if TYPE_CHECKING:
    from collections.abc import Mapping

    from local.cloud import LocalCloud

PROJECT = Path(__file__).parent.parent
AZD = {"AZURE_ENV_NAME": "drops-prod", "AZURE_LOCATION": "westeurope"}  # which it asks for itself
README = (PROJECT / "README.md").read_text(encoding="utf-8")
SETTINGS = (PROJECT / "docs" / "settings.md").read_text(encoding="utf-8")
ARCHITECTURE = (PROJECT / "docs" / "architecture.md").read_text(encoding="utf-8")


# By any login and connection.
SETTINGS_READ = settings_read({"DropStorage__blobServiceUri": "https://x", "ITWIN_LOGIN": "gateway"}) | settings_read(
    {"ITWIN_LOGIN": "client-credentials"}
)


def test_the_table_of_settings_lists_exactly_those_that_are_read() -> None:
    """A setting that is undocumented, or no longer read, is a defect."""
    documented = {
        name
        for line in SETTINGS.splitlines()
        if line.startswith("| `")
        for name in re.findall(r"`(\w+)`", line.split("|")[1])
    }
    assert documented == SETTINGS_READ


def read_settings(environ: Mapping[str, str]) -> Settings | None:
    """Return what the app reads; None where it refuses."""
    try:
        return Settings.from_environ(environ)
    except InvalidSettings:
        return None


@pytest.mark.parametrize(("name", "default"), re.findall(r"^\| `(\w+)` \| `([^`]+)`", SETTINGS, re.MULTILINE))
def test_a_default_in_the_table_is_that_of_the_code(name: str, default: str) -> None:
    """A setting that is left out behaves exactly like one that is set to its default."""
    identity = {
        "DropStorage__blobServiceUri": "https://a.blob.core.windows.net",
        "DropStorage__queueServiceUri": "https://a.queue.core.windows.net",
        "ITWIN_LOGIN": "gateway",
        "ITWIN_API_URL": "https://gateway.example",
        "ITWIN_TOKEN_SCOPE": "api://x/.default",
    }
    credentials = {
        "DropStorage": "AccountName=a;AccountKey=b",
        "ITWIN_LOGIN": "client-credentials",
        "ITWIN_CLIENT_ID": "a",
        "ITWIN_SECRET_URL": "https://kv.vault.azure.net/secrets/b",
    }
    without = [read_settings(environ) for environ in (identity, credentials)]
    assert all(without)
    assert without == [read_settings({name: default, **environ}) for environ in (identity, credentials)]
    assert without != [read_settings({name: "another", **environ}) for environ in (identity, credentials)]


def test_every_setting_with_a_default_states_it() -> None:
    """An optional setting has its default in the table, unless leaving it out means that there is none."""
    said = set(re.findall(r"^\| `(\w+)` \| `", SETTINGS, re.MULTILINE))
    storage = {"DropStorage__blobServiceUri", "DropStorage__queueServiceUri"}
    required = {*storage, "ITWIN_LOGIN", "ITWIN_CLIENT_ID", "ITWIN_SECRET_URL"}
    not_there = {"DropStorage", "DropStorage__clientId", "AZURE_CLIENT_ID"}
    assert said == SETTINGS_READ - required - not_there


def test_the_readme_begins_with_what_it_does_and_for_whom() -> None:
    """Then how far it is proven, how to try it, how to deploy it, and only then the rest."""
    parts = (
        "images/before.jpg",
        "```mermaid",
        "| you |",
        "**Status: ",
        "\ngit clone ",
        "\nmake demo\n",
        "images/console.png",
        "\nmake test\n",
        "```json",
        "\nazd up\n",
        "| goes in |",
        "](docs/settings.md)",
    )
    assert sorted(parts, key=README.index) == list(parts)


def deploy_blocks() -> list[str]:
    """Return what "Deploy it" tells to type."""
    return re.findall(r"```sh\n(.*?)```", README.partition("\n## Deploy it\n")[2].partition("\n## ")[0], re.DOTALL)


def settings_that_are_made() -> dict[str, str]:
    """Return what "Deploy it" sets, with what the commands in it would have told."""
    made = dict(re.findall(r"^azd env set (\w+) (.+)$", "".join(deploy_blocks()), re.MULTILINE))
    assert made["OPERATOR_PRINCIPAL_ID"].startswith('"$(az ad signed-in-user show')
    return {**made, "OPERATOR_PRINCIPAL_ID": COMMON["OPERATOR_PRINCIPAL_ID"]}


def test_the_readme_sets_everything_a_deployment_needs_to_upload() -> None:
    """The same settings as the environment whose whole snapshot is kept, with other values."""
    made = settings_that_are_made()
    by_azd, optional = {"AZURE_ENV_NAME", "AZURE_LOCATION"}, {"ALERT_EMAIL"}
    assert set(made) == set(COMMON) - by_azd - optional
    assert made["ITWIN_LOGIN"] == COMMON["ITWIN_LOGIN"]
    assert Drop(made["ITWIN_IDS"], "photo.jpg").names_an_itwin()
    assert f"azd env new {AZD['AZURE_ENV_NAME']}\n" in "".join(deploy_blocks())


def test_the_compiler_accepts_what_the_readme_sets_and_nothing_less() -> None:
    """It predicts the container to drop into, the vault for the secret, and roles for whoever deploys."""
    bicep = Bicep.find()
    if bicep is None:
        pytest.skip("The Bicep compiler was not found: put bicep on the PATH, or run az bicep install.")
    made = settings_that_are_made()
    resources = bicep.snapshot("main.bicepparam", {**AZD, **made}).values()
    names = {resource["name"] for resource in resources if resource["type"].endswith("/containers")}
    assert {f"{made['ITWIN_IDS']}", "results"} <= {name.rpartition("/")[2] for name in names}
    assert [resource for resource in resources if resource["type"] == "Microsoft.KeyVault/vaults"]
    roles = [resource for resource in resources if resource["type"] == "Microsoft.Authorization/roleAssignments"]
    assert made["OPERATOR_PRINCIPAL_ID"] in {role["properties"]["principalId"] for role in roles}
    for needed in ("ITWIN_LOGIN", "ITWIN_CLIENT_ID"):
        less = {name: value for name, value in {**AZD, **made}.items() if name != needed}
        refused = bicep.parameters(INFRA / "main.bicepparam", less)
        assert refused.returncode != 0
        assert f"azd env set {needed} " in refused.stderr


def test_the_readme_drops_into_the_deployment_that_it_describes() -> None:
    """It uses existing outputs, drops into a container that was created, and reads the result where it is written."""
    blocks = deploy_blocks()
    outputs = set(re.findall(r"^output (\w+) ", (PROJECT / "infra" / "main.bicep").read_text(), re.MULTILINE))
    named = set(re.findall(r"azd env get-value (\w+)", "".join(blocks)))
    assert named
    assert named <= outputs
    (made,) = re.findall(r"azd env set ITWIN_IDS (.+)", "".join(blocks))
    drop, read = blocks[-2:]
    assert f"export ITWIN_ID={made}\n" in drop
    (name,) = re.findall(r'az storage blob upload --container-name "\$ITWIN_ID" --name (\S+)', drop)
    assert f'--container-name results --name "$ITWIN_ID/{name}.json"' in read
    for block in blocks:
        subprocess.run(["bash", "-n", "-c", block], check=True)


def test_the_result_in_the_readme_is_valid() -> None:
    """The example is validated against the published schema like every other result."""
    (example,) = re.findall(r"```json\n(.*?)```", README, re.DOTALL)
    assert check_result(json.loads(example))["status"] == "uploaded"


def test_the_result_in_the_readme_is_that_of_its_photo(cloud: LocalCloud) -> None:
    """It is not made up, and the figures beside the pictures are those of the result."""
    (example,) = re.findall(r"```json\n(.*?)```", README, re.DOTALL)
    written = json.loads(example)
    result = cloud.result(cloud.drop(cloud.itwin(), written["source"]["blob"], phone_photo()))
    assert list(result) == list(written)
    for part, names in {
        "source": ("bytes", "sha256", "mediaType", "width", "height", "metadata"),
        "sent": ("mediaType", "width", "height", "changes"),
    }.items():
        assert {name: result[part][name] for name in names} == {name: written[part][name] for name in names}
        assert f"{written[part]['width']} x {written[part]['height']}" in README
        assert f"{written[part]['bytes'] / 1000:.0f} kB" in README
    assert result["sent"]["bytes"] == pytest.approx(written["sent"]["bytes"], rel=0.1)


def test_a_drop_costs_the_requests_that_the_page_states(request: pytest.FixtureRequest) -> None:
    """Row by row, counted between the app and storage, and at the platform."""
    bench: Bench = request.getfixturevalue("bench")
    table = ARCHITECTURE.partition("## What it costs in requests")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (.*?) \| (\d+) \| (\d+) \|$", table, re.MULTILINE)

    def cost(drop: Drop) -> tuple[int, int]:
        bench.exchanges.clear()
        before = len(bench.calls(drop))
        process_drop(Attempt.event(drop), bench.services)
        return len(bench.exchanges), len(bench.calls(drop)) - before

    first = bench.write(PICTURES[0])
    costs = {"uploaded, the first for its iTwin": cost(first), "delivered a second time": cost(first)}
    rested_at = time.time() + 1.1
    assert wait_until(lambda: time.time() > rested_at, timeout_s=HANG_S)
    later = bench.write_later(PICTURES[1], Drop(first.container, "later.png"), first)
    costs["uploaded, a later one"] = cost(later)
    costs["rejected by the app"] = cost(bench.write(b"no image"))
    older = bench.write(PICTURES[0])
    newer = bench.write_later(PICTURES[1], Drop(older.container, "newer.png"), older)
    cost(newer)
    costs["superseded"] = cost(older)
    costs["ignored for its name"] = cost(bench.write(PICTURES[0], Drop(older.container, "photo.png.part")))
    bench.platform.script([ScriptedResponse(503)])
    costs["postponed because the platform is down"] = cost(bench.write(PICTURES[2]))
    assert {what: (int(storage), int(platform)) for what, storage, platform in rows} == costs


def test_every_block_of_the_readme_can_be_pasted_whole() -> None:
    """Nothing follows `make up`, which runs until Ctrl-C."""
    for block in re.findall(r"```(?:sh)?\n(.*?)```", README, re.DOTALL):
        lines = block.splitlines()
        assert "make up" not in lines[:-1]
        assert not any("blob download" in line for line in lines) or not any("blob upload" in line for line in lines)


def test_every_error_code_in_the_readme_belongs_to_its_status() -> None:
    """The table of statuses matches the tree of errors."""
    rows = re.findall(r"^\| `(\w+)` \| .*? \| (.*?) \| .*? \|$", README, re.MULTILINE)
    for status, codes in rows:
        for code in re.findall(r"`([A-Z]\w+)`", codes):
            kind = getattr(errors, code)
            is_tried_again = issubclass(kind, errors.NeedsTime | errors.NeedsOperator)
            assert status == ("retrying" if is_tried_again else kind.status)


def test_every_command_in_the_readme_exists() -> None:
    """Each `make` target and each module does."""
    targets = subprocess.run(["make", "help"], cwd=PROJECT, capture_output=True, text=True, check=True).stdout
    for target in re.findall(r"^make (\w+)$", README, re.MULTILINE):
        assert re.search(rf"^{target} ", targets, re.MULTILINE), target
    assert (PROJECT / "local" / "__main__.py").exists()


def test_the_architecture_page_shows_every_module() -> None:
    """The tree in docs/architecture.md matches the files."""
    tree = ARCHITECTURE.partition("## Where things are")[2]
    modules = {path.name for path in (PROJECT / "shared").glob("*.py")} - {"__init__.py"}
    packages = {f"{path.parent.name}/" for path in (PROJECT / "shared").glob("*/__init__.py")}
    assert modules | packages == set(re.findall(r"^  (\w+(?:\.py|/))", tree, re.MULTILINE))


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\((?!https:)([^)#]+)\)", README))))
def test_every_link_into_the_project_has_a_target(link: str) -> None:
    """No reader is sent to a file that does not exist."""
    assert (PROJECT / link).exists()
