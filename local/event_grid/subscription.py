"""Who receives which events: filters, and what Event Grid refuses of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from local.event_grid.events import BLOB_CREATED
from local.serving import LocalCloudError

if TYPE_CHECKING:
    from collections.abc import Callable

    from local.event_grid.events import BlobWrite

TIME_TO_LIVE_S = 24 * 3600.0
MAX_DELIVERY_ATTEMPTS = 30
MAX_FILTER_VALUES = 25

Operator = Literal[
    "StringIn",
    "StringNotIn",
    "StringBeginsWith",
    "StringNotBeginsWith",
    "StringEndsWith",
    "StringNotEndsWith",
    "StringContains",
    "StringNotContains",
]


@dataclass(frozen=True)
class AdvancedFilter:
    """A condition on one key; positive operators want one of the values, `Not` operators none of them."""

    operator: Operator
    key: Literal["subject", "data.api"]
    values: tuple[str, ...]

    def matches(self, write: BlobWrite) -> bool:
        """Whether the event of this write passes; case is ignored, as Event Grid does."""
        actual = (write.subject if self.key == "subject" else write.api).lower()
        kind = self.operator.removeprefix("String").removeprefix("Not")
        tests: dict[str, Callable[[str], bool]] = {
            "In": actual.__eq__,
            "BeginsWith": actual.startswith,
            "EndsWith": actual.endswith,
            "Contains": actual.__contains__,
        }
        found = any(tests[kind](value.lower()) for value in self.values)
        return found is not self.operator.startswith("StringNot")


def not_in_containers(*prefixes: str) -> AdvancedFilter:
    """Leave out containers: a name that ends with `/` is one container, any other begins the names of several."""
    return AdvancedFilter(
        "StringNotBeginsWith", "subject", tuple(f"/blobServices/default/containers/{prefix}" for prefix in prefixes)
    )


@dataclass(frozen=True)
class Subscription:
    """Who is told of which events, and how persistently."""

    endpoint: str = field(repr=False, default="")  # it holds the webhook's key
    queue: str | None = None  # where events go instead of a webhook: one message each
    name: str = "drops"
    included_event_types: tuple[str, ...] = (BLOB_CREATED,)
    subject_begins_with: str = ""
    subject_ends_with: str = ""
    advanced_filters: tuple[AdvancedFilter, ...] = ()
    dead_letter_container: str | None = None
    max_delivery_attempts: int = MAX_DELIVERY_ATTEMPTS
    time_to_live_s: float = TIME_TO_LIVE_S

    def __post_init__(self) -> None:
        """Refuse what Event Grid refuses: https://learn.microsoft.com/azure/event-grid/event-filtering#limitations."""
        values = sum(len(advanced.values) for advanced in self.advanced_filters)
        if values > MAX_FILTER_VALUES:
            raise LocalCloudError(f"An event subscription has at most {MAX_FILTER_VALUES} filter values, not {values}.")

    def wants(self, write: BlobWrite) -> bool:
        """Whether the event of this write is delivered."""
        subject = write.subject.lower()
        return (
            BLOB_CREATED in self.included_event_types
            and subject.startswith(self.subject_begins_with.lower())
            and subject.endswith(self.subject_ends_with.lower())
            and all(advanced.matches(write) for advanced in self.advanced_filters)
        )
