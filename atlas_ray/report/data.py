"""What a run directory holds, read once for the report.

A stage that did not run or a model that was not evaluated is no error: it becomes a line of `RunData.missing`, which
the report shows. A file that is there and malformed is an error.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from atlas_ray.config import PipelineConfig
from atlas_ray.environments import registry
from atlas_ray.environments.contract import EnvironmentCard
from atlas_ray.errors import StoreError
from atlas_ray.evaluation.ledger import counted
from atlas_ray.roster import WARMUP, Kind, checkpoint_name, selection_of, tuned_selections
from atlas_ray.selection.compare import Figures, figures, shapes_of
from atlas_ray.selection.method import phrase_of
from atlas_ray.store import Store
from atlas_ray.trajectory import Episode, Selection, Trajectory

_ORDER: dict[Kind, int] = {"policy": 0, "base": 1, "warmup": 2, "endpoint": 3, "directory": 3, "tuned": 4}
"""Of the models in tables: from what needs no training to what this run has tuned."""
_OWN = ("key", "finished", "seconds", "command")
STAGES = ("collect", "select", "train", "evaluate")
VERIFICATION = "verification"


@dataclass(frozen=True)
class Evaluated:
    """One model's evaluation."""

    results: dict[str, Any]
    """The content of its `results.json`."""
    episodes: list[Episode]
    """Those that `results` counts, sorted by environment, task and seed."""

    @property
    def name(self) -> str:
        """In tables."""
        return str(self.results["model"])

    @property
    def kind(self) -> Kind:
        """What the model is; see `roster.RosterEntry`."""
        kind: Kind = self.results["kind"]
        return kind

    @property
    def selection(self) -> str | None:
        """The selection that it was tuned on."""
        selection: str | None = self.results["selection"]
        return selection

    @property
    def seed(self) -> int | None:
        """Of its training."""
        seed: int | None = self.results["seed"]
        return seed

    @property
    def objective(self) -> str:
        """What its training learned, `sft` or `dpo`; results of before say nothing, and `dpo` came later."""
        return str(self.results.get("objective") or "sft")


@dataclass(frozen=True)
class FinishedUnit:
    """One finished unit of a stage, from its manifest."""

    stage: str
    name: str
    finished: str
    seconds: float | None
    command: str | None
    """The command that made it."""
    facts: dict[str, Any]
    """Everything else that the stage recorded."""


@dataclass(frozen=True)
class RunData:
    """A run directory in memory."""

    config: PipelineConfig
    url: str
    cards: Mapping[str, EnvironmentCard]
    """Of the evaluated environments."""
    trajectories: dict[str, Trajectory]
    selections: dict[str, list[Selection]]
    """Rows by the selection's name, in the order of the config."""
    models: dict[str, Evaluated]
    """By name: policies, base, warm-up, other models, tuned models."""
    training: dict[str, list[dict[str, Any]]]
    """By checkpoint, one record per optimizer step, in the order in which they were trained."""
    selecting: dict[str, dict[str, Any]]
    """By selection, what its last run logged."""
    verifications: list[dict[str, Any]]
    """The content of every `verification/<model>/<selection>.json`."""
    units: list[FinishedUnit]
    missing: list[str] = field(default_factory=list)
    """What a complete run would have and this one lacks, a line each."""

    @property
    def environments(self) -> list[str]:
        """The evaluated environments, held-in ones first, by name."""
        return sorted(self.cards, key=lambda name: (not self.cards[name].held_in, name))

    def of_kind(self, *kinds: Kind) -> list[Evaluated]:
        """The evaluated models of these kinds, in the order of `models`."""
        return [model for model in self.models.values() if model.kind in kinds]

    @property
    def tuned(self) -> dict[str, list[Evaluated]]:
        """The models tuned on each selection, one per training seed; the run is about the first selection.

        Those of another `train.objective` than the run's are left out: they are compared one by one.
        """
        found: dict[str, list[Evaluated]] = {}
        for model in self.of_kind("tuned"):
            if model.objective != self.config.train.objective:
                continue
            found.setdefault(str(model.selection), []).append(model)
        return found

    def method_of(self, selection: str) -> str:
        """The method of a selection: of its rows, else of the config, else its own name."""
        if rows := self.selections.get(selection):
            return rows[0].method
        known = selection in self.config.select.selection_names()
        return self.config.selection(selection).method if known else selection

    def phrase_of(self, selection: str) -> str:
        """What models tuned on the selection learned from, in a sentence."""
        steps = phrase_of(selection, self.method_of(selection), self.filters_of(selection))
        return f"preferences at {steps}" if self.config.train.objective == "dpo" else steps

    def filters_of(self, selection: str) -> list[str]:
        """The names of the filters that the selection's rows went through."""
        rows = self.selections.get(selection, [])
        return list(next((row.provenance["filtered"] for row in rows if "filtered" in row.provenance), ()))

    def is_stand_in(self, selection: str) -> bool:
        """Whether the selection's selector stood in for a better one (provenance `stand_in`)."""
        return any(row.provenance.get("stand_in") is True for row in self.selections.get(selection, []))

    def figures(self) -> Figures:
        """The figures of all selections over all trajectories; tokens are not counted."""
        return self.figures_by_environment()[-1]

    def figures_by_environment(self) -> list[Figures]:
        """The figures of all selections in each environment, and then over all trajectories."""
        return figures(self.selections, shapes_of(self.trajectories.values(), None))


