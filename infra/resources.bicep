// Everything of one environment, in an existing resource group; a table of contents of modules/. main.bicep deploys it
// for owners of a subscription.

import { chosenNames as chosenResourceNames, namesOf, tokenOf } from 'names.bicep'
import * as options from 'options.bicep'

@description('Name of the environment. It is part of the resource group\'s name and determines all other names.')
@minLength(1)
@maxLength(64)
param environmentName string

@description('Azure region of every resource. Flex Consumption must be offered there.')
@minLength(1)
@metadata({ azd: { type: 'location' } })
param location string

@description('Names of resources that do not follow the convention, like `{ vault: \'kv-drops-prod\' }`.')
param chosenNames chosenResourceNames = {}

// --- Drops ---

param itwinIds options.itwinIds = []
param deleteDropsAfterDays options.deleteDropsAfterDays = 0
param deleteResultsAfterDays options.deleteResultsAfterDays = 90
param deleteVersionsAfterDays options.deleteVersionsAfterDays = 30
param softDeleteDays options.softDeleteDays = 7
param storageSku options.storageSku = 'Standard_LRS'
param malwareScanning options.malwareScanning = false

// --- iTwin Platform ---

param itwinApiUrl options.itwinApiUrl = 'https://api.bentley.com'
param itwinLogin options.itwinLogin
param gatewayApplicationId options.gatewayApplicationId = ''
param itwinTokenScope options.itwinTokenScope = ''
param itwinTokenUrl options.itwinTokenUrl = 'https://ims.bentley.com/connect/token'
param itwinClientId options.itwinClientId = ''
param itwinTimeoutS options.itwinTimeoutS = 40

// --- What is taken and how long it is tried ---

param aspectPolicy options.aspectPolicy = 'pad'
param maxSourceBytes options.maxSourceBytes = 100000000
param maxSourcePixels options.maxSourcePixels = 100000000
param maxOutputPixels options.maxOutputPixels = 16000000
param maxImageCpuS options.maxImageCpuS = 10
param maxImageMemoryMB options.maxImageMemoryMB = 0
param retryMinDelayS options.retryMinDelayS = 5
param retryMaxDelayS options.retryMaxDelayS = 3600
param retryHorizonS options.retryHorizonS = 86400
param retryNotFoundS options.retryNotFoundS = 900

// --- Scale ---

param instanceMemoryMB options.instanceMemoryMB = 2048
param maximumInstanceCount options.maximumInstanceCount = 40
param alwaysReadyInstances options.alwaysReadyInstances = 0
param zoneRedundant options.zoneRedundant = false

// --- Network ---

param privateNetworking options.privateNetworking = false
param networkAddressPrefix options.networkAddressPrefix = '10.82.0.0/24'
param appSubnetId options.appSubnetId = ''
param endpointSubnetId options.endpointSubnetId = ''
param gatewaySubnetId options.gatewaySubnetId = ''
param privateDnsZones options.privateDnsZones = 'here'
param operatorAddressRanges options.operatorAddressRanges = []

// --- Operation ---

param operatorPrincipalId options.operatorPrincipalId = ''
param operatorPrincipalType options.operatorPrincipalType = 'User'
param alertEmail options.alertEmail = ''
param overdueAfterMinutes options.overdueAfterMinutes = 60
param logRetentionDays options.logRetentionDays = 90
param deleteLocks options.deleteLocks = false

// --- What is there already ---

param assignRoles options.assignRoles = true
param diagnosticSettings options.diagnosticSettings = 'here'
param workspaceId options.workspaceId = ''
param actionGroupId options.actionGroupId = ''
param vaultId options.vaultId = ''
param existingEventTopicName options.existingEventTopicName = ''
param tags options.tags = {}
param existingTags options.existingTags = {}

