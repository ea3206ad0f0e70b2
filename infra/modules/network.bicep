// The virtual network of privateNetworking: one subnet for the app, one for the private endpoints, one for a gateway.

import { tagging, tagsOf } from '../tags.bicep'

@description('Name of the virtual network.')
param name string

@description('Azure region.')
param location string

@description('Tags of the resource.')
param tags tagging

@description('Address space; a /24 or larger.')
param addressPrefix string

@description('Whether a gateway calls from this network.')
param hasGateway bool

// No inbound traffic: the app is called at its public address. Outbound traffic is left to the network's own rules.
resource appRules 'Microsoft.Network/networkSecurityGroups@2025-05-01' = {
  name: 'nsg-${name}-app'
  location: location
  tags: tagsOf(tags, 'Microsoft.Network/networkSecurityGroups/nsg-${name}-app')
  properties: {
    securityRules: [
      {
        name: 'nothing-comes-in'
        properties: {
          priority: 4096
          direction: 'Inbound'
          access: 'Deny'
          protocol: '*'
          sourceAddressPrefix: '*'
          sourcePortRange: '*'
          destinationAddressPrefix: '*'
          destinationPortRange: '*'
        }
      }
    ]
  }
}

// Endpoints are reachable only by HTTPS from this network and its peers.
resource endpointRules 'Microsoft.Network/networkSecurityGroups@2025-05-01' = {
  name: 'nsg-${name}-endpoints'
  location: location
  tags: tagsOf(tags, 'Microsoft.Network/networkSecurityGroups/nsg-${name}-endpoints')
  properties: {
    securityRules: [
      {
        name: 'https-comes-in'
        properties: {
          priority: 100
          direction: 'Inbound'
          access: 'Allow'
          protocol: 'Tcp'
          sourceAddressPrefix: 'VirtualNetwork'
          sourcePortRange: '*'
          destinationAddressPrefix: '*'
          destinationPortRange: '443'
        }
      }
      {
        name: 'nothing-else-comes-in'
        properties: {
          priority: 4096
          direction: 'Inbound'
          access: 'Deny'
          protocol: '*'
          sourceAddressPrefix: '*'
          sourcePortRange: '*'
          destinationAddressPrefix: '*'
          destinationPortRange: '*'
        }
      }
    ]
  }
}

// The gateway needs its own security group, with any rules: its address is public, and only its calls come from here.
// https://learn.microsoft.com/azure/api-management/integrate-vnet-outbound
resource gatewayRules 'Microsoft.Network/networkSecurityGroups@2025-05-01' = if (hasGateway) {
  name: 'nsg-${name}-gateway'
  location: location
  tags: tagsOf(tags, 'Microsoft.Network/networkSecurityGroups/nsg-${name}-gateway')
}

var gatewaySubnet = {
  name: 'gateway'
  properties: {
    addressPrefix: cidrSubnet(addressPrefix, 26, 2)
    networkSecurityGroup: { id: gatewayRules.id }
    delegations: [
      {
        name: 'api-management'
        properties: { serviceName: 'Microsoft.Web/serverFarms' }
      }
    ]
  }
}

resource network 'Microsoft.Network/virtualNetworks@2025-05-01' = {
  name: name
  location: location
  tags: tagsOf(tags, 'Microsoft.Network/virtualNetworks/${name}')
  properties: {
    addressSpace: { addressPrefixes: [addressPrefix] }
    subnets: concat(
      [
        {
          name: 'app'
          properties: {
            addressPrefix: cidrSubnet(addressPrefix, 26, 0)
            networkSecurityGroup: { id: appRules.id }
            delegations: [
              {
                // https://learn.microsoft.com/azure/azure-functions/flex-consumption-how-to#enable-virtual-network-integration
                name: 'flex-consumption'
                properties: { serviceName: 'Microsoft.App/environments' }
              }
            ]
          }
        }
        {
          name: 'endpoints'
          properties: {
            addressPrefix: cidrSubnet(addressPrefix, 26, 1)
            networkSecurityGroup: { id: endpointRules.id }
            privateEndpointNetworkPolicies: 'NetworkSecurityGroupEnabled'
          }
        }
      ],
      hasGateway ? [gatewaySubnet] : []
    )
  }
}