def read(config: PipelineConfig, store: Store, cards: Mapping[str, EnvironmentCard] | None = None) -> RunData:
    """Read a run directory.

    Args:
        config: of the run.
        store: the run directory.
        cards: of the environments to report on; None asks the registry for those evaluated.

    Raises:
        StoreError: a file is malformed, or of the first edition.
        ConfigError: an evaluated environment is unknown.
    """
    trajectories = store.every_trajectory() if has_table(store, "trajectories") else []
    selections = {name: store.read_selections(name) for name in selection_names(config, store)}
    return assembled(config, store, trajectories, selections, read_models(config, store), cards)


def selection_names(config: PipelineConfig, store: Store) -> list[str]:
    """The selections that were made, in the order of the config."""
    return [
        name for name in in_order(store.names("selections"), _wanted(config)) if has_table(store, "selections", name)
    ]


def assembled(
    config: PipelineConfig,
    store: Store,
    trajectories: Sequence[Trajectory],
    selections: Mapping[str, list[Selection]],
    models: dict[str, Evaluated],
    cards: Mapping[str, EnvironmentCard] | None = None,
) -> RunData:
    """What was read of a run directory, with everything small that it still holds: logs, manifests, verifications.

    Args:
        config: of the run.
        store: the run directory.
        trajectories: of it.
        selections: rows by name, of those that were made.
        models: of `read_models`.
        cards: as in `read`.

    Raises:
        StoreError: a file is malformed.
        ConfigError: an evaluated environment is unknown.
    """
    missing = [] if trajectories else ["Trajectories: none; collect has not run."]
    wanted = _wanted(config)
    missing += [f"Selection {name}: none; select has not run for it." for name in wanted if name not in selections]
    missing += _not_evaluated(config, models)
    training = _by_checkpoint(store.journal("metrics", "train.jsonl"))
    checkpoints = _checkpoints(config)
    missing += [f"Checkpoint {name}: no training log." for name in checkpoints if name not in training]
    units = [unit for stage in (*STAGES, VERIFICATION) for unit in _units(store, stage)]
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
        selections=dict(selections),
        models=models,
        training={name: training[name] for name in in_order(training, checkpoints)},
        selecting={str(row["selection"]): row for row in store.journal("metrics", "select.jsonl")},
        verifications=_verifications(store),
        units=units,
        missing=missing,
    )


