// What differs between environments, from environment variables: azd's (`azd env set NAME VALUE`), a pipeline's or a
// shell's. Every other parameter of main.bicep has a default that can be overridden here. What can never work ends here,
// in the first second, with the command that mends it.
using 'main.bicep'

import { isId, isNumber, isSwitch } from 'checks.bicep'

param environmentName = readEnvironmentVariable('AZURE_ENV_NAME')
param location = readEnvironmentVariable('AZURE_LOCATION')
param useExistingResourceGroup = isSwitch(readEnvironmentVariable('USE_EXISTING_RESOURCE_GROUP', 'false'))
  ? bool(readEnvironmentVariable('USE_EXISTING_RESOURCE_GROUP', 'false'))
  : fail('USE_EXISTING_RESOURCE_GROUP has to be true or false: azd env set USE_EXISTING_RESOURCE_GROUP true')

// From here on, resources.bicepparam says the same; a test holds them together.
var login = readEnvironmentVariable('ITWIN_LOGIN', '')
var scope = readEnvironmentVariable('ITWIN_TOKEN_SCOPE', '')
var gatewayApplication = readEnvironmentVariable('GATEWAY_APPLICATION_ID', '')
var clientId = readEnvironmentVariable('ITWIN_CLIENT_ID', '')
var apiUrl = readEnvironmentVariable('ITWIN_API_URL', 'https://api.bentley.com')
var tokenUrl = readEnvironmentVariable('ITWIN_TOKEN_URL', 'https://ims.bentley.com/connect/token')
var appSubnet = readEnvironmentVariable('APP_SUBNET_ID', '')
var endpointSubnet = readEnvironmentVariable('ENDPOINT_SUBNET_ID', '')
var gatewaySubnet = readEnvironmentVariable('GATEWAY_SUBNET_ID', '')
var switches = {
  ASSIGN_ROLES: readEnvironmentVariable('ASSIGN_ROLES', 'true')
  DELETE_LOCKS: readEnvironmentVariable('DELETE_LOCKS', 'false')
  MALWARE_SCANNING: readEnvironmentVariable('MALWARE_SCANNING', 'false')
  PRIVATE_NETWORKING: readEnvironmentVariable('PRIVATE_NETWORKING', 'false')
  ZONE_REDUNDANT: readEnvironmentVariable('ZONE_REDUNDANT', 'false')
}
var wrongSwitches = filter(items(switches), given => !isSwitch(given.value))
var isPrivate = toLower(switches.PRIVATE_NETWORKING) == 'true'
var numbers = {
  ALWAYS_READY_INSTANCES: {
    text: readEnvironmentVariable('ALWAYS_READY_INSTANCES', '0')
    least: 0
    most: 100
    default: 0
  }
  MAXIMUM_INSTANCE_COUNT: {
    text: readEnvironmentVariable('MAXIMUM_INSTANCE_COUNT', '40')
    least: 1
    most: 1000
    default: 40
  }
}
var wrongNumbers = filter(items(numbers), given => !isNumber(given.value.text, given.value.least, given.value.most))
var dnsZones = readEnvironmentVariable('PRIVATE_DNS_ZONES', 'here')
var operatorAddresses = readEnvironmentVariable('OPERATOR_ADDRESS_RANGES', '')
var ids = filter(map(split(readEnvironmentVariable('ITWIN_IDS', ''), ','), id => trim(id)), id => !empty(id))
var wrongIds = filter(ids, id => !isId(id))
var addresses = filter(map(split(operatorAddresses, ','), address => trim(address)), address => !empty(address))
var wrongAddresses = filter(addresses, address => length(split(address, '/')) != 2)
var operatorId = readEnvironmentVariable('OPERATOR_PRINCIPAL_ID', '')
var operatorType = readEnvironmentVariable('OPERATOR_PRINCIPAL_TYPE', 'User')
var settings = readEnvironmentVariable('DIAGNOSTIC_SETTINGS', 'here')
var names = readEnvironmentVariable('RESOURCE_NAMES', '{}')
var tagsOfAll = readEnvironmentVariable('RESOURCE_TAGS', '{}')
var topic = readEnvironmentVariable('EVENT_TOPIC_NAME', '')

// What is used in a network alone: without one, it would be left out in silence.
var ofNetwork = filter(
  items({
    APP_SUBNET_ID: appSubnet
    ENDPOINT_SUBNET_ID: endpointSubnet
    GATEWAY_SUBNET_ID: gatewaySubnet
    OPERATOR_ADDRESS_RANGES: operatorAddresses
    PRIVATE_DNS_ZONES: dnsZones == 'here' ? '' : dnsZones
  }),
  given => !empty(given.value)
)