var names = namesOf(environmentName, tokenOf(subscription().id, environmentName, location), chosenNames)
var tagging = { all: union(tags, { 'azd-env-name': environmentName }), existing: existingTags }
var zonal = { Standard_LRS: 'Standard_ZRS', Standard_GRS: 'Standard_GZRS' }
var sku = zoneRedundant ? (zonal[?storageSku] ?? storageSku) : storageSku

// Existing resources are used, and neither changed nor locked.
var useVault = itwinLogin != 'managed-identity'
var useGateway = itwinLogin == 'gateway'
var makesVault = useVault && empty(vaultId)
var vaultParts = split(empty(vaultId) ? resourceId('Microsoft.KeyVault/vaults', names.vault) : vaultId, '/')
var vaultName = last(vaultParts)
var makesNetwork = privateNetworking && empty(appSubnetId)
var makesWorkspace = empty(workspaceId)
var usedWorkspaceId = makesWorkspace
  ? resourceId('Microsoft.OperationalInsights/workspaces', names.workspace)
  : workspaceId
// A category of logs goes to a workspace by one setting alone; a second is refused.
// https://github.com/Azure/bicep-registry-modules/issues/3407
var logsTo = diagnosticSettings == 'policy' ? '' : usedWorkspaceId
var eventTopicName = empty(existingEventTopicName) ? names.eventTopic : existingEventTopicName
var subnetIds = {
  app: makesNetwork ? resourceId('Microsoft.Network/virtualNetworks/subnets', names.network, 'app') : appSubnetId
  endpoints: makesNetwork
    ? resourceId('Microsoft.Network/virtualNetworks/subnets', names.network, 'endpoints')
    : endpointSubnetId
  gateway: makesNetwork
    ? resourceId('Microsoft.Network/virtualNetworks/subnets', names.network, 'gateway')
    : gatewaySubnetId
}

// Names are computed and handed in, so that what-if sees what every module makes. So nothing tells the compiler who needs
// whom: each module says it in dependsOn, and a test holds that none forgets.

module identity 'modules/identity.bicep' = {
  params: {
    name: names.identity
    location: location
    tags: tagging
  }
}

module monitoring 'modules/monitoring.bicep' = {
  params: {
    workspaceName: names.workspace
    makesWorkspace: makesWorkspace
    workspaceId: usedWorkspaceId
    applicationInsightsName: names.applicationInsights
    location: location
    tags: tagging
  }
}

module network 'modules/network.bicep' = if (makesNetwork) {
  params: {
    name: names.network
    location: location
    tags: tagging
    addressPrefix: networkAddressPrefix
    hasGateway: useGateway
  }
}

module dropAccount 'modules/drop-account.bicep' = {
  params: {
    name: names.dropAccount
    location: location
    tags: tagging
    sku: sku
    itwinIds: union([], map(itwinIds, (itwinId) => toLower(itwinId)))
    deleteDropsAfterDays: deleteDropsAfterDays
    deleteResultsAfterDays: deleteResultsAfterDays
    deleteVersionsAfterDays: deleteVersionsAfterDays
    softDeleteDays: softDeleteDays
    isPublic: !privateNetworking
    isScanned: malwareScanning
    isLocked: deleteLocks
    workspaceId: logsTo
  }
  dependsOn: [
    monitoring
  ]
}

module hostAccount 'modules/host-account.bicep' = {
  params: {
    name: names.hostAccount
    location: location
    tags: tagging
    sku: sku
    isPublic: !privateNetworking
  }
}

module vault 'modules/vault.bicep' = if (makesVault) {
  params: {
    name: names.vault
    topicName: names.vaultTopic
    location: location
    tags: tagging
    isPublic: !privateNetworking
    isLocked: deleteLocks
    workspaceId: logsTo
  }
  dependsOn: [
    monitoring
  ]
}

