"""What a run directory holds, read once for the report.

Nothing here is an error for being absent: a stage that did not run or a model that was not evaluated becomes a line
of `RunData.missing`, which the report shows. A file that is there and malformed is an error.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, get_args

from atlas_ray.config import Method, PipelineConfig
from atlas_ray.environments import registry
from atlas_ray.environments.contract import EnvironmentCard
from atlas_ray.evaluation.metrics import latest
from atlas_ray.store import Store
from atlas_ray.trajectory import Episode, Selection, Trajectory

REFERENCES = ("random", "base", "warmup", "expert")
"""Models that no selection tuned, in the order in which they read best."""
_OWN = ("key", "finished", "seconds", "command")
STAGES = ("collect", "select", "train", "evaluate")


@dataclass(frozen=True)
class Evaluated:
    """One model's evaluation."""

    name: str
    results: dict[str, Any]
    """The content of its `results.json`."""
    episodes: list[Episode]
    """One per (environment, task, seed) of the config, sorted so."""


@dataclass(frozen=True)
class Unit:
    """One finished unit of a stage, from its manifest."""

    stage: str
    name: str
    finished: str
    seconds: float | None
    command: str | None
    """That made it."""
    facts: dict[str, Any]
    """Whatever else the stage recorded."""


@dataclass(frozen=True)
class RunData:
    """A run directory in memory."""

    config: PipelineConfig
    url: str
    cards: Mapping[str, EnvironmentCard]
    """Of the evaluated environments."""
    trajectories: dict[str, Trajectory]
    selections: dict[str, list[Selection]]
    """Per method, in the order of the config."""
    models: dict[str, Evaluated]
    """Per model, in the order of the config."""
    training: dict[str, list[dict[str, Any]]]
    """Per checkpoint, one record an optimizer step, in the order in which they were trained."""
    selecting: dict[str, dict[str, Any]]
    """Per method, what the last run of the selection stage logged."""
    units: list[Unit]
    missing: list[str] = field(default_factory=list)
    """What a complete run would have and this one lacks, a line each."""

    @property
    def environments(self) -> list[str]:
        """The evaluated environments, held-in ones first, by name."""
        return sorted(self.cards, key=lambda name: (not self.cards[name].held_in, name))

    @property
    def tuned(self) -> list[str]:
        """Evaluated models tuned on a selection, those of `train.selections` first; the run is about the first.

        The model `random` is the random policy, not the checkpoint of that selection.
        """
        names = dict.fromkeys((*self.config.train.selections, *get_args(Method)))
        return [name for name in names if name in self.models and name not in REFERENCES]


def read(config: PipelineConfig, store: Store, cards: Mapping[str, EnvironmentCard] | None = None) -> RunData:
    """Read a run directory.

    Args:
        config: of the run.
        store: the run directory.
        cards: of the environments to report on; None asks the registry for those evaluated.

    Raises:
        StoreError: a file is malformed.
        ConfigError: an evaluated environment is unknown.
    """
    missing: list[str] = []
    trajectories = store.read_trajectories() if _has_table(store, "trajectories") else []
    if not trajectories:
        missing.append("Trajectories: none; collect has not run.")
    names = in_order(store.names("selections"), config.select.methods)
    selections = {n: store.read_selections(n) for n in names if _has_table(store, "selections", n)}
    for method in config.select.methods:
        if method not in selections:
            missing.append(f"Selection {method}: none; select has not run for it.")
    models = read_models(config, store)
    for name in map(model_name, config.evaluate.models):
        if name not in models:
            missing.append(f"Model {name}: not evaluated.")
    training = _by_checkpoint(store.journal("metrics", "train.jsonl"))
    for checkpoint in (*(("warmup",) if config.train.warmup else ()), *config.train.selections):
        if checkpoint not in training:
            missing.append(f"Checkpoint {checkpoint}: no training log.")
    units = [unit for stage in STAGES for unit in _units(store, stage)]
    for stage in STAGES:
        if not any(unit.stage == stage for unit in units):
            missing.append(f"Stage {stage}: has not run (no {stage}/manifest.json).")
    if cards is None:
        found = {env for model in models.values() for env in model.results["environments"]}
        cards = {env: registry.card(env, **config.environments.get(env, {})) for env in found}
    for name, model in list(models.items()):
        if foreign := sorted(set(model.results["environments"]).difference(cards)):
            missing.append(f"Model {name}: its evaluation is of other environments ({', '.join(foreign)}).")
            del models[name]
    environments = {env for model in models.values() for env in model.results["environments"]}
    return RunData(
        config=config,
        url=store.url,
        cards={env: cards[env] for env in environments},
        trajectories={trajectory.trajectory_id: trajectory for trajectory in trajectories},
        selections=selections,
        models=models,
        training={n: training[n] for n in in_order(training, ("warmup", *config.train.selections))},
        selecting={str(row["method"]): row for row in store.journal("metrics", "select.jsonl")},
        units=units,
        missing=missing,
    )


def read_models(config: PipelineConfig, store: Store) -> dict[str, Evaluated]:
    """The evaluated models; episodes that the config no longer asks for are left out."""
    wanted = config.evaluate
    preferred = [model_name(model) for model in wanted.models]
    found: dict[str, Evaluated] = {}
    for name in in_order(store.names("evaluation"), preferred):
        if not store.exists("evaluation", name, "results.json"):
            continue
        results = store.read_json("evaluation", name, "results.json")
        rows = [
            Episode.model_validate(row)
            for env in results["environments"]
            for row in store.journal("evaluation", name, f"{env}.jsonl")
            if row["task"] < wanted.tasks and 0 <= row["seed"] - config.seed < wanted.repeats
        ]
        found[name] = Evaluated(name, results, latest(rows))
    return found


def model_name(model: str) -> str:
    """The name in the tables of an entry of `evaluate.models`: itself, or a directory's last part."""
    return model.rstrip("/").rpartition("/")[2]


def in_order(names: Iterable[str], preferred: Sequence[str]) -> list[str]:
    """`names` in the order of `preferred`, the others after them by name."""
    rest = set(names)
    first = [name for name in dict.fromkeys(preferred) if name in rest]
    return first + sorted(rest.difference(first))


def _by_checkpoint(records: Iterable[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    runs: dict[str, list[dict[str, Any]]] = {}
    for record in records:
        runs.setdefault(str(record["checkpoint"]), []).append(record)
    return runs


def _units(store: Store, stage: str) -> list[Unit]:
    units = []
    for name, entry in store.facts(stage).items():
        facts = {key: value for key, value in entry.items() if key not in _OWN}
        units.append(
            Unit(stage, name, str(entry.get("finished", "")), entry.get("seconds"), entry.get("command"), facts)
        )
    return sorted(units, key=lambda unit: unit.finished)


def _has_table(store: Store, *parts: str) -> bool:
    return any(name.endswith(".parquet") for name in store.names(*parts))
