// iTwin Image Drop: everything but the event subscription, which needs the deployed code (events/main.bicep).

targetScope = 'subscription'

import { namesOf } from 'names.bicep'

@description('Name of the environment. It is part of the resource group\'s name and decides all others.')
@minLength(1)
@maxLength(64)
param environmentName string

@description('Azure region of every resource. Flex Consumption must be offered there.')
@minLength(1)
@metadata({ azd: { type: 'location' } })
param location string

// --- Drops ---

@description('iTwins that images may be dropped for, by ID in lower case: a container is made for each.')
param itwinIds string[] = []

@description('Delete drops this many days after they were written. 0 keeps them.')
@minValue(0)
@maxValue(3650)
param deleteDropsAfterDays int = 0

@description('Delete results this many days after they were written. 0 keeps them.')
@minValue(0)
@maxValue(3650)
param deleteResultsAfterDays int = 90

@description('Delete earlier versions of replaced and deleted blobs after this many days.')
@minValue(1)
@maxValue(3650)
param deleteVersionsAfterDays int = 30

@description('How many days deleted blobs and containers can be brought back.')
@minValue(1)
@maxValue(365)
param softDeleteDays int = 7

@description('Redundancy of the storage accounts.')
@allowed(['Standard_LRS', 'Standard_ZRS', 'Standard_GRS', 'Standard_GZRS'])
param storageSku string = 'Standard_LRS'

// --- iTwin Platform ---

@description('Address of the iTwin Platform API, or of a gateway in front of it.')
param itwinApiUrl string = 'https://api.bentley.com'

@description('Where the access token comes from: the app\'s managed identity, or client credentials of an iTwin service app.')
@allowed(['managed-identity', 'client-credentials'])
param itwinLogin string = 'managed-identity'

@description('Scope to request tokens for. Required with managed-identity, like api://<application ID>/.default; empty means itwin-platform with client-credentials.')
param itwinTokenScope string = ''

@description('Token endpoint of the iTwin Platform. Used with client-credentials.')
param itwinTokenUrl string = 'https://ims.bentley.com/connect/token'

@description('Client ID of the iTwin service app. Required with client-credentials. Its secret goes into the vault, never here.')
param itwinClientId string = ''

@description('Seconds that one upload may take.')
@minValue(1)
@maxValue(45)
param itwinTimeoutS int = 40

// --- What is taken and how long it is tried ---

@description('What to do with images longer than 5:1.')
@allowed(['pad', 'crop', 'reject'])
param aspectPolicy string = 'pad'

@description('Blobs with more bytes are rejected unread.')
@minValue(1)
@maxValue(2000000000)
param maxSourceBytes int = 100000000

@description('Images with more pixels are rejected undecoded.')
@minValue(1)
@maxValue(1000000000)
param maxSourcePixels int = 100000000

@description('Images that must be re-encoded are scaled down to this many pixels.')
@minValue(10000)
@maxValue(1000000000)
param maxOutputPixels int = 16000000

@description('Shortest delay before another try, in seconds.')
@minValue(1)
@maxValue(3600)
param retryMinDelayS int = 5

@description('Longest delay before another try, in seconds.')
@minValue(1)
@maxValue(604800)
param retryMaxDelayS int = 3600

@description('How long a drop is retried before it fails, in seconds.')
@minValue(1)
@maxValue(604800)
param retryHorizonS int = 86400

// --- Scale ---

@description('Memory of one instance in MB. Each instance processes four images at once.')
@allowed([512, 2048, 4096])
param instanceMemoryMB int = 2048

@description('Most instances that each group of functions may scale out to: drops are one group, retries another. Some regions refuse fewer than 40.')
@minValue(1)
@maxValue(1000)
param maximumInstanceCount int = 40

@description('How many instances are kept ready for drops. They save the cold start and are billed by the hour.')
@minValue(0)
@maxValue(100)
param alwaysReadyInstances int = 0

// --- Network ---

