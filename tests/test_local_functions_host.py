"""The embedded host does with a function app what Azure Functions does."""

from __future__ import annotations

import base64
import json
import os
import signal
import sys
import uuid
from typing import TYPE_CHECKING, Any

import pytest
import requests
from azure.identity import ManagedIdentityCredential

from local.azurite import Azurite
from local.functions_host.http import parse_blob_url, trigger_message
from local.functions_host.indexing import FunctionInError, check_path
from local.functions_host.settings import QueueOptions, blob_service, queue_service, read_host_options, resolve_settings
from local.host_process import HostProcess
from local.processes import PROJECT, Child, wait_until
from local.serving import LocalCloudError, listen
from tests.deadlines import HANG_S
from tests.machine import is_running
from tests.probe import PROBE, QUEUE, TRIGGER_QUEUE, Probe, event

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

POISON_QUEUE = "webjobs-blobtrigger-poison"


@pytest.fixture(scope="module")
def data_account() -> Iterator[Azurite]:
    """Run another account, for what the host must not mix up."""
    with Azurite() as running:
        yield running


@pytest.fixture(scope="module")
def probe(azurite: Azurite, data_account: Azurite) -> Iterator[Probe]:
    """Run one host for all tests that do not end it."""
    with Probe(azurite, data_account, visibility_timeout_s=2) as running:
        yield running
        keys = (running.host.function_key, running.host.webhook("x").partition("code=")[2])
        assert not [line for line in running.lines if any(key in line for key in keys)], "a key was logged"


# The webhook


@pytest.mark.parametrize("code", ["", "&code=", "&code=wrong"])
def test_the_webhook_requires_its_key(probe: Probe, code: str) -> None:
    """A request without the key blobs_extension is refused with 401."""
    url = probe.host.webhook("on_blob").partition("&code=")[0] + code
    assert requests.post(url, json=[], headers={"aeg-event-type": "Notification"}, timeout=HANG_S).status_code == 401


def test_a_function_key_does_not_open_the_webhook(probe: Probe) -> None:
    """It is valid, but not for this: 403, as from the real Functions host."""
    url = probe.host.webhook("on_blob").partition("&code=")[0]
    headers = {"aeg-event-type": "Notification", "x-functions-key": probe.host.function_key}
    assert requests.post(url, json=[], headers=headers, timeout=HANG_S).status_code == 403


def test_the_validation_handshake_returns_the_code(probe: Probe) -> None:
    """A new event subscription is confirmed, in the Event Grid schema and in CloudEvents' double encoding."""
    data = {"validationCode": "a-code"}
    for body in ([{"data": data}], {"data": json.dumps(data)}):
        assert probe.post(body, kind="SubscriptionValidation").json() == {"validationResponse": "a-code"}


@pytest.mark.parametrize(
    ("origin", "allowed"), [("eventgrid.azure.cn", "eventgrid.azure.cn"), ("evil.example", "eventgrid.azure.net")]
)
def test_the_cloud_events_handshake_names_the_allowed_origin(probe: Probe, origin: str, allowed: str) -> None:
    """OPTIONS is answered as the CloudEvents webhook specification asks."""
    response = requests.options(
        probe.host.webhook("on_blob"), headers={"WebHook-Request-Origin": origin}, timeout=HANG_S
    )
    assert (response.status_code, response.headers["Webhook-Allowed-Origin"]) == (200, allowed)


@pytest.mark.parametrize(("kind", "status"), [("Unsubscribe", 202), ("Nonsense", 400), ("", 400)])
def test_only_known_event_kinds_are_accepted(probe: Probe, kind: str, status: int) -> None:
    """The header aeg-event-type decides; without it nothing is an event."""
    assert probe.post([], kind=kind).status_code == status


@pytest.mark.parametrize("body", [[{}], [{"data": {"url": "http://127.0.0.1/a", "blobType": "BlockBlob"}}], "text", 7])
def test_a_malformed_event_is_an_error_of_the_host(probe: Probe, body: object) -> None:
    """The real webhook does not catch it either, so Event Grid tries again."""
    assert probe.post(body).status_code == 500