module endpoints 'modules/endpoints.bicep' = if (privateNetworking) {
  params: {
    location: location
    tags: tagging
    networkName: makesNetwork ? names.network : ''
    subnetId: subnetIds.endpoints
    dnsZones: privateDnsZones
    dropAccountName: names.dropAccount
    hostAccountName: names.hostAccount
    vaultName: makesVault ? names.vault : ''
  }
  dependsOn: [
    network
    dropAccount
    hostAccount
    vault
  ]
}

module eventTopic 'modules/event-topic.bicep' = {
  params: {
    name: eventTopicName
    isThere: !empty(existingEventTopicName)
    location: location
    tags: tagging
    dropAccountName: names.dropAccount
    workspaceId: logsTo
  }
  dependsOn: [
    monitoring
    dropAccount
  ]
}

module gateway 'modules/gateway.bicep' = if (useGateway) {
  params: {
    name: names.gateway
    location: location
    tags: tagging
    publisherEmail: empty(alertEmail) ? 'nobody@example.com' : alertEmail
    subnetId: privateNetworking ? subnetIds.gateway : ''
    applicationId: gatewayApplicationId
    appClientId: identity.outputs.clientId
    itwinApiUrl: itwinApiUrl
    itwinTokenUrl: itwinTokenUrl
    itwinClientId: itwinClientId
    vaultName: vaultName
  }
  dependsOn: [
    network
    vault
  ]
}

// After the topic: an account has one, and the scanner, which needs one too, takes that.
module malwareScan 'modules/malware-scan.bicep' = if (malwareScanning) {
  params: {
    dropAccountName: names.dropAccount
  }
  dependsOn: [
    dropAccount
    eventTopic
  ]
}

module roles 'modules/roles.bicep' = if (assignRoles) {
  params: {
    // Their IDs are in the names of role assignments, and only Azure knows them. What-if cannot name these resources.
    #disable-next-line what-if-short-circuiting
    appPrincipalId: identity.outputs.principalId
    #disable-next-line what-if-short-circuiting
    eventTopicPrincipalId: eventTopic.outputs.principalId
    operatorPrincipalId: operatorPrincipalId
    operatorPrincipalType: operatorPrincipalType
    dropAccountName: names.dropAccount
    hostAccountName: names.hostAccount
    applicationInsightsName: names.applicationInsights
  }
  dependsOn: [
    monitoring
    dropAccount
    hostAccount
  ]
}

module vaultRoles 'modules/vault-roles.bicep' = if (useVault && assignRoles) {
  scope: resourceGroup(vaultParts[2], vaultParts[4])
  params: {
    reader: useGateway ? 'gateway' : 'app'
    #disable-next-line what-if-short-circuiting // as above
    readerPrincipalId: useGateway ? gateway!.outputs.principalId : identity.outputs.principalId
    operatorPrincipalId: makesVault ? operatorPrincipalId : ''
    operatorPrincipalType: operatorPrincipalType
    vaultName: vaultName
  }
  dependsOn: [
    vault
  ]
}

