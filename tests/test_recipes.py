"""The recipes work as they are written: their very text is run."""

from __future__ import annotations

import itertools
import json
import os
import re
import shlex
import shutil
import subprocess
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest
import requests
import trustme
from azure.core.exceptions import HttpResponseError
from azure.identity import DefaultAzureCredential
from azure.storage.blob import BlobServiceClient, ContainerClient, ContainerSasPermissions, generate_container_sas
from starlette.applications import Starlette
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from local.azurite import ACCOUNT, ACCOUNT_KEY, Azurite
from local.event_grid import Subscription
from local.managed_identity import ManagedIdentity
from local.processes import PROJECT, wait_until
from local.samples import building_site, encode
from local.serving import serve
from shared.drop import Drop
from shared.results import result_name
from tests.deadlines import HANG_S

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from starlette.requests import Request

    from local.cloud import LocalCloud

RECIPES = (PROJECT / "docs" / "recipes.md").read_text(encoding="utf-8")
SHELL_BLOCKS = re.findall(r"^```sh\n(.*?)^```$", RECIPES, re.DOTALL | re.MULTILINE)
PHOTO = encode(building_site(320, 240), "JPEG")
NAME = "north gate/photo.jpg"
ITWIN = "b3bd3a79-c5b4-41f5-ba5f-6d8c338d788a"
NAMES = ("a b.jpg", "1+1=2.jpg", "100 % & 50%25.jpg", "#1?.jpg", "größe/日本/写真.jpg", "folder/" + "x" * 1013 + ".jpg")


needs_curl = pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed")


def has_node_20() -> bool:
    """Whether there is a Node.js that the vendor's SDK for it supports."""
    node = shutil.which("node")
    said = subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout if node else "v0"
    return int(said.lstrip("v").partition(".")[0]) >= 20


needs_node_20 = pytest.mark.skipif(not has_node_20(), reason="the SDK for JavaScript needs Node.js 20")


def recipe(language: str, containing: str) -> str:
    """Return the one block of that language that has the text in it."""
    blocks = re.findall(rf"^```{language}\n(.*?)^```$", RECIPES, re.DOTALL | re.MULTILINE)
    (found,) = [block for block in blocks if containing in block]
    return str(found)


def run_python(names: dict[str, Any], *containing: str) -> dict[str, Any]:
    """Run Python recipes one after the other."""
    for text in containing:
        exec(compile(recipe("python", text), "docs/recipes.md", "exec"), names)  # noqa: S102 - it is what is tested
    return names


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in a folder with a photo, and the project's docs."""
    (tmp_path / "photo.jpg").write_bytes(PHOTO)
    (tmp_path / "docs").symlink_to(PROJECT / "docs")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ITWIN_ID", ITWIN)
    return tmp_path


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Run storage that takes tokens over https alone, and an identity; yields what a program in Azure finds."""
    folder = tmp_path_factory.mktemp("secured")
    authority = trustme.CA()
    server = authority.issue_cert("127.0.0.1")
    server.private_key_pem.write_to_path(folder / "key.pem")
    (folder / "certificate.pem").write_bytes(b"".join(part.bytes() for part in server.cert_chain_pems))
    authority.cert_pem.write_to_path(folder / "authority.pem")
    identity = ManagedIdentity()
    with (
        serve(identity.app) as address,
        Azurite(certificate=(folder / "certificate.pem", folder / "key.pem")) as azurite,
    ):
        trusted = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "NODE_EXTRA_CA_CERTS")
        yield {
            "DROP_ACCOUNT_URL": azurite.blob_url,
            **dict.fromkeys(trusted, str(folder / "authority.pem")),
            **identity.settings(address),
        }


@pytest.fixture
def in_azure(work: Path, secured: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[BlobServiceClient]:
    """Be a program with an identity; yields its storage, which has the container."""
    for name, value in secured.items():
        monkeypatch.setenv(name, value)
    assert work
    with DefaultAzureCredential() as credential, BlobServiceClient(secured["DROP_ACCOUNT_URL"], credential) as storage:
        if not storage.get_container_client(ITWIN).exists():
            storage.create_container(ITWIN)
        storage.get_blob_client(ITWIN, NAME).upload_blob(b"older", overwrite=True)
        yield storage


def check_dropped(storage: BlobServiceClient) -> None:
    """See that the photo is there, with its metadata."""
    download = storage.get_blob_client(ITWIN, NAME).download_blob()
    assert download.readall() == PHOTO
    assert download.properties.metadata == {"order": "4711"}


def test_python_writes_with_its_identity(in_azure: BlobServiceClient) -> None:
    """Without a key, over https."""
    names = run_python({}, "import DefaultAzureCredential", "def drop", 'open("photo.jpg"')
    assert names["dropped"][:2] == (ITWIN, NAME)
    check_dropped(in_azure)
    names["storage"].close()


@needs_curl
def test_curl_writes_with_its_identity(in_azure: BlobServiceClient) -> None:
    """A token by the first command, a blob by the second."""
    script = recipe("sh", "TOKEN=$(curl") + recipe("sh", "--upload-file")
    subprocess.run(["bash", "-euo", "pipefail", "-c", script], check=True, timeout=HANG_S)
    check_dropped(in_azure)


@needs_node_20
def test_javascript_writes_with_its_identity(in_azure: BlobServiceClient, work: Path) -> None:
    """The vendor's SDK for Node.js, of the versions that the project declares."""
    program = recipe("js", "BlobServiceClient")
    declared = json.loads((PROJECT / "package.json").read_text(encoding="utf-8"))["devDependencies"]
    assert set(re.findall(r' from "(.*)"', program)) <= set(declared)
    (work / "drop.mjs").write_text(program)
    (work / "node_modules").symlink_to(PROJECT / "node_modules")
    done = subprocess.run(["node", "drop.mjs"], capture_output=True, text=True, timeout=HANG_S, check=False)
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r'"0x[0-9A-F]+"', done.stdout.strip())
    check_dropped(in_azure)