@pytest.mark.parametrize(
    ("given", "status"),
    [
        ({"blobType": "BlockBlob"}, 202),
        ({"blobType": "PageBlob"}, 202),
        ({"blobType": "AppendBlob"}, 202),
        ({"blobType": "blockblob"}, 500),
        ({"blobType": "Blob"}, 500),
        ({"blobType": ""}, 500),
        ({"blobType": None}, 500),
        ({"blobType": []}, 500),
        ({}, 500),
        ({"blobType": "BlockBlob", "eTag": None}, 202),
    ],
)
def test_an_event_must_have_a_known_blob_type(probe: Probe, given: dict[str, Any], status: int) -> None:
    """As the extension parses it; an ETag may be missing."""
    url = probe.container().get_blob_client("gone.png").url
    assert probe.post([{"data": {"url": url, **given}}]).status_code == status


def test_an_unknown_function_name_is_accepted_and_its_event_dropped(probe: Probe) -> None:
    """This is how a renamed function silently loses its events."""
    container = probe.container()
    probe.drop(container, "lost.png", function="no_such_function")
    probe.drop(container, "found.png")
    probe.wait_for(blob="found.png")
    probe.wait_until_idle()
    assert not probe.said(blob="lost.png")


def test_a_trigger_message_has_the_real_shape() -> None:
    """It is BlobTriggerMessage of the storage extension, with the ETag in quotes."""
    message = json.loads(trigger_message(event("http://127.0.0.1:1/account/box/a%20b/c.png"), "Host.Functions.f"))
    assert message == {
        "Type": "BlobTrigger",
        "FunctionId": "Host.Functions.f",
        "BlobType": "BlockBlob",
        "ContainerName": "box",
        "BlobName": "a b/c.png",
        "ETag": '"0x8D"',
    }


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://account.blob.core.windows.net/box/a.png", ("box", "a.png")),
        ("http://127.0.0.1:10000/account/box/a.png", ("box", "a.png")),
        ("http://[::1]:10000/account/box/a.png", ("box", "a.png")),
        ("https://account.blob.core.windows.net/box/a%2Fb/%23%25%3F%2B+%C3%BC.png", ("box", "a/b/#%?++ü.png")),
        ("https://account.blob.core.windows.net/box/cut#off.png", ("box", "cut")),
    ],
)
def test_container_and_blob_are_parsed_from_the_url(url: str, expected: tuple[str, str]) -> None:
    """As .NET's BlobUriBuilder does: a raw # begins the fragment."""
    assert parse_blob_url(url) == expected


# Blob triggers


def test_a_function_receives_the_real_container_and_blob(probe: Probe) -> None:
    """The container in the trigger's path does not matter, and the client really reads the blob."""
    container = probe.container()
    name = "site 1/100% ü+#?.png"
    probe.drop(container, name)
    (said,) = probe.wait_for(function="on_blob", blob=name)
    assert said["container"] == container.container_name
    assert probe.wait_for(function="on_blob ended", blob=name)[0]["content"] == "content"


def test_the_host_makes_three_requests_about_a_blob(probe: Probe, data_account: Azurite) -> None:
    """As the extension does, so counting an app's requests includes the host's."""
    heads: list[str] = []
    data_account.watch(heads.append)
    container = probe.container()
    probe.drop(container, "counted.png")
    probe.wait_for(function="on_blob ended", blob="counted.png")
    data_account.unwatch(heads.append)
    path = f"/{container.container_name}/counted.png "
    assert sum('"HEAD ' in line and path in line for line in heads) == 3


def test_a_function_receives_its_context(probe: Probe) -> None:
    """`context` has what the Python worker puts into it."""
    container = probe.container()
    probe.drop(container, "context.png")
    (said,) = probe.wait_for(function="on_blob", blob="context.png")
    assert (said["name"], said["folder"], said["retry"]) == ("on_blob", str(PROBE), 0)
    assert uuid.UUID(said["invocation"])
    assert said["trace"].count("-") == 3


