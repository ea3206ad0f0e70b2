// Role assignments: one table, each row with its reason. The rows on the vault,
// which may be in another resource group, are assigned by vault-roles.bicep.

@description('Object ID of the app\'s identity.')
param appPrincipalId string

@description('Object ID of the system topic\'s identity.')
param eventTopicPrincipalId string

@description('Object ID of the operator, who may drop images and read results; empty for none.')
param operatorPrincipalId string

@description('The type of principal that the operator is.')
param operatorPrincipalType string

@description('Account that images are dropped into.')
param dropAccountName string

@description('Account of the Functions host.')
param hostAccountName string

@description('Application Insights resource.')
param applicationInsightsName string

// https://learn.microsoft.com/azure/role-based-access-control/built-in-roles
@export()
var roleIds = {
  'Storage Blob Data Owner': 'b7e6dc6d-f1e8-4753-8033-0f276bb0955b'
  'Storage Blob Data Contributor': 'ba92f5b4-2d11-453d-a403-e96b0029c9fe'
  'Storage Queue Data Contributor': '974c5e8b-45b9-4653-ba55-5f855dd0fb88'
  'Storage Queue Data Message Sender': 'c6a89b2d-59bc-44d0-9896-0f6e12d7b80a'
  'Storage Table Data Contributor': '0a9a7e1f-b9d0-4cc4-a60d-0319b160aaa3'
  'Monitoring Metrics Publisher': '3913510d-42f4-4e42-8a64-420c390055eb'
  'Monitoring Reader': '43d0d8ad-25c7-4714-9337-8ba259a9fe05'
  'Key Vault Secrets User': '4633458b-17de-408a-b874-0445c86b69e6'
  'Key Vault Secrets Officer': 'b86a8fe4-44ce-4948-aee5-eccb2c155cd7'
}

// The host's account has the roles that its page names, less the one that manages the account itself, which a blob
// trigger with Event Grid as its source only uses:
// https://learn.microsoft.com/azure/azure-functions/functions-reference#connecting-to-host-storage-with-an-identity
// The drop account has Contributor where the blob trigger's page says Owner, which adds tags and the ownership of
// files, and neither the app nor the trigger with Event Grid as its source touches these:
// https://learn.microsoft.com/azure/azure-functions/functions-bindings-storage-blob-trigger#identity-based-connections
@export()
var table = [
  {
    who: 'app'
    role: 'Storage Blob Data Contributor'
    on: 'drops'
    reason: 'Reads drops; writes results and the ledger; the host reads a blob before it calls the function.'
  }
  {
    who: 'app'
    role: 'Storage Queue Data Contributor'
    on: 'drops'
    reason: 'Sends and receives retries; receives messages from poison queues; the host moves messages there and reads the queues\' lengths.'
  }
  {
    who: 'app'
    role: 'Storage Blob Data Owner'
    on: 'host'
    reason: 'The host keeps its keys, locks and the deployed code there.'
  }
  {
    who: 'app'
    role: 'Storage Queue Data Contributor'
    on: 'host'
    reason: 'The host keeps blob events in a queue there until the function takes them.'
  }
  {
    who: 'app'
    role: 'Storage Table Data Contributor'
    on: 'host'
    reason: 'The host writes its diagnostic events there.'
  }
  {
    who: 'app'
    role: 'Monitoring Metrics Publisher'
    on: 'insights'
    reason: 'Sends logs to Application Insights, which accepts none without an Entra token.'
  }
  {
    who: 'app'
    role: 'Key Vault Secrets User'
    on: 'vault'
    reason: 'Reads the client secret, and again when the platform rejects it.'
  }
  {
    who: 'gateway'
    role: 'Key Vault Secrets User'
    on: 'vault'
    reason: 'Reads the client secret whenever it needs a new token of the iTwin Platform.'
  }
  {
    who: 'topic'
    role: 'Storage Blob Data Contributor'
    on: 'deadLetters'
    reason: 'Event Grid writes events there that it could not deliver.'
  }
  {
    who: 'topic'
    role: 'Storage Queue Data Message Sender'
    on: 'letters'
    reason: 'Event Grid notifies the app of the dead letters that it wrote.'
  }
  {
    who: 'operator'
    role: 'Monitoring Reader'
    on: 'group'
    reason: 'Reads logs, metrics, alerts and the workbook.'
  }
  {
    who: 'operator'
    role: 'Storage Blob Data Contributor'
    on: 'drops'
    reason: 'Drops images and reads results.'
  }
  {
    who: 'operator'
    role: 'Storage Queue Data Message Sender'
    on: 'drops'
    reason: 'Replays finished drops (python -m shared.replay).'
  }
  {
    who: 'operator'
    role: 'Key Vault Secrets Officer'
    on: 'vault'
    reason: 'Sets and rotates the client secret.'
  }
]

