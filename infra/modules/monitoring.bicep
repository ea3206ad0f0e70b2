// Where logs go: a workspace, and Application Insights in front of it, which accepts nothing without an Entra token.

import { tagging, tagsOf } from '../tags.bicep'

@description('Name of the Log Analytics workspace.')
param workspaceName string

@description('Whether to create the workspace; an existing one is left as it is.')
param makesWorkspace bool

@description('ID of the workspace.')
param workspaceId string

@description('Name of the Application Insights resource.')
param applicationInsightsName string

@description('Azure region.')
param location string

@description('Tags of the resources.')
param tags tagging

resource workspace 'Microsoft.OperationalInsights/workspaces@2025-07-01' = if (makesWorkspace) {
  name: workspaceName
  location: location
  tags: tagsOf(tags, 'Microsoft.OperationalInsights/workspaces/${workspaceName}')
  properties: {
    sku: { name: 'PerGB2018' }
    // For what has no retention of its own: storage's log, of which two days are looked at.
    retentionInDays: 30
    features: { disableLocalAuth: true }
  }
}

resource applicationInsights 'Microsoft.Insights/components@2020-02-02' = {
  name: applicationInsightsName
  location: location
  tags: tagsOf(tags, 'Microsoft.Insights/components/${applicationInsightsName}')
  kind: 'web'
  properties: {
    Application_Type: 'web'
    WorkspaceResourceId: workspaceId
    DisableLocalAuth: true
  }
  dependsOn: [
    workspace
  ]
}
