"""The stand-in for the iTwin Platform answers as the API's page says, and survives what clients do to it."""
