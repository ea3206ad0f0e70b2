"""The recipes work as they are written: their very text is run."""

from __future__ import annotations

import itertools
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

from client.itwin_image_drop import Drop, wait_for_result
from local.azurite import ACCOUNT, ACCOUNT_KEY, Azurite
from local.event_grid import Subscription
from local.managed_identity import ManagedIdentity
from local.processes import PROJECT, wait_until
from local.serving import serve
from local.state import claim_state
from tests.deadlines import HANG_S
from tests.recipes import (
    NAME,
    PHOTO,
    RECIPES,
    SHELL_BLOCKS,
    local_variables,
    prepare,
    recipe,
    run,
    run_javascript,
    run_python,
    run_shell,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from starlette.requests import Request

    from local.cloud import LocalCloud

ITWIN = "b3bd3a79-c5b4-41f5-ba5f-6d8c338d788a"
NAMES = ("a b.jpg", "1+1=2.jpg", "100 % & 50%25.jpg", "#1?.jpg", "größe/日本/写真.jpg", "folder/" + "x" * 1013 + ".jpg")


needs_curl = pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed")


def has_node_20() -> bool:
    """Whether there is a Node.js that the vendor's SDK for it supports."""
    node = shutil.which("node")
    said = subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout if node else "v0"
    return int(said.lstrip("v").partition(".")[0]) >= 20


needs_node_20 = pytest.mark.skipif(not has_node_20(), reason="the SDK for JavaScript needs Node.js 20")


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """Return a folder with what the page expects there."""
    return prepare(tmp_path)


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
            "ITWIN_ID": ITWIN,
            **dict.fromkeys(trusted, str(folder / "authority.pem")),
            **identity.settings(address),
        }


