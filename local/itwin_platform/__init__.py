"""An emulator of the iTwin Platform's image API, for whoever writes a client for it: a library and a program.

Where the platform documents nothing, this decides for the response that a client must survive: what the real one might
refuse is refused here. Each module decides one thing::

    platform        what is put together: ITwinPlatform, the library
    routes          the operations of the API, and the signed URLs that it hands out
    errors          what a refusal says
    authorization   who calls, and what they may do to an iTwin
    token_endpoint  who gets a token for a client id and secret
    image           what is accepted as an iTwin's image, and what its thumbnail looks like
    itwins          what the platform knows: iTwins and their images
    folder          how they are kept from one run to the next
    signed_urls     who may read an image: whoever holds a link that has not expired
    rate_limit      how often a client may call
    exchanges       what every response has, what is remembered of a request, and what a script responds with instead
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
    """Import what is used when it is first used: the program must hear Ctrl-C before all this is imported."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
