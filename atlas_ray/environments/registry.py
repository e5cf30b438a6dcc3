"""Environments by name: the fourteen of this project and those that other packages or programs add.

A package adds an environment by an entry point in the group `atlas_ray.environments`: the entry point's name is the
environment's, its value the class, as in `chess = "my_package.chess:ChessEnv"`. The fourteen are added the same way.
A program without a package calls `register`. Every environment is registered with Gymnasium too, as `atlas/<name>-v0`.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
import os.path
import threading
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import gymnasium

from atlas_ray import plugins
from atlas_ray.environments.contract import EnvironmentCard, TextEnv
from atlas_ray.environments.remote import PREFIX as REMOTE
from atlas_ray.environments.remote import RemoteEnv
from atlas_ray.errors import ConfigError, DataError
from atlas_ray.hashing import content_hash

MAX_HASHED_BYTES = 64 * 2**20
"""Of larger data files the size and the time of the last change stand for the content."""

_CLASSES: dict[str, str] = {}
"""`module:Class` of every known environment, by name."""
_lock = threading.Lock()
"""Servers make environments on several threads, and Gymnasium walks through its registry when it registers one."""


def register(name: str, value: str) -> None:
    """Make an environment known here and to Gymnasium. Registering it twice is harmless.

    Args:
        name: the environment's name; its Gymnasium id becomes `atlas/<name>-v0`.
        value: `module:Class` of a `TextEnv`, imported when it is first made.

    Raises:
        ConfigError: the name belongs to another class.
    """
    with _lock:
        known = _CLASSES.get(name)
        if known == value:
            return
        if known is not None:
            raise ConfigError(f"environment {name!r} is already registered as {known}; {value} needs another name")
        if not name.isidentifier() or value.count(":") != 1:
            raise ConfigError(f"environment {name!r}: register a plain name and its class as 'module:Class'")
        _CLASSES[name] = value
        gymnasium.register(
            id=f"atlas/{name}-v0", entry_point=f"{__name__}:make", kwargs={"name": name}, disable_env_checker=True,
            order_enforce=False,
        )  # fmt: skip


@cache
def discover() -> None:
    """Register the environments of all installed packages; none of them is imported.

    Raises:
        ConfigError: two packages claim one name.
    """
    for name in plugins.names(plugins.ENVIRONMENTS):
        register(name, str(plugins.value_of(plugins.ENVIRONMENTS, name)))


def names() -> list[str]:
    """The names of all environments, sorted."""
    discover()
    return sorted(_CLASSES)


def make(name: str, **options: Any) -> TextEnv:
    """An environment by name (`maze`, `atlas/maze-v0`, or `remote:maze`), with its options as keyword arguments.

    Raises:
        ConfigError: there is no such environment or option, or an option's value is wrong.
    """
    cls = _load_class(name)
    allowed = option_names(name)
    for option in options:
        if option not in allowed:
            raise ConfigError(f"environment {name!r} has no option {option!r}; it takes {_listed(allowed)}")
    if issubclass(cls, RemoteEnv):
        local = name.removeprefix(REMOTE)
        return cls(card(local), _load_class(local).rules, **options)
    return cls(**options)


def card(name: str, **options: Any) -> EnvironmentCard:
    """The card of the environment made with these options; see `make` for the errors."""
    return make(name, **options).card


def version(name: str, options: Mapping[str, Any]) -> str:
    """Hash of everything that determines an environment's tasks, texts and scores.

    The version on its card and the options count. Of an option that names an existing file, the content counts and the
    path does not. Of a folder, or of a file of more than 64 MiB, the names, sizes and times of the last change count.

    Raises:
        ConfigError: see `make`.
        DataError: a file cannot be read.
    """
    made = card(name, **options)
    return content_hash([made.name, made.version, {key: _content(options[key]) for key in sorted(options)}])


def option_names(name: str) -> list[str]:
    """The keyword arguments that the environment takes, sorted.

    Raises:
        ConfigError: there is no such environment.
    """
    parameters = inspect.signature(_load_class(name).__init__).parameters.values()
    return sorted(p.name for p in parameters if p.kind is p.KEYWORD_ONLY)


def read_option(text: str) -> tuple[str, Any]:
    """An option of an environment from a command line: `depths=[2]` as a name and a value.

    A value that is no Python literal is a text.

    Raises:
        ConfigError: the text is not of the form NAME=VALUE.
    """
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise ConfigError(f"--option {text!r} is not of the form NAME=VALUE")
    try:
        return name, ast.literal_eval(value)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return name, value


def _load_class(name: str) -> type[TextEnv]:
    discover()
    name = name.removeprefix("atlas/").removesuffix("-v0")
    value = _CLASSES.get(name.removeprefix(REMOTE))
    if value is None:
        raise ConfigError(f"there is no environment {name!r}{plugins.nearest(name, _CLASSES)}")
    if name.startswith(REMOTE):
        return RemoteEnv
    cls = plugins.load_value(value, f"environment {name!r}")
    if not (isinstance(cls, type) and issubclass(cls, TextEnv)):
        raise ConfigError(f"environment {name!r}: {value} is not a class derived from TextEnv")
    return cls


def _content(value: Any) -> Any:
    """An option's value as JSON, paths replaced by the content that they lead to."""
    if isinstance(value, Mapping):
        return {str(key): _content(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_content(item) for item in value]
    if not isinstance(value, str | Path):
        return value
    path = Path(value)
    try:
        if os.path.isdir(value):  # pathlib's own raises for a text that is too long for a path
            files = sorted(file for file in path.rglob("*") if file.is_file())
            return {"folder": [[file.relative_to(path).as_posix(), *_size_and_time(file)] for file in files]}
        if not os.path.isfile(value):
            return str(value)
        size, changed = _size_and_time(path)
        if size > MAX_HASHED_BYTES:
            return {"file": [path.name, size, changed]}
        with path.open("rb") as stream:
            return {"file": hashlib.file_digest(stream, "sha256").hexdigest()}
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}; check the path and its rights") from error


def _size_and_time(file: Path) -> tuple[int, int]:
    facts = file.stat()
    return facts.st_size, facts.st_mtime_ns


def _listed(words: Iterable[str]) -> str:
    return ", ".join(sorted(words))
