"""The one way out: what comes back, in which time, and whether the request can have arrived."""

from __future__ import annotations

import base64
import errno
import gzip
import socket
import ssl
import threading
import time
import zlib
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest
import requests
import trustme

from shared.http_client import HttpClient, NoResponse, Response
from shared.http_client.client import MAX_BODY_BYTES
from shared.http_client.connecting import KEEPALIVE_S
from shared.http_client.connection import MAX_IDLE_S
from shared.http_client.environment import look_up, proxy_of_environment
from tests.deadlines import HANG_S, SHORT_S
from tests.wire import conversing, read_request, reset, respond, responding

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from shared.http_client import Cause
    from shared.http_client.environment import Address

BODY = b"image" * 1000


@pytest.fixture
def client() -> Iterator[HttpClient]:
    """Return a client that speaks to its peers directly."""
    client = HttpClient(proxy_for=lambda _: None)
    yield client
    client.close()


def send(client: HttpClient, url: str, method: str = "GET", body: bytes = b"", *, within_s: float = HANG_S) -> Response:
    """Send a request that must end in the time."""
    return client.send(method, url, body=body, deadline=time.monotonic() + within_s)


def refused(
    client: HttpClient, url: str, method: str = "GET", body: bytes = b"", *, within_s: float = 60
) -> NoResponse:
    """Send a request that nobody responds to."""
    with pytest.raises(NoResponse) as caught:
        send(client, url, method, body, within_s=within_s)
    return caught.value


def out_of_time(
    client: HttpClient, url: str, method: str = "GET", body: bytes = b"", *, cause: Cause, may_have_arrived: bool
) -> str:
    """Send a request for which there is too little time; return what is said of it, but for the time, which is told."""
    for within_s in SHORT_S:
        error = refused(client, url, method, body, within_s=within_s)
        if (error.cause, error.may_have_arrived) == (cause, may_have_arrived):
            break
    assert (error.cause, error.may_have_arrived) == (cause, may_have_arrived)
    said, within, told = error.message.rpartition(" within ")
    assert within
    assert 0 < float(told.removesuffix(" s.")) <= within_s + 0.5  # it is rounded
    return said


def test_a_request_is_sent_as_given(client: HttpClient) -> None:
    """With its length and type, and without a browser's headers."""
    heard: list[bytes] = []

    def conversation(connection: socket.socket) -> None:
        heard.append(read_request(connection))
        connection.sendall(respond("201 Created", b'{"a": 1}', "X-Twice: 1", "X-Twice: 2"))

    with conversing(conversation) as address:
        headers = {"Content-Type": "image/png", "Authorization": "Bearer abc"}
        deadline = time.monotonic() + HANG_S
        response = client.send("PUT", f"{address}/itwins/1?a=b", headers=headers, body=BODY, deadline=deadline)
    assert response == Response(201, {"content-length": "8", "x-twice": "1, 2"}, b'{"a": 1}')
    head, _, body = heard[0].partition(b"\r\n\r\n")
    assert body == BODY
    assert head.decode().split("\r\n") == [
        "PUT /itwins/1?a=b HTTP/1.1",
        f"Host: {urlsplit(address).netloc}",
        "User-Agent: itwin-image-drop",
        "Accept-Encoding: identity",
        "Content-Length: 5000",
        "Content-Type: image/png",
        "Authorization: Bearer abc",
    ]


def test_a_connection_is_reused_for_the_next_request(client: HttpClient) -> None:
    """The server accepts no second one."""
    with conversing(responding(respond(body=b"1"), respond(body=b"2"))) as address:
        assert [send(client, address).body for _ in range(2)] == [b"1", b"2"]


