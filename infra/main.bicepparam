// What differs between environments, from environment variables: azd's (`azd env set NAME VALUE`), a pipeline's or a
// shell's. Every other parameter of main.bicep has a default that can be overridden here.
using 'main.bicep'

param environmentName = readEnvironmentVariable('AZURE_ENV_NAME')
param location = readEnvironmentVariable('AZURE_LOCATION')

param itwinIds = filter(map(split(readEnvironmentVariable('ITWIN_IDS', ''), ','), id => trim(id)), id => !empty(id))

param itwinLogin = readEnvironmentVariable('ITWIN_LOGIN', 'managed-identity')
param itwinTokenScope = readEnvironmentVariable('ITWIN_TOKEN_SCOPE', '')
param itwinClientId = readEnvironmentVariable('ITWIN_CLIENT_ID', '')
param itwinApiUrl = readEnvironmentVariable('ITWIN_API_URL', 'https://api.bentley.com')
param itwinTokenUrl = readEnvironmentVariable('ITWIN_TOKEN_URL', 'https://ims.bentley.com/connect/token')

param maximumInstanceCount = int(readEnvironmentVariable('MAXIMUM_INSTANCE_COUNT', '40'))
param privateNetworking = readEnvironmentVariable('PRIVATE_NETWORKING', 'false') == 'true'
param operatorAddressRanges = filter(map(split(readEnvironmentVariable('OPERATOR_ADDRESS_RANGES', ''), ','), address => trim(address)), address => !empty(address))

param operatorPrincipalId = readEnvironmentVariable('OPERATOR_PRINCIPAL_ID', '')
param operatorPrincipalType = readEnvironmentVariable('OPERATOR_PRINCIPAL_TYPE', 'User')
param alertEmail = readEnvironmentVariable('ALERT_EMAIL', '')