module functionApp 'modules/function-app.bicep' = {
  params: {
    name: names.functionApp
    planName: names.plan
    location: location
    tags: tagging
    identityName: names.identity
    dropAccountName: names.dropAccount
    hostAccountName: names.hostAccount
    deploymentContainerName: hostAccount.outputs.deploymentContainerName
    applicationInsightsName: names.applicationInsights
    vaultName: itwinLogin == 'client-credentials' ? vaultName : ''
    subnetId: privateNetworking ? subnetIds.app : ''
    operatorAddressRanges: operatorAddressRanges
    instanceMemoryMB: instanceMemoryMB
    maximumInstanceCount: maximumInstanceCount
    alwaysReadyInstances: alwaysReadyInstances
    zoneRedundant: zoneRedundant
    // To the app, a gateway is a gateway: it sends its identity's own token.
    itwinApiUrl: useGateway ? gateway!.outputs.url : itwinApiUrl
    itwinLogin: itwinLogin == 'client-credentials' ? 'client-credentials' : 'managed-identity'
    itwinTokenScope: useGateway ? 'api://${gatewayApplicationId}/.default' : itwinTokenScope
    itwinTokenUrl: itwinTokenUrl
    itwinClientId: itwinClientId
    limits: {
      ITWIN_TIMEOUT_S: itwinTimeoutS
      ASPECT_POLICY: aspectPolicy
      MAX_SOURCE_BYTES: maxSourceBytes
      MAX_SOURCE_PIXELS: maxSourcePixels
      MAX_OUTPUT_PIXELS: maxOutputPixels
      MAX_IMAGE_CPU_S: maxImageCpuS
      MAX_IMAGE_MEMORY_MB: maxImageMemoryMB
      RETRY_MIN_DELAY_S: retryMinDelayS
      RETRY_MAX_DELAY_S: retryMaxDelayS
      RETRY_HORIZON_S: retryHorizonS
      RETRY_NOT_FOUND_S: retryNotFoundS
    }
  }
  dependsOn: [
    // The linter sees it behind the roles, which may be left out, and what waits for them then waits for nothing.
    #disable-next-line no-unnecessary-dependson
    identity
    monitoring
    network
    dropAccount
    vault
    endpoints
    roles
    vaultRoles
  ]
}

// After the app, which takes minutes: a workspace that is seconds old refuses to have its tables changed.
// https://github.com/hashicorp/terraform-provider-azurerm/issues/30069
module logRetention 'modules/log-retention.bicep' = if (makesWorkspace) {
  params: {
    workspaceName: names.workspace
    retentionDays: logRetentionDays
  }
  dependsOn: [
    monitoring
    functionApp
  ]
}

module alerts 'modules/alerts.bicep' = {
  params: {
    prefix: names.alertPrefix
    actionGroupName: names.actionGroup
    actionGroupId: actionGroupId
    location: location
    tags: tagging
    email: alertEmail
    overdueAfterMinutes: overdueAfterMinutes
    applicationInsightsName: names.applicationInsights
    workspaceId: usedWorkspaceId
    dropAccountName: names.dropAccount
    eventTopicName: eventTopicName
    vaultTopicName: makesVault ? names.vaultTopic : ''
  }
  dependsOn: [
    monitoring
    dropAccount
    eventTopic
    vault
  ]
}

module workbook 'modules/workbook.bicep' = {
  params: {
    location: location
    tags: tagging
    applicationInsightsName: names.applicationInsights
  }
  dependsOn: [
    monitoring
  ]
}

@description('Resource group that holds everything.')
output AZURE_RESOURCE_GROUP string = resourceGroup().name

@description('Function app that the code is deployed to.')
output AZURE_FUNCTION_APP_NAME string = names.functionApp

@description('Address of the preflight, which reports what works and what does not; it needs the function key.')
output PREFLIGHT_URL string = 'https://${functionApp.outputs.hostName}/api/preflight'

@description('Storage account that images are dropped into.')
output DROP_ACCOUNT_NAME string = names.dropAccount

@description('Address of the drop account\'s blob service.')
output DROP_ACCOUNT_BLOB_URL string = dropAccount.outputs.blobUrl

@description('Container that holds the results.')
output RESULTS_CONTAINER_URL string = dropAccount.outputs.resultsUrl

@description('Object ID of the app\'s identity, for role assignments elsewhere.')
output APP_PRINCIPAL_ID string = identity.outputs.principalId

@description('Client ID of the app\'s identity, for the gateway or API that accepts its tokens.')
output APP_CLIENT_ID string = identity.outputs.clientId

@description('Object ID of the identity that events are delivered with, for role assignments elsewhere.')
output EVENT_TOPIC_PRINCIPAL_ID string = eventTopic.outputs.principalId

@description('Vault for the client secret of the iTwin service app; empty with managed-identity.')
output VAULT_NAME string = useVault ? vaultName : ''
