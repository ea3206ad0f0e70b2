"""The stand-in of API Management executes the policy that is deployed, and no policy that it does not know."""