// What is there already, by the ID that it must have.
var existing = {
  ACTION_GROUP_ID: {
    id: readEnvironmentVariable('ACTION_GROUP_ID', '')
    type: '/providers/Microsoft.Insights/actionGroups/'
  }
  APP_SUBNET_ID: { id: appSubnet, type: '/subnets/' }
  ENDPOINT_SUBNET_ID: { id: endpointSubnet, type: '/subnets/' }
  GATEWAY_SUBNET_ID: { id: gatewaySubnet, type: '/subnets/' }
  KEY_VAULT_ID: { id: readEnvironmentVariable('KEY_VAULT_ID', ''), type: '/providers/Microsoft.KeyVault/vaults/' }
  LOG_ANALYTICS_WORKSPACE_ID: {
    id: readEnvironmentVariable('LOG_ANALYTICS_WORKSPACE_ID', '')
    type: '/providers/Microsoft.OperationalInsights/workspaces/'
  }
}
var wrongExisting = filter(
  items(existing),
  given =>
    !empty(given.value.id) && !(startsWith(given.value.id, '/subscriptions/') && contains(
      toLower(given.value.id),
      toLower(given.value.type)
    ))
)

param itwinIds = empty(wrongIds)
  ? ids
  : fail('ITWIN_IDS has \'${wrongIds[0]}\', which is not the ID of an iTwin: azd env set ITWIN_IDS b3bd3a79-c5b4-41f5-ba5f-6d8c338d788a, with yours, separated by commas')

param itwinLogin = !contains(['client-credentials', 'gateway', 'managed-identity'], login)
  ? fail('ITWIN_LOGIN is \'${login}\', and it has to be \'client-credentials\' (a service app of the iTwin Platform), \'gateway\' (the same behind a gateway that takes the managed identity) or \'managed-identity\' (with a gateway of yours): azd env set ITWIN_LOGIN client-credentials')
  : login == 'managed-identity' && contains(toLower('${apiUrl}/'), '.bentley.com/')
      ? fail('The iTwin Platform does not accept a managed identity\'s token, and ITWIN_API_URL is the iTwin Platform itself: azd env set ITWIN_LOGIN client-credentials, or azd env set ITWIN_API_URL with the address of a gateway of yours that exchanges the token')
      : login
param gatewayApplicationId = login == 'gateway' && empty(gatewayApplication)
  ? fail('ITWIN_LOGIN is \'gateway\', and GATEWAY_APPLICATION_ID, the app registration that the gateway takes tokens for, is not set (docs/gateway.md has the commands that make one): azd env set GATEWAY_APPLICATION_ID <application ID>')
  : empty(gatewayApplication) || isId(gatewayApplication)
      ? gatewayApplication
      : fail('GATEWAY_APPLICATION_ID is \'${gatewayApplication}\', and it has to be the ID of an app registration, without api://: azd env set GATEWAY_APPLICATION_ID "$(az ad app list --display-name "iTwin Image Drop gateway" --query [0].appId --output tsv)"')
param itwinTokenScope = login == 'managed-identity' && empty(scope)
  ? fail('ITWIN_LOGIN is \'managed-identity\', and ITWIN_TOKEN_SCOPE, the scope to ask the identity for, is not set: azd env set ITWIN_TOKEN_SCOPE api://<application ID of your gateway>/.default')
  : scope
param itwinClientId = login != 'managed-identity' && empty(clientId)
  ? fail('ITWIN_LOGIN is \'${login}\', and ITWIN_CLIENT_ID is not set: azd env set ITWIN_CLIENT_ID <client ID of the iTwin service app>')
  : clientId
param itwinApiUrl = startsWith(apiUrl, 'https://')
  ? apiUrl
  : fail('ITWIN_API_URL is \'${apiUrl}\', and it has to begin with https://: azd env set ITWIN_API_URL https://api.bentley.com')
param itwinTokenUrl = startsWith(tokenUrl, 'https://')
  ? tokenUrl
  : fail('ITWIN_TOKEN_URL is \'${tokenUrl}\', and it has to begin with https://: azd env set ITWIN_TOKEN_URL https://ims.bentley.com/connect/token')

param maximumInstanceCount = !empty(wrongNumbers)
  ? fail(join(
      map(
        wrongNumbers,
        given =>
          '${given.key} is \'${given.value.text}\', and it has to be a whole number from ${given.value.least} to ${given.value.most}: azd env set ${given.key} ${given.value.default}.'
      ),
      ' '
    ))
  : int(numbers.ALWAYS_READY_INSTANCES.text) > int(numbers.MAXIMUM_INSTANCE_COUNT.text)
      ? fail('ALWAYS_READY_INSTANCES is ${numbers.ALWAYS_READY_INSTANCES.text}, and MAXIMUM_INSTANCE_COUNT is less: azd env set MAXIMUM_INSTANCE_COUNT ${numbers.ALWAYS_READY_INSTANCES.text}')
      : int(numbers.MAXIMUM_INSTANCE_COUNT.text)
param alwaysReadyInstances = empty(wrongNumbers) ? int(numbers.ALWAYS_READY_INSTANCES.text) : 0
param zoneRedundant = empty(wrongSwitches)
  ? toLower(switches.ZONE_REDUNDANT) == 'true'
  : fail(join(
      map(
        wrongSwitches,
        given => '${given.key} is \'${given.value}\', and it has to be true or false: azd env set ${given.key} true.'
      ),
      ' '
    ))
param malwareScanning = toLower(switches.MALWARE_SCANNING) == 'true'

