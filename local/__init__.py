"""The whole cloud on loopback: Azurite, stand-ins for what else Azure and the iTwin Platform do, and a Functions host."""
