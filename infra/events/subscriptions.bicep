// Where the drop account's events are delivered, how long that is retried, and where undeliverable ones are stored.

import { chosenNames as chosenResourceNames, namesOf, tokenOf } from '../names.bicep'
import * as options from '../options.bicep'

@description('Name of the environment, as in ../resources.bicep.')
@minLength(1)
@maxLength(64)
param environmentName string

@description('Azure region, as in ../resources.bicep.')
@minLength(1)
param location string

@description('Names of resources that do not follow the convention, as in ../resources.bicep.')
param chosenNames chosenResourceNames = {}

param existingEventTopicName options.existingEventTopicName = ''

var names = namesOf(environmentName, tokenOf(subscription().id, environmentName, location), chosenNames)
var contract = loadJsonContent('../contract.json')
var subjects = map(contract.events.notInContainers, (prefix) => '/blobServices/default/containers/${prefix}')

resource topic 'Microsoft.EventGrid/systemTopics@2025-02-15' existing = {
  name: empty(existingEventTopicName) ? names.eventTopic : existingEventTopicName
}

resource dropAccount 'Microsoft.Storage/storageAccounts@2025-06-01' existing = {
  name: names.dropAccount
}

resource functionApp 'Microsoft.Web/sites@2025-03-01' existing = {
  name: names.functionApp

  // Azure documents the address of an app's host, but publishes no type for it.
  #disable-next-line BCP081
  resource host 'host' existing = {
    name: 'default'
  }
}

// https://learn.microsoft.com/azure/azure-functions/functions-event-grid-blob-trigger
var webhook = 'https://${functionApp.properties.defaultHostName}/runtime/webhooks/blobs'

resource eventSubscription 'Microsoft.EventGrid/systemTopics/eventSubscriptions@2025-02-15' = {
  parent: topic
  name: names.eventSubscription
  properties: {
    eventDeliverySchema: 'EventGridSchema'
    destination: {
      endpointType: 'WebHook'
      properties: {
        endpointUrl: '${webhook}?functionName=Host.Functions.${contract.function}&code=${functionApp::host.listKeys().systemKeys.blobs_extension}'
        maxEventsPerBatch: 1
      }
    }
    filter: {
      includedEventTypes: contract.events.types
      // 25 values may stand in all filters together.
      // https://learn.microsoft.com/azure/event-grid/event-filtering#limitations
      advancedFilters: [
        { operatorType: 'StringNotBeginsWith', key: 'subject', values: subjects }
        { operatorType: 'StringIn', key: 'data.api', values: contract.events.apis }
      ]
    }
    retryPolicy: {
      maxDeliveryAttempts: 30
      eventTimeToLiveInMinutes: 1440
    }
    deadLetterWithResourceIdentity: {
      identity: { type: 'SystemAssigned' }
      deadLetterDestination: {
        endpointType: 'StorageBlob'
        properties: {
          resourceId: dropAccount.id
          blobContainerName: contract.containers.deadLetters
        }
      }
    }
  }
}

// What Event Grid could not deliver and wrote down is recovered by the app itself. This subscription has no dead letters of
// its own, or they would be told of again.
// https://learn.microsoft.com/azure/event-grid/deliver-events-using-managed-identity
resource deadLetterSubscription 'Microsoft.EventGrid/systemTopics/eventSubscriptions@2025-02-15' = {
  parent: topic
  name: names.deadLetterSubscription
  properties: {
    eventDeliverySchema: 'EventGridSchema'
    deliveryWithResourceIdentity: {
      identity: { type: 'SystemAssigned' }
      destination: {
        endpointType: 'StorageQueue'
        properties: {
          resourceId: dropAccount.id
          queueName: contract.undeliverableQueue
          // Until it is received, however long the app is down.
          queueMessageTimeToLiveInSeconds: -1
        }
      }
    }
    filter: {
      includedEventTypes: contract.events.types
      subjectBeginsWith: '/blobServices/default/containers/${contract.containers.deadLetters}/'
    }
    retryPolicy: {
      maxDeliveryAttempts: 30
      eventTimeToLiveInMinutes: 1440
    }
  }
}

output EVENT_SUBSCRIPTION_NAME string = eventSubscription.name
