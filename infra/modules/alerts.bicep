// The operator's alerts. docs/runbook.md has an entry for each.

import { tagging, tagsOf } from '../tags.bicep'

@description('Prefix of the alerts\' names.')
param prefix string

@description('Name of the action group to create.')
param actionGroupName string

@description('ID of an existing action group; empty creates one.')
param actionGroupId string

@description('Azure region.')
param location string

@description('Tags of the resources.')
param tags tagging

@description('E-mail address to send alerts to; empty sends no e-mail.')
param email string

@description('A drop without a final result is overdue after this many minutes.')
param overdueAfterMinutes int

@description('Application Insights resource with the app\'s logs.')
param applicationInsightsName string

@description('ID of the workspace with the app\'s logs and storage\'s log of blob writes.')
param workspaceId string

@description('Account that images are dropped into.')
param dropAccountName string

@description('System topic of the drop account; it may have other subscriptions as well.')
param eventTopicName string

@description('System topic of the vault; empty if none is created.')
param vaultTopicName string

var contract = loadJsonContent('../contract.json')
var outcomes = loadTextContent('../queries/outcomes.kql')
var overdue = replace(loadTextContent('../queries/alert-overdue.kql'), 'OVERDUE_AFTER', '${overdueAfterMinutes}m')
var traces = replace(
  loadTextContent('../queries/traces.kql'),
  'APPLICATION_INSIGHTS_ID',
  resourceId('Microsoft.Insights/components', applicationInsightsName)
)
var writes = replace(loadTextContent('../queries/writes.kql'), 'DROP_ACCOUNT', dropAccountName)

// A line may arrive minutes after the time that it tells, and would then be between two looks: so each looks back further
// than it did the last time. https://learn.microsoft.com/azure/azure-monitor/logs/data-ingestion-time
var logAlerts = [
  {
    name: 'failed'
    title: 'Drops failed'
    description: 'A drop ended as failed: time and retries did not help.'
    source: 'insights'
    query: '${outcomes}\n${loadTextContent('../queries/alert-failed.kql')}'
    severity: 1
    threshold: 0
    every: 'PT5M'
    window: 'PT15M'
  }
  {
    name: 'refused'
    title: 'The app is denied access or misconfigured'
    description: 'A token, a permission, a role or a setting is missing or wrong: the iTwin Platform or storage denied access, or a setting is invalid.'
    source: 'insights'
    query: '${outcomes}\n${loadTextContent('../queries/alert-refused.kql')}'
    severity: 1
    threshold: 0
    every: 'PT5M'
    window: 'PT15M'
  }
  {
    name: 'overdue'
    title: 'Drops are overdue'
    description: 'Drops have had no final result for too long since their first attempt, or never reached the app.'
    source: 'workspace'
    query: '${traces}\n${outcomes}\n${writes}\n${overdue}'
    severity: 2
    threshold: 0
    every: 'PT15M'
    window: 'P1D'
  }
  {
    name: 'throttled'
    title: 'The iTwin Platform throttles'
    description: 'The app exceeded the rate limit of the iTwin Platform many times.'
    source: 'insights'
    query: '${outcomes}\n${loadTextContent('../queries/alert-throttled.kql')}'
    severity: 3
    threshold: 50
    every: 'PT15M'
    window: 'PT1H'
  }
  {
    name: 'unknown-itwins'
    title: 'Many iTwins are not found'
    description: 'The iTwin Platform responded that many iTwins do not exist: the app may have lost its role on them.'
    source: 'insights'
    query: '${outcomes}\n${loadTextContent('../queries/alert-unknown-itwins.kql')}'
    severity: 2
    threshold: 10
    every: 'PT15M'
    window: 'PT1H'
  }
  {
    name: 'host-stops'
    title: 'The Functions host stopped'
    description: 'The host shut itself down, as it does if a role is missing or storage denies it access; drops in progress are redelivered after ten minutes.'
    source: 'insights'
    query: loadTextContent('../queries/alert-host-stops.kql')
    severity: 2
    threshold: 0
    every: 'PT5M'
    window: 'PT15M'
  }
  {
    name: 'poison'
    title: 'The host stopped retrying'
    description: 'A function failed five times on the same message, because of a bug or a crash.'
    source: 'insights'
    query: loadTextContent('../queries/alert-poison.kql')
    severity: 1
    threshold: 0
    every: 'PT5M'
    window: 'PT15M'
  }
]

// https://learn.microsoft.com/azure/azure-monitor/reference/supported-metrics/microsoft-eventgrid-systemtopics-metrics
var metricAlerts = [
  {
    name: 'undelivered'
    description: 'The app does not accept events: it does not exist, does not start, or refuses them.'
    metric: 'DeliveryAttemptFailCount'
    severity: 2
    // A single event that cannot be delivered is tried six times within half an hour:
    // https://learn.microsoft.com/azure/event-grid/delivery-and-retry#retry-schedule
    threshold: 5
    window: 'PT30M'
  }
  {
    name: 'dead-letters'
    description: 'Event Grid stopped trying to deliver events and wrote them to the dead-letter container.'
    metric: 'DeadLetteredCount'
    severity: 1
    threshold: 0
    window: 'PT5M'
  }
  {
    name: 'lost-events'
    description: 'Event Grid stopped trying to deliver events and could not dead-letter them either.'
    metric: 'DroppedEventCount'
    severity: 1
    threshold: 0
    window: 'PT5M'
  }
]

