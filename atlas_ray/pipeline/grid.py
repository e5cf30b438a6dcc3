"""An experiment as its file describes it: a grid of options over a base configuration, and the runs that it means.

A combination takes one value of every option in the grid; each combination is a pipeline with a run directory of its
own. Selections, their ratios and filters, and training seeds vary inside a run. Everything is checked here, before
anything runs; the runs themselves are in `experiment.py`.
"""

from __future__ import annotations

import contextlib
import itertools
import posixpath
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from atlas_ray.config import PipelineConfig, explain
from atlas_ray.config_files import made_from, read_yaml
from atlas_ray.environments import registry
from atlas_ray.environments.styles import ExpertStyle, check_style
from atlas_ray.errors import AtlasError, ConfigError
from atlas_ray.evaluation.evaluate import cards, episode_specs, evaluated_environments
from atlas_ray.evaluation.power import Assumptions
from atlas_ray.pipeline.collect import PARTS, expert_style, warmup_tasks
from atlas_ray.roster import POLICIES, RosterEntry, selection_of
from atlas_ray.section import Section

_UNSAFE = re.compile(r"[^A-Za-z0-9.+-]+")
_OWN = ("run_dir",)
"""Options that the experiment sets itself."""
_MODELS = "evaluate.models"


class PowerConfig(Section):
    """What is assumed for the power table (`evaluation/power.py`)."""

    base: float = 50.0
    """Success rate in percent of what a selection is compared with."""
    difference: float = 10.0
    """Percentage points that the experiment should be able to find."""
    seed_sd: float = 5.0
    """Standard deviation between trainings, in percentage points."""
    discordance: float | None = None
    """See `power.Assumptions`."""


class ExperimentConfig(Section):
    """The content of an experiment's file."""

    title: str
    """Of the page."""
    question: str = ""
    """What the experiment is to answer, written before it is run."""
    run_dir: str
    """Path or URL of the experiment's directory; relative paths start in the current directory."""
    base: str | dict[str, Any]
    """A configuration: a path, from the experiment's file, or the sections themselves. The path of another experiment
    stands for its base."""
    grid: dict[str, tuple[Any, ...]] = Field(default_factory=dict)
    """Values by dotted option."""
    exclude: tuple[dict[str, Any], ...] = ()
    """Combinations to leave out: all that have the values of an entry. With `evaluate.models` in it, an entry leaves
    out these models of them, and not the combinations."""
    within: dict[str, int] = Field(default_factory=dict)
    """By environment: an episode counts as a success when it succeeds within so many rounds; not named: within the
    environment's round cap. Fixed before the run, or the choice is part of the result."""
    references: tuple[str, ...] = ("all", "random")
    """Every other selection is compared with these selections or models."""
    power: PowerConfig = PowerConfig()


@dataclass(frozen=True)
class Combination:
    """One run of the grid."""

    name: str
    """Of its run directory."""
    values: dict[str, Any]
    """Of the options that differ between the runs."""
    config: PipelineConfig


@dataclass(frozen=True)
class Experiment:
    """An experiment that may be run."""

    name: str
    file: str
    config: ExperimentConfig
    combinations: tuple[Combination, ...]


def read_experiment(path: str, overrides: Mapping[str, Any] | None = None) -> Experiment:
    """The experiment of a file.

    Args:
        path: of the YAML file.
        overrides: dotted options of the base configuration; one that is in the grid takes the place of its values, and
            the runs keep their names. `run_dir` is the experiment's directory.

    Raises:
        ConfigError: the file or a combination is wrong; the text names the combination.
    """
    written, settings = _settings(path, dict(overrides or {}))
    rest = {name: value for name, value in (overrides or {}).items() if name not in (*settings.grid, "run_dir")}
    values = _base(path, settings.base)
    axes = {option: found for option, found in written.items() if len(found) > 1}
    combinations = []
    for picked in _combinations(settings):
        varying = {option: picked[option] for option in axes}
        name = _name(varying, axes)
        directory = posixpath.join(settings.run_dir, name)
        where = f"{path}, combination {_said(varying)}" if varying else path
        config = made_from(values, rest | picked | {"run_dir": directory}, where)
        if _MODELS not in rest:
            _refuse_unknown_models(path, settings.exclude, config.evaluate.models)
        combinations.append(Combination(name, varying, _without_models(config, picked, settings.exclude)))
    if not combinations:
        raise ConfigError(f"config {path}: exclude leaves no combination of the grid; drop an entry")
    return Experiment(Path(path).stem, path, settings, tuple(combinations))


