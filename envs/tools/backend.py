"""The backend of a tool environment, which carries out its actions: an offline store, or a live web service.

A backend has a method for every tool of its environment's table (except `check_valid_actions` and `finish`), with the
tool's parameters as keyword arguments. It returns plain values (texts, numbers, lists, dicts) and does not change them
afterwards. A store that no action changes is built once per process and shared; state that actions change belongs to
one backend.
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
        """Restore a value of `save`, possibly of another backend of the same kind, without changing that value."""
        ...


def choose(
    environment: str, backend: object, offline: Callable[[], B], live: Callable[[], L], own: type[B] | None = None
) -> B | L:
    """The backend of the option `backend`, which is a name or, if `own` gives a class, a backend of that class.

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
    """Refuse the generated tasks on a live service: their answers are right in the offline store only.

    Raises:
        ConfigError: The backend is live and there is no task file.
    """
    if backend == "live" and data is None:
        raise ConfigError(
            f"{environment}: backend 'live' needs data=PATH, a task file whose answers come from the live service; "
            "the generated tasks ask about the offline store"
        )
