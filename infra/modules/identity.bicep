// The app's identity everywhere: in storage, in Application Insights, in the vault, and for its tokens.

import { tagging, tagsOf } from '../tags.bicep'

@description('Name of the identity.')
param name string

@description('Azure region.')
param location string

@description('Tags of the resource.')
param tags tagging

resource identity 'Microsoft.ManagedIdentity/userAssignedIdentities@2024-11-30' = {
  name: name
  location: location
  tags: tagsOf(tags, 'Microsoft.ManagedIdentity/userAssignedIdentities/${name}')
}

output principalId string = identity.properties.principalId
output clientId string = identity.properties.clientId
