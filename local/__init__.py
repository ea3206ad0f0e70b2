"""The whole cloud on loopback: Azurite, a Functions host, and stand-ins for the rest of Azure and the iTwin Platform."""
