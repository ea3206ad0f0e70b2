"""The drop account: what its errors mean for a drop."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from azure.core.exceptions import AzureError
from azure.storage.blob import BlobServiceClient

from shared.drop import Drop, read_source
from shared.errors import StorageForbidden, StorageUnavailable
from shared.settings import StorageSettings
from shared.storage import open_queue, storage_error

if TYPE_CHECKING:
    from local.azurite import Azurite

ITWIN = "b3bd3a79-c5b4-41f5-ba5f-6d8c338d788a"


def met_by(storage: BlobServiceClient) -> AzureError:
    """Return the error that reading a drop ends in."""
    with pytest.raises(AzureError) as caught:
        read_source(storage, Drop(ITWIN, "a.jpg"), max_bytes=1000)
    return caught.value


def test_a_missing_role_is_named(azurite: Azurite) -> None:
    """The operator reads which roles the identity lacks."""
    anonymous = BlobServiceClient(BlobServiceClient.from_connection_string(azurite.connection_string).url)
    error = storage_error(met_by(anonymous))
    assert type(error) is StorageForbidden
    assert "Storage Blob Data Owner" in error.message


def test_an_unreachable_account_is_worth_another_try() -> None:
    """Nothing listens there."""
    error = storage_error(met_by(BlobServiceClient("http://127.0.0.1:1/account", retry_total=0)))
    assert type(error) is StorageUnavailable


def test_what_storage_answers_is_named(azurite: Azurite) -> None:
    """Its own code says more than the number."""
    settings = StorageSettings.from_environ({"DropStorage": azurite.connection_string})
    with pytest.raises(AzureError) as caught:
        open_queue(settings, "no-such-queue").send_message("x")
    assert storage_error(caught.value).message == "The drop account answered 404 (QueueNotFound)."