@description('Close storage and vault to the public and reach them over private endpoints.')
param privateNetworking bool = false

@description('Address space of the virtual network, with privateNetworking; a /24 or larger.')
param networkAddressPrefix string = '10.82.0.0/24'

@description('Public addresses (CIDR) from which operators may call the app\'s HTTP functions, with privateNetworking.')
param operatorAddressRanges string[] = []

// --- Operation ---

@description('Microsoft Entra object ID of the operator, who may drop images, read results and, with client-credentials, set the secret. Empty for nobody.')
param operatorPrincipalId string = ''

@description('What operatorPrincipalId is.')
@allowed(['User', 'Group', 'ServicePrincipal'])
param operatorPrincipalType string = 'User'

@description('E-mail address to send alerts to. Empty sends none; alerts still show in Azure Monitor.')
param alertEmail string = ''

@description('Alert when a drop has no final result after this many minutes, or never reached the app.')
@minValue(10)
@maxValue(1440)
param overdueAfterMinutes int = 60

@description('How many days the app\'s logs are kept. 90 cost no more than fewer.')
@minValue(30)
@maxValue(730)
param logRetentionDays int = 90

var names = namesOf(environmentName, uniqueString(subscription().id, environmentName, location))
var tags = { 'azd-env-name': environmentName }
var useClientCredentials = itwinLogin == 'client-credentials'

resource group 'Microsoft.Resources/resourceGroups@2024-03-01' = {
  name: names.resourceGroup
  location: location
  tags: tags
}

module identity 'modules/identity.bicep' = {
  name: 'identity'
  scope: group
  params: {
    name: names.identity
    location: location
    tags: tags
  }
}

module network 'modules/network.bicep' = if (privateNetworking) {
  name: 'network'
  scope: group
  params: {
    name: names.network
    location: location
    tags: tags
    addressPrefix: networkAddressPrefix
  }
}

module dropAccount 'modules/drop-account.bicep' = {
  name: 'drop-account'
  scope: group
  params: {
    name: names.dropAccount
    location: location
    tags: tags
    sku: storageSku
    itwinIds: itwinIds
    deleteDropsAfterDays: deleteDropsAfterDays
    deleteResultsAfterDays: deleteResultsAfterDays
    deleteVersionsAfterDays: deleteVersionsAfterDays
    softDeleteDays: softDeleteDays
    isPublic: !privateNetworking
    workspaceName: monitoring.outputs.workspaceName
  }
}

module hostAccount 'modules/host-account.bicep' = {
  name: 'host-account'
  scope: group
  params: {
    name: names.hostAccount
    location: location
    tags: tags
    sku: storageSku
    isPublic: !privateNetworking
  }
}

module vault 'modules/vault.bicep' = if (useClientCredentials) {
  name: 'vault'
  scope: group
  params: {
    name: names.vault
    location: location
    tags: tags
    isPublic: !privateNetworking
  }
}

module endpoints 'modules/endpoints.bicep' = if (privateNetworking) {
  name: 'endpoints'
  scope: group
  params: {
    location: location
    tags: tags
    networkName: names.network
    dropAccountName: dropAccount.outputs.name
    hostAccountName: hostAccount.outputs.name
    vaultName: useClientCredentials ? names.vault : ''
  }
  dependsOn: [
    network
    vault
  ]
}

module monitoring 'modules/monitoring.bicep' = {
  name: 'monitoring'
  scope: group
  params: {
    workspaceName: names.workspace
    applicationInsightsName: names.applicationInsights
    location: location
    tags: tags
    retentionDays: logRetentionDays
  }
}

module eventTopic 'modules/event-topic.bicep' = {
  name: 'event-topic'
  scope: group
  params: {
    name: names.eventTopic
    location: location
    tags: tags
    dropAccountName: dropAccount.outputs.name
  }
}