def _base(path: str, base: str | dict[str, Any], seen: tuple[str, ...] = ()) -> dict[str, Any]:
    if not isinstance(base, str):
        return base
    file = str(Path(path).parent / base)
    if file in seen:
        raise ConfigError(f"config {file}: its base leads back to it; name a configuration")
    values = read_yaml(file)
    return _base(file, values["base"], (*seen, file)) if "base" in values else values


def _settings(path: str, overrides: dict[str, Any]) -> tuple[dict[str, tuple[Any, ...]], ExperimentConfig]:
    """The grid as the file has it, which names the runs, and the experiment with the overrides in the grid."""
    values = {"run_dir": f"runs/experiments/{Path(path).stem}"} | read_yaml(path)
    if "run_dir" in overrides:
        values["run_dir"] = overrides["run_dir"]
    try:
        settings = ExperimentConfig.model_validate(values)
    except ValidationError as error:
        raise ConfigError(f"config {path}: {explain(error)}") from error
    for option, found in settings.grid.items():
        if option in _OWN:
            raise ConfigError(f"config {path}: grid.{option}: every combination has a run directory of its own")
        if not found or any(each in found[:i] for i, each in enumerate(found)):
            raise ConfigError(f"config {path}: grid.{option}: give one or more different values, found {list(found)}")
    for number, entry in enumerate(settings.exclude):
        models = entry.get(_MODELS, [])
        if not isinstance(models, list) or (_MODELS in entry and not models):
            raise ConfigError(f"config {path}: exclude.{number}: {_MODELS} takes a list of models, found {models!r}")
        for option, value in entry.items():
            if option == _MODELS:
                continue
            if option not in settings.grid:
                raise ConfigError(f"config {path}: exclude.{number}: {option!r} is no option of the grid")
            if value not in settings.grid[option]:
                raise ConfigError(f"config {path}: exclude.{number}: {option} has no value {value!r} in the grid")
    narrowed = {name: (overrides[name],) if name in overrides else found for name, found in settings.grid.items()}
    return settings.grid, settings.model_copy(update={"grid": narrowed})


def _combinations(settings: ExperimentConfig) -> list[dict[str, Any]]:
    options = list(settings.grid)
    every = [dict(zip(options, picked, strict=True)) for picked in itertools.product(*settings.grid.values())]
    whole = [entry for entry in settings.exclude if entry and _MODELS not in entry]
    return [picked for picked in every if not any(_matches(picked, entry) for entry in whole)]


def _matches(picked: Mapping[str, Any], entry: Mapping[str, Any]) -> bool:
    return all(picked[option] == value for option, value in entry.items() if option != _MODELS)


def _refuse_unknown_models(path: str, exclude: Sequence[Mapping[str, Any]], known: Sequence[str]) -> None:
    """A model that is left out has to be one of `evaluate.models`, or it is misspelt."""
    for number, entry in enumerate(exclude):
        for name in entry.get(_MODELS, ()):
            if name not in known:
                raise ConfigError(
                    f"config {path}: exclude.{number}: {name!r} is not in {_MODELS}, which has {', '.join(known)}"
                )


def _without_models(
    config: PipelineConfig, picked: Mapping[str, Any], exclude: Sequence[Mapping[str, Any]]
) -> PipelineConfig:
    """The configuration of a combination without the models that are left out of it."""
    left_out = {name for entry in exclude if _matches(picked, entry) for name in entry.get(_MODELS, ())}
    models = tuple(name for name in config.evaluate.models if name not in left_out)
    return config.model_copy(update={"evaluate": config.evaluate.model_copy(update={"models": models})})


def _name(varying: Mapping[str, Any], axes: Mapping[str, tuple[Any, ...]]) -> str:
    """Of a combination's run directory: `style-checks_rate-0.5`; a value that is no plain word has its number."""
    leaves = [option.rpartition(".")[2] for option in axes]
    parts = []
    for option, value in varying.items():
        leaf = option.rpartition(".")[2]
        label = leaf if leaves.count(leaf) == 1 else option.replace(".", "-")
        is_plain = value is None or isinstance(value, bool | int | float | str)
        shown = _UNSAFE.sub("-", str(value).lower()) if is_plain else ""
        parts.append(f"{label}-{shown.strip('-') or _number(value, axes[option])}")
    return "_".join(parts) or "run"


