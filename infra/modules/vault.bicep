// The vault for the client secret of the iTwin service app. The secret itself is set by an operator, after this.

import { tagging, tagsOf } from '../tags.bicep'

@description('Name of the vault.')
param name string

@description('Name of the system topic of the vault\'s events.')
param topicName string

@description('Azure region.')
param location string

@description('Tags of the resources.')
param tags tagging

@description('Whether the vault is reachable at its public address.')
param isPublic bool

@description('Whether a lock protects the vault from deletion.')
param isLocked bool

@description('Workspace for the audit log; empty creates no diagnostic setting.')
param workspaceId string

resource vault 'Microsoft.KeyVault/vaults@2026-02-01' = {
  name: name
  location: location
  tags: tagsOf(tags, 'Microsoft.KeyVault/vaults/${name}')
  properties: {
    tenantId: subscription().tenantId
    sku: { family: 'A', name: 'standard' }
    enableRbacAuthorization: true
    enableSoftDelete: true
    enablePurgeProtection: true
    softDeleteRetentionInDays: 7
    publicNetworkAccess: isPublic ? 'Enabled' : 'Disabled'
    networkAcls: {
      defaultAction: isPublic ? 'Allow' : 'Deny'
      bypass: 'AzureServices'
    }
  }
}

resource audit 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = if (!empty(workspaceId)) {
  scope: vault
  name: 'audit'
  properties: {
    workspaceId: workspaceId
    logs: [{ category: 'AuditEvent', enabled: true }]
  }
}

// The vault sends an event 30 days before a secret expires: alerts.bicep subscribes to it.
resource topic 'Microsoft.EventGrid/systemTopics@2025-02-15' = {
  name: topicName
  location: location
  tags: tagsOf(tags, 'Microsoft.EventGrid/systemTopics/${topicName}')
  properties: {
    source: vault.id
    topicType: 'Microsoft.KeyVault.vaults'
  }
}

resource lock 'Microsoft.Authorization/locks@2020-05-01' = if (isLocked) {
  scope: vault
  name: 'keep'
  properties: {
    level: 'CanNotDelete'
    notes: 'Holds the client secret of the iTwin service app.'
  }
}
