"""The program: one empty iTwin Platform on loopback, until Ctrl-C."""

from __future__ import annotations

import contextlib
import secrets
import sys
import threading
import uuid
from functools import partial
from typing import TYPE_CHECKING

from local.arguments import Parser, port, whole_number
from local.itwin_platform.platform import ITwinPlatform
from local.serving import LocalCloudError, serve

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Sequence

MAX_REQUESTS = 1_000_000_000
HOW_TO = """\
iTwin Platform stand-in: {address}    (Ctrl-C stops it)
client id {client_id}, client secret {client_secret}

# one iTwin that everybody may modify; a token; an image
curl -X PUT {address}/_control/itwins/{itwin_id}
TOKEN=$(curl -s {address}/connect/token -d grant_type=client_credentials -d scope=itwin-platform \\
  -d client_id={client_id} -d client_secret={client_secret} | sed 's/.*"access_token":"\\([^"]*\\)".*/\\1/')
curl -X PUT {address}/itwins/{itwin_id}/image -H "Authorization: Bearer $TOKEN" \\
  -H "Content-Type: image/png" --data-binary @picture.png

# the requests received; the uploaded image; throttle the next two uploads
curl {address}/_control/requests
curl {address}/_control/itwins/{itwin_id}/image -o uploaded.png
curl -X PUT {address}/_control/script \\
  -d '{{"responses": [{{"status": 429, "headers": {{"retry-after": "2"}}, "times": 2}}]}}'
"""


def read(arguments: Sequence[str]) -> Callable[[], int]:
    """Parse a command line; return a function that runs it."""
    return partial(_serve, _parser().parse_args(arguments))


def _serve(arguments: argparse.Namespace) -> int:
    """Serve until interrupted; 1 if it cannot."""
    platform = ITwinPlatform(
        clients={arguments.client_id: arguments.client_secret},
        organization_administrators=arguments.administrator,
        requests_per_minute=arguments.requests_per_minute,
        requests_per_hour=arguments.requests_per_hour,
    )
    try:
        with contextlib.suppress(KeyboardInterrupt), serve(platform.app, arguments.port) as address:
            names = {"client_id": arguments.client_id, "client_secret": arguments.client_secret}
            sys.stdout.write(HOW_TO.format(address=address, itwin_id=uuid.uuid4(), **names))
            sys.stdout.flush()
            threading.Event().wait()
    except LocalCloudError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


def _parser() -> Parser:
    parser = Parser(prog="python -m local.itwin_platform", description="The iTwin Platform on loopback.")
    parser.add_argument(
        "--port", type=port, default=8080, help="port to listen on; 0 chooses a free one (default: %(default)s)"
    )
    parser.add_argument(
        "--client-id", default="service-local", help="known to the token endpoint (default: %(default)s)"
    )
    parser.add_argument("--client-secret", default=secrets.token_urlsafe(24), help="its secret (default: a new one)")
    parser.add_argument(
        "--administrator", action="append", default=[], help="subject of an administrator of the organization"
    )
    parser.add_argument(
        "--requests-per-minute",
        type=whole_number(1, MAX_REQUESTS),
        default=500,
        help="per client (default: %(default)s)",
    )
    parser.add_argument(
        "--requests-per-hour",
        type=whole_number(1, MAX_REQUESTS),
        default=5000,
        help="per client (default: %(default)s)",
    )
    return parser
