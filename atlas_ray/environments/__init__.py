"""Text environments: the contract, the registry by name, the contract's checker, and AgentGym's HTTP API both ways."""

from atlas_ray.environments.check import ContractError, check_env
from atlas_ray.environments.contract import (
    EnvironmentCard,
    Expert,
    Outcome,
    Split,
    State,
    TextEnv,
)
from atlas_ray.environments.registry import card, make, names, option_names, register, version

__all__ = [
    "ContractError",
    "EnvironmentCard",
    "Expert",
    "Outcome",
    "Split",
    "State",
    "TextEnv",
    "card",
    "check_env",
    "make",
    "names",
    "option_names",
    "register",
    "version",
]
