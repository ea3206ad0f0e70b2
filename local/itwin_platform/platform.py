"""The platform as a library, and its ASGI application."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect

from local.itwin_platform import errors
from local.itwin_platform.authorization import AUDIENCE, SCOPE, Authentication
from local.itwin_platform.control import Control
from local.itwin_platform.exchanges import ExchangeMiddleware, Exchanges
from local.itwin_platform.folder import ITwinFolder
from local.itwin_platform.itwins import ORGANIZATION, ITwin, ITwins
from local.itwin_platform.rate_limit import RateLimit
from local.itwin_platform.routes import Api
from local.itwin_platform.signed_urls import SignedUrls
from local.itwin_platform.token_endpoint import LIFETIME_S, TokenEndpoint
from local.tokens import TokenIssuer

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
    from pathlib import Path

    from starlette.types import ASGIApp

    from local.itwin_platform.exchanges import ReceivedRequest, ScriptedResponse


class ITwinPlatform:
    """One iTwin Platform, empty at first; every method may be called while it is served in another thread.

    `identity` is the external issuer whose tokens are trusted when they are meant for `identity_audience`; `clients`
    are the secrets by client id that the token endpoint knows; `organization_administrators` are subjects who may
    modify and delete each iTwin of the organization. `app` is the ASGI application.
    """

    def __init__(
        self,
        *,
        identity: TokenIssuer | None = None,
        identity_audience: str = "api://itwin-platform",
        clients: Mapping[str, str] | None = None,
        organization_administrators: Collection[str] = (),
        requests_per_minute: int = 500,
        requests_per_hour: int = 5000,
        url_lifetime_s: float = 3600,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._tokens = TokenIssuer("https://ims.itwin-platform.local")
        self._itwins = ITwins()
        self._exchanges = Exchanges()
        self._rate_limit = RateLimit(
            requests_per_minute=requests_per_minute, requests_per_hour=requests_per_hour, clock=clock
        )
        api = Api(
            self._itwins,
            Authentication(self._tokens, identity, identity_audience),
            self._rate_limit,
            SignedUrls(url_lifetime_s, clock),
            frozenset(organization_administrators),
        )
        self._token_endpoint = TokenEndpoint(self._tokens, clients or {})
        control = Control(self._itwins, self._exchanges, reset=self.reset)
        handlers = {
            errors.Refusal: errors.respond_to_refusal,
            404: errors.respond_to_unknown_path,
            405: errors.respond_to_wrong_method,
            ClientDisconnect: errors.respond_to_nobody,
            Exception: errors.respond_to_bug,
        }
        starlette = Starlette(
            routes=[*api.routes, *self._token_endpoint.routes, *control.routes], exception_handlers=handlers
        )
        starlette.router.redirect_slashes = False
        self.app: ASGIApp = ExchangeMiddleware(starlette, self._exchanges)

    def add_itwin(
        self,
        itwin_id: str | None = None,
        *,
        display_name: str = "An iTwin",
        permissions: Mapping[str, Sequence[str]] | None = None,
        organization: str = ORGANIZATION,
    ) -> str:
        """Create an iTwin, or change the one with that id, and return its id in lower case.

        `permissions` by subject, like `{"my-client": ["itwins_modify"]}`; None gives everybody `itwins_modify`. Raises
        ValueError if the id is not a GUID.
        """
        itwin_id, _ = self._itwins.put(
            itwin_id, display_name=display_name, permissions=permissions, organization=organization
        )
        return itwin_id

    def keep_in(self, folder: Path) -> None:
        """Load the iTwins that an earlier platform kept in this folder, and keep those of this one there.

        Raises LocalCloudError.
        """
        kept = ITwinFolder(folder)
        self._itwins.keep(kept.read(), kept.keep)

    def itwins(self) -> list[ITwin]:
        """Return the iTwins with their images, in the order of creation."""
        return self._itwins.all()

    def image(self, itwin_id: str) -> tuple[bytes, str] | None:
        """Return the image's bytes and media type exactly as they were uploaded, or None if there is no image."""
        itwin = self._itwins.find(itwin_id)
        return None if itwin is None or itwin.image is None else (itwin.image.data, itwin.image.media_type)

    def token(self, subject: str, *, scope: str | None = SCOPE, lifetime_s: float = LIFETIME_S) -> str:
        """Issue an access token to any subject, as the token endpoint does; a negative lifetime makes it expired."""
        return self._tokens.issue(subject=subject, audience=AUDIENCE, scope=scope, lifetime_s=lifetime_s)

    def set_secrets(self, client_id: str, *secrets: str) -> None:
        """Let a client authenticate at the token endpoint with any of these secrets and no other."""
        self._token_endpoint.set_secrets(client_id, *secrets)

    def requests(self) -> list[ReceivedRequest]:
        """Return the last 10,000 requests, oldest first, except those under /_control."""
        return self._exchanges.received()

    def forget_requests(self) -> None:
        """Forget the requests received."""
        self._exchanges.forget()

    def script(self, responses: Iterable[ScriptedResponse]) -> None:
        """Respond to the next matching requests like this; replaces the remaining script."""
        self._exchanges.script(responses)

    def remaining_script(self) -> list[ScriptedResponse]:
        """Return the scripted responses that were not used yet."""
        return self._exchanges.remaining_script()

    def reset(self) -> None:
        """Return to the initial state: no iTwins, no requests, no script; tokens stay valid."""
        self._itwins.clear()
        self._exchanges.forget()
        self._exchanges.script([])
        self._rate_limit.clear()