def test_threads_share_the_client(client: HttpClient) -> None:
    """Each exchange has its own connection, and each thread its own response."""

    def echo(connection: socket.socket) -> None:
        while request := read_request(connection):
            connection.sendall(respond(body=request.partition(b"\r\n\r\n")[2]))

    seen: list[bool] = []

    def exchange(number: int) -> None:
        body = str(number).encode() * 1000
        seen.extend(send(client, address, "PUT", body).body == body for _ in range(20))

    with conversing(echo, again=True) as address:
        threads = [threading.Thread(target=exchange, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert seen == [True] * 160


def dripping(before: bytes, drop: bytes, after: bytes) -> Callable[[socket.socket], None]:
    """Respond with the drop again and again, for far longer than the client has, and then to the end."""

    def conversation(connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall(before)
        connection.settimeout(0.05)
        for _ in range(200):
            connection.sendall(drop)
            with suppress(TimeoutError):
                if not connection.recv(1):
                    return
        connection.sendall(after)

    return conversation


@pytest.mark.parametrize(
    ("before", "drop", "after"),
    [
        (b"", b"", respond()),
        (b"HTTP/1.1 200 OK\r\nX-Slow: ", b"x", b"\r\nContent-Length: 0\r\n\r\n"),
        (b"HTTP/1.1 200 OK\r\n", b"X-Slow: x\r\n", b"Content-Length: 0\r\n\r\n"),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n", respond()),
        (b"", b"HTTP/1.1 103 Early Hints\r\nLink: </>\r\n\r\n", respond()),
    ],
    ids=["nothing", "a byte at a time", "a header at a time", "always about to continue", "hints without end"],
)
def test_slow_headers_end_at_the_deadline(client: HttpClient, before: bytes, drop: bytes, after: bytes) -> None:
    """Every byte arrives in time, but the response never does; the request has arrived."""
    with conversing(dripping(before, drop, after), again=True) as address:
        said = out_of_time(client, address, cause="time", may_have_arrived=True)
    assert said == "127.0.0.1 did not respond"


@pytest.mark.parametrize("framing", ["Content-Length: 200", "Transfer-Encoding: chunked", "X-Until: closed"])
def test_a_slow_body_ends_at_the_deadline_and_its_status_counts(client: HttpClient, framing: str) -> None:
    """However the end of the body is marked."""
    drop = b"1\r\nx\r\n" if "chunked" in framing else b"x"
    head = f"HTTP/1.1 429 Slow\r\n{framing}\r\n\r\n".encode()
    with conversing(dripping(head, drop, b""), again=True) as address:
        for within_s in SHORT_S:
            with suppress(NoResponse):
                response = send(client, address, within_s=within_s)
                break
    assert (response.status, response.body, response.is_whole) == (429, b"", False)


def test_a_request_that_nobody_reads_ends_at_the_deadline(client: HttpClient) -> None:
    """The peer reads a part of a large body and no more."""
    enough = threading.Event()

    def conversation(connection: socket.socket) -> None:
        connection.recv(100)
        enough.wait(HANG_S)

    with conversing(conversation, again=True) as address:
        out_of_time(client, address, "PUT", bytes(50_000_000), cause="time", may_have_arrived=True)
        enough.set()


def test_a_listener_that_never_accepts_ends_at_the_deadline(client: HttpClient) -> None:
    """Its backlog is full, so no connection is established."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        crowd = [socket.socket() for _ in range(8)]
        for one in crowd:
            one.settimeout(0)
            one.connect_ex(listener.getsockname())
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        said = out_of_time(client, f"http://{address}", cause="connection", may_have_arrived=False)
        for one in crowd:
            one.close()
    assert said == f"No connection to {address} could be made"


def test_a_name_lookup_that_hangs_ends_at_the_deadline() -> None:
    """The next request waits for the same lookup, unless that has been running for long."""
    hanging, looked_up, now = threading.Event(), [], 0.0

    def resolve(host: str, port: int) -> Sequence[Address]:
        looked_up.append(host)
        if len(looked_up) == 1:
            hanging.wait(HANG_S)
        return look_up("127.0.0.1", port)

    client = HttpClient(resolve=resolve, proxy_for=lambda _: None, clock=lambda: time.monotonic() + now)
    with conversing(responding(respond())) as address:
        url = address.replace("127.0.0.1", "peer.example")
        for _ in range(2):
            said = out_of_time(client, url, cause="name", may_have_arrived=False)
            assert said == "The name peer.example was not resolved"
        assert looked_up == ["peer.example"]
        now = 60.0
        assert client.send("GET", url, deadline=time.monotonic() + 120).status == 200
    hanging.set()
    client.close()


def test_nothing_is_sent_after_the_deadline(client: HttpClient) -> None:
    """A process that was paused notices at the latest here."""
    error = refused(client, "http://127.0.0.1:1", within_s=-1)
    assert (error.cause, error.may_have_arrived, error.message) == ("time", False, "No time was left to send anything.")


def test_an_unknown_host_name_is_reported() -> None:
    """With the system's own message."""

    def resolve(_host: str, _port: int) -> Sequence[Address]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    error = refused(HttpClient(resolve=resolve, proxy_for=lambda _: None), "https://api.example")
    assert (error.cause, error.may_have_arrived) == ("name", False)
    assert error.message == "The name api.example could not be resolved: Name or service not known."


@pytest.mark.parametrize(
    ("problem", "cause", "is_temporary"),
    [
        (socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution"), "name", True),
        (socket.gaierror(socket.EAI_FAIL, "Non-recoverable failure in name resolution"), "name", True),
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), "name", False),
        (socket.gaierror(socket.EAI_NODATA, "No address associated with hostname"), "name", False),
        (UnicodeError("label too long"), "name", False),
        (TimeoutError(errno.ETIMEDOUT, "Connection timed out"), "name", True),
        (socket.gaierror(socket.EAI_MEMORY, "Memory allocation failure"), "exhausted", True),
        (OSError(errno.EMFILE, "Too many open files"), "exhausted", True),
        (OSError(errno.ENFILE, "Too many open files in system"), "exhausted", True),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "exhausted", True),
        (OSError(errno.ENOSPC, "No space left on device"), "exhausted", True),
    ],
    ids=str,
)
def test_only_a_name_that_does_not_exist_needs_correcting(
    problem: Exception, cause: Cause, *, is_temporary: bool
) -> None:
    """A name service that does not respond for a moment, or an instance without resources, needs time."""

    def resolve(_host: str, _port: int) -> Sequence[Address]:
        raise problem

    error = refused(HttpClient(resolve=resolve, proxy_for=lambda _: None), "https://api.example")
    assert (error.cause, error.is_temporary, error.may_have_arrived) == (cause, is_temporary, False)


def test_a_refused_connection_is_reported(client: HttpClient) -> None:
    """Nothing was sent; a server may be about to start."""
    error = refused(client, "http://127.0.0.1:1")
    assert (error.cause, error.may_have_arrived, error.is_temporary) == ("connection", False, True)
    assert error.message == "No connection to 127.0.0.1:1 could be made: Connection refused."


def test_the_next_address_of_a_name_is_tried() -> None:
    """One of two front ends is down."""

    def resolve(_host: str, port: int) -> Sequence[Address]:
        return [*look_up("127.0.0.1", 1), *look_up("127.0.0.1", port)]

    client = HttpClient(resolve=resolve, proxy_for=lambda _: None)
    with conversing(responding(respond())) as address:
        assert send(client, address).status == 200
    client.close()


def bomb(kind: str) -> bytes:
    """Return a compressed body of a few bytes that is far too large."""
    zeros = bytes(100 * MAX_BODY_BYTES)
    return gzip.compress(zeros, mtime=0) if kind == "gzip" else zlib.compress(zeros)


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_the_size_of_a_body_is_limited_after_decompression(client: HttpClient, encoding: str) -> None:
    """A hundred megabytes compressed to a hundred kilobytes; the status counts."""
    with conversing(responding(respond("201 Created", bomb(encoding), f"Content-Encoding: {encoding}"))) as address:
        response = send(client, address)
    assert (response.status, response.body, response.is_whole) == (201, b"", False)


@pytest.mark.parametrize(
    ("body", "encoding", "read"),
    [
        (gzip.compress(b"{}", mtime=0), "gzip", b"{}"),
        (gzip.compress(b"{}", mtime=0), "X-GZIP", b"{}"),
        (zlib.compress(b"{}"), "deflate", b"{}"),
        (b"{}", "identity", b"{}"),
        (gzip.compress(b"{}", mtime=0)[:-1], "gzip", None),
        (b"{}", "gzip", None),
        (b"{}", "br", None),
        (gzip.compress(b"{}", mtime=0), "gzip, gzip", None),
        (gzip.compress(b"{}", mtime=0) + b"more", "gzip", None),
        (b"x" * (MAX_BODY_BYTES + 1), "identity", None),
        (b"x" * MAX_BODY_BYTES, "identity", b"x" * MAX_BODY_BYTES),
    ],
)
def test_a_body_is_decompressed_or_missing(client: HttpClient, body: bytes, encoding: str, read: bytes | None) -> None:
    """No compression was requested; a body that cannot be decompressed counts as missing."""
    with conversing(responding(respond("200 OK", body, f"Content-Encoding: {encoding}"))) as address:
        response = send(client, address)
    assert (response.status, response.body, response.is_whole) == (200, read or b"", read is not None)


@pytest.mark.parametrize(
    "rest",
    [
        b"Content-Length: 100\r\n\r\n{",
        b"Transfer-Encoding: chunked\r\n\r\n5\r\n{",
        b"Transfer-Encoding: chunked\r\n\r\nmany\r\n{",
        b"Transfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * (MAX_BODY_BYTES + 1),
        b"Content-Length: 99999999999\r\n\r\n" + bytes(MAX_BODY_BYTES + 1),
    ],
    ids=["cut", "chunk cut", "chunk without size", "chunks without end", "too long"],
)
def test_a_status_counts_even_if_its_body_is_broken(client: HttpClient, rest: bytes) -> None:
    """It says what the peer did with the request."""

    def conversation(connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall(b"HTTP/1.1 404 Not Found\r\n" + rest)

    with conversing(conversation) as address:
        response = send(client, address)
    assert (response.status, response.body, response.is_whole) == (404, b"", False)


def test_interim_responses_are_skipped(client: HttpClient) -> None:
    """RFC 9110, 15.2: a client must accept them, requested or not."""
    interim = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </style.css>\r\n\r\n"
    with conversing(responding(interim + respond("201 Created"))) as address:
        assert send(client, address, "PUT", BODY).status == 201


def test_a_response_before_the_end_of_the_request_counts(client: HttpClient) -> None:
    """A gateway refuses a large body by its header and reads no more of it; the next request uses a new connection."""
    enough = threading.Event()

    def conversation(connection: socket.socket) -> None:
        connection.recv(100)
        connection.sendall(respond("413 Too Large"))
        enough.wait(HANG_S)

    with conversing(conversation, responding(respond())) as address:
        assert send(client, address, "PUT", bytes(50_000_000)).status == 413
        assert send(client, address).status == 200
        enough.set()


@pytest.mark.parametrize(
    "said", [b"SSH-2.0-OpenSSH_9.2\r\n\r\n", b"<html>\r\n\r\n", b"HTTP/2.0 9\r\n\r\n", b"x" * 200_000]
)
def test_a_response_that_is_not_http_is_an_error(client: HttpClient, said: bytes) -> None:
    """Another kind of server listens there."""
    with conversing(responding(said)) as address:
        error = refused(client, address)
    assert (error.cause, error.may_have_arrived) == ("not HTTP", True)


def test_a_redirect_is_not_followed(client: HttpClient) -> None:
    """It is returned like any other response, and no second connection is made."""
    with conversing(responding(respond("302 Found", b"", "Location: http://127.0.0.1:1/"))) as address:
        response = send(client, address)
    assert (response.status, response.headers["location"]) == (302, "http://127.0.0.1:1/")


def test_the_size_of_a_redirects_body_is_limited_too(client: HttpClient) -> None:
    """Libraries read and decompress it before they find that they must not follow it."""
    redirect = respond("302 Found", bomb("gzip"), "Content-Encoding: gzip", "Location: http://127.0.0.1:1/")
    with conversing(responding(redirect)) as address:
        response = send(client, address)
    assert (response.status, response.body, response.is_whole) == (302, b"", False)


def test_no_cookie_and_no_netrc_login_is_ever_sent(
    client: HttpClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither what a peer wants to be remembered by, nor what a developer's machine knows."""
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login joe password pw")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    heard: list[bytes] = []

    def conversation(connection: socket.socket) -> None:
        for _ in range(2):
            heard.append(read_request(connection).lower())
            connection.sendall(respond("200 OK", b"", "Set-Cookie: a=b"))

    with conversing(conversation) as address:
        for _ in range(2):
            send(client, address)
    assert not [request for request in heard if b"cookie" in request or b"authorization" in request]


def breaking(connection: socket.socket) -> None:
    """Respond once, and break the connection off when the next request comes."""
    read_request(connection)
    connection.sendall(respond())
    read_request(connection)
    reset(connection)


def closing(connection: socket.socket) -> None:
    """Respond once, and close the connection when the next request has come."""
    read_request(connection)
    connection.sendall(respond())
    read_request(connection)


@pytest.mark.parametrize("broken", [breaking, closing])
def test_a_reused_connection_that_breaks_is_replaced_once(
    client: HttpClient, broken: Callable[[socket.socket], None]
) -> None:
    """NAT had dropped it; the response says that the request was sent twice, as the first may have arrived as well."""
    with conversing(broken, responding(respond("201 Created"))) as address:
        assert not send(client, address).resent
        response = send(client, address, "PUT", BODY)
    assert (response.status, response.resent) == (201, True)


@pytest.mark.parametrize("said", [b"HTTP/1.1 201 Created\r\n", b"HTTP/1.1 201 Created\r\nRetry-After: 1"])
def test_a_response_that_ends_within_its_headers_is_an_error(client: HttpClient, said: bytes) -> None:
    """The missing headers would say whether a body follows; some libraries accept such a response."""

    def conversation(connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall(said)

    with conversing(conversation) as address:
        error = refused(client, address)
    assert (error.cause, error.may_have_arrived) == ("cut", True)


def test_a_new_connection_that_breaks_is_not_replaced(client: HttpClient) -> None:
    """The peer may have closed it because of the request."""

    def conversation(connection: socket.socket) -> None:
        read_request(connection)
        reset(connection)

    with conversing(conversation, responding(respond())) as address:
        error = refused(client, address)
    assert (error.cause, error.may_have_arrived) == ("cut", True)


def test_the_second_connection_is_the_last(client: HttpClient) -> None:
    """There is one retry; if it cannot even connect, the first request may still have arrived."""
    with conversing(breaking) as address:
        send(client, address)
        assert refused(client, address).may_have_arrived


def test_a_reused_connection_is_not_replaced_by_another_reused_one(client: HttpClient) -> None:
    """Whatever dropped one has dropped the other as well, and there is only one retry."""
    both = threading.Barrier(2)

    def breaking_later(connection: socket.socket) -> None:
        read_request(connection)
        both.wait(HANG_S)
        connection.sendall(respond())
        read_request(connection)
        reset(connection)

    with conversing(breaking_later, breaking_later, responding(respond("201 Created"))) as address:
        threads = [threading.Thread(target=send, args=(client, address)) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        response = send(client, address, "PUT", BODY)
    assert (response.status, response.resent) == (201, True)


def test_a_reused_connection_that_broke_during_its_response_is_not_replaced(client: HttpClient) -> None:
    """A byte of the response proves that the peer has the request."""

    def conversation(connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall(respond())
        read_request(connection)
        connection.sendall(b"HTTP/1.1 20")

    with conversing(conversation, responding(respond())) as address:
        send(client, address)
        error = refused(client, address)
    assert (error.cause, error.may_have_arrived) == ("cut", True)


def test_a_connection_that_the_peer_closed_is_not_reused(client: HttpClient) -> None:
    """This is noticed before anything is sent, so nothing is sent twice."""
    closed = threading.Event()

    def conversation(connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall(respond())
        connection.shutdown(socket.SHUT_RDWR)
        closed.set()

    with conversing(conversation, responding(respond())) as address:
        send(client, address)
        assert closed.wait(HANG_S)
        assert not send(client, address, "PUT", BODY).resent


def test_a_connection_that_was_idle_for_long_is_not_reused() -> None:
    """Azure drops it after four minutes, and whatever is sent on it then is silently lost."""
    passed_s = 0.0
    client = HttpClient(proxy_for=lambda _: None, clock=lambda: time.monotonic() + passed_s)
    with conversing(responding(respond(body=b"1"), respond(body=b"2")), responding(respond(body=b"3"))) as address:
        assert send(client, address).body == b"1"
        passed_s = MAX_IDLE_S - 60
        assert send(client, address, within_s=2 * MAX_IDLE_S).body == b"2"
        passed_s += 2 * MAX_IDLE_S
        assert send(client, address, within_s=4 * MAX_IDLE_S).body == b"3"
    client.close()


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="the system's list of connections is Linux's")
def test_keepalive_probes_are_sent_on_connections(client: HttpClient) -> None:
    """The system's own list shows the timer: a probe within a minute."""
    with conversing(responding(respond())) as address:
        send(client, address)
        port = f":{urlsplit(address).port:04X}"
        connections = [line.split() for line in Path("/proc/net/tcp").read_text("ascii").splitlines()]
        timers = [fields[5] for fields in connections if fields[2].endswith(port) and fields[3] == "01"]
    kind, _, ticks = timers[0].partition(":")
    assert kind == "02"
    assert 0 < int(ticks, 16) <= KEEPALIVE_S * 100


def proxy_refusing(status: str) -> Callable[[socket.socket], None]:
    """Refuse to connect to anywhere."""
    return responding(respond(status, b"<html>no</html>"))


@pytest.mark.parametrize(
    ("status", "is_temporary"), [(403, False), (407, False), (429, True), (502, True), (503, True), (504, True)]
)
def test_a_refusal_by_the_proxy_means_that_nothing_was_sent(status: int, *, is_temporary: bool) -> None:
    """It is never mistaken for the platform's; the proxy's address, which may contain a password, is not repeated."""
    with conversing(proxy_refusing(f"{status} No")) as proxy:
        named = proxy.replace("//", "//me:hush@")
        error = refused(HttpClient(proxy_for=lambda _: named), "https://api.example", "PUT", BODY)
    assert (error.cause, error.may_have_arrived, error.is_temporary) == ("proxy", False, is_temporary)
    assert error.message == f"The proxy did not connect to api.example:443: it responded with {status}."


@pytest.mark.parametrize(
    ("proxy", "says"),
    [
        ("http://127.0.0.1:1", "No connection to the proxy could be made: Connection refused."),
        ("socks5://127.0.0.1:1", "The proxy that the environment names is not an http:// address."),
        ("http://[", "The proxy that the environment names is not an http:// address."),
    ],
)
def test_a_proxy_that_is_not_one_is_reported(proxy: str, says: str) -> None:
    """Nothing was sent."""
    error = refused(HttpClient(proxy_for=lambda _: proxy), "https://api.example")
    assert (error.cause, error.message, error.may_have_arrived) == ("proxy", says, False)
    assert error.is_temporary == ("Connection refused" in says)


@pytest.mark.parametrize(("says", "is_temporary"), [(b"", True), (b"SSH-2.0-OpenSSH\r\n\r\n", False)], ids=str)
def test_a_proxy_that_closes_the_connection_is_temporary_and_one_that_is_not_http_is_not(
    says: bytes, *, is_temporary: bool
) -> None:
    """A server that does not speak HTTP will not start to."""

    def conversation(connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall(says)

    with conversing(conversation, again=True) as proxy:
        error = refused(HttpClient(proxy_for=lambda _: proxy), "https://api.example")
    assert (error.cause, error.is_temporary) == ("proxy", is_temporary)


def test_a_silent_proxy_ends_at_the_deadline() -> None:
    """It accepts the connection and never responds."""
    with conversing(dripping(b"", b"", b""), again=True) as proxy:
        client = HttpClient(proxy_for=lambda _: proxy)
        said = out_of_time(client, "https://api.example", cause="proxy", may_have_arrived=False)
    assert said == "The proxy did not respond"


@contextmanager
def serving_tls(
    authority: trustme.CA, name: str, conversation: Callable[[socket.socket], None], *, tunnel: bool = False
) -> Iterator[tuple[str, list[bytes]]]:
    """Serve a conversation over TLS, after a proxy's tunnel or without; yields the address, and what a proxy heard."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    heard: list[bytes] = []

    def encrypted(connection: socket.socket) -> None:
        if tunnel:
            heard.append(read_request(connection))
            connection.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        with context.wrap_socket(connection, server_side=True) as secure:
            conversation(secure)

    with conversing(encrypted) as address:
        yield address.replace("http:", "https:"), heard


def trusting(authority: trustme.CA) -> ssl.SSLContext:
    """Return what a client trusts."""
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


def test_requests_and_reused_connections_work_over_tls() -> None:
    """The same bytes, encrypted, in both directions at once."""
    authority = trustme.CA()
    client = HttpClient(proxy_for=lambda _: None, tls=trusting(authority))
    large = bytes(range(256)) * 3000
    with serving_tls(authority, "127.0.0.1", responding(respond(body=large), respond())) as (address, _):
        assert send(client, address, "PUT", large).body == large
        assert send(client, address).body == b"{}"
    client.close()


def test_a_response_before_the_end_of_the_request_counts_over_tls_too() -> None:
    """TLS's own messages, its session tickets, are not a response."""
    authority, enough = trustme.CA(), threading.Event()

    def conversation(connection: socket.socket) -> None:
        connection.recv(100)
        connection.sendall(respond("413 Too Large"))
        enough.wait(HANG_S)

    client = HttpClient(proxy_for=lambda _: None, tls=trusting(authority))
    with serving_tls(authority, "127.0.0.1", conversation) as (address, _):
        assert send(client, address, "PUT", bytes(50_000_000)).status == 413
        enough.set()
    client.close()


def test_tls_with_the_peer_goes_through_a_tunnel_of_the_proxy() -> None:
    """The proxy learns the destination and its own password, and nothing of the request."""
    authority = trustme.CA()
    with serving_tls(authority, "api.example", responding(respond()), tunnel=True) as (address, heard):
        proxy = address.replace("https://", "http://me:p%40ss@")
        client = HttpClient(proxy_for=lambda _: proxy, tls=trusting(authority))
        assert send(client, "https://api.example/secret").status == 200
        client.close()
    lines = heard[0].decode().split("\r\n")
    assert lines[0] == "CONNECT api.example:443 HTTP/1.1"
    assert f"Proxy-Authorization: Basic {base64.b64encode(b'me:p@ss').decode()}" in lines
    assert b"secret" not in heard[0]


@pytest.mark.parametrize(("name", "trusts"), [("127.0.0.1", False), ("elsewhere.example", True)])
def test_an_untrusted_certificate_means_that_nothing_was_sent(name: str, *, trusts: bool) -> None:
    """OpenSSL's own message says why."""
    authority = trustme.CA()
    tls = trusting(authority if trusts else trustme.CA())
    with serving_tls(authority, name, responding(respond())) as (address, _):
        error = refused(HttpClient(proxy_for=lambda _: None, tls=tls), address, "PUT", BODY)
    assert (error.cause, error.may_have_arrived, error.is_temporary) == ("certificate", False, False)
    reason = "IP address mismatch, certificate is not valid for '127.0.0.1'"
    assert reason in error.message if trusts else "unable to get" in error.message


def test_a_peer_without_tls_means_that_nothing_was_sent(client: HttpClient) -> None:
    """An http:// service at an https:// address."""

    def conversation(connection: socket.socket) -> None:
        connection.recv(1)
        connection.sendall(respond())

    with conversing(conversation) as address:
        error = refused(client, address.replace("http:", "https:"))
    assert (error.cause, error.may_have_arrived, error.is_temporary) == ("tls", False, False)


@pytest.mark.parametrize("end", [socket.socket.close, reset], ids=["closed", "reset"])
def test_a_peer_that_closes_the_connection_during_the_handshake_is_temporary(
    client: HttpClient, end: Callable[[socket.socket], None]
) -> None:
    """It may be starting: nothing that it sent says otherwise."""

    def conversation(connection: socket.socket) -> None:
        connection.recv(10_000)
        end(connection)

    with conversing(conversation, again=True) as address:
        error = refused(client, address.replace("http:", "https:"))
    assert (error.cause, error.may_have_arrived, error.is_temporary) == ("tls", False, True)


def test_a_handshake_that_hangs_ends_at_the_deadline(client: HttpClient) -> None:
    """The server accepts the connection and never responds."""

    def conversation(connection: socket.socket) -> None:
        while connection.recv(10**6):
            pass

    with conversing(conversation, again=True) as address:
        said = out_of_time(client, address.replace("http:", "https:"), cause="tls", may_have_arrived=False)
    assert said == "TLS with 127.0.0.1 was not negotiated"


@pytest.mark.parametrize("variable", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"])
def test_certificates_named_in_the_environment_are_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    """By the usual variables; a file that is missing or has no certificates is reported by its variable's name only."""
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"):
        monkeypatch.delenv(name, raising=False)
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "authority.pem")
    monkeypatch.setenv(variable, str(tmp_path / "authority.pem"))
    client = HttpClient(proxy_for=lambda _: None)
    with serving_tls(authority, "127.0.0.1", responding(respond())) as (address, _):
        assert send(client, address).status == 200
    client.close()
    (tmp_path / "empty.pem").touch()
    (tmp_path / "odd.pem").write_text("-----BEGIN CERTIFICATE-----\nodd\n-----END CERTIFICATE-----\n")
    for unreadable in ("nothing.pem", "empty.pem", "odd.pem"):
        monkeypatch.setenv(variable, str(tmp_path / unreadable))
        with conversing(responding(respond())) as address:
            error = refused(HttpClient(proxy_for=lambda _: None), address.replace("http:", "https:"))
        assert error.cause == "certificate"
        assert f"The certificates that {variable} names cannot be read" in error.message
        assert str(tmp_path) not in error.message


@pytest.mark.parametrize(
    ("url", "proxy"),
    [
        ("https://api.example/", "http://proxy:3128"),
        ("https://spared.example/", None),
        ("http://localhost:8081/msi/token", None),
        ("http://127.0.0.1:41741/msi/token", None),
        ("http://169.254.130.4:8081/msi/token", None),
        ("http://[::1]:8081/msi/token", None),
    ],
)
def test_requests_to_this_machine_bypass_the_proxy(
    url: str, proxy: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those to the identity endpoint contain a secret, and no proxy could reach it."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HTTPS_PROXY", "proxy:3128")
    monkeypatch.setenv("HTTP_PROXY", "http://proxy:3128")
    monkeypatch.setenv("NO_PROXY", "spared.example")
    assert proxy_of_environment(url) == proxy


@pytest.mark.parametrize("headers", [{"X": "a\r\nB: c"}, {"X Y": "a"}, {"X": "a\0"}])
def test_no_header_can_be_forged(client: HttpClient, headers: dict[str, str]) -> None:
    """Nothing is sent, and no connection is made."""
    with pytest.raises(Exception, match="Illegal header"):
        client.send("GET", "http://127.0.0.1:1", headers=headers, deadline=time.monotonic() + HANG_S)


@pytest.mark.parametrize(
    "response",
    [
        b"HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok",
        b"HTTP/1.0 200 OK\r\n\r\nuntil the end",
        b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 204 No Content\r\n\r\n",
        b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: CHUNKED\r\n\r\n2;a=b\r\nok\r\n0\r\nX-Trailer: 1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n00002\r\nok\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX-Folded: one\r\n two\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nX-Empty:\r\nX-Latin: \xe9\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 299 Whatever\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 599 \r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok and more",
    ],
)
def test_unusual_responses_are_read_as_by_other_clients(client: HttpClient, response: bytes) -> None:
    """Status and body are those that `requests` finds."""

    def conversation(connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall(response)

    with conversing(conversation, again=True) as address:
        theirs = requests.get(address, timeout=HANG_S)
        ours = send(client, address)
    assert (ours.status, ours.body, ours.is_whole) == (theirs.status_code, theirs.content, True)
