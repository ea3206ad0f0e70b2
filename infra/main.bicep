// iTwin Image Drop: everything but the event subscriptions, which need the deployed code (events/main.bicep). This is for
// owners of a subscription; owners of only a resource group deploy resources.bicep.

targetScope = 'subscription'

import { chosenNames as chosenResourceNames, namesOf, tokenOf } from 'names.bicep'
import * as options from 'options.bicep'
import { tagsOf } from 'tags.bicep'

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

@description('Whether the resource group already exists. It is left as it is, including its tags.')
param useExistingResourceGroup bool = false

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

resource group 'Microsoft.Resources/resourceGroups@2025-04-01' = if (!useExistingResourceGroup) {
  name: names.resourceGroup
  location: location
  tags: tagsOf(
    { all: union(tags, { 'azd-env-name': environmentName }), existing: existingTags },
    'Microsoft.Resources/resourceGroups/${names.resourceGroup}'
  )
}

module resources 'resources.bicep' = {
  scope: resourceGroup(names.resourceGroup)
  params: {
    environmentName: environmentName
    location: location
    chosenNames: chosenNames
    itwinIds: itwinIds
    deleteDropsAfterDays: deleteDropsAfterDays
    deleteResultsAfterDays: deleteResultsAfterDays
    deleteVersionsAfterDays: deleteVersionsAfterDays
    softDeleteDays: softDeleteDays
    storageSku: storageSku
    malwareScanning: malwareScanning
    itwinApiUrl: itwinApiUrl
    itwinLogin: itwinLogin
    gatewayApplicationId: gatewayApplicationId
    itwinTokenScope: itwinTokenScope
    itwinTokenUrl: itwinTokenUrl
    itwinClientId: itwinClientId
    itwinTimeoutS: itwinTimeoutS
    aspectPolicy: aspectPolicy
    maxSourceBytes: maxSourceBytes
    maxSourcePixels: maxSourcePixels
    maxOutputPixels: maxOutputPixels
    maxImageCpuS: maxImageCpuS
    maxImageMemoryMB: maxImageMemoryMB
    retryMinDelayS: retryMinDelayS
    retryMaxDelayS: retryMaxDelayS
    retryHorizonS: retryHorizonS
    retryNotFoundS: retryNotFoundS
    instanceMemoryMB: instanceMemoryMB
    maximumInstanceCount: maximumInstanceCount
    alwaysReadyInstances: alwaysReadyInstances
    zoneRedundant: zoneRedundant
    privateNetworking: privateNetworking
    networkAddressPrefix: networkAddressPrefix
    appSubnetId: appSubnetId
    endpointSubnetId: endpointSubnetId
    gatewaySubnetId: gatewaySubnetId
    privateDnsZones: privateDnsZones
    operatorAddressRanges: operatorAddressRanges
    operatorPrincipalId: operatorPrincipalId
    operatorPrincipalType: operatorPrincipalType
    alertEmail: alertEmail
    overdueAfterMinutes: overdueAfterMinutes
    logRetentionDays: logRetentionDays
    deleteLocks: deleteLocks
    assignRoles: assignRoles
    diagnosticSettings: diagnosticSettings
    workspaceId: workspaceId
    actionGroupId: actionGroupId
    vaultId: vaultId
    existingEventTopicName: existingEventTopicName
    tags: tags
    existingTags: existingTags
  }
  dependsOn: [
    group
  ]
}

@description('Resource group that holds everything.')
output AZURE_RESOURCE_GROUP string = resources.outputs.AZURE_RESOURCE_GROUP

@description('Function app that the code is deployed to.')
output AZURE_FUNCTION_APP_NAME string = resources.outputs.AZURE_FUNCTION_APP_NAME

@description('Address of the preflight, which reports what works and what does not; it needs the function key.')
output PREFLIGHT_URL string = resources.outputs.PREFLIGHT_URL

@description('Storage account that images are dropped into.')
output DROP_ACCOUNT_NAME string = resources.outputs.DROP_ACCOUNT_NAME

@description('Address of the drop account\'s blob service.')
output DROP_ACCOUNT_BLOB_URL string = resources.outputs.DROP_ACCOUNT_BLOB_URL

@description('Container that holds the results.')
output RESULTS_CONTAINER_URL string = resources.outputs.RESULTS_CONTAINER_URL

@description('Object ID of the app\'s identity, for role assignments elsewhere.')
output APP_PRINCIPAL_ID string = resources.outputs.APP_PRINCIPAL_ID

@description('Client ID of the app\'s identity, for the gateway or API that accepts its tokens.')
output APP_CLIENT_ID string = resources.outputs.APP_CLIENT_ID

@description('Object ID of the identity that events are delivered with, for role assignments elsewhere.')
output EVENT_TOPIC_PRINCIPAL_ID string = resources.outputs.EVENT_TOPIC_PRINCIPAL_ID

@description('Vault for the client secret of the iTwin service app; empty with managed-identity.')
output VAULT_NAME string = resources.outputs.VAULT_NAME
