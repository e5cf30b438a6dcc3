"""Environments by name: the project's own (package `envs`) and those of other packages.

A package adds an environment with an entry point in the group `atlas_ray.environments`, its name the environment's
and its value the class, as in `chess = "my_package.chess:ChessEnv"`. Every environment is registered with Gymnasium
as `atlas/<name>-v0` too.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
from collections.abc import Iterable
from functools import cache
from importlib.metadata import entry_points
from typing import Any

import gymnasium

from atlas_ray.environments.contract import EnvironmentCard, TextEnv
from atlas_ray.environments.remote import PREFIX as REMOTE
from atlas_ray.environments.remote import RemoteEnv
from atlas_ray.errors import ConfigError

ENTRY_POINT_GROUP = "atlas_ray.environments"

_ENTRY_POINTS: dict[str, str] = {}


def register(name: str, entry_point: str) -> None:
    """Make an environment known here and to Gymnasium; doing it twice is the same as once.

    Args:
        name: The environment's name; its Gymnasium id becomes `atlas/<name>-v0`.
        entry_point: `module:Class` of a `TextEnv`, imported when it is first made.

    Raises:
        ConfigError: The name belongs to another class.
    """
    known = _ENTRY_POINTS.get(name)
    if known == entry_point:
        return
    if known is not None:
        raise ConfigError(f"environment {name!r} is already registered as {known}; {entry_point} needs another name")
    if not name.isidentifier() or entry_point.count(":") != 1:
        raise ConfigError(f"environment {name!r}: register a plain name and an entry point 'module:Class'")
    _ENTRY_POINTS[name] = entry_point
    gymnasium.register(id=f"atlas/{name}-v0", entry_point=entry_point, disable_env_checker=True, order_enforce=False)


def names() -> list[str]:
    """The names of all environments, sorted."""
    _discover()
    return sorted(_ENTRY_POINTS)


def make(name: str, **options: Any) -> TextEnv:
    """An environment by name (`maze`, `atlas/maze-v0`, or `remote:maze`), with its options as keyword arguments.

    Raises:
        ConfigError: There is no such environment or option, or the option's value is wrong.
    """
    cls = _load_class(name)
    allowed = option_names(name)
    for option in options:
        if option not in allowed:
            raise ConfigError(f"environment {name!r} has no option {option!r}; it takes {_listed(allowed)}")
    if issubclass(cls, RemoteEnv):
        return cls(card(name.removeprefix(REMOTE)), **options)
    return cls(**options)


def card(name: str, **options: Any) -> EnvironmentCard:
    """The card of the environment made with these options; see `make` for the errors."""
    return make(name, **options).card


def option_names(name: str) -> list[str]:
    """The keyword arguments that the environment takes, sorted.

    Raises:
        ConfigError: There is no such environment.
    """
    parameters = inspect.signature(_load_class(name).__init__).parameters.values()
    return sorted(p.name for p in parameters if p.kind is p.KEYWORD_ONLY)


def _load_class(name: str) -> type[TextEnv]:
    _discover()
    name = name.removeprefix("atlas/").removesuffix("-v0")
    entry_point = _ENTRY_POINTS.get(name.removeprefix(REMOTE))
    if entry_point is not None and name.startswith(REMOTE):
        return RemoteEnv
    if entry_point is None:
        raise ConfigError(f"there is no environment {name!r}; choose one of {_listed(_ENTRY_POINTS)}")
    module, _, attribute = entry_point.partition(":")
    cls = getattr(importlib.import_module(module), attribute, None)
    if not (isinstance(cls, type) and issubclass(cls, TextEnv)):
        raise ConfigError(f"environment {name!r}: {entry_point} is not a class derived from TextEnv")
    return cls


@cache
def _discover() -> None:
    if importlib.util.find_spec("envs") is not None:
        importlib.import_module("envs")
    for point in entry_points(group=ENTRY_POINT_GROUP):
        register(point.name, point.value)


def _listed(words: Iterable[str]) -> str:
    return ", ".join(sorted(words))
