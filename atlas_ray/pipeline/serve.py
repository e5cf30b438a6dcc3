"""Serving as a stage: which models of the run are served, and under which names (`serving/` does it)."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from atlas_ray import models
from atlas_ray.cache import fetched
from atlas_ray.config_files import load
from atlas_ray.errors import ConfigError
from atlas_ray.pipeline.keys import Keys
from atlas_ray.pipeline.pinned import pinned
from atlas_ray.pipeline.run import Run
from atlas_ray.progress import say
from atlas_ray.roster import BASE
from atlas_ray.store import Store

_CHECKPOINTS, _ADAPTER = "checkpoints/", "adapter"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@contextmanager
def serve(run: Run) -> Iterator[str]:
    """The tuned model, and the base beside it, on Ray Serve for as long as the block lasts or until Ctrl-C or SIGTERM;
    yields the URL.

    Raises:
        ConfigError: the model is unknown, or the address cannot be used.
        StoreError: the model has not been trained.
        EngineError: a model could not be served.
    """
    from atlas_ray.serving import app

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends like Ctrl-C, in whatever state the start is
    try:
        yield app.start(run.config, served_models(run), served_adapters(run))
    except KeyboardInterrupt:
        pass
    finally:
        say("stopping: requests under way may finish")
        app.stop()


def service(arguments: dict[str, Any]) -> Any:
    """What `serve` deploys, for a Ray Serve whose config file names this function: `serve run`, KubeRay's RayService.

    Where that Serve listens is not ours to know, so a key in the environment (`serve.api_key_env`) is demanded.

    Args:
        arguments: `config`, a YAML file on the nodes, and dotted options that go over it, as on a command line.

    Raises:
        ConfigError: an option is wrong, the model is unknown, or there is no key.
        StoreError: the model has not been trained.
    """
    from atlas_ray.serving import app

    options = dict(arguments)
    config = load(options.pop("config", None), options)
    key = app.key_of(config.serve, needed=True)
    store = Store(config.run_dir)
    run = Run(pinned(config, store, asks=False), store)
    return app.build(config, served_models(run), key, served_adapters(run))


def served_models(run: Run) -> dict[str, str]:
    """Model directories by the names they are served under, the tuned one first."""
    config, chosen, roster = run.config, run.config.serve.model, Keys(run).roster
    if chosen is not None and chosen.startswith(_CHECKPOINTS):
        chosen = chosen.removeprefix(_CHECKPOINTS).rstrip("/")
        if not run.store.exists("checkpoints", chosen, "config.json"):
            there = ", ".join(run.store.names("checkpoints")) or "none"
            raise ConfigError(f"serve.model: {run.store.url} has no checkpoint {chosen!r}; there are: {there}")
        served = {chosen: fetched(run.store.address("checkpoints", chosen))}
    elif chosen is not None:
        served = {Path(chosen.rstrip("/")).name: models.resolve(chosen)}
    else:
        entry = roster.tuned(config.train.selections[0], config.training_seeds[0])
        served = {entry.name: str(entry.directory)}
    return served | ({BASE: models.resolve(config.model)} if config.serve.base else {})


def served_adapters(run: Run) -> dict[str, str]:
    """Directories of the base model's adapters, by the names they are served under.

    Raises:
        ConfigError: a name cannot be used, there is no adapter, or the base model is not served.
    """
    config, found = run.config.serve, dict[str, str]()
    if config.adapters and not config.base:
        raise ConfigError("serve.adapters: they belong to the base model, which serve.base=false leaves out; serve it")
    for name, place in config.adapters.items():
        if not _NAME.fullmatch(name) or name in served_models(run):
            raise ConfigError(f"serve.adapters: {name!r} is no name, or that of a model; use letters, digits, '._-'")
        if place.startswith(_CHECKPOINTS):
            place = run.store.path("checkpoints", place.removeprefix(_CHECKPOINTS).rstrip("/"), _ADAPTER)
        if not Path(place, "adapter_config.json").is_file():
            raise ConfigError(
                f"serve.adapters.{name}: {place} has no adapter_config.json; give a checkpoint that was trained with "
                "train.lora, or a directory that peft has written"
            )
        found[name] = place
    return found
