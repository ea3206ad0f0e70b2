"""An emulator of the iTwin Platform's image API, for developers of clients: a library and a program.

Where the platform's behaviour is not documented, the emulator responds in the way that is harder on a client: it
refuses what the real platform might refuse. Each module decides one thing::

    platform        ITwinPlatform, the library, which puts the parts together
    routes          the operations of the API, and the signed URLs that it issues
    errors          the error responses
    authorization   who calls, and what they may do to an iTwin
    token_endpoint  who gets a token for a client id and secret
    image           what is accepted as an iTwin's image, and what its thumbnail looks like
    itwins          the platform's state: iTwins and their images
    folder          how that is kept from one run to the next
    signed_urls     who may read an image: anyone with a link that has not expired
    rate_limit      how often a client may call
    exchanges       what all responses have in common, which requests are recorded, and scripted responses
    control         the same as the library, over HTTP, under /_control
    program         the same for a shell: `python -m local.itwin_platform`

https://developer.bentley.com/apis/itwins/operations/upload-itwin-image
"""

from __future__ import annotations

from importlib import import_module

TYPE_CHECKING = False  # as in `local.interrupts`
if TYPE_CHECKING:
    from local.itwin_platform.exchanges import ReceivedRequest, ScriptedResponse
    from local.itwin_platform.itwins import ITwin, ITwinImage, as_itwin_id
    from local.itwin_platform.platform import ITwinPlatform

__all__ = ["ITwin", "ITwinImage", "ITwinPlatform", "ReceivedRequest", "ScriptedResponse", "as_itwin_id"]

_HOMES = {
    "ReceivedRequest": "exchanges",
    "ScriptedResponse": "exchanges",
    "ITwin": "itwins",
    "ITwinImage": "itwins",
    "as_itwin_id": "itwins",
    "ITwinPlatform": "platform",
}


def __getattr__(name: str) -> object:
    """Import a name on first use: the program must handle Ctrl-C before all modules are imported."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