def test_the_app_never_sees_the_hosts_keys(probe: Probe) -> None:
    """They are not in its environment."""
    container = probe.container()
    probe.drop(container, "keys.png")
    environment = probe.wait_for(function="on_blob", blob="keys.png")[0]["environment"]
    assert not {name for name in environment if name.startswith("FUNCTIONS_HOST_")}


def test_an_async_function_runs_on_the_event_loop(probe: Probe) -> None:
    """It uses no thread of the pool."""
    container = probe.container()
    probe.drop(container, "async.png", function="on_blob_async")
    assert probe.wait_for(function="on_blob_async")[0]["thread"] == "async functions"


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        ("token_in_container", "Container paths cannot contain {resolve} tokens."),
        ("wants_bytes", "passes only SDK types"),
        ("polls", "set source=EventGrid"),
        ("unconnected", "'Nowhere' does not exist"),
        ("on_time", "does not support timerTrigger"),
    ],
)
def test_a_function_that_cannot_run_is_reported_and_the_others_run(probe: Probe, function: str, reason: str) -> None:
    """The host says why when it starts, and never calls it."""
    (line,) = [line for line in probe.lines if f"The '{function}' function is in error" in line]
    assert reason in line
    container = probe.container()
    probe.drop(container, f"{function}.png", function=function)
    probe.drop(container, "other.png")
    probe.wait_for(blob="other.png", container=container.container_name)
    probe.wait_until_idle()
    assert not probe.said(function=function)


@pytest.mark.parametrize("path", ["box", "box/{name}", "box/folder/{name}.png"])
def test_a_path_with_a_fixed_container_is_accepted(path: str) -> None:
    """The blob's name may contain tokens."""
    check_path(path)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        (
            "{itwin}/{name}",
            "Invalid blob trigger path '{itwin}/{name}'. Container paths cannot contain {resolve} tokens.",
        ),
        ("box/", "Invalid blob trigger path 'box/'. Paths must be in the format 'container/blob'."),
        ("/name", "Invalid blob trigger path '/name'. Paths must be in the format 'container/blob'."),
        ("a\\b", "Invalid blob trigger path 'a\\b'. Paths must be in the format 'container/blob'."),
    ],
)
def test_a_path_is_refused_with_the_hosts_own_message(path: str, message: str) -> None:
    """The messages are those of BlobPathSource.cs, so that they can be searched for."""
    with pytest.raises(FunctionInError) as caught:
        check_path(path)
    assert str(caught.value) == message


def test_a_failing_drop_is_tried_five_times_and_then_poisoned(probe: Probe) -> None:
    """The poison message is in the data account, not in the host's, and has the real shape."""
    container = probe.container()
    probe.drop(container, "fail.png")
    poison = json.loads(base64.b64decode(probe.take_poison(POISON_QUEUE)))
    assert poison == {
        "Type": "BlobTrigger",
        "FunctionId": "Host.Functions.on_blob",
        "BlobType": "BlockBlob",
        "ContainerName": container.container_name,
        "BlobName": "fail.png",
        "ETag": '"0x8D"',
    }
    assert len(probe.said(function="on_blob", blob="fail.png")) == 5
    assert POISON_QUEUE not in [queue.name for queue in probe.host_queues.list_queues()]
    assert wait_until(lambda: any("RuntimeError: asked to fail" in line for line in probe.lines), timeout_s=HANG_S)
    assert wait_until(
        lambda: any("Message has reached MaxDequeueCount of 5" in line for line in probe.lines), timeout_s=HANG_S
    )


def test_the_event_of_a_deleted_blob_is_discarded(probe: Probe) -> None:
    """It runs no function and leaves nothing behind."""
    container = probe.container()
    assert probe.notify(container, "gone.png").status_code == 202
    probe.wait_until_idle()
    assert not probe.said(blob="gone.png")
    assert not any("could not be processed" in line for line in probe.lines)


def test_a_message_stays_invisible_while_its_function_runs(probe: Probe) -> None:
    """Its visibility is renewed, however much longer than the timeout the function takes.

    On a busy machine that may come too late, but not each time.
    """
    container = probe.container()

    def runs(name: str) -> int:
        probe.drop(container, name)

        def ended() -> bool:
            probe.notify(container, "gone.png")  # so that the host looks for messages again and again
            return bool(probe.said(function="on_blob ended", blob=name))

        assert wait_until(ended, timeout_s=HANG_S, interval_s=0.1)
        probe.wait_until_idle()
        return len(probe.said(function="on_blob", blob=name))

    assert any(runs(f"slow-{number}.png") == 1 for number in range(3))