module roles 'modules/roles.bicep' = {
  name: 'roles'
  scope: group
  params: {
    appPrincipalId: identity.outputs.principalId
    eventTopicPrincipalId: eventTopic.outputs.principalId
    operatorPrincipalId: operatorPrincipalId
    operatorPrincipalType: operatorPrincipalType
    dropAccountName: dropAccount.outputs.name
    hostAccountName: hostAccount.outputs.name
    applicationInsightsName: monitoring.outputs.applicationInsightsName
    vaultName: useClientCredentials ? names.vault : ''
  }
  dependsOn: [
    vault
  ]
}

module functionApp 'modules/function-app.bicep' = {
  name: 'function-app'
  scope: group
  params: {
    name: names.functionApp
    planName: names.plan
    location: location
    tags: tags
    identityName: identity.outputs.name
    dropAccountName: dropAccount.outputs.name
    hostAccountName: hostAccount.outputs.name
    deploymentContainerName: hostAccount.outputs.deploymentContainerName
    applicationInsightsName: monitoring.outputs.applicationInsightsName
    vaultName: useClientCredentials ? names.vault : ''
    subnetName: privateNetworking ? 'app' : ''
    networkName: names.network
    operatorAddressRanges: operatorAddressRanges
    instanceMemoryMB: instanceMemoryMB
    maximumInstanceCount: maximumInstanceCount
    alwaysReadyInstances: alwaysReadyInstances
    itwinApiUrl: itwinApiUrl
    itwinLogin: itwinLogin
    itwinTokenScope: itwinTokenScope
    itwinTokenUrl: itwinTokenUrl
    itwinClientId: itwinClientId
    limits: {
      ITWIN_TIMEOUT_S: itwinTimeoutS
      ASPECT_POLICY: aspectPolicy
      MAX_SOURCE_BYTES: maxSourceBytes
      MAX_SOURCE_PIXELS: maxSourcePixels
      MAX_OUTPUT_PIXELS: maxOutputPixels
      RETRY_MIN_DELAY_S: retryMinDelayS
      RETRY_MAX_DELAY_S: retryMaxDelayS
      RETRY_HORIZON_S: retryHorizonS
    }
  }
  dependsOn: [
    roles
    endpoints
  ]
}

module alerts 'modules/alerts.bicep' = {
  name: 'alerts'
  scope: group
  params: {
    prefix: names.alertPrefix
    actionGroupName: names.actionGroup
    location: location
    tags: tags
    email: alertEmail
    overdueAfterMinutes: overdueAfterMinutes
    applicationInsightsName: monitoring.outputs.applicationInsightsName
    workspaceName: monitoring.outputs.workspaceName
    eventTopicName: eventTopic.outputs.name
  }
}

module workbook 'modules/workbook.bicep' = {
  name: 'workbook'
  scope: group
  params: {
    location: location
    tags: tags
    applicationInsightsName: monitoring.outputs.applicationInsightsName
  }
}

@description('Resource group that holds everything.')
output AZURE_RESOURCE_GROUP string = group.name

@description('Function app that the code is deployed to.')
output AZURE_FUNCTION_APP_NAME string = functionApp.outputs.name

@description('Address of the preflight, which says what works and what does not; it wants the function key.')
output PREFLIGHT_URL string = 'https://${functionApp.outputs.hostName}/api/preflight'

@description('Storage account that images are dropped into.')
output DROP_ACCOUNT_NAME string = dropAccount.outputs.name

@description('Address of the drop account\'s blob service.')
output DROP_ACCOUNT_BLOB_URL string = dropAccount.outputs.blobUrl

@description('Container that holds the results.')
output RESULTS_CONTAINER_URL string = dropAccount.outputs.resultsUrl

@description('Object ID of the app\'s identity, for role assignments elsewhere.')
output APP_PRINCIPAL_ID string = identity.outputs.principalId

@description('Client ID of the app\'s identity, for the gateway or API that takes its tokens.')
output APP_CLIENT_ID string = identity.outputs.clientId

@description('Vault that the client secret of the iTwin service app goes into; empty with managed-identity.')
output VAULT_NAME string = useClientCredentials ? names.vault : ''
