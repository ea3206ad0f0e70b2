"""The Event Grid relay: sees blobs land in Azurite and delivers BlobCreated events as Event Grid does.

Azurite raises no events, so its access log is read: it has every write of every tool, in order, and costs nothing as
containers grow. What the log does not say (ETag, type, length) is asked of the blob when its event is delivered.

https://learn.microsoft.com/azure/event-grid/event-schema-blob-storage
https://learn.microsoft.com/azure/event-grid/event-filtering
https://learn.microsoft.com/azure/event-grid/delivery-and-retry

::

    relay           delivers events, again and again where necessary, or writes them into a dead letter
    subscription    who receives which events
    events          what a write is, how Azurite's access log tells of it, and how its event reads
"""

from local.event_grid.events import BlobWrite, read_access_line
from local.event_grid.relay import EventGrid
from local.event_grid.subscription import AdvancedFilter, Subscription, not_in_containers

__all__ = ["AdvancedFilter", "BlobWrite", "EventGrid", "Subscription", "not_in_containers", "read_access_line"]