@pytest.fixture
def identified(secured: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[BlobServiceClient]:
    """Be a program with an identity; yields its storage, which has the container."""
    for name, value in secured.items():
        monkeypatch.setenv(name, value)
    with DefaultAzureCredential() as credential, BlobServiceClient(secured["DROP_ACCOUNT_URL"], credential) as storage:
        if not storage.get_container_client(ITWIN).exists():
            storage.create_container(ITWIN)
        storage.get_blob_client(ITWIN, NAME).upload_blob(b"older", overwrite=True)
        yield storage


def test_the_local_cloud_sets_the_variables_that_the_recipes_read(
    cloud: LocalCloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the page's own lines, in the project's folder: storage, its address, and an iTwin with a container."""
    monkeypatch.setenv("LOCAL_CLOUD_FOLDER", str(tmp_path))
    with claim_state() as publish:
        publish(cloud.state)
        lines = recipe("sh", "local env")
        shown = 'printf \'%s\\n\' "$AZURE_STORAGE_CONNECTION_STRING" "$DROP_ACCOUNT_URL" "$ITWIN_ID"'
        connection_string, address, itwin = run(["sh", "-euc", lines + shown], PROJECT, {}).splitlines()
    assert connection_string == cloud.connection_string
    assert f"{address}/" == cloud.drops.url
    assert cloud.drops.get_container_client(itwin).exists()


def check_dropped(storage: BlobServiceClient, itwin: str = ITWIN) -> None:
    """See that the photo is there, with its metadata."""
    download = storage.get_blob_client(itwin, NAME).download_blob()
    assert download.readall() == PHOTO
    assert download.properties.metadata == {"order": "4711"}


def test_python_drops_awaits_recognizes_and_validates(cloud: LocalCloud, work: Path) -> None:
    """End to end: the metadata put on the blob comes back in a valid document."""
    variables = local_variables(cloud)
    blocks = ("connection = ", "import drop_and_wait", 'result["source"]["metadata"]', "Draft202012Validator")
    assert run_python(work, variables, *blocks) == "uploaded None\n"
    check_dropped(cloud.drops, variables["ITWIN_ID"])


def test_python_writes_with_a_managed_identity(
    secured: dict[str, str], identified: BlobServiceClient, work: Path
) -> None:
    """Without a key, over https."""
    write = """
from itwin_image_drop import drop

with open("photo.jpg", "rb") as photo:
    drop(storage, os.environ["ITWIN_ID"], "north gate/photo.jpg", photo, metadata={"order": "4711"})
"""
    run_python(work, secured, "connection = ", then=write)
    check_dropped(identified)


@needs_node_20
def test_javascript_drops_and_awaits(cloud: LocalCloud, work: Path) -> None:
    """It finds its own result, not that of an earlier drop of the same name."""
    variables = local_variables(cloud)
    blocks = ("const storage", "const written", "waitForResult")
    assert run_javascript(work, variables, *blocks) == "uploaded null\n"
    check_dropped(cloud.drops, variables["ITWIN_ID"])
    (work / "photo.jpg").write_bytes(b"not an image")
    assert run_javascript(work, variables, *blocks).startswith("rejected The file is ")


@needs_node_20
def test_javascript_writes_with_a_managed_identity(
    secured: dict[str, str], identified: BlobServiceClient, work: Path
) -> None:
    """With the vendor's SDK for Node.js."""
    run_javascript(work, secured, "const storage", "const written")
    check_dropped(identified)


@needs_curl
def test_curl_writes_with_a_managed_identity(
    secured: dict[str, str], identified: BlobServiceClient, work: Path
) -> None:
    """The first command gets a token, the second writes a blob."""
    run_shell(work, secured, "TOKEN=$(curl", "Authorization: Bearer")
    check_dropped(identified)


@needs_curl
def test_a_signed_url_is_enough_for_curl(cloud: LocalCloud, work: Path) -> None:
    """Made by one program, and used by another that has no SDK and no login."""
    variables = local_variables(cloud)
    signed = run_python(work, variables, "connection = ", "generate_container_sas", then="print(sas)").strip()
    del variables["AZURE_STORAGE_CONNECTION_STRING"]
    run_shell(work, {**variables, "SAS": signed}, "photo.jpg?$SAS")
    check_dropped(cloud.drops, variables["ITWIN_ID"])


def test_a_signed_url_can_only_write_to_its_container(cloud: LocalCloud, work: Path) -> None:
    """It creates and overwrites blobs there, and can neither read, nor list, nor write elsewhere."""
    variables = local_variables(cloud)
    url = run_python(work, variables, "connection = ", "generate_container_sas", then="print(container_url)").strip()
    with ContainerClient.from_container_url(url) as container:
        container.upload_blob(NAME, PHOTO, overwrite=True)
        with pytest.raises(HttpResponseError, match="AuthorizationPermissionMismatch"):
            container.download_blob(NAME)
        with pytest.raises(HttpResponseError, match="AuthorizationPermissionMismatch"):
            list(container.list_blobs())
    with (
        ContainerClient.from_container_url(url.replace(variables["ITWIN_ID"], cloud.itwin())) as container,
        pytest.raises(HttpResponseError, match="AuthorizationFailure"),
    ):
        container.upload_blob(NAME, PHOTO)


def test_a_subscriber_is_notified_of_each_result(cloud: LocalCloud) -> None:
    """With the recipe's own filter, its endpoint is called with the document's URL, and not for any other iTwin."""
    itwin = cloud.itwin()
    command = shlex.split(recipe("sh", "event-subscription create").replace("$ITWIN_ID", itwin))
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
        cloud.result(cloud.drop(cloud.itwin(), "other.jpg", b"not an image"))
        cloud.result(cloud.drop(itwin, NAME, b"not an image"))
        assert wait_until(lambda: bool(told), timeout_s=HANG_S)
    assert {event["data"]["url"] for event in told} == {f"{cloud.drops.url}results/{itwin}/{quote(NAME)}.json"}


@pytest.mark.parametrize("name", NAMES)
def test_any_blob_name_works_without_an_sdk(cloud: LocalCloud, name: str) -> None:
    """End to end, to the result that the client finds."""
    itwin = cloud.itwin()
    permission = ContainerSasPermissions(create=True, write=True)
    sas = generate_container_sas(
        ACCOUNT, itwin, account_key=ACCOUNT_KEY, permission=permission, expiry=datetime.now(UTC) + timedelta(hours=1)
    )
    headers = {"x-ms-version": "2021-12-02", "x-ms-blob-type": "BlockBlob", "x-ms-meta-order": "4711"}
    answer = requests.put(f"{cloud.drops.url}{itwin}/{quote(name)}?{sas}", data=PHOTO, headers=headers, timeout=HANG_S)
    assert answer.status_code == 201
    written = cloud.drops.get_blob_client(itwin, name).get_blob_properties()
    drop = Drop(itwin, name, written.etag.strip('"'), "", written.last_modified)
    result = wait_for_result(cloud.drops, drop, timeout_s=HANG_S)
    assert (result["status"], result["source"]["blob"]) == ("uploaded", name)
    assert result["source"]["metadata"] == {"order": "4711"}


def test_recipes_that_are_not_run_have_balanced_brackets_and_quotes() -> None:
    """The languages that this machine lacks."""
    for language, containing in (("csharp", "BlobServiceClient"), ("powershell", "New-AzStorageContext")):
        text = recipe(language, containing)
        for opening, closing in ("()", "{}", "[]"):
            assert text.count(opening) == text.count(closing)
        assert (text.count('"') - text.count("'\"'")) % 2 == 0
    for block in SHELL_BLOCKS:
        subprocess.run(["bash", "-n", "-c", block], check=True)


def test_the_page_states_which_recipes_are_not_run() -> None:
    """Whoever follows one knows that it was never tried here."""
    (said,) = re.findall(r"^\*\*Not run:\*\* (.*?)\.\sThey", RECIPES, re.MULTILINE | re.DOTALL)
    for tool in (".NET", "PowerShell", "Logic Apps", "Power Automate", "Storage Explorer"):
        assert tool in said
    headings = {".NET", "PowerShell", "Tools without code"}
    parts = re.findall(r"^### (.*?)\n(.*?)(?=^##)", RECIPES, re.MULTILINE | re.DOTALL)
    assert {heading for heading, text in parts if re.search(r"\b[Nn]ot run\b", text)} == headings


def test_every_variable_is_assigned_before_its_use() -> None:
    """Whoever reads the page from the top has set them all; App Service sets its own two."""
    assigned = {"IDENTITY_HEADER", "IDENTITY_ENDPOINT"}
    for line in "".join(SHELL_BLOCKS).splitlines():
        # Variables of jq's own are in lower case.
        assert set(re.findall(r"\$\{?([A-Z][A-Z0-9_]+)", line)) <= assigned
        assigned |= set(re.findall(r"(?:^|(?<=export )|(?<= ))([A-Z][A-Z0-9_]+)=", line))


def test_a_role_condition_can_be_typed_at_a_prompt() -> None:
    """Bash takes an unquoted `!` for history expansion."""
    typed = f"""az() {{ printf '%s\\n' "$@"; }}
        ITWIN_ID={ITWIN} WRITER_OBJECT_ID=w DROP_ACCOUNT_ID=d
        {recipe("sh", "--condition ")}"""
    prompt = ["bash", "--noprofile", "--norc", "-i"]
    done = subprocess.run(prompt, input=typed, capture_output=True, text=True, timeout=HANG_S, check=True)
    *_, option, condition = done.stdout.splitlines()
    assert option == "--condition"
    assert condition.startswith("((!(ActionMatches{'Microsoft.Storage/")
    assert condition.endswith(f":path] StringLike '{ITWIN}/*'))")
