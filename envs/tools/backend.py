"""What carries out the actions of a tool environment: a store of ours (offline) or a web service (live).

A backend has a method for every tool of its environment's table (but `check_valid_actions` and `finish`), with the
tool's parameters as keyword arguments; it returns plain values (texts, numbers, lists, dicts) that it never changes
afterwards. Stores that no action changes are built once per process and shared; what actions change belongs to the
backend alone.
"""

from __future__ import annotations

from typing import Any, Literal, Protocol, cast, get_args

from atlas_ray.errors import AtlasError, ConfigError
from envs.tools.tasks import Task

BackendKind = Literal["offline", "live"]


class Refused(AtlasError):
    """The action cannot be done as asked (no such film, a date in the future): an observation, nothing changed."""


class Fault(AtlasError):
    """The service failed (key, limit, outage): an observation for the agent, counted in `info["faults"]`."""


class Backend(Protocol):
    """One episode's view of a store or service."""

    def open(self, task: Task) -> None:
        """Begin an episode: the state is the task's start state."""
        ...

    def save(self) -> Any:
        """The state as a picklable value that later actions do not change; None if actions change nothing."""
        ...

    def load(self, task: Task, saved: Any) -> None:
        """Take over a value of `save`, made by another backend of the same kind, without changing it."""
        ...


def check_kind(environment: str, backend: object) -> BackendKind | None:
    """The kind that the option `backend` names, or None if it is a backend itself.

    Raises:
        ConfigError: It is another text.
    """
    if not isinstance(backend, str):
        return None
    if backend in get_args(BackendKind):
        return cast(BackendKind, backend)
    raise ConfigError(f"{environment}: backend is {backend!r}; choose 'offline' or 'live', or give a Backend")