def test_a_signed_address_writes_to_its_container_alone(in_azure: BlobServiceClient) -> None:
    """It creates and overwrites there, and neither reads, nor lists, nor writes elsewhere."""
    # The emulator signs with delegation keys otherwise than the SDK does, so the account's key stands in for one.
    signing = re.sub(
        r"user_delegation_key=.*(?=,\n)", "account_key=ACCOUNT_KEY", recipe("python", "generate_container_sas")
    )
    names: dict[str, Any] = {"os": os, "storage": in_azure, "ACCOUNT_KEY": ACCOUNT_KEY}
    exec(compile(signing, "docs/recipes.md", "exec"), names)  # noqa: S102 - it is what is tested
    other = "11111111-c5b4-41f5-ba5f-6d8c338d788a"
    in_azure.create_container(other)
    with ContainerClient.from_container_url(names["container_sas_url"]) as container:
        container.upload_blob(NAME, PHOTO, overwrite=True)
        with pytest.raises(HttpResponseError, match="AuthorizationPermissionMismatch"):
            container.download_blob(NAME)
        with pytest.raises(HttpResponseError, match="AuthorizationPermissionMismatch"):
            list(container.list_blobs())
    with (
        ContainerClient.from_container_url(f"{in_azure.url}{other}?{names['sas']}") as container,
        pytest.raises(HttpResponseError, match="AuthorizationFailure"),
    ):
        container.upload_blob(NAME, PHOTO)


def test_a_result_is_awaited_correlated_and_validated(cloud: LocalCloud, work: Path) -> None:
    """The whole way: what was put on the blob comes back in a document of the published shape."""
    assert work
    cloud.itwin(ITWIN)
    names = run_python(
        {"os": os, "storage": cloud.drops},
        "def drop",
        'open("photo.jpg"',
        "def wait_for_result",
        "result = wait_for_result",
        'result["source"]["metadata"]',
        "Draft202012Validator",
    )
    assert names["result"]["status"] == "uploaded"
    dropped = names["drop"](cloud.drops, ITWIN, "x" * 1024, b"no image")
    assert names["wait_for_result"](cloud.drops, *dropped)["status"] == "rejected"
    dropped = names["drop"](cloud.drops, ITWIN, NAME, b"no image")
    assert names["wait_for_result"](cloud.drops, *dropped)["status"] == "rejected"


def test_who_subscribed_is_told_of_each_result(cloud: LocalCloud) -> None:
    """With the very filter of the recipe, an address is called with the document's, and of no other iTwin."""
    command = shlex.split(recipe("sh", "event-subscription create").replace("$ITWIN_ID", ITWIN))
    options = dict(itertools.pairwise(command))
    told: list[dict[str, Any]] = []

    async def receive(request: Request) -> Response:
        (event,) = await request.json()
        if request.headers["aeg-event-type"] == "SubscriptionValidation":
            return JSONResponse({"validationResponse": event["data"]["validationCode"]})
        told.append(event)
        return Response()

    with serve(Starlette(routes=[Route("/image-results", receive, methods=["POST"])])) as address:
        cloud.event_grid.subscribe(
            Subscription(
                endpoint=f"{address}/image-results",
                name=options["--name"],
                included_event_types=(options["--included-event-types"],),
                subject_begins_with=options["--subject-begins-with"],
            )
        )
        cloud.itwin(ITWIN)
        cloud.result(cloud.drop(cloud.itwin(), "other.jpg", b"no image"))
        cloud.result(cloud.drop(ITWIN, NAME, b"no image"))
        assert wait_until(lambda: bool(told), timeout_s=HANG_S)
    assert {event["data"]["url"] for event in told} == {f"{cloud.drops.url}results/{ITWIN}/{quote(NAME)}.json"}