def test_no_more_functions_run_at_once_than_configured(probe: Probe) -> None:
    """Four do: a batch of three is fetched while one is still running."""
    container = probe.container()
    probe.drop(container, "slow.png")
    probe.wait_for(function="on_blob", container=container.container_name)
    for number in range(11):
        probe.drop(container, f"nap-{number}.png")
    said = probe.wait_for(12, function="on_blob", container=container.container_name)
    assert max(one["running"] for one in said) == 4
    probe.wait_until_idle()


# Queue triggers


def test_a_queue_trigger_receives_the_message(probe: Probe) -> None:
    """Its queue's name comes from a setting; ID, body, attempts and times are real."""
    queue = probe.data_queues.get_queue_client(QUEUE)
    if QUEUE not in [found.name for found in probe.data_queues.list_queues()]:
        queue.create_queue()
    sent = queue.send_message(base64.b64encode("hällo".encode()).decode())
    (said,) = probe.wait_for(function="on_message", body="hällo")
    assert (said["id"], said["count"]) == (sent.id, 1)
    assert said["inserted"] == str(sent.inserted_on)


@pytest.mark.parametrize(("content", "attempts"), [(base64.b64encode(b"fail").decode(), 2), ("no base64!", 0)])
def test_a_message_that_fails_too_often_is_poisoned(probe: Probe, content: str, attempts: int) -> None:
    """It moves unchanged to `{queue}-poison`, after maxDequeueCount attempts, or at once if it is not base64."""
    queue = probe.data_queues.get_queue_client(QUEUE)
    if QUEUE not in [found.name for found in probe.data_queues.list_queues()]:
        queue.create_queue()
    sent = queue.send_message(content)
    assert probe.take_poison(f"{QUEUE}-poison") == content
    assert len(probe.said(function="on_message", id=sent.id)) == attempts


def test_a_message_in_a_poison_queue_is_retried_after_ten_minutes(probe: Probe) -> None:
    """Here after two seconds: there is no poison queue of a poison queue, so in the end it stays."""
    queue = probe.data_queues.create_queue("probe-poison")
    sent = queue.send_message(base64.b64encode(b"fail").decode())
    first, second = probe.wait_for(2, function="on_poison", id=sent.id)
    assert second["at"] - first["at"] > 1.9
    assert queue.get_queue_properties().approximate_message_count == 1
    assert "probe-poison-poison" not in [found.name for found in probe.data_queues.list_queues()]


# HTTP triggers


def test_an_http_trigger_requires_its_key(probe: Probe) -> None:
    """Route, query, body, status and headers are passed on; the key may be in a header or in the query."""
    url = f"{probe.host.address}/api/hello/you"
    key = probe.host.function_key
    assert requests.post(url, timeout=HANG_S).status_code == 401
    assert requests.post(url, headers={"x-functions-key": "wrong"}, timeout=HANG_S).status_code == 401
    for headers, params in (({"x-functions-key": key}, {}), ({}, {"code": key})):
        response = requests.post(url, headers=headers, params={"mood": "happy", **params}, data=b"Bo", timeout=HANG_S)
        assert (response.status_code, response.text) == (201, "Hello, you happy Bo!")
        assert (response.headers["x-probe"], response.headers["content-type"]) == ("1", "text/greeting; charset=utf-8")


def test_an_http_trigger_that_raises_responds_with_500(probe: Probe) -> None:
    """The exception appears only in the log."""
    headers = {"x-functions-key": probe.host.function_key}
    assert requests.get(f"{probe.host.address}/api/raises", headers=headers, timeout=HANG_S).status_code == 500
    assert wait_until(lambda: any("RuntimeError: asked to raise" in line for line in probe.lines), timeout_s=HANG_S)


# The host's own life


