// The workbook that shows what happened to a drop, what fails and why, and how long drops take.

import { tagging, tagsOf } from '../tags.bicep'

@description('Azure region.')
param location string

@description('Tags of the resource.')
param tags tagging

@description('Application Insights resource with the app\'s logs.')
param applicationInsightsName string

var outcomes = loadTextContent('../queries/outcomes.kql')

var parameters = {
  type: 9
  name: 'parameters'
  content: {
    version: 'KqlParameterItem/1.0'
    style: 'pills'
    parameters: [
      {
        id: guid(applicationInsightsName, 'TimeRange')
        version: 'KqlParameterItem/1.0'
        name: 'TimeRange'
        label: 'When'
        type: 4
        isRequired: true
        value: { durationMs: 86400000 }
        typeSettings: {
          selectableValues: [
            { durationMs: 3600000 }
            { durationMs: 86400000 }
            { durationMs: 604800000 }
            { durationMs: 2592000000 }
          ]
        }
      }
      {
        id: guid(applicationInsightsName, 'ITwin')
        version: 'KqlParameterItem/1.0'
        name: 'ITwin'
        label: 'iTwin'
        type: 1
        value: ''
      }
      {
        id: guid(applicationInsightsName, 'Blob')
        version: 'KqlParameterItem/1.0'
        name: 'Blob'
        label: 'Blob'
        type: 1
        value: ''
      }
    ]
  }
}

var charts = [
  {
    name: 'drop'
    title: 'What happened to my drop?'
    query: loadTextContent('../queries/workbook-drop.kql')
    visualization: 'table'
  }
  {
    name: 'outcomes'
    title: 'How do drops end?'
    query: loadTextContent('../queries/workbook-outcomes.kql')
    visualization: 'barchart'
  }
  {
    name: 'failures'
    title: 'What fails, and why?'
    query: loadTextContent('../queries/workbook-failures.kql')
    visualization: 'table'
  }
  {
    name: 'durations'
    title: 'How long do drops take? Median and 95th percentile, in seconds.'
    query: loadTextContent('../queries/workbook-durations.kql')
    visualization: 'table'
  }
]

var tiles = map(charts, (chart) => {
  type: 3
  name: chart.name
  content: {
    version: 'KqlItem/1.0'
    title: chart.title
    query: '${outcomes}\n${chart.query}'
    size: 0
    timeContextFromParameter: 'TimeRange'
    queryType: 0
    resourceType: 'microsoft.insights/components'
    visualization: chart.visualization
  }
})

resource applicationInsights 'Microsoft.Insights/components@2020-02-02' existing = {
  name: applicationInsightsName
}

var name = guid(applicationInsights.id, 'drops')

resource workbook 'Microsoft.Insights/workbooks@2023-06-01' = {
  name: name
  location: location
  tags: tagsOf(tags, 'Microsoft.Insights/workbooks/${name}')
  kind: 'shared'
  properties: {
    displayName: 'iTwin Image Drop'
    category: 'workbook'
    sourceId: applicationInsights.id
    serializedData: string({
      version: 'Notebook/1.0'
      items: concat([parameters], tiles)
      fallbackResourceIds: [applicationInsights.id]
    })
  }
}
