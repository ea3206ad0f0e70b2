// Where images are dropped and results are written, with the app's own state beside them.

import { tagging, tagsOf } from '../tags.bicep'

@description('Name of the account.')
param name string

@description('Azure region.')
param location string

@description('Tags of the resource.')
param tags tagging

@description('Redundancy of the account.')
param sku string

@description('iTwins to create a container for.')
param itwinIds string[]

@description('Delete drops after this many days; 0 keeps them.')
param deleteDropsAfterDays int

@description('Delete results after this many days; 0 keeps them.')
param deleteResultsAfterDays int

@description('Delete earlier versions after this many days.')
param deleteVersionsAfterDays int

@description('How many days deleted blobs and containers can be restored.')
param softDeleteDays int

@description('Whether the account is reachable at its public address.')
param isPublic bool

@description('Whether Defender for Storage scans what is dropped.')
param isScanned bool

@description('Whether a lock protects the account from deletion.')
param isLocked bool

@description('Workspace for the log of blob writes; empty creates no diagnostic setting.')
param workspaceId string

var contract = loadJsonContent('../contract.json')
var containers = map(items(contract.containers), (container) => container.value)

// An iTwin ID begins with a hexadecimal digit, a prefix without a slash matches every container that begins with it,
// and a rule takes ten prefixes. https://learn.microsoft.com/azure/storage/blobs/lifecycle-management-policy-structure
var itwinPrefixes = [
  ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9']
  ['a', 'b', 'c', 'd', 'e', 'f']
]

var dropRules = [
  for (prefixes, i) in itwinPrefixes: {
    name: 'delete-old-drops-${i}'
    enabled: true
    type: 'Lifecycle'
    definition: {
      filters: { blobTypes: ['blockBlob'], prefixMatch: prefixes }
      actions: { baseBlob: { delete: { daysAfterModificationGreaterThan: max(deleteDropsAfterDays, 1) } } }
    }
  }
]

var resultRules = [
  {
    name: 'delete-old-results'
    enabled: true
    type: 'Lifecycle'
    definition: {
      filters: { blobTypes: ['blockBlob'], prefixMatch: ['${contract.containers.results}/'] }
      actions: { baseBlob: { delete: { daysAfterModificationGreaterThan: max(deleteResultsAfterDays, 1) } } }
    }
  }
]

var versionRules = [
  {
    name: 'delete-old-versions'
    enabled: true
    type: 'Lifecycle'
    definition: {
      filters: { blobTypes: ['blockBlob'] }
      actions: { version: { delete: { daysAfterCreationGreaterThan: deleteVersionsAfterDays } } }
    }
  }
]

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
    // Closed by a rule rather than entirely, because Event Grid, a trusted service, writes dead letters over the public
    // address with its own identity.
    publicNetworkAccess: 'Enabled'
    networkAcls: {
      defaultAction: isPublic ? 'Allow' : 'Deny'
      bypass: 'AzureServices'
      // The scanner adds itself, and whatever is not named here goes with the next deployment.
      // https://learn.microsoft.com/azure/storage/common/storage-network-security-resource-instances
      resourceAccessRules: isScanned
        ? [
            {
              tenantId: subscription().tenantId
              resourceId: '${subscription().id}/providers/Microsoft.Security/datascanners/StorageDataScanner'
            }
          ]
        : []
    }
  }
}

resource blobs 'Microsoft.Storage/storageAccounts/blobServices@2025-06-01' = {
  parent: account
  name: 'default'
  properties: {
    isVersioningEnabled: true
    deleteRetentionPolicy: { enabled: true, days: softDeleteDays }
    containerDeleteRetentionPolicy: { enabled: true, days: softDeleteDays }
  }
}

// The alert `overdue` compares these writes with what the app logged, and so finds drops that never reached it.
resource writeLog 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = if (!empty(workspaceId)) {
  scope: blobs
  name: 'writes'
  properties: {
    workspaceId: workspaceId
    logs: [{ category: 'StorageWrite', enabled: true }]
  }
}

resource ownContainers 'Microsoft.Storage/storageAccounts/blobServices/containers@2025-06-01' = [
  for container in containers: {
    parent: blobs
    name: container
    properties: { publicAccess: 'None' }
  }
]

resource dropContainers 'Microsoft.Storage/storageAccounts/blobServices/containers@2025-06-01' = [
  for itwinId in itwinIds: {
    parent: blobs
    name: itwinId
    properties: { publicAccess: 'None' }
  }
]

resource queueService 'Microsoft.Storage/storageAccounts/queueServices@2025-06-01' = {
  parent: account
  name: 'default'
}

resource queues 'Microsoft.Storage/storageAccounts/queueServices/queues@2025-06-01' = [
  for queue in contract.queues: {
    parent: queueService
    name: queue
  }
]

resource lifecycle 'Microsoft.Storage/storageAccounts/managementPolicies@2025-06-01' = {
  parent: account
  name: 'default'
  properties: {
    policy: {
      rules: concat(
        deleteDropsAfterDays > 0 ? dropRules : [],
        deleteResultsAfterDays > 0 ? resultRules : [],
        versionRules
      )
    }
  }
  dependsOn: [
    blobs
  ]
}

resource lock 'Microsoft.Authorization/locks@2020-05-01' = if (isLocked) {
  scope: account
  name: 'keep'
  properties: {
    level: 'CanNotDelete'
    notes: 'Holds drops and results.'
  }
}

output blobUrl string = account.properties.primaryEndpoints.blob
output resultsUrl string = '${account.properties.primaryEndpoints.blob}${contract.containers.results}'
