"""The whole cloud on loopback: Azurite, a Functions host, and stand-ins for what is left of Azure and the API."""
