"""The models of a run: what each is called, what it is, and the key of its content.

The only place that turns a name of the configuration into a model. What it finds is written into `results.json`, and
tables, comparisons and the report read it there; nothing else recognises a model by its spelling.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from atlas_ray import models
from atlas_ray.config import EndpointConfig, EngineConfig, PipelineConfig
from atlas_ray.errors import ConfigError
from atlas_ray.hashing import content_hash
from atlas_ray.plugins import nearest

Kind = Literal["policy", "base", "warmup", "tuned", "endpoint", "directory"]

POLICIES = ("random", "expert")
"""Reference policies, which need no model."""
BASE, WARMUP = "base", "warmup"
_SEEDED = re.compile(r"(?P<selection>.+)\.s(?P<seed>-?\d+)")
_STEPS, _DPO = "_steps", ".dpo"


@dataclass(frozen=True)
class RosterEntry:
    """A model of a run, before anything is started for it."""

    name: str
    """In tables, and of its folder under `evaluation/`."""
    kind: Kind
    key: str
    """Hash of everything that determines its weights, or of what answers in its place."""
    selection: str | None = None
    """The selection that it was tuned on."""
    seed: int | None = None
    """Of its training."""
    objective: str | None = None
    """`sft` or `dpo`, of a tuned model."""
    directory: str | None = None
    """Where its weights are."""
    endpoint: EndpointConfig | None = None

    def facts(self) -> dict[str, Any]:
        """What `results.json` holds of it."""
        return {
            "model": self.name, "kind": self.kind, "selection": self.selection, "seed": self.seed,
            "objective": self.objective, "key": self.key,
        }  # fmt: skip

    def player_key(self, engine: EngineConfig) -> str:
        """Hash of what determines its replies: with an engine, the engine's context and dtype count too."""
        return self.key if self.directory is None else content_hash([self.key, engine.fingerprint()])


class Roster:
    """Names of the configuration to models.

    Args:
        config: of the run.
        checkpoint_key: the key that the training of a checkpoint has, or was finished with.
        checkpoint_path: the directory of a checkpoint.
    """

    def __init__(
        self, config: PipelineConfig, checkpoint_key: Callable[[str], str], checkpoint_path: Callable[[str], str]
    ) -> None:
        self._config, self._key, self._path = config, checkpoint_key, checkpoint_path

    def base(self) -> RosterEntry:
        """The base model."""
        return self._model(BASE, "base", self._config.model)

    def start(self) -> RosterEntry:
        """The model that tuning starts from, which also scores perplexity: the warm-up where there is one."""
        return self.base() if self._config.train.warmup is None else self.entry(WARMUP)

    def entry(self, name: str) -> RosterEntry:
        """The model of that name; of a selection trained with several seeds, the first one's.

        Raises:
            ConfigError: the name says what the configuration does not have.
            ModelError: a model directory cannot be used.
            StoreError: (from `checkpoint_key`) it has not been trained.
        """
        return self.entries(name)[0]

    def entries(self, name: str) -> list[RosterEntry]:
        """The models of that name: one for every seed of a selection, one of anything else; see `entry`."""
        config = self._config
        if name in POLICIES:
            return [RosterEntry(name, "policy", name)]
        if name in config.evaluate.endpoints:
            endpoint = config.evaluate.endpoints[name]
            return [RosterEntry(name, "endpoint", endpoint.fingerprint(), endpoint=endpoint)]
        if name == BASE:
            return [self.base()]
        if name == WARMUP:
            if config.train.warmup is None:
                raise ConfigError("the model 'warmup' needs the section train.warmup; add it or drop the model")
            return [RosterEntry(name, "warmup", self._key(WARMUP), seed=config.seed, directory=self._path(WARMUP))]
        selection, seed = selection_of(config, name)
        if selection is not None:
            return [self.tuned(selection, each) for each in (config.training_seeds if seed is None else (seed,))]
        if not models.is_model(name):
            known = (*POLICIES, BASE, WARMUP, *config.evaluate.endpoints, *config.select.selection_names())
            raise ConfigError(f"there is no model {name!r}, nor such a directory{nearest(name, known)}")
        return [self._model(Path(name.rstrip("/")).name, "directory", name)]

    def evaluated(self) -> list[RosterEntry]:
        """The models of `evaluate.models`, in order, each once."""
        found = [entry for name in self._config.evaluate.models for entry in self.entries(name)]
        return list({entry.name: entry for entry in found}.values())

    def tuned(self, selection: str, seed: int) -> RosterEntry:
        """The model tuned on a selection with a seed.

        Raises:
            ConfigError: no model is trained with that seed.
            StoreError: (from `checkpoint_key`) it has not been trained.
        """
        seeds = self._config.training_seeds
        if seed not in seeds:
            raise ConfigError(f"model {selection}.s{seed}: train.seeds are {', '.join(map(str, seeds))}")
        checkpoint = checkpoint_name(self._config, selection, seed)
        shown = (
            f"{selection}{_STEPS}{checkpoint.removeprefix(selection)}"
            if _is_taken(self._config, selection)
            else checkpoint
        )
        return RosterEntry(
            shown, "tuned", self._key(checkpoint), selection=selection, seed=seed,
            objective=self._config.train.objective, directory=self._path(checkpoint),
        )  # fmt: skip

    def _model(self, name: str, kind: Kind, model: str) -> RosterEntry:
        code = self._config.trust_remote_code
        key = content_hash([models.identity(model, trust_remote_code=code), code, models.TEMPLATE_DATE.isoformat()])
        return RosterEntry(name, kind, key, directory=models.resolve(model, trust_remote_code=code))


def checkpoint_name(config: PipelineConfig, selection: str, seed: int) -> str:
    """Of the model tuned on a selection with a seed: the first seed's is called like the selection, or
    `<selection>.dpo`; the others' end with `.s<seed>`."""
    name = f"{selection}{_DPO}" if config.train.objective == "dpo" else selection
    return name if seed == config.training_seeds[0] else f"{name}.s{seed}"


def selection_of(config: PipelineConfig, name: str) -> tuple[str | None, int | None]:
    """The selection that a model of `evaluate.models` is tuned on, and its seed where the name has one.

    None for a model that no selection tuned. `random` is the policy that acts at random, so the model tuned on the
    selection `random` is called `random_steps`; so with every name that has another meaning.
    """
    if _is_taken(config, name):
        return None, None
    seeded = _SEEDED.fullmatch(name)
    if seeded is not None and (selection := selection_of(config, seeded["selection"])[0]) is not None:
        return selection, int(seeded["seed"])
    if config.train.objective == "dpo":
        name = name.removesuffix(_DPO)
    known = config.select.selection_names()
    if name in known:
        return name, None
    bare = name.removesuffix(_STEPS)
    return (bare, None) if bare != name and bare in known and _is_taken(config, bare) else (None, None)


def tuned_selections(config: PipelineConfig) -> list[str]:
    """The selections to train on: those of `train.selections`, and those of the models to evaluate."""
    named = [selection_of(config, name)[0] for name in config.evaluate.models]
    return list(dict.fromkeys([*config.train.selections, *(name for name in named if name is not None)]))


def _is_taken(config: PipelineConfig, name: str) -> bool:
    """Whether a name means a model that no selection tuned."""
    return name in (*POLICIES, BASE, WARMUP, *config.evaluate.endpoints)