@pytest.mark.parametrize("name", NAMES)
def test_any_name_goes_the_whole_way(cloud: LocalCloud, name: str) -> None:
    """From a program that knows no SDK, by way of everything, to the result that the recipe finds."""
    names = run_python({"os": os, "storage": cloud.drops}, "def wait_for_result")
    itwin = cloud.itwin()
    permission = ContainerSasPermissions(create=True, write=True)
    sas = generate_container_sas(
        ACCOUNT, itwin, account_key=ACCOUNT_KEY, permission=permission, expiry=datetime.now(UTC) + timedelta(hours=1)
    )
    headers = {"x-ms-version": "2021-12-02", "x-ms-blob-type": "BlockBlob", "x-ms-meta-order": "4711"}
    answer = requests.put(f"{cloud.drops.url}{itwin}/{quote(name)}?{sas}", data=PHOTO, headers=headers, timeout=HANG_S)
    assert answer.status_code == 201
    written = cloud.drops.get_blob_client(itwin, name).get_blob_properties()
    result = names["wait_for_result"](cloud.drops, itwin, name, written.etag.strip('"'), written.last_modified)
    assert (result["status"], result["source"]["blob"]) == ("uploaded", name)
    assert result["source"]["metadata"] == {"order": "4711"}


@pytest.mark.parametrize("name", [*NAMES, "y" * 1024, "a/../b.jpg", "..", "a\\.\\b.jpg"])
def test_the_recipe_finds_the_result_where_the_app_writes_it(name: str) -> None:
    """The rule for its name is published, so it must be the app's own."""
    assert run_python({}, "def result_name")["result_name"](ITWIN, name) == result_name(Drop(ITWIN, name))


def test_an_older_result_is_never_taken_for_the_newer_drops(cloud: LocalCloud, work: Path) -> None:
    """Who waits for one version is not told of another."""
    assert work
    names = run_python({"os": os, "storage": cloud.drops}, "def drop", "def wait_for_result")
    cloud.itwin(ITWIN)
    dropped = names["drop"](cloud.drops, ITWIN, "once.jpg", PHOTO)
    names["wait_for_result"](cloud.drops, *dropped)
    with pytest.raises(TimeoutError):
        names["wait_for_result"](cloud.drops, ITWIN, "once.jpg", "0xOTHER", dropped[3], timeout_s=1)


def test_what_is_not_run_is_at_least_whole() -> None:
    """The languages that are not here: every bracket and quote is closed."""
    csharp = recipe("csharp", "BlobServiceClient")
    for opening, closing in ("()", "{}", "[]"):
        assert csharp.count(opening) == csharp.count(closing)
    assert csharp.count('"') % 2 == 0
    for block in SHELL_BLOCKS:
        subprocess.run(["bash", "-n", "-c", block], check=True)


def test_every_variable_is_assigned_before_its_use() -> None:
    """Whoever goes through the page from its top has them all; App Service sets its own two."""
    assigned = {"IDENTITY_HEADER", "IDENTITY_ENDPOINT"}
    for line in "".join(SHELL_BLOCKS).splitlines():
        assert set(re.findall(r"\$\{?([A-Z_]+)", line)) <= assigned
        assigned |= set(re.findall(r"^(?:export )?([A-Z_]+)=", line))


def test_a_condition_can_be_typed_at_a_prompt() -> None:
    """Where bash, unless it is quoted, takes a `!` for a line of its history."""
    typed = f"""az() {{ printf '%s\\n' "$@"; }}
        ITWIN_ID={ITWIN} WRITER_OBJECT_ID=w DROP_ACCOUNT_ID=d
        {recipe("sh", "--condition ")}"""
    prompt = ["bash", "--noprofile", "--norc", "-i"]
    done = subprocess.run(prompt, input=typed, capture_output=True, text=True, timeout=HANG_S, check=True)
    *_, option, condition = done.stdout.splitlines()
    assert option == "--condition"
    assert condition.startswith("((!(ActionMatches{'Microsoft.Storage/")
    assert condition.endswith(f":path] StringLike '{ITWIN}/*'))")
