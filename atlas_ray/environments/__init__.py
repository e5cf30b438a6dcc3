"""The environment contract, the registry of environments by name, and the check of the contract."""

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
    "EnvironmentCard",
    "Expert",
    "Outcome",
    "Split",
    "State",
    "TextEnv",
    "card",
    "make",
    "names",
    "option_names",
    "register",
]
