"""The only HTTP client: HTTP/1.1 to storage, the iTwin Platform, the token authority, the identity endpoint, the vault.

An exchange has one deadline, and cannot exceed it: no socket ever blocks, names are resolved in a thread of their own,
and the only waits, in `timer` and for that thread, end at the deadline. Bytes are counted as they arrive and again as
they are decompressed. There is no code that follows a redirect, keeps a cookie or reads a `.netrc`. If there is no
response, `NoResponse` says whether the request may have arrived.

::

    client          sends requests, keeps connections, and retries on a fresh one
    response        what comes back, or why nothing did
    connecting      opens connections: names, sockets, proxies, TLS
    connection      one connection and its HTTP/1.1 state
    route           where a request goes, through which proxy, and what its head says
    environment     the proxies, certificates and names that the environment and the system have
    timer           the deadline, and the only wait for a socket
"""

from shared.http_client.client import HttpClient, Sender
from shared.http_client.response import TEMPORARY_STATUSES, Cause, NoResponse, Response, retry_after_s

__all__ = ["TEMPORARY_STATUSES", "Cause", "HttpClient", "NoResponse", "Response", "Sender", "retry_after_s"]