def test_a_drop_survives_the_hosts_crash(data_account: Azurite) -> None:
    """Its message reappears when the visibility timeout is over."""
    with Azurite() as host_account, Probe(host_account, data_account, visibility_timeout_s=1) as probe:
        container = probe.container()
        probe.drop(container, "slow.png")
        probe.wait_for(function="on_blob", blob="slow.png")
        assert probe.host.kill() == -signal.SIGKILL
        probe.host.start()
        probe.wait_for(2, function="on_blob", blob="slow.png")
        probe.wait_for(function="on_blob ended", blob="slow.png")


def test_a_crash_counts_as_an_attempt(data_account: Azurite) -> None:
    """A message that five crashed hosts had taken is poisoned without a sixth attempt."""
    with Azurite() as host_account:
        probe = Probe(host_account, data_account, visibility_timeout_s=60)
        container = probe.container()
        container.upload_blob("crashed.png", b"content")
        body = trigger_message(event(container.get_blob_client("crashed.png").url), "Host.Functions.on_blob")
        queue = probe.host_queues.create_queue(TRIGGER_QUEUE)
        queue.send_message(base64.b64encode(body).decode())
        for _ in range(5):
            message = queue.receive_message()
            assert message is not None
            queue.update_message(message, visibility_timeout=0)
        with probe:
            poison = json.loads(base64.b64decode(probe.take_poison(POISON_QUEUE)))
        assert poison["BlobName"] == "crashed.png"
        assert not probe.said(blob="crashed.png")


def test_an_orderly_stop_lets_running_functions_finish(data_account: Azurite) -> None:
    """SIGTERM ends the host with 0, and nothing is left to be repeated."""
    with Azurite() as host_account, Probe(host_account, data_account, visibility_timeout_s=60) as probe:
        container = probe.container()
        probe.drop(container, "slow.png")
        probe.wait_for(function="on_blob", blob="slow.png")
        assert probe.host.stop() == 0
        assert probe.said(function="on_blob ended", blob="slow.png")
        queue = probe.host_queues.get_queue_client(TRIGGER_QUEUE)
        assert queue.get_queue_properties().approximate_message_count == 0


def test_the_host_ends_with_the_process_that_started_it(azurite: Azurite) -> None:
    """Even if that was killed: a closed input ends it."""
    program = f"""
import threading
from pathlib import Path
from local.host_process import HostProcess
host = HostProcess(Path({str(PROBE)!r}), {{"AzureWebJobsStorage": {azurite.connection_string!r}}})
host.start()
print("pid", host.pid, flush=True)
threading.Event().wait()
"""
    parent = Child([sys.executable, "-c", program], environment=os.environ, directory=PROJECT)
    try:
        assert wait_until(lambda: any(line.startswith("pid ") for line in parent.lines), timeout_s=HANG_S)
        pid = int(next(line for line in parent.lines if line.startswith("pid ")).split()[1])
        assert is_running(pid)
    finally:
        parent.kill()
    assert wait_until(lambda: not is_running(pid), timeout_s=HANG_S)


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({"function_app.py": "import no_such_module"}, "function_app cannot be imported: ModuleNotFoundError"),
        ({}, "has no function_app.py"),
        ({"function_app.py": ""}, "has no azure.functions.FunctionApp"),
        ({"host.json": "{"}, "host.json cannot be read"),
        ({"host.json": "[]"}, "must hold a JSON object"),
        (
            {"host.json": '{"extensions": {"blobs": {"maxDegreeOfParallelism": 0}}}'},
            "must be a whole number at least 1",
        ),
    ],
)
def test_an_app_that_cannot_be_loaded_ends_the_host_with_one_sentence(
    azurite: Azurite, tmp_path: Path, files: dict[str, str], reason: str
) -> None:
    """The last line says what is wrong."""
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    host = HostProcess(tmp_path, {"AzureWebJobsStorage": azurite.connection_string})
    with pytest.raises(LocalCloudError, match=reason):
        host.start()


