// Private endpoints of both storage accounts and the vault, and the DNS zones that resolve to them.

import { tagging, tagsOf } from '../tags.bicep'

@description('Azure region.')
param location string

@description('Tags of the resources.')
param tags tagging

@description('Virtual network to link the DNS zones to; empty links none.')
param networkName string

@description('ID of the subnet that the endpoints are put into.')
param subnetId string

@description('Where the DNS zones are: `here` creates them, `policy` leaves them to a policy, and the ID of a resource group uses those in it.')
param dnsZones string

@description('Account that images are dropped into.')
param dropAccountName string

@description('Account of the Functions host.')
param hostAccountName string

@description('Vault of the client secret; empty if there is none.')
param vaultName string

var dropAccountId = resourceId('Microsoft.Storage/storageAccounts', dropAccountName)
var hostAccountId = resourceId('Microsoft.Storage/storageAccounts', hostAccountName)
var vaultEndpoints = [
  {
    target: resourceId('Microsoft.KeyVault/vaults', empty(vaultName) ? 'none' : vaultName)
    name: vaultName
    service: 'vault'
  }
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
  vault: 'privatelink${replace(environment().suffixes.keyvaultDns, '.vault.', '.vaultcore.')}'
}
// Only Azure knows the rest of a zone's name. So that tags do not depend on it, zones are looked up without.
var zoneLabels = { blob: 'blob', queue: 'queue', table: 'table', vault: 'vaultcore' }
var zoneTags = {
  all: tags.all
  existing: toObject(
    items(tags.existing),
    (resource) =>
      join(map(split(resource.key, '/'), (part) => startsWith(part, 'privatelink.') ? split(part, '.')[1] : part), '/'),
    (resource) => resource.value
  )
}
var services = concat(['blob', 'queue', 'table'], empty(vaultName) ? [] : ['vault'])
var madeZones = dnsZones == 'here' ? services : []
var zonesIn = split(startsWith(dnsZones, '/') ? dnsZones : resourceGroup().id, '/')

resource zones 'Microsoft.Network/privateDnsZones@2024-06-01' = [
  for service in madeZones: {
    name: zoneNames[service]
    location: 'global'
    tags: tagsOf(zoneTags, 'Microsoft.Network/privateDnsZones/${zoneLabels[service]}')
  }
]

resource links 'Microsoft.Network/privateDnsZones/virtualNetworkLinks@2024-06-01' = [
  for (service, i) in (empty(networkName) ? [] : madeZones): {
    parent: zones[i]
    name: networkName
    location: 'global'
    tags: tagsOf(
      zoneTags,
      'Microsoft.Network/privateDnsZones/${zoneLabels[service]}/virtualNetworkLinks/${networkName}'
    )
    properties: {
      registrationEnabled: false
      virtualNetwork: { id: resourceId('Microsoft.Network/virtualNetworks', networkName) }
    }
  }
]

resource privateEndpoints 'Microsoft.Network/privateEndpoints@2025-05-01' = [
  for endpoint in endpoints: {
    name: 'pe-${endpoint.name}-${endpoint.service}'
    location: location
    tags: tagsOf(tags, 'Microsoft.Network/privateEndpoints/pe-${endpoint.name}-${endpoint.service}')
    properties: {
      subnet: { id: subnetId }
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

resource zoneGroups 'Microsoft.Network/privateEndpoints/privateDnsZoneGroups@2025-05-01' = [
  for (endpoint, i) in (dnsZones == 'policy' ? [] : endpoints): {
    parent: privateEndpoints[i]
    name: 'default'
    properties: {
      privateDnsZoneConfigs: [
        {
          name: endpoint.service
          properties: {
            privateDnsZoneId: resourceId(
              zonesIn[2],
              zonesIn[4],
              'Microsoft.Network/privateDnsZones',
              zoneNames[endpoint.service]
            )
          }
        }
      ]
    }
    dependsOn: [
      zones
    ]
  }
]
