// The Functions host's own storage: its keys, its queue of blob events, and the deployed code.

import { tagging, tagsOf } from '../tags.bicep'

@description('Name of the account.')
param name string

@description('Azure region.')
param location string

@description('Tags of the resource.')
param tags tagging

@description('Redundancy of the account.')
param sku string

@description('Whether the account is reachable at its public address.')
param isPublic bool

resource account 'Microsoft.Storage/storageAccounts@2025-06-01' = {
  name: name
  location: location
  tags: tagsOf(tags, 'Microsoft.Storage/storageAccounts/${name}')
  kind: 'StorageV2'
  sku: { name: sku }
  properties: {
    accessTier: 'Hot'
    allowBlobPublicAccess: false
    allowSharedKeyAccess: false
    defaultToOAuthAuthentication: true
    minimumTlsVersion: 'TLS1_2'
    supportsHttpsTrafficOnly: true
    publicNetworkAccess: isPublic ? 'Enabled' : 'Disabled'
    networkAcls: {
      defaultAction: isPublic ? 'Allow' : 'Deny'
      bypass: 'AzureServices'
    }
  }
}

resource blobs 'Microsoft.Storage/storageAccounts/blobServices@2025-06-01' = {
  parent: account
  name: 'default'
}

resource deploymentContainer 'Microsoft.Storage/storageAccounts/blobServices/containers@2025-06-01' = {
  parent: blobs
  name: 'deployment'
  properties: { publicAccess: 'None' }
}

output deploymentContainerName string = deploymentContainer.name
