// The gateway of the login `gateway`: API Management accepts the identity's own token and calls the iTwin Platform with a
// token of the service app. What it does with a call is defined in ../gateway-policy.xml.
//
// Not the Consumption tier, which ends every request after 30 seconds, where an upload may take 45, and has no cache of
// its own: https://learn.microsoft.com/azure/azure-resource-manager/management/azure-subscription-service-limits#limits---api-management-consumption-tier
// https://learn.microsoft.com/azure/api-management/api-management-features

import { tagging, tagsOf } from '../tags.bicep'

@description('Name of the gateway.')
param name string

@description('Azure region.')
param location string

@description('Tags of the resource.')
param tags tagging

@description('E-mail address for Azure\'s notifications about the gateway.')
param publisherEmail string

@description('ID of the subnet for its outbound calls; empty for none.')
param subnetId string

@description('Client ID of the app registration whose tokens it accepts.')
param applicationId string

@description('Client ID of the app\'s identity, the only caller.')
param appClientId string

@description('Address of the iTwin Platform API.')
param itwinApiUrl string

@description('Token endpoint of the iTwin Platform.')
param itwinTokenUrl string

@description('Client ID of the iTwin service app.')
param itwinClientId string

@description('Vault of the client secret.')
param vaultName string

var contract = loadJsonContent('../contract.json')

// None of them is a secret.
var namedValues = {
  'entra-tenant-id': subscription().tenantId
  'app-client-id': appClientId
  'gateway-application-id': applicationId
  'itwin-client-id': itwinClientId
  'itwin-secret-url': 'https://${vaultName}${environment().suffixes.keyvaultDns}/secrets/${contract.secret}'
  'itwin-token-url': itwinTokenUrl
  'vault-resource': 'https:/${replace(environment().suffixes.keyvaultDns, '.vault.', '/vault.')}'
}

resource gateway 'Microsoft.ApiManagement/service@2024-05-01' = {
  name: name
  location: location
  tags: tagsOf(tags, 'Microsoft.ApiManagement/service/${name}')
  // Standard v2 is the lowest tier that can call into a network.
  // https://learn.microsoft.com/azure/api-management/integrate-vnet-outbound
  sku: { name: empty(subnetId) ? 'BasicV2' : 'StandardV2', capacity: 1 }
  identity: { type: 'SystemAssigned' }
  properties: {
    publisherEmail: publisherEmail
    publisherName: 'iTwin Image Drop'
    virtualNetworkType: empty(subnetId) ? 'None' : 'External'
    virtualNetworkConfiguration: empty(subnetId) ? null : { subnetResourceId: subnetId }
  }

  resource values 'namedValues' = [
    for entry in items(namedValues): {
      name: entry.key
      properties: { displayName: entry.key, value: entry.value }
    }
  ]

  resource api 'apis' = {
    name: 'itwin-platform'
    properties: {
      displayName: 'iTwin Platform'
      path: ''
      protocols: ['https']
      serviceUrl: itwinApiUrl
      // Callers authenticate with a token, not with a key.
      subscriptionRequired: false
    }

    resource operations 'operations' = [
      for operation in contract.gatewayOperations: {
        name: operation.name
        properties: {
          displayName: operation.name
          method: operation.method
          urlTemplate: operation.urlTemplate
          templateParameters: [{ name: 'iTwinId', type: 'string', required: true }]
        }
      }
    ]

    resource policy 'policies' = {
      name: 'policy'
      properties: { format: 'xml', value: loadTextContent('../gateway-policy.xml') }
      dependsOn: [
        values
      ]
    }
  }
}

output url string = gateway.properties.gatewayUrl
output principalId string = gateway.identity.principalId
