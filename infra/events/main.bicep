// The event subscriptions. They come after the code: Event Grid tries the function's address at once, and the host makes
// the address's key when the function is there. This is for whoever owns a subscription; whoever owns a resource group
// alone deploys subscriptions.bicep.

targetScope = 'subscription'

import { chosenNames as chosenResourceNames, namesOf } from '../names.bicep'
import * as options from '../options.bicep'

@description('Name of the environment, as in ../main.bicep.')
@minLength(1)
@maxLength(64)
param environmentName string

@description('Azure region, as in ../main.bicep.')
@minLength(1)
@metadata({ azd: { type: 'location' } })
param location string

@description('Names of resources that do not follow the convention, as in ../main.bicep.')
param chosenNames chosenResourceNames = {}

param existingEventTopicName options.existingEventTopicName = ''

module subscriptions 'subscriptions.bicep' = {
  scope: resourceGroup(namesOf(environmentName, '', chosenNames).resourceGroup)
  params: {
    environmentName: environmentName
    location: location
    chosenNames: chosenNames
    existingEventTopicName: existingEventTopicName
  }
}

@description('Name of the event subscription that brings drops to the function.')
output EVENT_SUBSCRIPTION_NAME string = subscriptions.outputs.EVENT_SUBSCRIPTION_NAME
