"""The cloud that runs, for the commands that need one."""

from __future__ import annotations

import contextlib
import logging
from typing import TYPE_CHECKING, Any

import requests
from azure.core.exceptions import AzureError, HttpResponseError, ServiceRequestError, ServiceResponseError

from local.serving import LocalCloudError
from local.state import find_state

if TYPE_CHECKING:
    from collections.abc import Iterator

# What the SDK has to say beside its errors would come between our sentences.
logging.getLogger("azure").addHandler(logging.NullHandler())


@contextlib.contextmanager
def hearing_from_cloud() -> Iterator[None]:
    """Say in one sentence, as LocalCloudError, that the cloud did not answer, or did not do it."""
    try:
        yield
    except (requests.ConnectionError, ServiceRequestError, ServiceResponseError) as error:
        raise LocalCloudError("The local cloud does not answer: it has ended, or is ending.") from error
    except AzureError as error:
        if isinstance(error, HttpResponseError) and (error.status_code or 0) >= requests.codes.server_error:
            message = f"The local cloud's storage failed ({_first_line(error)}): make room if its disk is full."
            raise LocalCloudError(message) from error
        raise LocalCloudError(f"The local cloud's storage did not do it: {_first_line(error)}") from error


def find_running() -> dict[str, Any]:
    """Return where the parts of the cloud are. Raises LocalCloudError where none runs."""
    state = find_state()
    if state is None:
        raise LocalCloudError("No local cloud is running: start one with `python -m local`.")
    return state


def make_itwin(platform: str, itwin_id: str, name: str) -> None:
    """Make the iTwin under that name where it is new; what is known of it stays. Raises LocalCloudError."""
    address = f"{platform}/_control/itwins/{itwin_id}"
    try:
        made = requests.put(address, timeout=10)
        made.raise_for_status()
        if made.status_code == requests.codes.created:
            requests.put(address, json={"displayName": name}, timeout=10).raise_for_status()
    except requests.ConnectionError:
        raise
    except requests.RequestException as error:
        raise LocalCloudError(f"The iTwin {itwin_id} could not be made: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
