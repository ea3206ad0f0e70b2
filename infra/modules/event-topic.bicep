// The drop account's events. The subscription that leads them to the app is made after the code is deployed.

@description('Name of the system topic.')
param name string

@description('Whether the topic is there already, with a system-assigned identity.')
param isThere bool

@description('Azure region; the account\'s.')
param location string

@description('Tags of the resource.')
param tags object

@description('Account whose events these are.')
param dropAccountName string

@description('Workspace that the log of failed deliveries goes to; empty makes no setting for it.')
param workspaceId string

resource dropAccount 'Microsoft.Storage/storageAccounts@2025-06-01' existing = {
  name: dropAccountName
}

resource topic 'Microsoft.EventGrid/systemTopics@2025-02-15' = if (!isThere) {
  name: name
  location: location
  tags: tags
  // It writes dead letters with this identity, since the account takes no shared keys.
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
