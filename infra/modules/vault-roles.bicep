// Role assignments on the vault: the rows of the table in roles.bicep that concern it. The vault may be an existing one
// in another resource group.

import { roleIds, table } from 'roles.bicep'

@description('Who reads the secret.')
@allowed(['app', 'gateway'])
param reader string

@description('Object ID of the reader\'s identity.')
param readerPrincipalId string

@description('Object ID of the operator, who sets the secret; empty for none.')
param operatorPrincipalId string

@description('The type of principal that the operator is.')
param operatorPrincipalType string

@description('Vault of the client secret.')
param vaultName string

var principals = {
  '${reader}': { id: readerPrincipalId, type: 'ServicePrincipal' }
  operator: { id: operatorPrincipalId, type: operatorPrincipalType }
}
var present = empty(operatorPrincipalId) ? [reader] : [reader, 'operator']
var rows = filter(table, (row) => row.on == 'vault' && contains(present, row.who))

resource vault 'Microsoft.KeyVault/vaults@2026-02-01' existing = {
  name: vaultName
}

resource vaultRoles 'Microsoft.Authorization/roleAssignments@2022-04-01' = [
  for row in rows: {
    scope: vault
    name: guid(vault.id, principals[row.who].id, roleIds[row.role])
    properties: {
      roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roleIds[row.role])
      principalId: principals[row.who].id
      principalType: principals[row.who].type
      description: row.reason
    }
  }
]
