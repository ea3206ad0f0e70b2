// The function app on Flex Consumption, and all of its settings.

import { tagging, tagsOf } from '../tags.bicep'

@description('Name of the function app.')
param name string

@description('Name of its plan.')
param planName string

@description('Azure region.')
param location string

@description('Tags of the resources.')
param tags tagging

@description('The app\'s identity.')
param identityName string

@description('Account that images are dropped into.')
param dropAccountName string

@description('Account of the Functions host.')
param hostAccountName string

@description('Container of the host\'s account with the deployed code.')
param deploymentContainerName string

@description('Application Insights resource.')
param applicationInsightsName string

@description('Vault of the client secret; empty if there is none.')
param vaultName string

@description('ID of the subnet to integrate the app with; empty for none.')
param subnetId string

@description('Public addresses (CIDR) that may call the HTTP functions if there is a network.')
param operatorAddressRanges string[]

@description('Memory of one instance in MB.')
param instanceMemoryMB int

@description('Maximum number of instances for each group of functions.')
param maximumInstanceCount int

@description('How many instances are kept ready for drops.')
param alwaysReadyInstances int

@description('Whether instances are spread over the zones of the region.')
param zoneRedundant bool

@description('Address of the iTwin Platform API.')
param itwinApiUrl string

@description('Where the access token comes from.')
@allowed(['managed-identity', 'client-credentials'])
param itwinLogin string

@description('Scope to request a token for; empty means itwin-platform with client-credentials.')
param itwinTokenScope string

@description('Token endpoint of the iTwin Platform, for client-credentials.')
param itwinTokenUrl string

@description('Client ID of the iTwin service app, for client-credentials.')
param itwinClientId string

@description('The settings that limit what is accepted and how long it is retried, by their names in the app.')
param limits object

var contract = loadJsonContent('../contract.json')
var isPrivate = !empty(subnetId)

resource identity 'Microsoft.ManagedIdentity/userAssignedIdentities@2024-11-30' existing = {
  name: identityName
}

resource applicationInsights 'Microsoft.Insights/components@2020-02-02' existing = {
  name: applicationInsightsName
}

var hostSettings = {
  AzureWebJobsStorage__blobServiceUri: 'https://${hostAccountName}.blob.${environment().suffixes.storage}'
  AzureWebJobsStorage__queueServiceUri: 'https://${hostAccountName}.queue.${environment().suffixes.storage}'
  AzureWebJobsStorage__tableServiceUri: 'https://${hostAccountName}.table.${environment().suffixes.storage}'
  AzureWebJobsStorage__credential: 'managedidentity'
  AzureWebJobsStorage__clientId: identity.properties.clientId
  APPLICATIONINSIGHTS_CONNECTION_STRING: applicationInsights.properties.ConnectionString
  APPLICATIONINSIGHTS_AUTHENTICATION_STRING: 'ClientId=${identity.properties.clientId};Authorization=AAD'
  // As many as host.json lets run at once: each has an image in memory.
  PYTHON_THREADPOOL_THREAD_COUNT: contract.threads
}

var dropSettings = {
  DropStorage__blobServiceUri: 'https://${dropAccountName}.blob.${environment().suffixes.storage}'
  DropStorage__queueServiceUri: 'https://${dropAccountName}.queue.${environment().suffixes.storage}'
  DropStorage__credential: 'managedidentity'
  DropStorage__clientId: identity.properties.clientId
  RESULTS_CONTAINER: contract.containers.results
  ITWIN_API_URL: itwinApiUrl
  ITWIN_LOGIN: itwinLogin
  AZURE_CLIENT_ID: identity.properties.clientId
}

var managedIdentitySettings = {
  ITWIN_TOKEN_SCOPE: itwinTokenScope
}

var clientCredentialsSettings = {
  ITWIN_TOKEN_SCOPE: empty(itwinTokenScope) ? 'itwin-platform' : itwinTokenScope
  ITWIN_TOKEN_URL: itwinTokenUrl
  ITWIN_CLIENT_ID: itwinClientId
  // Without a version: the app reads the current one, with its identity, and rereads it when the platform rejects it.
  ITWIN_SECRET_URL: 'https://${vaultName}${environment().suffixes.keyvaultDns}/secrets/${contract.secret}'
}

var settings = union(
  hostSettings,
  dropSettings,
  itwinLogin == 'client-credentials' ? clientCredentialsSettings : managedIdentitySettings,
  limits
)

// Open only to Event Grid, which delivers to the public address, and to the operators.
// https://learn.microsoft.com/azure/virtual-network/service-tags-overview
var eventGridRule = [
  { name: 'event-grid', priority: 100, action: 'Allow', tag: 'ServiceTag', ipAddress: 'AzureEventGrid' }
]
var operatorRules = [
  for (address, i) in operatorAddressRanges: {
    name: 'operator-${i}'
    priority: 200 + i
    action: 'Allow'
    tag: 'Default'
    ipAddress: address
  }
]

resource plan 'Microsoft.Web/serverfarms@2025-03-01' = {
  name: planName
  location: location
  tags: tagsOf(tags, 'Microsoft.Web/serverfarms/${planName}')
  kind: 'functionapp'
  sku: { tier: 'FlexConsumption', name: 'FC1' }
  properties: { reserved: true, zoneRedundant: zoneRedundant }
}

resource functionApp 'Microsoft.Web/sites@2025-03-01' = {
  name: name
  location: location
  // By this tag, azd finds the app to deploy the code to.
  tags: union(tagsOf(tags, 'Microsoft.Web/sites/${name}'), { 'azd-service-name': 'drop' })
  kind: 'functionapp,linux'
  identity: {
    type: 'UserAssigned'
    userAssignedIdentities: { '${identity.id}': {} }
  }
  properties: {
    serverFarmId: plan.id
    httpsOnly: true
    virtualNetworkSubnetId: isPrivate ? subnetId : null
    siteConfig: {
      ftpsState: 'Disabled'
      http20Enabled: true
      minTlsVersion: '1.2'
      scmMinTlsVersion: '1.2'
      appSettings: map(items(settings), (setting) => { name: setting.key, value: string(setting.value) })
      ipSecurityRestrictionsDefaultAction: isPrivate ? 'Deny' : 'Allow'
      ipSecurityRestrictions: isPrivate ? concat(eventGridRule, operatorRules) : []
    }
    functionAppConfig: {
      deployment: {
        storage: {
          type: 'blobContainer'
          value: 'https://${hostAccountName}.blob.${environment().suffixes.storage}/${deploymentContainerName}'
          authentication: {
            type: 'UserAssignedIdentity'
            userAssignedIdentityResourceId: identity.id
          }
        }
      }
      runtime: { name: 'python', version: '3.13' }
      scaleAndConcurrency: {
        instanceMemoryMB: instanceMemoryMB
        maximumInstanceCount: maximumInstanceCount
        alwaysReady: alwaysReadyInstances > 0 ? [{ name: 'blob', instanceCount: alwaysReadyInstances }] : []
      }
    }
  }

  // Code is deployed with an Entra token, so that there is no publishing password to lose.
  resource deploymentByPassword 'basicPublishingCredentialsPolicies' = {
    name: 'scm'
    properties: { allow: false }
  }

  resource ftpByPassword 'basicPublishingCredentialsPolicies' = {
    name: 'ftp'
    properties: { allow: false }
    dependsOn: [
      deploymentByPassword
    ]
  }
}

output hostName string = functionApp.properties.defaultHostName
