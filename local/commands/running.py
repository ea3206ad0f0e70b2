"""The running cloud, for the commands that need one."""

from __future__ import annotations

import contextlib
import logging
from typing import TYPE_CHECKING, Any

import requests
from azure.core.exceptions import (
    AzureError,
    HttpResponseError,
    ResourceExistsError,
    ServiceRequestError,
    ServiceResponseError,
)
from azure.storage.blob import BlobServiceClient

from local.azurite import QUICK_RETRIES
from local.serving import LocalCloudError
from local.state import find_state
from local.terminal import own_command

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

# Without a handler, the SDK's log would be printed between our sentences.
logging.getLogger("azure").addHandler(logging.NullHandler())


@contextlib.contextmanager
def cloud_errors_explained() -> Iterator[None]:
    """Raise a LocalCloudError, with one sentence, if the cloud does not respond or refuses a request."""
    try:
        yield
    except (requests.ConnectionError, ServiceRequestError, ServiceResponseError) as error:
        raise LocalCloudError("The local cloud does not respond: it has stopped, or is stopping.") from error
    except AzureError as error:
        if isinstance(error, HttpResponseError) and (error.status_code or 0) >= requests.codes.server_error:
            message = f"The local cloud's storage failed ({_first_line(error)}): if the disk is full, free some space."
            raise LocalCloudError(message) from error
        raise LocalCloudError(f"The local cloud's storage refused the request: {_first_line(error)}") from error


def find_running() -> dict[str, Any]:
    """Return where the parts of the cloud are. Raises LocalCloudError if none is running."""
    state = find_state()
    if state is None:
        raise LocalCloudError(f"No local cloud is running: start one with `{own_command()}`.")
    return state


def make_itwin(state: Mapping[str, Any], itwin_id: str, name: str | None = None) -> None:
    """Create the iTwin if it is new, and the container for its drops; rename it if a name is given.

    Raises LocalCloudError.
    """
    try:
        address = f"{state['platform']}/_control/itwins/{itwin_id}"
        made = requests.put(address, json={} if name is None else {"displayName": name}, timeout=10)
        made.raise_for_status()
    except requests.ConnectionError:
        raise
    except requests.RequestException as error:
        raise LocalCloudError(f"The iTwin {itwin_id} could not be created: {_first_line(error)}") from error
    with open_storage(state) as storage, contextlib.suppress(ResourceExistsError):
        storage.create_container(itwin_id)


def open_storage(state: Mapping[str, Any]) -> BlobServiceClient:
    """Return a client for the storage of the running cloud, to be closed by the caller."""
    return BlobServiceClient.from_connection_string(state["connectionString"], **QUICK_RETRIES)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