def test_a_port_taken_in_the_meantime_is_replaced(azurite: Azurite) -> None:
    """Another one is used if none was requested; a requested one is named in the error."""
    host = HostProcess(PROBE, {"AzureWebJobsStorage": azurite.connection_string, "PROBE_QUEUE": QUEUE})
    with listen(host.port):
        try:
            host.start()
            assert requests.get(f"{host.address}/admin/host/ping", timeout=HANG_S).ok
        finally:
            host.stop()
    asked = HostProcess(PROBE, host.settings, port=host.port)
    with listen(host.port), pytest.raises(LocalCloudError, match=f"Port {host.port} cannot be used"):
        asked.start()


def test_a_host_without_its_storage_says_so() -> None:
    """AzureWebJobsStorage is the one setting that the host itself needs."""
    with pytest.raises(LocalCloudError, match="'AzureWebJobsStorage' does not exist"):
        HostProcess(PROBE, {}).start()


# Settings


def test_host_json_configures_the_queue_listeners(tmp_path: Path) -> None:
    """Names are not case-sensitive, durations are in .NET's format."""
    queues = {
        "BatchSize": 7,
        "newBatchThreshold": 3,
        "maxDequeueCount": 2,
        "visibilityTimeout": "00:01:30",
        "maxPollingInterval": "1.00:00:00.5",
        "messageEncoding": "none",
    }
    (tmp_path / "host.json").write_text(json.dumps({"extensions": {"Queues": queues}}))
    assert read_host_options(tmp_path, {}).queues == QueueOptions(7, 3, 2, 90.0, 86400.5, base64=False)


@pytest.mark.parametrize(("parallelism", "batch_size", "threshold"), [(1, 1, 0), (4, 3, 1), (16, 9, 7), (100, 32, 68)])
def test_the_degree_of_parallelism_is_split_as_in_the_extension(
    tmp_path: Path, parallelism: int, batch_size: int, threshold: int
) -> None:
    """Half of it plus one is the batch, at most 32; the rest is the threshold for the next batch."""
    overrides = {"AzureFunctionsJobHost__extensions__blobs__maxDegreeOfParallelism": str(parallelism)}
    blobs = read_host_options(tmp_path, overrides).blobs
    assert (blobs.batch_size, blobs.new_batch_threshold, blobs.max_dequeue_count) == (batch_size, threshold, 5)


@pytest.mark.parametrize(
    ("name", "value"),
    [("batchSize", 33), ("maxDequeueCount", 0), ("visibilityTimeout", "30"), ("maxPollingInterval", "00:00:00.05")],
)
def test_a_wrong_value_in_host_json_is_named(tmp_path: Path, name: str, value: object) -> None:
    """The message has the setting and what it must be."""
    (tmp_path / "host.json").write_text(json.dumps({"extensions": {"queues": {name: value}}}))
    with pytest.raises(LocalCloudError, match=rf"queues\.{name} in host\.json .*must"):
        read_host_options(tmp_path, {})


def test_names_in_percent_signs_are_app_settings() -> None:
    """An unknown one is reported with the host's own message."""
    assert resolve_settings("a-%NAME%-%OTHER%", {"NAME": "b", "OTHER": "c"}) == "a-b-c"
    with pytest.raises(LocalCloudError, match="'%NAME%' does not resolve to a value"):
        resolve_settings("%NAME%", {})


def test_a_connection_may_be_an_identity(monkeypatch: pytest.MonkeyPatch) -> None:
    """`X__blobServiceUri` and `X__queueServiceUri` need no key; a connection string takes precedence."""
    monkeypatch.setenv("X__blobServiceUri", "https://drops.blob.core.windows.net")
    monkeypatch.setenv("X__queueServiceUri", "https://drops.queue.core.windows.net")
    with blob_service("X") as blobs, queue_service("X") as queues:
        assert blobs.url == "https://drops.blob.core.windows.net/"
        assert queues.url == "https://drops.queue.core.windows.net/"
        assert isinstance(blobs.credential, ManagedIdentityCredential)
        assert isinstance(queues.credential, ManagedIdentityCredential)
    monkeypatch.setenv("X", "AccountName=a;AccountKey=a2V5;DefaultEndpointsProtocol=https")
    with blob_service("X") as blobs:
        assert blobs.url.startswith("https://a.blob.")
