// The names of all resources. All deployments of an environment compute the same names.

@export()
@description('The name of every resource of one environment.')
type resourceNames = {
  resourceGroup: string
  identity: string
  dropAccount: string
  hostAccount: string
  vault: string
  workspace: string
  applicationInsights: string
  network: string
  plan: string
  functionApp: string
  eventTopic: string
  eventSubscription: string
  deadLetterSubscription: string
  vaultTopic: string
  gateway: string
  actionGroup: string
  alertPrefix: string
}

// How long they may be: https://learn.microsoft.com/azure/azure-resource-manager/management/resource-name-rules
@export()
@sealed()
@description('Names of resources that do not follow the convention, like `{ vault: \'kv-drops-prod\' }`.')
type chosenNames = {
  @minLength(1)
  @maxLength(90)
  resourceGroup: string?

  @minLength(3)
  @maxLength(128)
  identity: string?

  @minLength(3)
  @maxLength(24)
  dropAccount: string?

  @minLength(3)
  @maxLength(24)
  hostAccount: string?

  @minLength(3)
  @maxLength(24)
  vault: string?

  @minLength(4)
  @maxLength(63)
  workspace: string?

  @minLength(1)
  @maxLength(255)
  applicationInsights: string?

  @minLength(2)
  @maxLength(64)
  network: string?

  @minLength(1)
  @maxLength(60)
  plan: string?

  @minLength(2)
  @maxLength(60)
  functionApp: string?

  @minLength(3)
  @maxLength(50)
  eventTopic: string?

  @minLength(3)
  @maxLength(64)
  eventSubscription: string?

  @minLength(3)
  @maxLength(64)
  deadLetterSubscription: string?

  @minLength(3)
  @maxLength(50)
  vaultTopic: string?

  @minLength(1)
  @maxLength(50)
  gateway: string?

  @minLength(1)
  @maxLength(255)
  actionGroup: string?

  @minLength(1)
  @maxLength(49)
  alertPrefix: string?
}

@export()
@description('A token that is the same for the same subscription, environment and region, whatever the region\'s spelling.')
func tokenOf(subscriptionId string, environmentName string, location string) string =>
  uniqueString(subscriptionId, environmentName, toLower(replace(location, ' ', '')))

@export()
@description('Names by one convention: kind, workload, and a token that is the same for the same subscription, environment and region.')
func namesOf(environmentName string, token string, chosen chosenNames) resourceNames => {
  resourceGroup: chosen.?resourceGroup ?? 'rg-${environmentName}'
  identity: chosen.?identity ?? 'id-itwindrop-${token}'
  // Storage refuses capital letters.
  dropAccount: toLower(chosen.?dropAccount ?? 'stdrops${token}')
  hostAccount: toLower(chosen.?hostAccount ?? 'sthost${token}')
  vault: chosen.?vault ?? 'kv-drop-${token}'
  workspace: chosen.?workspace ?? 'log-itwindrop-${token}'
  applicationInsights: chosen.?applicationInsights ?? 'appi-itwindrop-${token}'
  network: chosen.?network ?? 'vnet-itwindrop-${token}'
  plan: chosen.?plan ?? 'plan-itwindrop-${token}'
  functionApp: chosen.?functionApp ?? 'func-itwindrop-${token}'
  eventTopic: chosen.?eventTopic ?? 'evgt-itwindrop-${token}'
  eventSubscription: chosen.?eventSubscription ?? 'drops'
  deadLetterSubscription: chosen.?deadLetterSubscription ?? 'dead-letters'
  vaultTopic: chosen.?vaultTopic ?? 'evgt-vault-${token}'
  gateway: chosen.?gateway ?? 'apim-itwindrop-${token}'
  actionGroup: chosen.?actionGroup ?? 'ag-itwindrop-${token}'
  alertPrefix: chosen.?alertPrefix ?? 'alert-itwindrop-${token}'
}
