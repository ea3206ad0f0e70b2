// The event subscription, which brings drops to the function. It comes after the code: Event Grid tries the address
// at once, and the host makes the address's key when the function is there.

targetScope = 'subscription'

import { namesOf } from '../names.bicep'

@description('Name of the environment, as in ../main.bicep.')
@minLength(1)
@maxLength(64)
param environmentName string

@description('Azure region, as in ../main.bicep.')
@minLength(1)
@metadata({ azd: { type: 'location' } })
param location string

var names = namesOf(environmentName, uniqueString(subscription().id, environmentName, location))

module eventSubscription 'subscription.bicep' = {
  name: 'event-subscription'
  scope: resourceGroup(names.resourceGroup)
  params: {
    name: names.eventSubscription
    topicName: names.eventTopic
    functionAppName: names.functionApp
    dropAccountName: names.dropAccount
  }
}

@description('Name of the event subscription that brings drops to the function.')
output EVENT_SUBSCRIPTION_NAME string = eventSubscription.outputs.name
