// What differs between environments, from environment variables: azd's (`azd env set NAME VALUE`), a pipeline's or a
// shell's. Every other parameter of main.bicep has a default that can be overridden here. What can never work ends here,
// in the first second, with the command that mends it.
using 'main.bicep'

param environmentName = readEnvironmentVariable('AZURE_ENV_NAME')
param location = readEnvironmentVariable('AZURE_LOCATION')
param useExistingResourceGroup = readEnvironmentVariable('USE_EXISTING_RESOURCE_GROUP', 'false') == 'true'

// From here on, resources.bicepparam says the same; a test holds them together.
var login = readEnvironmentVariable('ITWIN_LOGIN', '')
var scope = readEnvironmentVariable('ITWIN_TOKEN_SCOPE', '')
var gatewayApplication = readEnvironmentVariable('GATEWAY_APPLICATION_ID', '')
var clientId = readEnvironmentVariable('ITWIN_CLIENT_ID', '')
var apiUrl = readEnvironmentVariable('ITWIN_API_URL', 'https://api.bentley.com')
var appSubnet = readEnvironmentVariable('APP_SUBNET_ID', '')
var endpointSubnet = readEnvironmentVariable('ENDPOINT_SUBNET_ID', '')
var gatewaySubnet = readEnvironmentVariable('GATEWAY_SUBNET_ID', '')
var isPrivate = readEnvironmentVariable('PRIVATE_NETWORKING', 'false') == 'true'

param itwinIds = filter(map(split(readEnvironmentVariable('ITWIN_IDS', ''), ','), id => trim(id)), id => !empty(id))

param itwinLogin = !contains(['client-credentials', 'gateway', 'managed-identity'], login)
  ? fail('ITWIN_LOGIN is \'${login}\', and it has to be \'client-credentials\' (a service app of the iTwin Platform), \'gateway\' (the same behind a gateway that takes the managed identity) or \'managed-identity\' (with a gateway of yours): azd env set ITWIN_LOGIN client-credentials')
  : login == 'managed-identity' && contains(toLower('${apiUrl}/'), '.bentley.com/')
      ? fail('The iTwin Platform takes no token of a managed identity, and ITWIN_API_URL is the iTwin Platform itself: azd env set ITWIN_LOGIN client-credentials, or azd env set ITWIN_API_URL with the address of a gateway of yours that exchanges the token')
      : login
param gatewayApplicationId = login == 'gateway' && empty(gatewayApplication)
  ? fail('ITWIN_LOGIN is \'gateway\', and GATEWAY_APPLICATION_ID, the app registration that the gateway takes tokens for, is not set (docs/gateway.md has the commands that make one): azd env set GATEWAY_APPLICATION_ID <application ID>')
  : gatewayApplication
param itwinTokenScope = login == 'managed-identity' && empty(scope)
  ? fail('ITWIN_LOGIN is \'managed-identity\', and ITWIN_TOKEN_SCOPE, the scope to ask the identity for, is not set: azd env set ITWIN_TOKEN_SCOPE api://<application ID of your gateway>/.default')
  : scope
param itwinClientId = login != 'managed-identity' && empty(clientId)
  ? fail('ITWIN_LOGIN is \'${login}\', and ITWIN_CLIENT_ID is not set: azd env set ITWIN_CLIENT_ID <client ID of the iTwin service app>')
  : clientId
param itwinApiUrl = apiUrl
param itwinTokenUrl = readEnvironmentVariable('ITWIN_TOKEN_URL', 'https://ims.bentley.com/connect/token')

param maximumInstanceCount = int(readEnvironmentVariable('MAXIMUM_INSTANCE_COUNT', '40'))
param alwaysReadyInstances = int(readEnvironmentVariable('ALWAYS_READY_INSTANCES', '0'))
param zoneRedundant = readEnvironmentVariable('ZONE_REDUNDANT', 'false') == 'true'
param malwareScanning = readEnvironmentVariable('MALWARE_SCANNING', 'false') == 'true'

param privateNetworking = !isPrivate && !(empty(appSubnet) && empty(endpointSubnet))
  ? fail('APP_SUBNET_ID and ENDPOINT_SUBNET_ID are used with private networking alone: azd env set PRIVATE_NETWORKING true')
  : isPrivate
param appSubnetId = empty(appSubnet) != empty(endpointSubnet)
  ? fail('APP_SUBNET_ID and ENDPOINT_SUBNET_ID are given together or not at all: azd env set the other one too')
  : appSubnet
param endpointSubnetId = endpointSubnet
param gatewaySubnetId = login == 'gateway' && empty(gatewaySubnet) && !empty(appSubnet)
  ? fail('ITWIN_LOGIN is \'gateway\' in a network that is there already, and GATEWAY_SUBNET_ID, a subnet for the gateway alone, is not set: azd env set GATEWAY_SUBNET_ID <ID of the subnet>')
  : gatewaySubnet
param privateDnsZones = readEnvironmentVariable('PRIVATE_DNS_ZONES', 'here')
param operatorAddressRanges = filter(
  map(split(readEnvironmentVariable('OPERATOR_ADDRESS_RANGES', ''), ','), address => trim(address)),
  address => !empty(address)
)

param operatorPrincipalId = readEnvironmentVariable('OPERATOR_PRINCIPAL_ID', '')
param operatorPrincipalType = readEnvironmentVariable('OPERATOR_PRINCIPAL_TYPE', 'User')
param alertEmail = readEnvironmentVariable('ALERT_EMAIL', '')
param deleteLocks = readEnvironmentVariable('DELETE_LOCKS', 'false') == 'true'

param chosenNames = json(readEnvironmentVariable('RESOURCE_NAMES', '{}'))
param tags = json(readEnvironmentVariable('RESOURCE_TAGS', '{}'))
param workspaceId = readEnvironmentVariable('LOG_ANALYTICS_WORKSPACE_ID', '')
param actionGroupId = readEnvironmentVariable('ACTION_GROUP_ID', '')
param vaultId = readEnvironmentVariable('KEY_VAULT_ID', '')
param existingEventTopicName = readEnvironmentVariable('EVENT_TOPIC_NAME', '')
