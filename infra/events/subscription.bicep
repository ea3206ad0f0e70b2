// Which of the drop account's events go where, how long they are tried, and where they end else.

@description('Name of the event subscription.')
param name string

@description('System topic of the drop account.')
param topicName string

@description('Function app that the events go to.')
param functionAppName string

@description('Account that images are dropped into; it keeps the dead letters too.')
param dropAccountName string

var contract = loadJsonContent('../contract.json')
var subjects = map(contract.events.notInContainers, (prefix) => '/blobServices/default/containers/${prefix}')

resource topic 'Microsoft.EventGrid/systemTopics@2025-02-15' existing = {
  name: topicName
}

resource dropAccount 'Microsoft.Storage/storageAccounts@2024-01-01' existing = {
  name: dropAccountName
}

resource functionApp 'Microsoft.Web/sites@2024-04-01' existing = {
  name: functionAppName
}

// https://learn.microsoft.com/azure/azure-functions/functions-event-grid-blob-trigger
var webhook = 'https://${functionApp.properties.defaultHostName}/runtime/webhooks/blobs'
var hostKeys = listKeys(resourceId('Microsoft.Web/sites/host', functionAppName, 'default'), '2024-04-01')

resource eventSubscription 'Microsoft.EventGrid/systemTopics/eventSubscriptions@2025-02-15' = {
  parent: topic
  name: name
  properties: {
    eventDeliverySchema: 'EventGridSchema'
    destination: {
      endpointType: 'WebHook'
      properties: {
        endpointUrl: '${webhook}?functionName=Host.Functions.${contract.function}&code=${hostKeys.systemKeys.blobs_extension}'
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

output name string = eventSubscription.name
