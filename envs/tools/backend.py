"""What carries out the actions of a tool environment: a store of ours (offline) or a web service (live).

A backend has a method for every tool of its environment's table (but `check_valid_actions` and `finish`), with the
tool's parameters as keyword arguments; it returns plain values (texts, numbers, lists, dicts) that it never changes
afterwards. Stores that no action changes are built once per process and shared; what actions change belongs to the
backend alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, Protocol, TypeVar

from atlas_ray.errors import AtlasError, ConfigError
from envs.tools.tasks import Task

BackendKind = Literal["offline", "live"]
B = TypeVar("B")
L = TypeVar("L")


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


def choose(
    environment: str, backend: object, offline: Callable[[], B], live: Callable[[], L], own: type[B] | None = None
) -> B | L:
    """The backend that the option `backend` names, or that it is, where it may be one (`own` says of which class).

    Raises:
        ConfigError: It is neither.
    """
    if own is not None and isinstance(backend, own):
        return backend
    if backend == "offline":
        return offline()
    if backend == "live":
        return live()
    other = f", or give a {own.__name__}" if own is not None else ""
    raise ConfigError(f"{environment}: backend is {backend!r}; choose 'offline' or 'live'{other}")


def need_file_for_live(environment: str, backend: object, data: object) -> None:
    """Refuse the generated tasks on a live service: their answers are true in the offline store alone.

    Raises:
        ConfigError: The backend is live and there is no task file.
    """
    if backend == "live" and data is None:
        raise ConfigError(
            f"{environment}: backend 'live' needs data=PATH, a task file whose answers come from the live service; "
            "the generated tasks ask about the offline store"
        )
