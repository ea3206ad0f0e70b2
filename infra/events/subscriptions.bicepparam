// The same environment as ../resources.bicepparam.
using 'subscriptions.bicep'

param environmentName = readEnvironmentVariable('AZURE_ENV_NAME')
param location = readEnvironmentVariable('AZURE_LOCATION')
param chosenNames = json(readEnvironmentVariable('RESOURCE_NAMES', '{}'))
param existingEventTopicName = readEnvironmentVariable('EVENT_TOPIC_NAME', '')
