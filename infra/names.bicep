// What everything is called. Both deployments, the app's and the event subscription's, come to the same names.

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
  actionGroup: string
  alertPrefix: string
}

@export()
@description('Names by one convention: kind, workload, and a token that is the same for the same subscription, environment and region.')
func namesOf(environmentName string, token string) resourceNames => {
  resourceGroup: 'rg-${environmentName}'
  identity: 'id-itwindrop-${token}'
  dropAccount: 'stdrops${token}'
  hostAccount: 'sthost${token}'
  vault: 'kv-drop-${token}'
  workspace: 'log-itwindrop-${token}'
  applicationInsights: 'appi-itwindrop-${token}'
  network: 'vnet-itwindrop-${token}'
  plan: 'plan-itwindrop-${token}'
  functionApp: 'func-itwindrop-${token}'
  eventTopic: 'evgt-itwindrop-${token}'
  eventSubscription: 'drops'
  actionGroup: 'ag-itwindrop-${token}'
  alertPrefix: 'alert-itwindrop-${token}'
}
