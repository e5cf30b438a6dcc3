"""The key of every unit of work: a hash of the fingerprints of the sections that it reads and of its inputs' keys.

A unit whose key stands in its stage's manifest is current. Nothing but the keys decides that, so whatever determines a
result must be in here: fields of the configuration through their sections' fingerprints, files and models by their
identity, environments and methods by their version.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from typing import Any

from atlas_ray.config import PipelineConfig
from atlas_ray.environments import registry
from atlas_ray.evaluation.evaluate import evaluated_environments
from atlas_ray.formats import files
from atlas_ray.hashing import content_hash
from atlas_ray.pipeline.collect import PARTS, expert_style
from atlas_ray.pipeline.run import Run
from atlas_ray.roster import WARMUP, Roster, RosterEntry, checkpoint_name
from atlas_ray.selection import method
from atlas_ray.selection.filters import FILTERS
from atlas_ray.selection.method import SelectionContext


class Keys:
    """Keys of one run.

    Args:
        run: configuration and run directory.
        planned: inputs have the keys that the configuration would give them; otherwise those that the manifests
            record, which must be there.
    """

    def __init__(self, run: Run, *, planned: bool = False) -> None:
        self._run, self._config, self._planned = run, run.config, planned
        self.roster = Roster(run.config, self._checkpoint, lambda name: run.store.address("checkpoints", name))

    @cached_property
    def context(self) -> SelectionContext:
        """What selection methods may use of the run."""
        return SelectionContext(self._config, self._run.store, self.roster, self._environment_versions())

    def collect(self) -> str:
        """Of `trajectories`: the experts' episodes, or the imported files."""
        return content_hash(["collect", *(self.part(part) for part in PARTS)])

    def part(self, part: str) -> str:
        """Of the warm-up's trajectories, or of those that models are tuned on; neither depends on the other's style."""
        config, warmup = self._config, self._config.train.warmup
        if config.collect.source != "expert":
            inputs: Any = files.fingerprint(config.collect.source)
        else:
            inputs = [versions(config, config.collect.trajectories), expert_style(config, part).determinants()]
        names = ["style", "rate", "warmup_style", "warmup_rate"]
        if config.collect.source == "expert" and part == "warmup":
            names.append("keep_failures")  # it has none
        rest = {name: value for name, value in config.collect.determinants().items() if name not in names}
        return content_hash([part, config.seed, rest, None if warmup is None else warmup.fraction, inputs])

    def select(self, name: str) -> str:
        """Of `selections/<name>`.

        Raises:
            ConfigError: there is no such selection.
            StoreError: an input has not been made.
        """
        found = method.make(self._config.selection(name))
        spec = found.spec
        soft = [] if spec.soft_weights is None else [spec.soft_weights.determinants()]
        return content_hash(
            [
                "select", spec.method, found.version, spec.ratio, spec.seed, spec.options.determinants(),
                found.depends_on(self.context), [self.select(part) for part in found.inputs()],
                [FILTERS[each].fingerprint(self.context) for each in spec.filters], self._part("tuning"), *soft,
            ]
        )  # fmt: skip

    def warmup(self) -> str:
        """Of `checkpoints/warmup`."""
        config = self._config
        options, thinks = config.train.for_warmup().determinants(), config.evaluate.thinking.on
        return content_hash(["warmup", config.seed, options, thinks, self._part("warmup"), self.roster.base().key])

    def train(self, selection: str, seed: int) -> str:
        """Of the checkpoint of a selection and a seed."""
        options, thinks = self._config.train.for_tuning().determinants(), self._config.evaluate.thinking.on
        return content_hash(["train", seed, options, thinks, self._selection(selection), self.roster.start().key])

    def evaluate(self, entry: RosterEntry) -> str:
        """Of `evaluation/<model>`."""
        config = self._config
        evaluated, lists = evaluated_environments(config), (config.evaluate.instructions, config.evaluate.items)
        given = config.collect.environments if any(lists) else {}  # whose rows and items those files hold
        return content_hash(
            [
                "evaluate", config.seed, config.evaluate.determinants(),
                [None if source is None else files.fingerprint(source) for source in lists], given,
                {name: registry.version(name, config.environments.get(name, {})) for name in evaluated},
                entry.player_key(config.engine),
            ]
        )  # fmt: skip

    def verify(self, entry: RosterEntry, selection: str) -> str:
        """Of `verification/<model>/<selection>`."""
        config = self._config
        return content_hash(
            [
                "verify", config.seed, config.verify.determinants(), config.evaluate.playing.determinants(),
                self._environment_versions(), entry.player_key(config.engine), self._selection(selection),
            ]
        )  # fmt: skip

    def _selection(self, name: str) -> str:
        """The key of a selection that a unit reads."""
        return self.select(name) if self._planned else self._run.required("select", name)

    def _part(self, part: str) -> str:
        """The key of the trajectories that a unit reads."""
        if self._planned:
            return self.part(part)
        self._run.required("collect", "trajectories")
        return str(self._run.store.facts("collect")["trajectories"]["parts"][part])

    def _checkpoint(self, name: str) -> str:
        if not self._planned:
            return self._run.required("train", name)
        if name == WARMUP:
            return self.warmup()
        seeds = self._config.training_seeds
        made = {
            checkpoint_name(self._config, selection, seed): (selection, seed)
            for selection in self._config.select.selection_names()
            for seed in seeds
        }
        return self.train(*made[name])

    def _environment_versions(self) -> dict[str, str]:
        """Of the environments that trajectories are of: the stored ones, or those that are to be collected."""
        names = set(self._config.collect.trajectories)
        if not self._planned:
            names = {env for env, _ in self._run.store.trajectory_ids()} & set(registry.names())
        return versions(self._config, names)


def versions(config: PipelineConfig, names: Iterable[str]) -> dict[str, str]:
    """The version of each environment with the options that it has while trajectories are collected and forked."""
    return {name: registry.version(name, config.collect_options(name)) for name in sorted(names)}
