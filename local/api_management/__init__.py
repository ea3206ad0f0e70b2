"""The Azure API Management gateway that is deployed with the login `gateway`: it executes the policy in `infra`."""

from local.api_management.gateway import Gateway, deployed_policy

__all__ = ["Gateway", "deployed_policy"]
