"""Which events go to which function, and what becomes of those that nobody took."""

from __future__ import annotations

from local.cloud import DEFAULT_FILTERS
from tests.infra.deployed import CONTRACT, bindings, of_type, the

SUBSCRIPTION = "Microsoft.EventGrid/systemTopics/eventSubscriptions"


def test_events_are_sent_to_the_blob_triggered_function() -> None:
    """Event Grid accepts a wrong name and loses every event."""
    assert [name for name, binding in bindings().items() if binding["type"] == "blobTrigger"] == [CONTRACT["function"]]
    address = the(SUBSCRIPTION, name="/drops")["properties"]["destination"]["properties"]["endpointUrl"]
    assert f"'{CONTRACT['function']}'" in address
    assert "/runtime/webhooks/blobs'" in address
    assert "systemKeys.blobs_extension" in address


def test_the_subscription_filters_what_the_local_cloud_filters() -> None:
    """What was tested on a laptop is what is deployed."""
    filters = the(SUBSCRIPTION, name="/drops")["properties"]["filter"]
    assert filters["includedEventTypes"] == CONTRACT["events"]["types"]
    assert [(each["operatorType"], each["key"], tuple(each["values"])) for each in filters["advancedFilters"]] == [
        (each.operator, each.key, each.values) for each in DEFAULT_FILTERS
    ]
    assert sum(len(each.values) for each in DEFAULT_FILTERS) <= 25


def test_undeliverable_events_become_dead_letters() -> None:
    """Written with the topic's own identity, because the account accepts no keys."""
    properties = the(SUBSCRIPTION, name="/drops")["properties"]
    letters = properties["deadLetterWithResourceIdentity"]
    assert letters["identity"] == {"type": "SystemAssigned"}
    assert letters["deadLetterDestination"]["properties"]["blobContainerName"] == CONTRACT["containers"]["deadLetters"]
    assert properties["retryPolicy"]["eventTimeToLiveInMinutes"] == 24 * 60
    topic = the("Microsoft.EventGrid/systemTopics", name="evgt-itwindrop-" + topic_token())
    assert topic["identity"] == {"type": "SystemAssigned"}


def test_the_app_is_notified_of_dead_letters() -> None:
    """Through a queue, with the topic's own identity, and without dead letters of its own, so that it cannot loop."""
    properties = the(SUBSCRIPTION, name="/dead-letters")["properties"]
    delivery = properties["deliveryWithResourceIdentity"]
    assert delivery["identity"] == {"type": "SystemAssigned"}
    assert delivery["destination"]["endpointType"] == "StorageQueue"
    queue = delivery["destination"]["properties"]
    assert queue["queueName"] == CONTRACT["undeliverableQueue"]
    assert queue["queueMessageTimeToLiveInSeconds"] == -1
    assert properties["filter"] == {
        "includedEventTypes": CONTRACT["events"]["types"],
        "subjectBeginsWith": f"/blobServices/default/containers/{CONTRACT['containers']['deadLetters']}/",
    }
    assert [name for name in properties if name.startswith("deadLetter")] == []


def test_failed_deliveries_are_logged() -> None:
    """The metric says how many there are, the log which and why."""
    log = the("Microsoft.Insights/diagnosticSettings", name="failures")["properties"]
    assert log["logs"] == [{"category": "DeliveryFailures", "enabled": True}]


def test_the_vaults_events_raise_an_alert_before_the_secret_expires() -> None:
    """The vault reports it 30 days before, whether the app works or not; events about other secrets are ignored."""
    properties = the(SUBSCRIPTION, name="-secret-expires")["properties"]
    assert properties["destination"]["endpointType"] == "MonitorAlert"
    (notified,) = properties["destination"]["properties"]["actionGroups"]
    assert notified.endswith(the("Microsoft.Insights/actionGroups")["name"])
    assert properties["eventDeliverySchema"] == "CloudEventSchemaV1_0"
    assert properties["filter"] == {
        "includedEventTypes": ["Microsoft.KeyVault.SecretNearExpiry", "Microsoft.KeyVault.SecretExpired"],
        "subjectBeginsWith": CONTRACT["secret"],
        "subjectEndsWith": CONTRACT["secret"],
    }
    named = [subscription["name"] for subscription in of_type(SUBSCRIPTION, "managed-identity")]
    assert [name for name in named if name.endswith("-secret-expires")] == []


def topic_token() -> str:
    """Return what the names of one environment have in common."""
    return str(the("Microsoft.Web/sites")["name"].rpartition("-")[2])
