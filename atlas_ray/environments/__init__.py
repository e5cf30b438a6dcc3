"""The environment contract, the registry of environments by name, and the check of the contract."""

from atlas_ray.environments.check import ContractError, check_env
from atlas_ray.environments.contract import (
    EnvironmentCard,
    Expert,
    Outcome,
    Split,
    State,
    TextEnv,
)
from atlas_ray.environments.registry import card, make, names, option_names, register

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
]
