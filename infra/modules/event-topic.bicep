// The drop account's events. The subscription that leads them to the app is made after the code is deployed.

@description('Name of the system topic.')
param name string

@description('Azure region; the account\'s.')
param location string

@description('Tags of the resource.')
param tags object

@description('Account whose events these are.')
param dropAccountName string

resource dropAccount 'Microsoft.Storage/storageAccounts@2024-01-01' existing = {
  name: dropAccountName
}

resource topic 'Microsoft.EventGrid/systemTopics@2025-02-15' = {
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

output name string = topic.name
output principalId string = topic.identity.principalId