var principals = {
  app: { id: appPrincipalId, type: 'ServicePrincipal' }
  topic: { id: eventTopicPrincipalId, type: 'ServicePrincipal' }
  operator: { id: operatorPrincipalId, type: operatorPrincipalType }
}
var accountNames = { drops: dropAccountName, host: hostAccountName }

var filled = filter(table, (row) => row.who != 'operator' || !empty(operatorPrincipalId))
var storageRows = filter(filled, (row) => contains(accountNames, row.on))
var insightsRows = filter(filled, (row) => row.on == 'insights')
var deadLetterRows = filter(filled, (row) => row.on == 'deadLetters')
var letterRows = filter(filled, (row) => row.on == 'letters')
var groupRows = filter(filled, (row) => row.on == 'group')

var contract = loadJsonContent('../contract.json')

resource accounts 'Microsoft.Storage/storageAccounts@2025-06-01' existing = [
  for row in storageRows: {
    name: accountNames[row.on]
  }
]

resource applicationInsights 'Microsoft.Insights/components@2020-02-02' existing = {
  name: applicationInsightsName
}

resource dropAccount 'Microsoft.Storage/storageAccounts@2025-06-01' existing = {
  name: dropAccountName

  resource blobs 'blobServices' existing = {
    name: 'default'

    resource deadLetters 'containers' existing = {
      name: contract.containers.deadLetters
    }
  }

  resource queueService 'queueServices' existing = {
    name: 'default'

    resource letters 'queues' existing = {
      name: contract.undeliverableQueue
    }
  }
}

resource storageRoles 'Microsoft.Authorization/roleAssignments@2022-04-01' = [
  for (row, i) in storageRows: {
    scope: accounts[i]
    name: guid(accounts[i].id, principals[row.who].id, roleIds[row.role])
    properties: {
      roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roleIds[row.role])
      principalId: principals[row.who].id
      principalType: principals[row.who].type
      description: row.reason
    }
  }
]

resource insightsRoles 'Microsoft.Authorization/roleAssignments@2022-04-01' = [
  for row in insightsRows: {
    scope: applicationInsights
    name: guid(applicationInsights.id, principals[row.who].id, roleIds[row.role])
    properties: {
      roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roleIds[row.role])
      principalId: principals[row.who].id
      principalType: principals[row.who].type
      description: row.reason
    }
  }
]

resource deadLetterRoles 'Microsoft.Authorization/roleAssignments@2022-04-01' = [
  for row in deadLetterRows: {
    scope: dropAccount::blobs::deadLetters
    name: guid(dropAccount::blobs::deadLetters.id, principals[row.who].id, roleIds[row.role])
    properties: {
      roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roleIds[row.role])
      principalId: principals[row.who].id
      principalType: principals[row.who].type
      description: row.reason
    }
  }
]

resource letterRoles 'Microsoft.Authorization/roleAssignments@2022-04-01' = [
  for row in letterRows: {
    scope: dropAccount::queueService::letters
    name: guid(dropAccount::queueService::letters.id, principals[row.who].id, roleIds[row.role])
    properties: {
      roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roleIds[row.role])
      principalId: principals[row.who].id
      principalType: principals[row.who].type
      description: row.reason
    }
  }
]

resource groupRoles 'Microsoft.Authorization/roleAssignments@2022-04-01' = [
  for row in groupRows: {
    name: guid(resourceGroup().id, principals[row.who].id, roleIds[row.role])
    properties: {
      roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roleIds[row.role])
      principalId: principals[row.who].id
      principalType: principals[row.who].type
      description: row.reason
    }
  }
]