def _number(value: Any, values: tuple[Any, ...]) -> int:
    """Of a value of an axis; one that the command line brings comes after them."""
    return values.index(value) if value in values else len(values)


def _said(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{option}={value}" for option, value in values.items())


def check(experiment: Experiment) -> None:
    """Refuse what cannot be run, before anything is: unknown selections, models and environments, too few tasks, and
    styles that an environment cannot show.

    What runs have in common is checked once. Nothing is written.

    Raises:
        AtlasError: the first thing that is wrong; the text names the combination.
    """
    names = [combination.name for combination in experiment.combinations]
    if double := [name for name in names if names.count(name) > 1]:
        raise ConfigError(f"config {experiment.file}: two combinations would be called {double[0]!r}; change a value")
    seen: set[str] = set()
    for combination in experiment.combinations:
        try:
            _check_tasks(combination.config)
            _check_styles(combination.config, seen)
            _check_references(experiment.config, combination.config)
        except AtlasError as error:
            where = _said(combination.values)
            raise type(error)(
                f"config {experiment.file}{f', combination {where}' if where else ''}: {error}"
            ) from error


def tasks_played(config: PipelineConfig) -> dict[str, int]:
    """How many tasks each model plays, by environment."""
    known = cards(config, evaluated_environments(config))
    specs = episode_specs(config, RosterEntry("random", "policy", "random"), known)
    played = {(spec.env, spec.split, spec.task) for spec in specs}
    return {name: sum(env == name for env, _, _ in played) for name in known}


def _check_tasks(config: PipelineConfig) -> None:
    for name, tasks in tasks_played(config).items():
        if tasks < 2:
            raise ConfigError(f"{name}: {tasks} test task; a comparison needs 2 or more")
    if config.collect.source != "expert":
        return
    if not config.collect.trajectories:
        raise ConfigError("collect.trajectories: name environments and numbers of tasks, as in {textcraft: 100}")
    for name, count in config.collect.trajectories.items():
        known = registry.card(name, **config.collect_options(name)).n_train
        if not 0 < count <= known:
            raise ConfigError(f"collect.trajectories.{name}: {count} tasks asked for, it has {known} training tasks")
        warm = len(warmup_tasks(config, name, count))
        if config.train.warmup is not None and not 0 < warm < count:
            raise ConfigError(
                f"collect.trajectories.{name}: of {count} tasks, train.warmup.fraction={config.train.warmup.fraction} "
                f"takes {warm} for the warm-up, which leaves {count - warm} for tuning; both need one or more"
            )


def _check_styles(config: PipelineConfig, seen: set[str]) -> None:
    if config.collect.source != "expert":
        return
    for name in config.collect.trajectories:
        for part in PARTS:
            style = expert_style(config, part)
            options = config.collect_options(name)
            if (known := str((name, options, style.style))) in seen or _is_plain(style):
                continue
            with contextlib.closing(registry.make(name, **options)) as env:
                check_style(env, style)
            seen.add(known)


def _is_plain(style: ExpertStyle) -> bool:
    return style.style == "plain" or style.rate == 0


def _check_references(experiment: ExperimentConfig, config: PipelineConfig) -> None:
    """A reference that no run evaluates would leave its table empty without a word."""
    evaluated = {
        selection_of(config, name)[0] or (f"{name} policy" if name in POLICIES else name)
        for name in config.evaluate.models
    }
    missing = [name for name in experiment.references if name not in evaluated]
    if missing:
        raise ConfigError(
            f"references: {missing[0]!r} is not evaluated; add it to evaluate.models or drop it from references"
        )
    for name in experiment.within:
        if name not in evaluated_environments(config):
            raise ConfigError(f"within: environment {name!r} is not evaluated; drop it or evaluate it")


def assumptions(experiment: Experiment, comparisons: int) -> Assumptions:
    """What the power table assumes, for a table of so many comparisons."""
    own = experiment.config.power
    return Assumptions(
        base=own.base, difference=own.difference, seed_sd=own.seed_sd, discordance=own.discordance,
        comparisons=max(1, comparisons),
    )  # fmt: skip
