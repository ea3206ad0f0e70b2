// What everything is called. All deployments of an environment come to the same names.

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

@export()
@sealed()
@description('Names of resources that are not to follow the convention, like `{ vault: \'kv-drops-prod\' }`.')
type chosenNames = {
  resourceGroup: string?
  identity: string?
  dropAccount: string?
  hostAccount: string?
  vault: string?
  workspace: string?
  applicationInsights: string?
  network: string?
  plan: string?
  functionApp: string?
  eventTopic: string?
  eventSubscription: string?
  deadLetterSubscription: string?
  vaultTopic: string?
  gateway: string?
  actionGroup: string?
  alertPrefix: string?
}

@export()
@description('Names by one convention: kind, workload, and a token that is the same for the same subscription, environment and region.')
func namesOf(environmentName string, token string, chosen chosenNames) resourceNames => {
  resourceGroup: chosen.?resourceGroup ?? 'rg-${environmentName}'
  identity: chosen.?identity ?? 'id-itwindrop-${token}'
  dropAccount: chosen.?dropAccount ?? 'stdrops${token}'
  hostAccount: chosen.?hostAccount ?? 'sthost${token}'
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
