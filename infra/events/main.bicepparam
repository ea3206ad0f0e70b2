// The same environment as ../main.bicepparam.
using 'main.bicep'

param environmentName = readEnvironmentVariable('AZURE_ENV_NAME')
param location = readEnvironmentVariable('AZURE_LOCATION')
param chosenNames = json(readEnvironmentVariable('RESOURCE_NAMES', '{}'))
param existingEventTopicName = readEnvironmentVariable('EVENT_TOPIC_NAME', '')