resource applicationInsights 'Microsoft.Insights/components@2020-02-02' existing = {
  name: applicationInsightsName
}

resource eventTopic 'Microsoft.EventGrid/systemTopics@2025-02-15' existing = {
  name: eventTopicName
}

resource actionGroup 'Microsoft.Insights/actionGroups@2023-01-01' = if (empty(actionGroupId)) {
  name: actionGroupName
  location: 'global'
  tags: tagsOf(tags, 'Microsoft.Insights/actionGroups/${actionGroupName}')
  properties: {
    enabled: true
    groupShortName: 'itwindrop'
    emailReceivers: empty(email) ? [] : [{ name: 'operator', emailAddress: email, useCommonAlertSchema: true }]
  }
}

var notified = empty(actionGroupId) ? actionGroup.id : actionGroupId

resource logRules 'Microsoft.Insights/scheduledQueryRules@2026-03-01' = [
  for alert in logAlerts: {
    name: '${prefix}-${alert.name}'
    location: location
    tags: tagsOf(tags, 'Microsoft.Insights/scheduledQueryRules/${prefix}-${alert.name}')
    kind: 'LogAlert'
    properties: {
      displayName: 'iTwin Image Drop: ${alert.title}'
      description: alert.description
      severity: alert.severity
      enabled: true
      scopes: [alert.source == 'workspace' ? workspaceId : applicationInsights.id]
      evaluationFrequency: alert.every
      windowSize: alert.window
      // Twice as far back as the longest `overdueAfterMinutes`: what is overdue by then must still be in sight.
      overrideQueryTimeRange: alert.name == 'overdue' ? 'P2D' : null
      autoMitigate: true
      // Tables appear with their first line, and the rules are made before: https://github.com/Azure/bicep/issues/11378
      skipQueryValidation: true
      criteria: {
        allOf: [
          {
            query: alert.query
            timeAggregation: 'Count'
            operator: 'GreaterThan'
            threshold: alert.threshold
            failingPeriods: { numberOfEvaluationPeriods: 1, minFailingPeriodsToAlert: 1 }
          }
        ]
      }
      actions: { actionGroups: [notified] }
    }
  }
]

resource metricRules 'Microsoft.Insights/metricAlerts@2026-01-01' = [
  for alert in metricAlerts: {
    name: '${prefix}-${alert.name}'
    location: 'global'
    tags: tagsOf(tags, 'Microsoft.Insights/metricAlerts/${prefix}-${alert.name}')
    properties: {
      description: alert.description
      severity: alert.severity
      enabled: true
      scopes: [eventTopic.id]
      evaluationFrequency: 'PT5M'
      windowSize: alert.window
      autoMitigate: true
      criteria: {
        'odata.type': 'Microsoft.Azure.Monitor.SingleResourceMultipleMetricCriteria'
        allOf: [
          {
            criterionType: 'StaticThresholdCriterion'
            name: alert.metric
            metricName: alert.metric
            metricNamespace: 'Microsoft.EventGrid/systemTopics'
            // Each subscription by itself, so that the alert names it. The malware scanner's, at the same topic, is not
            // ours; leaving it out instead of naming ours fails loudly should names be written otherwise there.
            dimensions: [
              { name: 'EventSubscriptionName', operator: 'Exclude', values: ['StorageAntimalwareSubscription'] }
            ]
            timeAggregation: 'Total'
            operator: 'GreaterThan'
            threshold: alert.threshold
          }
        ]
      }
      actions: [{ actionGroupId: notified }]
    }
  }
]

resource secretTopic 'Microsoft.EventGrid/systemTopics@2025-02-15' existing = if (!empty(vaultTopicName)) {
  name: empty(vaultTopicName) ? 'none' : vaultTopicName
}

// The vault itself tells, 30 days before: neither the app nor its logs have to work for it.
// https://learn.microsoft.com/azure/event-grid/handler-azure-monitor-alerts
resource secretExpires 'Microsoft.EventGrid/systemTopics/eventSubscriptions@2025-02-15' = if (!empty(vaultTopicName)) {
  parent: secretTopic
  name: '${prefix}-secret-expires'
  properties: {
    eventDeliverySchema: 'CloudEventSchemaV1_0'
    destination: {
      endpointType: 'MonitorAlert'
      properties: {
        severity: 'Sev1'
        description: 'The client secret of the iTwin service app expires within 30 days, or has expired.'
        actionGroups: [notified]
      }
    }
    filter: {
      includedEventTypes: ['Microsoft.KeyVault.SecretNearExpiry', 'Microsoft.KeyVault.SecretExpired']
      subjectBeginsWith: contract.secret
      subjectEndsWith: contract.secret
    }
  }
}
