// How long the host's tables are kept: they ignore the workspace's retention, and default to 90 days.
// https://learn.microsoft.com/azure/azure-monitor/logs/data-retention-configure#log-tables-with-90-day-default-retention

@description('Name of the Log Analytics workspace.')
param workspaceName string

@description('How many days the app\'s logs are kept.')
param retentionDays int

var tableNames = [
  'AppDependencies'
  'AppEvents'
  'AppExceptions'
  'AppMetrics'
  'AppPerformanceCounters'
  'AppRequests'
  'AppTraces'
]

resource workspace 'Microsoft.OperationalInsights/workspaces@2025-07-01' existing = {
  name: workspaceName
}

// One after the other: each changes the workspace.
@batchSize(1)
resource tables 'Microsoft.OperationalInsights/workspaces/tables@2025-07-01' = [
  for table in tableNames: {
    parent: workspace
    name: table
    properties: { retentionInDays: retentionDays }
  }
]