def read_models(
    config: PipelineConfig, store: Store, episodes: Callable[[str], list[Episode]] | None = None
) -> dict[str, Evaluated]:
    """The evaluated models by name: policies, base, warm-up, other models, tuned models; then as the config has them.

    Args:
        config: of the run.
        store: its run directory.
        episodes: those that a model's results count, by the model's name; None reads them (`ledger.counted`).

    Raises:
        StoreError: a `results.json` is malformed, or of the first edition.
    """
    found = []
    for name in store.names("evaluation"):
        if not store.exists("evaluation", name, "results.json"):
            continue
        results = store.read_json("evaluation", name, "results.json")
        if "kind" not in results:
            raise StoreError(
                f"{store.path('evaluation', name, 'results.json')}: field 'kind' is missing, so an earlier edition "
                "wrote it; delete it and run atlas-ray evaluate again"
            )
        found.append(Evaluated(results, (episodes or partial(counted, store))(name)))
    listed = [*tuned_selections(config), *map(model_name, config.evaluate.models)]
    seeds = config.training_seeds

    def order(model: Evaluated) -> tuple[int, int, str, bool, int, str]:
        group = model.name if model.selection is None else model.selection
        at = next((i for i, name in enumerate(listed) if name in (group, model.name)), len(listed))
        seed = seeds.index(model.seed) if model.seed in seeds else len(seeds)
        return _ORDER[model.kind], at, group, model.objective == "dpo", seed, model.name

    return {model.name: model for model in sorted(found, key=order)}


def model_name(model: str) -> str:
    """The name in the tables of an entry of `evaluate.models`: itself, or a directory's last part."""
    return model.rstrip("/").rpartition("/")[2]


def in_order(names: Iterable[str], preferred: Sequence[str]) -> list[str]:
    """`names` in the order of `preferred`, the others after them by name."""
    rest = set(names)
    first = [name for name in dict.fromkeys(preferred) if name in rest]
    return first + sorted(rest.difference(first))


def _not_evaluated(config: PipelineConfig, models: Mapping[str, Evaluated]) -> list[str]:
    """Lines on models, and on training seeds of models, that the config asks for and that were not evaluated."""
    lines = []
    objective = config.train.objective
    tuned = {
        (each.selection, each.seed) for each in models.values() if each.kind == "tuned" and each.objective == objective
    }
    for name in config.evaluate.models:
        selection, seed = selection_of(config, name)
        if selection is None:
            lines += [] if model_name(name) in models else [f"Model {model_name(name)}: not evaluated."]
            continue
        seeds = config.training_seeds if seed is None else (seed,)
        absent = [each for each in seeds if (selection, each) not in tuned]
        which = "" if len(absent) == len(seeds) else f" with training seed {', '.join(map(str, absent))}"
        lines += [f"Model {name}{which}: not evaluated."] if absent else []
    return lines


def _checkpoints(config: PipelineConfig) -> list[str]:
    """The checkpoints that the config asks for."""
    seeds = config.training_seeds
    tuned = [checkpoint_name(config, selection, seed) for selection in tuned_selections(config) for seed in seeds]
    return [*([WARMUP] if config.train.warmup is not None else []), *tuned]


def _by_checkpoint(records: Iterable[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    runs: dict[str, list[dict[str, Any]]] = {}
    for record in records:
        runs.setdefault(str(record["checkpoint"]), []).append(record)
    return runs


def _verifications(store: Store) -> list[dict[str, Any]]:
    return [
        store.read_json(VERIFICATION, model, name)
        for model in store.names(VERIFICATION)
        for name in (store.names(VERIFICATION, model) if not model.endswith(".json") else ())
        if name.endswith(".json")
    ]


def _units(store: Store, stage: str) -> list[FinishedUnit]:
    units = []
    for name, entry in store.facts(stage).items():
        facts = {key: value for key, value in entry.items() if key not in _OWN}
        units.append(
            FinishedUnit(stage, name, str(entry.get("finished", "")), entry.get("seconds"), entry.get("command"), facts)
        )
    return sorted(units, key=lambda unit: unit.finished)


def _wanted(config: PipelineConfig) -> list[str]:
    """The selections that the config asks for."""
    return list(dict.fromkeys([*config.select.methods, *config.select.selections, *tuned_selections(config)]))


def has_table(store: Store, *parts: str) -> bool:
    """Whether the folder holds rows."""
    return any(name.endswith(".parquet") for name in store.names(*parts))
