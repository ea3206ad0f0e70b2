// The drop account's events. The subscription that delivers them to the app is created after the code is deployed.

import { tagging, tagsOf } from '../tags.bicep'

@description('Name of the system topic.')
param name string

@description('Whether the topic already exists, with a system-assigned identity.')
param isThere bool

@description('Azure region; the account\'s.')
param location string

@description('Tags of the resource.')
param tags tagging

@description('Account whose events these are.')
param dropAccountName string

@description('Workspace for the log of failed deliveries; empty creates no diagnostic setting.')
param workspaceId string

resource dropAccount 'Microsoft.Storage/storageAccounts@2025-06-01' existing = {
  name: dropAccountName
}

resource topic 'Microsoft.EventGrid/systemTopics@2025-02-15' = if (!isThere) {
  name: name
  location: location
  tags: tagsOf(tags, 'Microsoft.EventGrid/systemTopics/${name}')
  // It writes dead letters with this identity, since the account accepts no shared keys.
  identity: { type: 'SystemAssigned' }
  properties: {
    source: dropAccount.id
    topicType: 'Microsoft.Storage.StorageAccounts'
  }
}

resource usedTopic 'Microsoft.EventGrid/systemTopics@2025-02-15' existing = {
  name: name
}

resource failures 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = if (!empty(workspaceId)) {
  scope: usedTopic
  name: 'failures'
  properties: {
    workspaceId: workspaceId
    logs: [{ category: 'DeliveryFailures', enabled: true }]
  }
  dependsOn: [
    topic
  ]
}

output principalId string = isThere ? usedTopic.identity.principalId : topic!.identity.principalId
