// Private endpoints of both storage accounts and the vault, and the DNS zones that lead to them.

@description('Azure region.')
param location string

@description('Tags of the resources.')
param tags object

@description('Virtual network that the endpoints are put into.')
param networkName string

@description('Account that images are dropped into.')
param dropAccountName string

@description('Account of the Functions host.')
param hostAccountName string

@description('Vault of the client secret; empty where there is none.')
param vaultName string

var dropAccountId = resourceId('Microsoft.Storage/storageAccounts', dropAccountName)
var hostAccountId = resourceId('Microsoft.Storage/storageAccounts', hostAccountName)
var vaultEndpoints = [
  { target: resourceId('Microsoft.KeyVault/vaults', empty(vaultName) ? 'none' : vaultName), name: vaultName, service: 'vault' }
]

var endpoints = concat(
  [
    { target: dropAccountId, name: dropAccountName, service: 'blob' }
    { target: dropAccountId, name: dropAccountName, service: 'queue' }
    { target: hostAccountId, name: hostAccountName, service: 'blob' }
    { target: hostAccountId, name: hostAccountName, service: 'queue' }
    { target: hostAccountId, name: hostAccountName, service: 'table' }
  ],
  empty(vaultName) ? [] : vaultEndpoints
)

// https://learn.microsoft.com/azure/private-link/private-endpoint-dns
var zoneNames = {
  blob: 'privatelink.blob.${environment().suffixes.storage}'
  queue: 'privatelink.queue.${environment().suffixes.storage}'
  table: 'privatelink.table.${environment().suffixes.storage}'
  vault: 'privatelink.vaultcore.azure.net'
}
var services = concat(['blob', 'queue', 'table'], empty(vaultName) ? [] : ['vault'])

resource zones 'Microsoft.Network/privateDnsZones@2020-06-01' = [
  for service in services: {
    name: zoneNames[service]
    location: 'global'
    tags: tags
  }
]

resource links 'Microsoft.Network/privateDnsZones/virtualNetworkLinks@2020-06-01' = [
  for (service, i) in services: {
    parent: zones[i]
    name: networkName
    location: 'global'
    tags: tags
    properties: {
      registrationEnabled: false
      virtualNetwork: { id: resourceId('Microsoft.Network/virtualNetworks', networkName) }
    }
  }
]

resource privateEndpoints 'Microsoft.Network/privateEndpoints@2024-05-01' = [
  for endpoint in endpoints: {
    name: 'pe-${endpoint.name}-${endpoint.service}'
    location: location
    tags: tags
    properties: {
      subnet: { id: resourceId('Microsoft.Network/virtualNetworks/subnets', networkName, 'endpoints') }
      privateLinkServiceConnections: [
        {
          name: endpoint.service
          properties: {
            privateLinkServiceId: endpoint.target
            groupIds: [endpoint.service]
          }
        }
      ]
    }
  }
]

resource zoneGroups 'Microsoft.Network/privateEndpoints/privateDnsZoneGroups@2024-05-01' = [
  for (endpoint, i) in endpoints: {
    parent: privateEndpoints[i]
    name: 'default'
    properties: {
      privateDnsZoneConfigs: [
        {
          name: endpoint.service
          properties: { privateDnsZoneId: zones[indexOf(services, endpoint.service)].id }
        }
      ]
    }
  }
]
