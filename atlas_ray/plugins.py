"""Components by name, from entry points: environments and selection methods, ours and other packages' alike.

Ours are entry points of this distribution (`pyproject.toml`); a stranger's package adds its own in the same groups.
Listing names imports nothing; a component is imported when it is used.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterable
from difflib import get_close_matches
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

from atlas_ray.errors import ConfigError

ENVIRONMENTS = "atlas_ray.environments"
SELECTION_METHODS = "atlas_ray.selection"


@cache
def _points(group: str) -> dict[str, EntryPoint]:
    found: dict[str, EntryPoint] = {}
    for point in entry_points(group=group):
        known = found.setdefault(point.name, point)
        if known.value != point.value:
            raise ConfigError(
                f"two packages register {point.name!r} in the entry-point group {group}: {known.value} and "
                f"{point.value}; uninstall one of them or rename its entry point"
            )
    if not found:
        raise ConfigError(
            f"the entry-point group {group} is empty, so atlas-ray itself is not installed; run `make install`, or "
            "`pip install -e .` in the checkout"
        )
    return found


def names(group: str) -> list[str]:
    """The names registered in a group, sorted.

    Raises:
        ConfigError: two packages claim one name, or the group is empty.
    """
    return sorted(_points(group))


def value_of(group: str, name: str) -> str | None:
    """`module:attribute` of a component, without importing it; None for an unknown name."""
    point = _points(group).get(name)
    return None if point is None else point.value


def load(group: str, name: str) -> Any:
    """Import a component.

    Raises:
        ConfigError: the name is unknown (the nearest one is suggested), or its package cannot be imported.
    """
    value = value_of(group, name)
    if value is None:
        raise ConfigError(f"{group}: there is no {name!r}{nearest(name, names(group))}")
    return load_value(value, f"{name!r} of the entry-point group {group}")


def load_value(value: str, what: str) -> Any:
    """Import `module:attribute`.

    Raises:
        ConfigError: it cannot be imported.
    """
    module, _, attribute = value.partition(":")
    try:
        if module.partition(".")[0] == "envs":
            _reach_own_environments()
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ConfigError(
            f"{what}: {value} cannot be imported ({type(error).__name__}: {error}); mend or reinstall its package"
        ) from error


def nearest(name: str, known: Iterable[str]) -> str:
    """The end of a message about an unknown name: the nearest known one, and all of them."""
    listed = sorted(known)
    close = get_close_matches(name, listed, 1)
    return (f"; did you mean {close[0]!r}? Known are " if close else "; choose one of ") + ", ".join(listed)


def _reach_own_environments() -> None:
    """Make our package `envs` importable where the current folder has another package of that name.

    Ours lies beside `atlas_ray` in a checkout and in an installation; its folder joins the other one's search path.
    """
    own = str(Path(__file__).parents[1] / "envs")
    package = sys.modules.get("envs") or importlib.import_module("envs")
    folders = getattr(package, "__path__", None)
    if folders is None:
        package.__path__ = [own]
    elif own not in folders:
        folders.append(own)