param privateNetworking = !isPrivate && isSwitch(switches.PRIVATE_NETWORKING) && !empty(ofNetwork)
  ? fail('${join(map(ofNetwork, given => given.key), ', ')}: used with private networking alone: azd env set PRIVATE_NETWORKING true, or without it ${join(map(ofNetwork, given => 'azd env set ${given.key} ${given.key == 'PRIVATE_DNS_ZONES' ? 'here' : '""'}'), ', ')}')
  : isPrivate
param appSubnetId = empty(appSubnet) != empty(endpointSubnet)
  ? fail('APP_SUBNET_ID and ENDPOINT_SUBNET_ID are given together or not at all: azd env set the other one too')
  : !empty(appSubnet) && toLower(appSubnet) == toLower(endpointSubnet)
      ? fail('APP_SUBNET_ID and ENDPOINT_SUBNET_ID are the same subnet, and no endpoint can be in one that is delegated: azd env set ENDPOINT_SUBNET_ID <ID of another subnet>')
      : appSubnet
param endpointSubnetId = endpointSubnet
param gatewaySubnetId = login == 'gateway' && empty(gatewaySubnet) && !empty(appSubnet)
  ? fail('ITWIN_LOGIN is \'gateway\' in a network that is there already, and GATEWAY_SUBNET_ID, a subnet for the gateway alone, is not set: azd env set GATEWAY_SUBNET_ID <ID of the subnet>')
  : !empty(gatewaySubnet) && empty(appSubnet)
      ? fail('GATEWAY_SUBNET_ID is used with APP_SUBNET_ID and ENDPOINT_SUBNET_ID alone, as the network that is made has one for the gateway: azd env set these too, or azd env set GATEWAY_SUBNET_ID ""')
      : gatewaySubnet
param privateDnsZones = contains(['here', 'policy'], dnsZones) || (startsWith(dnsZones, '/subscriptions/') && length(split(
    dnsZones,
    '/'
  )) == 5)
  ? dnsZones
  : fail('PRIVATE_DNS_ZONES is \'${dnsZones}\', and it has to be \'here\', \'policy\' or the ID of a resource group: azd env set PRIVATE_DNS_ZONES "$(az group show --name <group of the zones> --query id --output tsv)"')
param operatorAddressRanges = empty(wrongAddresses)
  ? addresses
  : fail('OPERATOR_ADDRESS_RANGES has \'${wrongAddresses[0]}\', which is not a range of addresses: azd env set OPERATOR_ADDRESS_RANGES 203.0.113.7/32, with yours, separated by commas')

param operatorPrincipalId = empty(operatorId) || isId(operatorId)
  ? operatorId
  : fail('OPERATOR_PRINCIPAL_ID is \'${operatorId}\', and it has to be an object ID of Microsoft Entra: azd env set OPERATOR_PRINCIPAL_ID "$(az ad user show --id <name> --query id --output tsv)"')
param operatorPrincipalType = contains(['User', 'Group', 'ServicePrincipal'], operatorType)
  ? operatorType
  : fail('OPERATOR_PRINCIPAL_TYPE is \'${operatorType}\', and it has to be User, Group or ServicePrincipal: azd env set OPERATOR_PRINCIPAL_TYPE User')
param alertEmail = readEnvironmentVariable('ALERT_EMAIL', '')
param deleteLocks = toLower(switches.DELETE_LOCKS) == 'true'

param assignRoles = toLower(switches.ASSIGN_ROLES) == 'true'
param diagnosticSettings = contains(['here', 'policy'], settings)
  ? settings
  : fail('DIAGNOSTIC_SETTINGS is \'${settings}\', and it has to be here or policy: azd env set DIAGNOSTIC_SETTINGS here')
param chosenNames = json(startsWith(names, '{')
  ? names
  : fail('RESOURCE_NAMES is \'${names}\', and it has to be a JSON object: azd env set RESOURCE_NAMES \'{"vault": "kv-drops-prod"}\''))
param tags = json(startsWith(tagsOfAll, '{')
  ? tagsOfAll
  : fail('RESOURCE_TAGS is \'${tagsOfAll}\', and it has to be a JSON object: azd env set RESOURCE_TAGS \'{"cost-center": "4711"}\''))
param existingTags = json(readEnvironmentVariable('EXISTING_TAGS', '{}'))
param workspaceId = empty(wrongExisting)
  ? existing.LOG_ANALYTICS_WORKSPACE_ID.id
  : fail(join(
      map(
        wrongExisting,
        given =>
          '${given.key} is \'${given.value.id}\', and it has to be a whole resource ID, which begins with /subscriptions/ and has ${given.value.type} in it: azd env set ${given.key} "$(az resource list --name <name> --query [0].id --output tsv)".'
      ),
      ' '
    ))
param actionGroupId = existing.ACTION_GROUP_ID.id
param vaultId = existing.KEY_VAULT_ID.id
param existingEventTopicName = contains(topic, '/')
  ? fail('EVENT_TOPIC_NAME is \'${topic}\', and it has to be the name of a system topic in the same resource group, not its ID: azd env set EVENT_TOPIC_NAME ${last(split(topic, '/'))}')
  : topic
